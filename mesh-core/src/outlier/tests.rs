use proptest::prelude::*;
use tokio::time::advance;

use super::*;

const OK: Event = Event::Status(StatusCode::OK);

fn status(code: u16) -> Event {
    Event::Status(StatusCode::from_u16(code).unwrap())
}

fn address(i: usize) -> Address {
    Address::Ip(([10, 0, 0, u8::try_from(i).unwrap()], 80).into())
}

/// A detector with its changes.
struct Rig {
    detector: Arc<Detector>,
    hosts: Vec<Arc<Host>>,
    changes: Arc<Mutex<Vec<Change>>>,
}

impl Rig {
    fn new(hosts: usize, plan: OutlierPlan) -> Self {
        let changes: Arc<Mutex<Vec<Change>>> = Arc::default();
        let log = Arc::clone(&changes);
        let detector = Detector::new(Box::new(move |change| log.lock().push(change.clone())));
        let hosts: Vec<Arc<Host>> = (0..hosts).map(|_| Arc::default()).collect();
        detector.set_hosts(hosts.iter().enumerate().map(|(i, h)| (address(i), Arc::clone(h))));
        detector.set_plan(Some(plan));
        Self { detector: Arc::new(detector), hosts, changes }
    }

    fn see(&self, host: usize, events: &[Event]) -> bool {
        events.iter().for_each(|e| self.detector.observe(&address(host), *e));
        self.hosts[host].is_ejected()
    }
}

fn all_may() -> OutlierPlan {
    OutlierPlan { max_ejection_percent: 100, ..OutlierPlan::default() }
}

/// What is configured, what is seen, whether that ejects.
#[tokio::test(start_paused = true)]
async fn r9_r10_r13_what_counts() {
    use Event::{Connected, LocalFailure, LocalTimeout};
    let three = || OutlierPlan { consecutive_5xx: 3, ..all_may() };
    let gateway = || OutlierPlan { consecutive_5xx: 0, consecutive_gateway: 2, ..all_may() };
    let split = || OutlierPlan { split_local: true, consecutive_local: 2, ..three() };
    let codes = || OutlierPlan { error_codes: Some([429, 503].into()), consecutive_gateway: 2, ..three() };
    let e = || status(503);
    for (what, plan, events, out) in [
        ("default: five", all_may(), vec![e(), e(), e(), e()], false),
        ("default: five", all_may(), vec![e(), e(), e(), e(), status(500)], true),
        ("R13", three(), vec![e(), e(), OK, e(), e()], false),
        ("R13", three(), vec![e(), e(), status(404), e(), e()], false),
        ("R13", three(), vec![e(), e(), status(500)], true),
        ("R9", three(), vec![LocalFailure, e(), LocalTimeout], true),
        ("R9 TCP", three(), vec![LocalFailure, LocalFailure, Connected, LocalFailure], false),
        ("R10", gateway(), vec![status(500), status(500), status(502), status(500), status(502)], false),
        ("R10", gateway(), vec![status(502), status(504)], true),
        ("R10", gateway(), vec![LocalFailure, LocalTimeout], true),
        ("off", OutlierPlan { consecutive_5xx: 0, ..all_may() }, vec![e(); 20], false),
        ("R9 split", split(), vec![LocalFailure, e(), LocalFailure, e()], false),
        ("R9 split", split(), vec![LocalFailure, LocalTimeout], true),
        ("R9 split", split(), vec![e(), e(), Connected, e()], true),
        ("R9 split", split(), vec![LocalFailure, Connected, LocalFailure], false),
        ("codes", codes(), vec![status(500); 9], false),
        ("codes", codes(), vec![status(429), status(503), status(429)], true),
        ("codes: none is a gateway's", codes(), vec![e(), e()], false),
    ] {
        assert_eq!(Rig::new(1, plan.clone()).see(0, &events), out, "{what} {plan:?} {events:?}");
    }
}

/// Hosts, percent, how many can be out.
#[tokio::test(start_paused = true)]
async fn r7_share_of_the_endpoints() {
    for (hosts, percent, want) in
        [(3, 10, 0), (4, 10, 0), (9, 10, 0), (10, 10, 1), (19, 10, 1), (6, 16, 0), (6, 17, 1), (3, 100, 3), (3, 66, 1)]
    {
        let rig = Rig::new(hosts, OutlierPlan { max_ejection_percent: percent, ..OutlierPlan::default() });
        for host in 0..hosts {
            rig.see(host, &[status(500); 5]);
        }
        let stats = rig.detector.stats();
        assert_eq!(stats.ejections_active, want, "{hosts} at {percent}%");
        assert_eq!(stats.ejections_overflow, hosts as u64 - want, "{hosts} at {percent}%");
    }
}

#[tokio::test(start_paused = true)]
async fn r8_times() {
    let times = |n: u32| Duration::from_millis(500) * n;
    let rig = Rig::new(1, OutlierPlan { interval: times(1), base_ejection_time: times(4), ..all_may() });
    tokio::spawn(Arc::clone(&rig.detector).run());
    let out_for = async || {
        let began = Instant::now();
        assert!(rig.see(0, &[status(500); 5]));
        while rig.hosts[0].is_ejected() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        began.elapsed()
    };
    // Between two sweeps, so that the sweep after the time is half an interval late.
    tokio::time::sleep(Duration::from_millis(250)).await;
    let first = out_for().await;
    assert!((times(4)..=times(5)).contains(&first), "{first:?}");
    let second = out_for().await;
    assert!((times(8)..=times(9)).contains(&second), "twice as long: {second:?}");
    // Each interval without an ejection is forgiven one.
    tokio::time::sleep(times(3)).await;
    let third = out_for().await;
    assert!((times(4)..=times(5)).contains(&third), "{third:?}");
    assert_eq!(rig.hosts[0].ejections(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_ejection_is_never_longer_than_five_minutes() {
    let rig = Rig::new(1, OutlierPlan { base_ejection_time: Duration::from_secs(120), ..all_may() });
    let mut told = Vec::new();
    for _ in 0..4 {
        rig.see(0, &[status(500); 5]);
        if let Some(Change::Ejected { time, .. }) = rig.changes.lock().last() {
            told.push(time.as_secs());
        }
        advance(Duration::from_secs(300)).await;
        rig.detector.sweep();
        assert!(!rig.hosts[0].is_ejected());
    }
    assert_eq!(told, [120, 240, 300, 300]);
    let long = Rig::new(1, OutlierPlan { base_ejection_time: Duration::from_secs(900), ..all_may() });
    long.see(0, &[status(500); 5]);
    advance(Duration::from_secs(899)).await;
    long.detector.sweep();
    assert!(long.hosts[0].is_ejected());
}

#[tokio::test(start_paused = true)]
async fn changes_come_with_their_evidence() {
    let rig = Rig::new(2, OutlierPlan { consecutive_5xx: 2, max_ejection_percent: 50, ..OutlierPlan::default() });
    rig.see(0, &[status(500), status(503)]);
    rig.see(1, &[Event::LocalFailure, Event::LocalTimeout]);
    advance(Duration::from_secs(30)).await;
    rig.detector.sweep();
    let (cause, failures) = (Cause::Consecutive5xx, 2);
    let ejected = Change::Ejected {
        address: address(0),
        cause,
        failures,
        last: status(503),
        time: Duration::from_secs(30),
        out: (1, 2),
    };
    let overflow = Change::Overflow { address: address(1), cause, failures };
    assert_eq!(*rig.changes.lock(), [ejected, overflow, Change::Returned { address: address(0) }]);
    assert_eq!(rig.detector.stats().ejections_enforced_consecutive_5xx, 1);
}

#[tokio::test(start_paused = true)]
async fn endpoints_and_plans_come_and_go() {
    let rig = Rig::new(2, OutlierPlan { max_ejection_percent: 50, ..OutlierPlan::default() });
    rig.see(0, &[status(500); 5]);
    assert!(!rig.see(1, &[status(500); 5]), "one of two is out");
    // The one that is out goes: another may be taken out instead.
    let stays = [(address(1), Arc::clone(&rig.hosts[1])), (address(2), Arc::default())];
    rig.detector.set_hosts(stays.into_iter());
    assert_eq!(rig.detector.stats().ejections_active, 0);
    assert!(rig.see(1, &[status(500); 5]));
    rig.detector.set_plan(None);
    assert!(!rig.hosts[1].is_ejected(), "without a plan everyone is in");
    assert!(!rig.see(1, &[status(500); 50]));
    rig.detector.observe(&address(9), status(500));
}

proptest! {
    /// Never more than the percentage, whatever happens.
    #[test]
    fn the_percentage_holds(
        hosts in 1_usize..30,
        percent in 1_u32..=100,
        events in proptest::collection::vec((0_usize..30, 0_u8..12), 0..300),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let plan = OutlierPlan { consecutive_5xx: 2, max_ejection_percent: percent, ..OutlierPlan::default() };
            let rig = Rig::new(hosts, plan);
            for (host, what) in events {
                match what {
                    0 => { advance(Duration::from_secs(10)).await; rig.detector.sweep() }
                    1..=3 => rig.detector.observe(&address(host), OK),
                    _ => rig.detector.observe(&address(host), status(500)),
                }
                let out = rig.hosts.iter().filter(|h| h.is_ejected()).count();
                assert!(out * 100 <= percent as usize * hosts, "{out} of {hosts} at {percent}%");
                assert_eq!(rig.detector.stats().ejections_active, out as u64);
            }
        });
    }
}
