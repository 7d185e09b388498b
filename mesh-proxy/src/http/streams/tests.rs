use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use mesh_core::layers::{Body, Request, Response, StreamLimitConfig, StreamLimitLayer, StreamTimer};
use mesh_core::record::{ConnInfo, Cx, Flag};
use mesh_core::snapshot::Direction;
use tokio::sync::oneshot;
use tower::{Layer, Service, service_fn};

use super::*;

const S: Duration = Duration::from_secs(1);

/// A response of which there is always more.
struct Endless;

impl HttpBody for Endless {
    type Data = Bytes;
    type Error = mesh_core::error::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, mesh_core::error::Error>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"more")))))
    }
}

/// A stream whose reader takes a frame at these times, and then none. Says when it was dropped, and what was noted.
async fn held_up(limits: StreamLimitConfig, reads: &'static [u64]) -> (Duration, String, Option<String>) {
    let began = Instant::now();
    let conn = ConnInfo {
        direction: Direction::Gateway,
        peer: "192.0.2.1:1".parse().unwrap(),
        direct: None,
        local: "192.0.2.2:80".parse().unwrap(),
        sni: "".into(),
        tls: None,
        peer_text: Default::default(),
    };
    let cx = Arc::new(Cx::new(Arc::new(conn), Default::default()));
    let clock: Arc<StreamClock> = Arc::default();
    let mut request = Request::new(Body::Empty);
    request.extensions_mut().insert(Arc::clone(&cx));
    request.extensions_mut().insert(StreamTimer { clock: Some(Arc::clone(&clock)), began });
    let inner = service_fn(|_: Request| async {
        let body = Body::Stream(Box::pin(Endless));
        Ok::<_, mesh_core::error::Error>(Response::new(body))
    });
    let answer = StreamLimitLayer::new(limits).layer(inner).call(request);
    let (alive, gone) = oneshot::channel::<Infallible>();
    let streams = Streams::default();
    streams.next_goes_by(Some(clock));
    streams.execute(async move {
        let _alive = alive;
        let mut body = answer.await.unwrap().into_body();
        for at in reads {
            tokio::time::sleep_until(began + S * u32::try_from(*at).unwrap()).await;
            std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        }
        std::future::pending::<()>().await;
    });
    assert!(gone.await.is_err());
    let flags = Flag::names(cx.flags.load(Ordering::Relaxed));
    (began.elapsed(), flags, cx.details.get().cloned())
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_is_not_waited_for() {
    let idle = StreamLimitConfig { idle: Some(10 * S), ..StreamLimitConfig::default() };
    let still = ("SI".to_owned(), Some("stream_idle_timeout".to_owned()));
    for (reads, ends) in [(&[][..], 10), (&[4, 9], 19), (&[1, 2, 3, 8, 17], 27)] {
        let (after, flags, details) = held_up(idle, reads).await;
        assert_eq!((after, (flags, details)), (S * ends, still.clone()), "{reads:?}");
    }
    let total = StreamLimitConfig { idle: Some(10 * S), total: Some(15 * S), ..StreamLimitConfig::default() };
    let (after, flags, details) = held_up(total, &[4, 9]).await;
    assert_eq!((after, &*flags, details.as_deref()), (15 * S, "-", Some("max_duration_timeout")));
}

#[tokio::test(start_paused = true)]
async fn without_limits_it_is_a_task_like_others() {
    let streams = Streams::default();
    let (tell, told) = oneshot::channel();
    streams.next_goes_by(None);
    streams.execute(async move {
        tokio::time::sleep(S * 1000).await;
        tell.send(()).unwrap();
    });
    told.await.unwrap();
}
