use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::*;
use crate::error::ErrorKind;
use crate::layers::testing::{answer, call, context, fixed, get, pieces, read, service, status, with};

#[derive(Default)]
struct Records(Mutex<Vec<RequestRecord>>);

impl Sink for Records {
    fn record(&self, record: &RequestRecord) {
        self.0.lock().push(record.clone());
    }
}

fn metered() -> (Arc<Records>, MeterLayer) {
    let records = Arc::new(Records::default());
    let sinks: Arc<[Arc<dyn Sink>]> = Arc::new([Arc::clone(&records) as Arc<dyn Sink>]);
    (records, MeterLayer::new(MeterConfig { sinks, env: fixed(0) }))
}

impl Records {
    fn only(&self) -> (RequestRecord, HttpRecord, String) {
        let all = self.0.lock();
        assert_eq!(all.len(), 1, "recorded exactly once");
        let flags = Flag::names(all[0].cx.flags.load(Ordering::Relaxed));
        (all[0].clone(), all[0].http.clone().unwrap(), flags)
    }
}

#[tokio::test]
async fn a_request_that_ends_is_recorded_once_with_its_bytes() {
    let (records, layer) = metered();
    let mut request = get("/x?y", &[("user-agent", "test")]);
    *request.body_mut() = pieces(&["1234"], false);
    let inner = service(|request: Request| async move {
        read(&mut request.into_body()).await;
        Ok(status(201).map(|_| pieces(&["abc", "de"], false)))
    });
    let mut response = call(&layer, inner, with(request, &context())).await.unwrap();
    assert!(records.0.lock().is_empty(), "not before the body has ended");
    assert_eq!(read(response.body_mut()).await.0, "abcde");
    drop(response);
    let (record, http, flags) = records.only();
    assert_eq!(http.status.unwrap().as_u16(), 201);
    assert_eq!((record.path(), &*record.authority()), ("/x?y", "a.example"));
    assert_eq!(record.cx.request_bytes.load(Ordering::Relaxed), 4);
    assert_eq!(record.cx.response_bytes.load(Ordering::Relaxed), 5);
    assert_eq!((&*flags, record.cx.details.get()), ("-", None));
}

#[tokio::test]
async fn a_body_that_breaks_is_the_end_too() {
    let (records, layer) = metered();
    let inner = service(|_| async { Ok(status(200).map(|_| Body::stream(Broken))) });
    let mut response = call(&layer, inner, with(get("/", &[]), &context())).await.unwrap();
    assert_eq!(read(response.body_mut()).await.1.unwrap().kind(), ErrorKind::UpstreamProtocol);
    drop(response);
    assert_eq!(records.only().2, "-", "whoever broke it sets the flag");
}

struct Broken;

impl HttpBody for Broken {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Poll::Ready(Some(Err(Error::new(ErrorKind::UpstreamProtocol))))
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_response() {
    // A23
    let (records, layer) = metered();
    let mut stack = layer.layer(service(|_| std::future::pending()));
    drop(stack.call(with(get("/", &[]), &context())));
    let (record, http, flags) = records.only();
    assert_eq!((http.status, &*flags), (None, "DC"));
    assert_eq!(record.cx.details.get().unwrap(), "downstream_remote_disconnect");
}

#[tokio::test]
async fn a_client_that_leaves_in_the_body() {
    let (records, layer) = metered();
    let inner = service(|_| async { Ok(status(200).map(|_| pieces(&["abc"], true))) });
    let mut response = call(&layer, inner, with(get("/", &[]), &context())).await.unwrap();
    std::future::poll_fn(|cx| Pin::new(response.body_mut()).poll_frame(cx)).await.unwrap().unwrap();
    drop(response);
    let (record, http, flags) = records.only();
    assert_eq!((http.status.unwrap().as_u16(), &*flags), (200, "DC"));
    assert_eq!(record.cx.response_bytes.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn empty_bodies_and_head_are_complete_when_dropped_unread() {
    for (method, body) in [(Method::GET, Body::Empty), (Method::HEAD, Body::from("text"))] {
        let (records, layer) = metered();
        let mut request = with(get("/", &[]), &context());
        *request.method_mut() = method;
        let body = Mutex::new(Some(body));
        let body = Arc::new(body);
        let inner = service(move |_| {
            let body = body.lock().take().unwrap();
            async { Ok(status(200).map(|_| body)) }
        });
        drop(call(&layer, inner, request).await.unwrap());
        assert_eq!(records.only().2, "-");
    }
}

#[tokio::test]
async fn grpc_status_from_headers_or_trailers() {
    let (records, layer) = metered();
    let inner = service(|_| async { Ok(answer(200, &[("grpc-status", "14")])) });
    let request = with(get("/", &[("content-type", "application/grpc")]), &context());
    drop(call(&layer, inner, request).await.unwrap());
    assert_eq!(records.only().1.grpc_status, Some(14));
}

#[tokio::test]
async fn without_a_context_nothing_is_recorded() {
    let (records, layer) = metered();
    drop(call(&layer, service(|_| async { Ok(status(200)) }), get("/", &[])).await.unwrap());
    assert!(records.0.lock().is_empty());
}
