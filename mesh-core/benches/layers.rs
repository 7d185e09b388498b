//! What the Layers of the traffic path cost a request, over an upstream that answers at once.
//!
//! ```text
//! cargo bench -p mesh-core --bench layers --profile quick
//! ```
//!
//! `examples/bench/micro` counts their instructions.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use divan::{Bencher, black_box};
use http::HeaderValue;
use mesh_core::api::ContentHash;
use mesh_core::env::Env;
use mesh_core::layers::modify::NodeFacts;
use mesh_core::layers::retry::DEFAULT_CAP;
use mesh_core::layers::{
    Body, BoxService, MeterConfig, MeterLayer, ModifyConfig, ModifyLayer, Request, RespondLayer, Response, RetryConfig,
    RetryLayer, SanitizeConfig, SanitizeLayer, TimeoutConfig, TimeoutLayer, Upstream,
};
use mesh_core::matching::RequestMatch;
use mesh_core::record::{ConnInfo, Cx};
use mesh_core::snapshot::{
    Action, Direction, HeaderOps, HttpSettings, PathNormalization, Provenance, RetryPlan, RouteFilters, RoutePlan,
    WeightedCluster,
};
use tower::{Service, ServiceBuilder};

fn main() {
    divan::main();
}

struct Fixed;

impl Env for Fixed {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn random(&self) -> u64 {
        0x1234_5678_9abc_def0
    }
}

fn upstream() -> impl Upstream {
    tower::service_fn(|request: Request| {
        drop(black_box(request));
        let mut response = Response::new(Body::from("Hello, world!"));
        response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        std::future::ready(Ok(response))
    })
}

fn sanitize() -> SanitizeLayer {
    SanitizeLayer::new(SanitizeConfig {
        direction: Direction::Gateway,
        server: Some(HeaderValue::from_static("istio-envoy")),
        use_remote_address: true,
        trusted_hops: 0,
        path_normalization: PathNormalization::Base,
        settings: HttpSettings::default(),
        node_address: None,
        env: Arc::new(Fixed),
    })
}

/// A route that changes nothing.
fn route() -> RoutePlan {
    let origin = Provenance::default("bench");
    let target = WeightedCluster {
        cluster: "up".into(),
        weight: 1,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        authority: None,
        missing_status: http::StatusCode::SERVICE_UNAVAILABLE,
        origin: origin.clone(),
    };
    RoutePlan {
        name: "r".into(),
        matches: RequestMatch::default(),
        action: Action::Forward(vec![target]),
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        rewrite: None,
        filters: RouteFilters::default(),
        headers: Default::default(),
        timeout: None,
        retry: None,
        replay: RoutePlan::REPLAY,
        origin: origin.clone(),
        timeout_origin: origin.clone(),
        retry_origin: origin,
        hash: ContentHash(1),
    }
}

fn modify() -> ModifyLayer {
    let route = Arc::new(route());
    ModifyLayer::new(ModifyConfig { route, destination: 0, node: Arc::new(NodeFacts::default()) })
}

fn retry() -> RetryLayer {
    RetryLayer::new(RetryConfig {
        policy: Some(RetryPlan::istio()),
        attempt_count: true,
        buffer: DEFAULT_CAP,
        env: Arc::new(Fixed),
        limit: None,
    })
}

fn request(conn: &Arc<ConnInfo>) -> Request {
    let mut request = http::Request::builder()
        .uri("/api/items?x=1")
        .header("host", "up.example")
        .header("user-agent", "bench")
        .header("accept", "*/*")
        .body(Body::Empty)
        .expect("a request");
    request.extensions_mut().insert(Arc::new(Cx::new(Arc::clone(conn), ContentHash(1))));
    request
}

fn conn() -> Arc<ConnInfo> {
    Arc::new(ConnInfo {
        direction: Direction::Gateway,
        peer: ([192, 0, 2, 1], 1234).into(),
        local: ([192, 0, 2, 2], 80).into(),
        direct: None,
        sni: "".into(),
        tls: None,
        peer_text: Default::default(),
    })
}

/// Serves requests through a service that is ready at once.
fn serve<S, R>(bencher: Bencher<'_, '_>, service: S)
where
    S: Service<Request, Response = R> + Clone,
    S::Error: std::fmt::Debug,
{
    let conn = conn();
    let mut cx = Context::from_waker(Waker::noop());
    bencher.with_inputs(|| request(&conn)).bench_local_values(|request| {
        match pin!(service.clone().call(request)).poll(&mut cx) {
            Poll::Ready(response) => response.expect("a response"),
            Poll::Pending => panic!("the upstream answers at once"),
        }
    });
}

#[divan::bench]
fn nothing(bencher: Bencher<'_, '_>) {
    serve(bencher, upstream());
}

#[divan::bench]
fn header_work(bencher: Bencher<'_, '_>) {
    serve(bencher, sanitize().layer_of(upstream()));
}

#[divan::bench]
fn retries_armed(bencher: Bencher<'_, '_>) {
    serve(bencher, retry().layer_of(upstream()));
}

/// In the order and with the erased boundaries of a proxy's stack.
#[divan::bench]
fn whole_stack(bencher: Bencher<'_, '_>) {
    let cluster = BoxService::new(upstream());
    let route = BoxService::new(
        ServiceBuilder::new()
            .layer(modify())
            .layer(TimeoutLayer::new(TimeoutConfig::default()))
            .layer(retry())
            .service(cluster),
    );
    let stack = ServiceBuilder::new()
        .layer(MeterLayer::new(MeterConfig { sinks: Arc::from([]), env: Arc::new(Fixed) }))
        .layer(RespondLayer::new(HeaderValue::from_static("istio-envoy")))
        .layer(sanitize())
        .service(route);
    serve(bencher, stack);
}

/// `Layer::layer`, which reads better after the Layer.
trait LayerOf<S> {
    type Service;
    fn layer_of(self, inner: S) -> Self::Service;
}

impl<L: tower::Layer<S>, S> LayerOf<S> for L {
    type Service = L::Service;

    fn layer_of(self, inner: S) -> L::Service {
        self.layer(inner)
    }
}
