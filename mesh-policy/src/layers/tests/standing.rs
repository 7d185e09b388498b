//! Requests that last, and policies that change meanwhile.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use mesh_core::layers::BoxService;
use tokio::sync::{mpsc, watch};

use super::*;

/// A body that somebody else fills.
struct Filled(mpsc::UnboundedReceiver<&'static str>);

impl HttpBody for Filled {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.0.poll_recv(cx).map(|text| text.map(|text| Ok(Frame::data(Bytes::from(text)))))
    }
}

type Fill = mpsc::UnboundedSender<&'static str>;

/// Answers with a body of this type that it does not end; `/wait` not at all.
fn lasting(content_type: &'static str) -> (BoxService, mpsc::UnboundedReceiver<Fill>) {
    let (tell, told) = mpsc::unbounded_channel();
    let service = tower::service_fn(move |request: Request| {
        let tell = tell.clone();
        async move {
            if request.uri().path() == "/wait" {
                return std::future::pending().await;
            }
            let (fill, body) = mpsc::unbounded_channel();
            tell.send(fill).unwrap();
            let upgrade = request.headers().contains_key("upgrade");
            let status = if upgrade { StatusCode::SWITCHING_PROTOCOLS } else { StatusCode::OK };
            let body = if upgrade { Body::Empty } else { Body::stream(Filled(body)) };
            let answer = http::Response::builder().status(status).header("content-type", content_type);
            Ok::<_, Error>(answer.body(body).unwrap())
        }
    });
    (BoxService::new(service), told)
}

struct Running {
    change: watch::Sender<Arc<Policies>>,
    layer: StandingLayer,
    told: Arc<Told>,
}

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Observer for Told {
    fn refused(&self, _: &Cx, refusal: &Refusal<'_>) {
        let Refusal::Policies { denial, .. } = refusal else { panic!() };
        self.0.lock().push(denial.rule.to_string());
    }

    fn noticed(&self, _: &Cx, _: &Notice<'_>) {}
}

fn running() -> Running {
    let (change, policies) = watch::channel(Arc::default());
    let told = Arc::new(Told::default());
    let config = StandingConfig { observer: Some(told.clone()), ..StandingConfig::new(policies) };
    Running { change, layer: StandingLayer::new(config), told }
}

/// Policies that let in who asks for `/a` with a token of this subject, and nobody else.
fn only(subject: &str) -> Arc<Policies> {
    allow(&format!(
        "[{{to: [{{operation: {{paths: [/a]}}}}], when: [{{key: 'request.auth.claims[sub]', values: [{subject}]}}]}}]"
    ))
}

fn request(headers: &[(&str, &str)], cx: &Arc<Cx>) -> Request {
    let mut request = get("/a", headers, cx);
    let payload = serde_json::from_str(r#"{"iss": "i", "sub": "me"}"#).unwrap();
    request.extensions_mut().insert(Claims::new(payload));
    request
}

async fn next(body: &mut Body) -> Option<Result<Frame<Bytes>, Error>> {
    std::future::poll_fn(|cx| pin!(&mut *body).poll_frame(cx)).await
}

async fn is_waiting(body: &mut Body) -> bool {
    tokio::time::timeout(Duration::from_secs(3600), next(body)).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn streams_go_on_until_policies_refuse_them() {
    for (headers, answer) in [
        ([("content-type", "application/grpc")], "application/grpc"),
        ([("accept", "text/event-stream")], "text/event-stream"),
    ] {
        let Running { change, layer, told } = running();
        let (service, mut filled) = lasting(answer);
        let cx = cx("");
        let response = layer.layer(service).call(request(&headers, &cx)).await.unwrap();
        let (fill, mut body) = (filled.recv().await.unwrap(), response.into_body());
        fill.send("one").unwrap();
        assert_eq!(next(&mut body).await.unwrap().unwrap().into_data().unwrap(), "one");
        change.send_replace(only("me"));
        assert!(is_waiting(&mut body).await, "it may still");
        fill.send("two").unwrap();
        assert_eq!(next(&mut body).await.unwrap().unwrap().into_data().unwrap(), "two");
        assert!(told.0.lock().is_empty());
        // Even if it always has something.
        fill.send("three").unwrap();
        change.send_replace(only("you"));
        match next(&mut body).await.unwrap() {
            Ok(frame) => assert_eq!(frame.trailers_ref().unwrap()["grpc-status"], "7"),
            Err(error) => {
                assert_eq!((answer, error.kind()), ("text/event-stream", mesh_core::error::ErrorKind::LocalReset))
            }
        }
        assert!(next(&mut body).await.is_none());
        assert!(fill.is_closed(), "the server is told");
        assert_eq!(*told.0.lock(), ["none"]);
        assert_eq!(cx.details.get().unwrap(), "rbac_access_denied_matched_policy[none]");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_an_answer_is_refused() {
    let Running { change, layer, .. } = running();
    let (service, _) = lasting("");
    let mut waiting = request(&[("accept", "text/event-stream, */*")], &cx(""));
    *waiting.uri_mut() = "/wait".parse().unwrap();
    let mut answer = pin!(layer.layer(service).call(waiting));
    assert!(tokio::time::timeout(Duration::from_secs(3600), answer.as_mut()).await.is_err());
    change.send_replace(only("me"));
    let refused = answer.await.unwrap();
    assert_eq!(refused.status(), 403);
    assert_eq!(text(refused).await, "RBAC: access denied");
}

#[tokio::test(start_paused = true)]
async fn tunnels_are_ended_by_who_runs_them() {
    let Running { change, layer, .. } = running();
    let (service, _filled) = lasting("");
    let cx = cx("");
    let upgrade = [("connection", "Upgrade"), ("upgrade", "websocket")];
    let mut response = layer.layer(service).call(request(&upgrade, &cx)).await.unwrap();
    let tenure = response.extensions_mut().remove::<Tenure>().unwrap();
    let mut refused = pin!(tenure.refused());
    change.send_replace(only("me"));
    assert!(tokio::time::timeout(Duration::from_secs(3600), refused.as_mut()).await.is_err());
    change.send_replace(only("you"));
    refused.await;
    assert_eq!(cx.details.get().unwrap(), "rbac_access_denied_matched_policy[none]");
}

/// They end by themselves. And where nobody changes policies any more, nothing ends because of them.
#[tokio::test(start_paused = true)]
async fn others_are_left_alone() {
    let Running { change, layer, told } = running();
    let (service, mut filled) = lasting("text/plain");
    let response = layer.layer(service).call(request(&[("accept", "*/*")], &cx(""))).await.unwrap();
    let (_fill, mut body) = (filled.recv().await.unwrap(), response.into_body());
    change.send_replace(only("you"));
    assert!(is_waiting(&mut body).await);
    assert!(told.0.lock().is_empty());

    let Running { change, layer, .. } = running();
    let (service, mut filled) = lasting("application/grpc");
    let grpc = request(&[("content-type", "application/grpc")], &cx(""));
    let response = layer.layer(service).call(grpc).await.unwrap();
    let (_fill, mut body) = (filled.recv().await.unwrap(), response.into_body());
    drop(change);
    assert!(is_waiting(&mut body).await);
}
