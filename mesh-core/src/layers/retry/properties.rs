//! Whatever the body and whenever tries end: what the last try reads is the body, and retries stay within their limit.

use std::collections::VecDeque;
use std::future::poll_fn;

use http_body::{Body as HttpBody, Frame};
use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;
use crate::layers::limits::Resource;
use crate::layers::testing::{fixed, get, service, status};
use crate::snapshot::{RetryBudgetPlan, RetryOn};

/// A body that sometimes has nothing yet.
struct Slow {
    steps: VecDeque<Option<Frame<Bytes>>>,
}

impl HttpBody for Slow {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.steps.pop_front() {
            Some(Some(frame)) => Poll::Ready(Some(Ok(frame))),
            Some(None) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => Poll::Ready(None),
        }
    }
}

/// How a body goes: pieces (`None`: not yet), and whether there are trailers.
type Upload = (Vec<Option<Vec<u8>>>, bool);

fn body((pieces, trailers): &Upload) -> Body {
    let mut steps: VecDeque<_> =
        pieces.iter().map(|p| p.as_ref().map(|p| Frame::data(Bytes::copy_from_slice(p)))).collect();
    if *trailers {
        let mut map = http::HeaderMap::new();
        map.insert("x-sum", HeaderValue::from_static("1"));
        steps.push_back(Some(Frame::trailers(map)));
    }
    Body::Stream(Box::pin(Slow { steps }))
}

/// Reads up to so many frames: data, trailers, and whether the end was seen.
async fn read(body: &mut Body, frames: usize) -> (Vec<u8>, usize, bool) {
    let (mut data, mut trailers) = (Vec::new(), 0);
    for _ in 0..frames {
        match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            None => return (data, trailers, true),
            Some(frame) => match frame.unwrap().into_data() {
                Ok(bytes) => data.extend_from_slice(&bytes),
                Err(_) => trailers += 1,
            },
        }
    }
    (data, trailers, false)
}

fn upload() -> impl Strategy<Value = Upload> {
    let piece = prop_oneof![3 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Some), 1 => Just(None)];
    (prop::collection::vec(piece, 0..12), any::<bool>())
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(future)
}

fn failing() -> RetryPlan {
    RetryPlan::of(99, RetryOn { server_error: true, ..RetryOn::default() })
}

proptest! {
    /// Tries that end after some frames, and hold the body a little longer than their answer.
    #[test]
    fn a_body_is_neither_cut_nor_doubled(
        upload in upload(),
        tries in prop::collection::vec((0usize..16, 0u64..400), 0..6),
        cap in prop_oneof![Just(DEFAULT_CAP), 0usize..200],
    ) {
        let (whole, trailers) = (upload.0.iter().flatten().flatten().copied().collect::<Vec<u8>>(), usize::from(upload.1));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(Mutex::new(VecDeque::from(tries)));
        let inner = service({
            let seen = Arc::clone(&seen);
            move |request: Request| {
                let (seen, next) = (Arc::clone(&seen), script.lock().pop_front());
                async move {
                    let mut body = request.into_body();
                    let got = read(&mut body, next.map_or(usize::MAX, |n| n.0)).await;
                    seen.lock().push(got);
                    let Some((_, hold)) = next else { return Ok(status(200)) };
                    // As a connection's task does: it lets go when it gets to it.
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis(hold)).await;
                        drop(body);
                    });
                    Ok(status(503))
                }
            }
        });
        let config = RetryConfig { policy: Some(failing()), attempt_count: true, buffer: cap, env: fixed(7), limit: None };
        let mut request = get("/", &[]);
        *request.body_mut() = body(&upload);
        let answer = run(RetryLayer::new(config).layer(inner).call(request)).unwrap();
        let seen = seen.lock();
        for (data, got_trailers, ended) in seen.iter() {
            prop_assert!(whole.starts_with(data), "a try reads from the start");
            prop_assert!(!ended || (*data == whole && *got_trailers == trailers), "an end is the end of all of it");
        }
        if answer.status() == 200 {
            let last = seen.last().unwrap();
            prop_assert_eq!(&last.0, &whole);
            prop_assert_eq!((last.1, last.2), (trailers, true));
        } else {
            prop_assert!(seen.last().unwrap().0.len() > cap, "only a body over the cap is not sent again");
        }
    }

    /// Requests that come and fail at random times: at no time are there more retries than allowed.
    #[test]
    fn retries_stay_within_their_limit(
        requests in prop::collection::vec((0u64..200, 1u64..50, 0usize..5), 1..40),
        percent in 0.0f64..100.0,
        min in 1u32..4,
        counted in any::<bool>(),
    ) {
        let budget = RetryBudgetPlan { percent, min_concurrency: min, interval: Duration::ZERO };
        let pool = match counted {
            true => PoolPlan { max_retries: min, ..PoolPlan::default() },
            false => PoolPlan { retry_budget: Some(budget), ..PoolPlan::default() },
        };
        run(async {
            let usage = Arc::new(Usage::default());
            let limit = Some(RetryLimit { pool: pool.clone(), usage: Arc::clone(&usage) });
            let config = RetryConfig { policy: Some(failing()), attempt_count: true, buffer: 0, env: fixed(u64::MAX), limit };
            let (layer, total) = (RetryLayer::new(config), u32::try_from(requests.len()).unwrap());
            let mut all = tokio::task::JoinSet::new();
            for (at, takes, fails) in requests {
                let left = Arc::new(Mutex::new(fails));
                let (usage, pool, seen) = (Arc::clone(&usage), pool.clone(), Arc::clone(&usage));
                let inner = service(move |_| {
                    let (usage, pool, left) = (Arc::clone(&usage), pool.clone(), Arc::clone(&left));
                    async move {
                        let _active = usage.take_always(Resource::Requests);
                        assert!(usage.now(Resource::Retries) <= pool.retries_allowed(total), "more than all requests allow");
                        tokio::time::sleep(Duration::from_millis(takes)).await;
                        let mut left = left.lock();
                        let code = if *left == 0 { 200 } else { 503 };
                        *left = left.saturating_sub(1);
                        Ok(status(code))
                    }
                });
                let mut service = layer.layer(inner);
                all.spawn(async move {
                    tokio::time::sleep(Duration::from_millis(at)).await;
                    let _ = service.call(get("/", &[])).await;
                });
                // A retry more is refused exactly when the number in use has reached what is allowed at that time.
                let before = seen.now(Resource::Retries);
                let allowed = pool_of(&layer).retries_allowed(seen.now(Resource::Requests));
                assert_eq!(seen.take_retry(pool_of(&layer)).is_some(), before < allowed);
            }
            while all.join_next().await.is_some() {}
            assert_eq!((usage.now(Resource::Retries), usage.now(Resource::Requests)), (0, 0));
        });
    }
}

fn pool_of(layer: &RetryLayer) -> &PoolPlan {
    &layer.config.limit.as_ref().expect("invariant: the test sets one").pool
}
