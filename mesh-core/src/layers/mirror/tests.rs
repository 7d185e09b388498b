use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;
use crate::layers::testing::{Seen, answer, call, context, fixed, get, pieces, scripted, service, status, with};

/// Reports what became of copies.
struct Outcomes(UnboundedSender<CopyOutcome>);

impl Sink for Outcomes {
    fn record(&self, _: &crate::record::RequestRecord) {}

    fn copied(&self, cluster: &str, outcome: CopyOutcome) {
        assert_eq!(cluster, "next");
        let _ = self.0.send(outcome);
    }
}

fn config(mirror: impl Upstream) -> (UnboundedReceiver<CopyOutcome>, MirrorConfig) {
    let (tell, outcomes) = unbounded_channel();
    let mut config = MirrorConfig::new(fixed(0)).to(MirrorTarget::new("next", mirror));
    config.sinks = Arc::new([Arc::new(Outcomes(tell)) as Arc<dyn Sink>]);
    config.node_address = Some("10.0.0.1".parse().unwrap());
    (outcomes, config)
}

fn upload(body: Body) -> Request {
    let mut request = get("/p?q=1", &[("x-a", "1")]);
    *request.body_mut() = body;
    request
}

async fn ok(config: MirrorConfig, request: Request) -> (Seen, Response) {
    let (seen, inner) = scripted(vec![Ok(status(200))]);
    let response = call(&MirrorLayer::new(config), inner, request).await.unwrap();
    (seen, response)
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_the_request_and_says_that_it_is_internal() {
    // R4
    let (copies, mirror) = scripted(vec![Ok(answer(500, &[]))]);
    let (mut outcomes, config) = config(mirror);
    let budget = Arc::clone(&config.targets[0].budget);
    let cx = context();
    let request = with(upload(pieces(&["ab", "cd"], false)), &cx);
    let (seen, response) = ok(config, request).await;
    assert_eq!((response.status().as_u16(), outcomes.recv().await), (200, Some(CopyOutcome::Sent)));
    assert_eq!((seen.bodies(), copies.bodies()), (vec!["abcd".to_owned()], vec!["abcd".to_owned()]));
    assert_eq!((&*copies.target(), copies.header(0, "x-a").as_deref()), ("/p?q=1", Some("1")));
    assert_eq!(copies.header(0, "x-envoy-internal").as_deref(), Some("true"));
    assert_eq!(copies.header(0, "x-forwarded-for").as_deref(), Some("10.0.0.1"));
    assert_eq!(copies.header(0, "host").as_deref(), Some("a.example"));
    assert_eq!((seen.header(0, "x-envoy-internal"), seen.header(0, "x-forwarded-for")), (None, None));
    assert_eq!((cx.attempts.load(Ordering::Relaxed), budget.copies()), (0, 0));
}

#[test]
fn the_shadow_suffix() {
    // R3
    for (host, wanted) in [
        ("a.example", "a.example-shadow"),
        ("cluster1:80", "cluster1-shadow:80"),
        ("10.1.2.3:80", "10.1.2.3-shadow:80"),
        ("[::1]:80", "[::1]-shadow:80"),
        ("[::1]", "[::1]-shadow"),
    ] {
        assert_eq!(shadow(host), wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn forwarded_addresses_are_kept_and_the_suffix_is_asked_for() {
    let (copies, mirror) = scripted(vec![Ok(status(200))]);
    let (mut outcomes, mut config) = config(mirror);
    config.shadow_suffix = true;
    ok(config, get("/", &[("x-forwarded-for", "1.2.3.4")])).await;
    outcomes.recv().await;
    assert_eq!(copies.header(0, "x-forwarded-for").as_deref(), Some("1.2.3.4,10.0.0.1"));
    assert_eq!(copies.header(0, "host").as_deref(), Some("a.example-shadow"));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_copied_of_what_is_not_chosen_or_has_nowhere_to_go() {
    for (share, end, request) in [
        (Share::NONE, Ok(status(200)), get("/", &[])),
        (Share::ALL, Err(Error::new(ErrorKind::NoHealthyUpstream)), get("/", &[])),
        (Share::ALL, Err(Error::new(ErrorKind::NoCluster)), get("/", &[])),
        (Share::ALL, Ok(status(101)), get("/", &[("upgrade", "websocket")])),
    ] {
        let (copies, mirror) = scripted(vec![Ok(status(200))]);
        let (mut outcomes, mut config) = config(mirror);
        config.targets[0].share = share;
        let end = Arc::new(Mutex::new(Some(end)));
        let inner = service(move |_| std::future::ready(end.lock().take().unwrap()));
        let _ = call(&MirrorLayer::new(config), inner, request).await;
        // Every sender is gone: nothing was sent and nothing will be.
        assert_eq!((outcomes.recv().await, copies.count()), (None, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_and_a_hanging_mirror_change_nothing() {
    let fails = service(|_| std::future::ready(Err(Error::new(ErrorKind::ConnectFailure))));
    let (mut outcomes, config) = self::config(fails);
    let (seen, response) = ok(config, upload(pieces(&["ab"], false))).await;
    assert_eq!((response.status().as_u16(), seen.bodies()), (200, vec!["ab".to_owned()]));
    assert_eq!(outcomes.recv().await, Some(CopyOutcome::Failed));
    // One that never reads: its part is kept up to a bound, then it loses the copy.
    let hangs = service(|_| std::future::pending());
    let (mut outcomes, config) = self::config(hangs);
    let budget = Arc::clone(&config.targets[0].budget);
    let big = Big(Some(64));
    let (seen, response) = ok(config, upload(Body::stream(big))).await;
    assert_eq!((response.status().as_u16(), seen.bodies()[0].len()), (200, 64 << 16));
    assert_eq!((outcomes.recv().await, budget.copies()), (Some(CopyOutcome::Lost), 0));
}

/// So many pieces of 64 KiB.
struct Big(Option<u32>);

impl HttpBody for Big {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let left = self.0.unwrap_or(0);
        self.0 = left.checked_sub(1);
        Poll::Ready((left > 0).then(|| Ok(Frame::data(Bytes::from_static(&[b'x'; 1 << 16])))))
    }
}

#[tokio::test(start_paused = true)]
async fn too_many_copies_are_lost() {
    let hangs = service(|_| std::future::pending());
    let (mut outcomes, config) = self::config(hangs);
    let budget = Arc::clone(&config.targets[0].budget);
    let layer = MirrorLayer::new(config);
    for _ in 0..1025 {
        let (_, inner) = scripted(vec![Ok(status(200))]);
        call(&layer, inner, get("/", &[])).await.unwrap();
    }
    assert_eq!((outcomes.recv().await, budget.copies()), (Some(CopyOutcome::Lost), 1024));
}

/// What a body does next.
#[derive(Clone, Debug)]
enum Step {
    Data(Vec<u8>),
    Pause(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let data = prop::collection::vec(any::<u8>(), 1..40).prop_map(Step::Data);
    prop::collection::vec(prop_oneof![data, (0_u64..20).prop_map(Step::Pause)], 0..12)
}

/// Gives its steps, pausing between them.
struct Scripted {
    steps: VecDeque<Step>,
    trailers: bool,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl HttpBody for Scripted {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                std::task::ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            match self.steps.pop_front() {
                Some(Step::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data.into())))),
                Some(Step::Pause(millis)) => {
                    self.sleep = Some(Box::pin(tokio::time::sleep(Duration::from_millis(millis))));
                }
                None if std::mem::take(&mut self.trailers) => {
                    let trailers = HeaderMap::from_iter([(HeaderName::from_static("x-t"), HeaderValue::from(7))]);
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                None => return Poll::Ready(None),
            }
        }
    }
}

/// What a reader got: bytes, trailers, and whether the body came to its end.
type Got = (Vec<u8>, bool, bool);

/// Reads up to so many frames, pausing before each.
fn reader(frames: usize, pause: u64) -> (Arc<Mutex<Got>>, impl Upstream) {
    let got = Arc::new(Mutex::new(Got::default()));
    let log = Arc::clone(&got);
    let reader = service(move |request: Request| {
        let log = Arc::clone(&log);
        async move {
            let mut body = request.into_body();
            for _ in 0..frames {
                tokio::time::sleep(Duration::from_millis(pause)).await;
                match std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                    Some(Ok(frame)) if frame.is_data() => log.lock().0.extend(frame.into_data().unwrap()),
                    // Nothing comes after trailers, so that nobody has to ask.
                    Some(Ok(_)) => {
                        let mut log = log.lock();
                        (log.1, log.2) = (true, true);
                        break;
                    }
                    Some(Err(error)) => return Err(error),
                    None => {
                        log.lock().2 = true;
                        break;
                    }
                }
            }
            Ok(status(200))
        }
    });
    (got, reader)
}

proptest! {
    #[test]
    fn no_body_is_truncated_or_duplicated(
        steps in steps(), trailers: bool, early in prop::option::of(0_usize..6), mirror_early in prop::option::of(0_usize..6),
        pauses in (0_u64..30, 0_u64..30),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let sent: Vec<u8> = steps.iter().flat_map(|s| if let Step::Data(d) = s { d.clone() } else { Vec::new() }).collect();
            let (mirror_got, mirror) = reader(mirror_early.unwrap_or(usize::MAX), pauses.1);
            let (mut outcomes, config) = config(mirror);
            let (primary_got, primary) = reader(early.unwrap_or(usize::MAX), pauses.0);
            let body = Body::stream(Scripted { steps: steps.into(), trailers, sleep: None });
            call(&MirrorLayer::new(config), primary, upload(body)).await.unwrap();
            let outcome = outcomes.recv().await.unwrap();
            let (primary, mirror) = (primary_got.lock().clone(), mirror_got.lock().clone());
            // Whoever saw the end saw everything, once; whoever did not, saw a beginning.
            for (bytes, with_trailers, ended) in [&primary, &mirror] {
                prop_assert!(sent.starts_with(bytes));
                prop_assert!(!ended || (*bytes == sent && *with_trailers == trailers));
            }
            prop_assert!(primary.2 || early.is_some());
            // The mirror is complete unless it or the primary stopped reading.
            prop_assert!(mirror.2 || mirror_early.is_some() || !primary.2);
            prop_assert_eq!(outcome == CopyOutcome::Lost, !primary.2 && outcome != CopyOutcome::Sent);
            Ok(())
        })?;
    }
}
