use std::cell::{Cell, RefCell};

use mesh_core::snapshot::HttpSettings;

use super::*;

const S: Duration = Duration::from_secs(1);

/// What a connection was told, and when.
#[derive(Default)]
struct Told {
    finished: Cell<Option<Duration>>,
    refused: RefCell<Vec<(Duration, &'static str)>>,
}

/// Serves until it is told to finish, and then until `busy` is over.
async fn run(announces: bool, settings: HttpSettings, busy: &[Duration]) -> (Told, Duration) {
    let (life, told) = (Arc::new(Life::new(&settings)), Told::default());
    let began = Instant::now();
    let connection = std::future::poll_fn(|_| match told.finished.get() {
        Some(_) if !announces => Poll::Ready(Ok(())),
        _ => Poll::Pending,
    });
    let finish = finish(&connection, |_| told.finished.set(Some(began.elapsed())));
    let refuse = |reply: LocalReply| told.refused.borrow_mut().push((began.elapsed(), reply.details));
    let kind = Kind { announces, finish, refuse_head: refuse };
    let requests = async {
        for length in busy {
            let _open = life.enter();
            tokio::time::sleep(*length).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = serve(connection, kind, Arc::clone(&life), None) => ended.unwrap(),
        () = requests => {}
    }
    let after = began.elapsed();
    (told, after)
}

fn idle(seconds: u64) -> HttpSettings {
    HttpSettings { idle_timeout: Some(Duration::from_secs(seconds)), ..HttpSettings::default() }
}

#[tokio::test(start_paused = true)]
async fn c14_an_idle_connection_goes_after_its_drain() {
    let (_, after) = run(false, idle(60), &[]).await;
    assert_eq!(after, 60 * S + 5 * S + S);
    let (_, after) = run(false, idle(60), &[50 * S, 50 * S, 500 * S]).await;
    assert_eq!(after, 600 * S + 66 * S, "from the end of the last request");
}

#[tokio::test(start_paused = true)]
async fn c15_http2_says_so_at_once() {
    let (told, after) = run(true, idle(60), &[]).await;
    assert_eq!(told.finished.get(), Some(60 * S));
    assert_eq!(after, 66 * S, "a client that takes no notice");
}

#[tokio::test(start_paused = true)]
async fn c16_so_does_an_old_one_but_no_request_is_cut() {
    let old = HttpSettings { max_connection_duration: Some(10 * S), drain_timeout: 3 * S, ..idle(60) };
    let (_, after) = run(false, old, &[]).await;
    assert_eq!(after, 14 * S);
    let (told, after) = run(true, old, &[100 * S]).await;
    assert_eq!(told.finished.get(), Some(10 * S));
    assert!(after >= 100 * S && after <= 101 * S, "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn c12_a_head_that_does_not_come() {
    for (settings, details, at) in [
        (HttpSettings { headers_timeout: Some(S), ..idle(60) }, "request_header_timeout", S),
        (HttpSettings { request_timeout: Some(2 * S), ..idle(60) }, "request_overall_timeout", 2 * S),
        (HttpSettings { stream_idle_timeout: Some(3 * S), ..idle(60) }, "stream_idle_timeout", 3 * S),
    ] {
        let (life, refused) = (Arc::new(Life::new(&settings)), RefCell::new(Vec::new()));
        let began = Instant::now();
        // In a later poll than the first: the timer was set without it.
        let mut polls = 0;
        let connection = std::future::poll_fn(|cx: &mut Context<'_>| {
            polls += 1;
            match polls {
                1 => cx.waker().wake_by_ref(),
                2 => life.head_began(),
                _ => {}
            }
            if refused.borrow().is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
        });
        let finish = finish(&connection, |_| {});
        let refuse_head = |reply: LocalReply| refused.borrow_mut().push((reply.details, began.elapsed()));
        let kind = Kind { announces: false, finish, refuse_head };
        serve(connection, kind, Arc::clone(&life), None).await.unwrap();
        assert_eq!(*refused.borrow(), [(details, at)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_over_its_limit_is_looked_at_and_given_up_if_nothing_moves() {
    let settings = HttpSettings { max_stream_duration: Some(S), ..idle(60) };
    let life = Arc::new(Life::new(&settings));
    let timer = life.timer().expect("there are limits");
    assert!(life.own_clock().is_some());
    let unlimited = Life::new(&idle(60));
    assert!(unlimited.timer().is_none() && unlimited.own_clock().is_none(), "no limit, no cost");
    let layer = mesh_core::layers::StreamLimitLayer::new(StreamLimitConfig::of(&settings).unwrap());
    let hangs = tower::service_fn(|_: mesh_core::layers::Request| std::future::pending());
    let mut request = mesh_core::layers::Request::default();
    request.extensions_mut().insert(timer);
    let mut call = Box::pin(tower::Service::call(&mut tower::Layer::layer(&layer, hangs), request));
    let began = Instant::now();
    let polled = RefCell::new(Vec::new());
    // Only the first look reaches the request: then its client stops reading.
    let connection = std::future::poll_fn(|cx: &mut Context<'_>| {
        polled.borrow_mut().push(began.elapsed());
        if polled.borrow().len() == 1 {
            assert!(call.as_mut().poll(cx).is_pending());
        }
        Poll::Pending
    });
    let finish = finish(&connection, |_| {});
    let kind = Kind { announces: false, finish, refuse_head: drop };
    serve(connection, kind, life, None).await.unwrap();
    // By the timer, and by what it says.
    assert_eq!(*polled.borrow(), [Duration::ZERO, S, S]);
}
