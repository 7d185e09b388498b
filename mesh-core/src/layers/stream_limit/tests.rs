use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::*;
use crate::layers::testing::{call, context, get, pieces, read, service, status, with};

const MS: Duration = Duration::from_millis(1);

fn layer(idle: u64, request: u64, total: u64) -> StreamLimitLayer {
    let limit = |n: u64| (n > 0).then(|| MS * u32::try_from(n).unwrap());
    StreamLimitLayer::new(StreamLimitConfig { idle: limit(idle), request: limit(request), total: limit(total) })
}

fn hangs() -> impl Upstream {
    service(|_| std::future::pending())
}

/// Reads the request, and does not answer.
fn reads() -> impl Upstream {
    service(|request: Request| async move {
        read(&mut request.into_body()).await;
        std::future::pending().await
    })
}

fn upload(parts: &[&'static str], hangs: bool) -> Request {
    let mut request = get("/", &[]);
    *request.body_mut() = pieces(parts, hangs);
    request
}

/// Kind and status of the error, and when it came.
async fn failure(layer: StreamLimitLayer, inner: impl Upstream, request: Request) -> (ErrorKind, u16, Duration) {
    let began = Instant::now();
    let error = call(&layer, inner, request).await.unwrap_err();
    (error.kind(), error.status().as_u16(), began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn before_the_head() {
    for (limits, request, wanted) in [
        (layer(100, 0, 0), get("/", &[]), (ErrorKind::IdleTimeout, 504, 100)), // C8
        (layer(100, 0, 0), upload(&["a"], true), (ErrorKind::IdleTimeout, 408, 100)), // C9
        (layer(0, 70, 0), upload(&["a"], true), (ErrorKind::RequestTimeout, 408, 70)), // C11
        (layer(0, 0, 50), get("/", &[]), (ErrorKind::StreamDuration, 504, 50)), // C13
        (layer(100, 70, 50), upload(&["a"], true), (ErrorKind::StreamDuration, 504, 50)),
        (layer(100, 70, 500), upload(&["a"], false), (ErrorKind::IdleTimeout, 504, 100)), // it has come
    ] {
        let (kind, status, after) = failure(limits, reads(), request).await;
        assert_eq!((kind, status, after), (wanted.0, wanted.1, wanted.2 * MS));
    }
    let (kind, _, after) = failure(layer(100, 0, 0), hangs(), get("/", &[])).await;
    assert_eq!((kind, after), (ErrorKind::IdleTimeout, 100 * MS));
}

#[tokio::test(start_paused = true)]
async fn after_the_head_the_response_is_cut() {
    for (limits, flag, details) in [
        (layer(100, 0, 0), "SI", "stream_idle_timeout"), // C10
        (layer(0, 0, 100), "-", "max_duration_timeout"),
    ] {
        let cx = context();
        let slow = service(|_| async { Ok(status(200).map(|_| pieces(&["a"], true))) });
        let mut response = call(&limits, slow, with(get("/", &[]), &cx)).await.unwrap();
        let (text, end) = read(response.body_mut()).await;
        assert!(text == "a" && end.is_some());
        assert_eq!(crate::record::Flag::names(cx.flags.load(Ordering::Relaxed)), flag);
        assert_eq!(cx.details.get().unwrap(), details);
    }
}

#[tokio::test(start_paused = true)]
async fn what_moves_is_not_idle() {
    let steady = service(|_| async {
        sleep(90 * MS).await;
        let body = futures_util::stream::unfold(0, |n| async move {
            sleep(90 * MS).await;
            (n < 5).then(|| (Ok::<_, Error>(Frame::data(Bytes::from_static(b"x"))), n + 1))
        });
        Ok(status(200).map(|_| Body::Stream(Box::pin(http_body_util::StreamBody::new(body)))))
    });
    let mut response = call(&layer(100, 0, 0), steady, get("/", &[])).await.unwrap();
    let (text, end) = read(response.body_mut()).await;
    assert_eq!((&*text, end.is_none()), ("xxxxx", true));
}

/// Polls once.
async fn once<F: Future>(mut future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
    std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx))).await
}

#[tokio::test(start_paused = true)]
async fn a_connections_clock_is_asked_instead_of_a_timer() {
    let clock = Arc::new(StreamClock::new());
    let began = Instant::now();
    let mut request = get("/", &[]);
    request.extensions_mut().insert(StreamTimer { clock: Some(Arc::clone(&clock)), began });
    let limits = layer(0, 0, 100);
    let mut answer = std::pin::pin!(call(&limits, hangs(), request));
    assert!(once(answer.as_mut()).await.is_pending());
    assert_eq!(clock.deadline(), Some(began + 100 * MS));
    sleep(100 * MS).await;
    // Nothing has woken it; its connection does.
    assert!(once(answer.as_mut()).await.is_ready());
    assert_eq!(clock.deadline(), None, "the next request asks anew");
}

#[tokio::test(start_paused = true)]
async fn time_counts_from_the_first_byte() {
    let mut request = upload(&["a"], true);
    let began = Instant::now();
    sleep(60 * MS).await;
    request.extensions_mut().insert(StreamTimer { clock: None, began });
    let (kind, _, after) = failure(layer(0, 100, 0), reads(), request).await;
    assert_eq!((kind, after), (ErrorKind::RequestTimeout, 40 * MS));
}
