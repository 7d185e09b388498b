use std::time::Duration;

use super::*;
use crate::layers::testing::{answer, call, context, get, pieces, read, service, status, with};
use crate::layers::{PerTryLayer, TimeoutConfig, TimeoutLayer};
use crate::model::{Health, Workload};
use crate::outlier::Host;
use crate::snapshot::{Endpoint, OutlierPlan};

const ADDRESS: &str = "10.0.0.1:80";

fn detector(plan: OutlierPlan) -> (Arc<Detector>, Arc<Host>) {
    let detector = Arc::new(Detector::new(Box::new(|_| {})));
    let host = Arc::new(Host::default());
    detector.set_hosts([(ADDRESS.parse().unwrap(), Arc::clone(&host))].into_iter());
    detector.set_plan(Some(OutlierPlan { max_ejection_percent: 100, ..plan }));
    (detector, host)
}

/// Notes the endpoint, as whoever picks one does.
fn picked(request: &Request) {
    let endpoint = Endpoint {
        address: ADDRESS.parse().unwrap(),
        weight: 1,
        health: Health::Healthy,
        workload: Arc::new(Workload::default()),
        mesh: Default::default(),
    };
    request.extensions().get::<Arc<Cx>>().unwrap().endpoint.set(Arc::new(endpoint));
}

fn gives(result: impl Fn() -> Result<Response, Error> + Clone + Send + Sync + 'static) -> impl Upstream {
    service(move |request: Request| {
        picked(&request);
        std::future::ready(result())
    })
}

/// Errors in a row, own and local, after one try.
async fn after(
    request: Request,
    result: impl Fn() -> Result<Response, Error> + Clone + Send + Sync + 'static,
) -> (u32, u32) {
    let (detector, host) = detector(OutlierPlan { split_local: true, ..OutlierPlan::default() });
    let answer = call(&OutlierLayer::new(detector), gives(result), with(request, &context())).await;
    if let Ok(response) = answer {
        read(&mut response.into_body()).await;
    }
    host.failures()
}

#[tokio::test(start_paused = true)]
async fn answers_and_failures() {
    let plain = || get("/", &[]);
    let grpc = || get("/", &[("content-type", "application/grpc")]);
    assert_eq!(after(plain(), || Ok(status(200))).await, (0, 0));
    assert_eq!(after(plain(), || Ok(status(503))).await, (1, 0));
    assert_eq!(after(grpc(), || Ok(answer(200, &[("grpc-status", "14")]))).await, (1, 0));
    assert_eq!(after(grpc(), || Ok(answer(200, &[("grpc-status", "5")]))).await, (0, 0));
    assert_eq!(after(grpc(), || Ok(status(503))).await, (1, 0));
    for (kind, want) in [
        (ErrorKind::ConnectFailure, (0, 1)),
        (ErrorKind::ConnectTimeout, (0, 1)),
        (ErrorKind::ConnectionTermination, (0, 1)),
        (ErrorKind::Overflow, (0, 0)),
        (ErrorKind::DownstreamGone, (0, 0)),
        (ErrorKind::NoHealthyUpstream, (0, 0)),
    ] {
        assert_eq!(after(plain(), move || Err(Error::new(kind))).await, want, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_status_of_a_stream_is_in_its_trailers() {
    let grpc = get("/", &[("content-type", "application/grpc")]);
    let streams = || {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "13".parse().unwrap());
        let body = http_body_util::BodyExt::with_trailers(pieces(&["a"], false), async move { Some(Ok(trailers)) });
        Ok(Response::new(Body::stream(body)))
    };
    assert_eq!(after(grpc, streams).await, (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_try_that_times_out_counts_and_one_that_is_abandoned_does_not() {
    let silent = || {
        service(|request: Request| {
            picked(&request);
            std::future::pending::<Result<Response, Error>>()
        })
    };
    let second = Duration::from_secs(1);
    let (detector, host) = detector(OutlierPlan::default());
    let stack = OutlierLayer::new(Arc::clone(&detector)).layer(silent());
    let per_try = PerTryLayer::new(second);
    assert!(call(&per_try, stack.clone(), with(get("/", &[]), &context())).await.is_err());
    assert_eq!(host.failures().0, 1, "per-try timeout");
    let route = TimeoutLayer::new(TimeoutConfig { timeout: Some(second), ..TimeoutConfig::default() });
    let streaming = get("/", &[]).map(|_| pieces(&["a"], false));
    let reads = service({
        let stack = stack.clone();
        move |request: Request| {
            let mut stack = stack.clone();
            async move {
                let (parts, mut body) = request.into_parts();
                read(&mut body).await;
                stack.call(Request::from_parts(parts, Body::Empty)).await
            }
        }
    });
    assert!(call(&route, reads, with(streaming, &context())).await.is_err());
    assert_eq!(host.failures().0, 2, "route's timeout, after a body that streamed");
    let layer = OutlierLayer::new(detector);
    let gone = tokio::time::timeout(second, call(&layer, silent(), with(get("/", &[]), &context())));
    assert!(gone.await.is_err());
    assert_eq!(host.failures().0, 2, "the client has gone");
}

#[tokio::test(start_paused = true)]
async fn without_an_endpoint_nothing_is_counted() {
    let (detector, host) = detector(OutlierPlan::default());
    let cx = context();
    let layer = OutlierLayer::new(detector);
    call(&layer, gives(|| Ok(status(200))), with(get("/", &[]), &cx)).await.unwrap();
    // The next try finds no endpoint at all: what the try before had says nothing.
    let none = service(|_: Request| std::future::ready(Ok(status(503))));
    call(&layer, none.clone(), with(get("/", &[]), &cx)).await.unwrap();
    call(&layer, none, get("/", &[])).await.unwrap();
    assert_eq!(host.failures(), (0, 0));
}
