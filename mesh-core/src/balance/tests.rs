use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::SystemTime;

use proptest::prelude::*;

use super::levels::loads;
use super::*;
use crate::model::Workload;
use crate::snapshot::{FailoverPlan, LocalityPlan, Near, OutlierPlan, Place, ZoneAwarePlan};

/// Numbers that look random and are the same in each run.
struct Numbers(AtomicU64);

impl Env for Numbers {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn random(&self) -> u64 {
        let mut x = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
}

struct Test {
    endpoint: Endpoint,
    active: AtomicU32,
    turn: AtomicU64,
    ejected: AtomicBool,
    joined: Duration,
}

impl Host for Test {
    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    fn turn(&self) -> &AtomicU64 {
        &self.turn
    }

    fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    fn joined(&self) -> Duration {
        self.joined
    }
}

fn host(number: usize, weight: u32, locality: &str) -> Arc<Test> {
    let workload = Workload { locality: locality.into(), ..Workload::default() };
    let address = Address::Ip(([10, 0, (number / 250) as u8, (number % 250) as u8], 80).into());
    let (workload, mesh) = (Arc::new(workload), Default::default());
    let endpoint = Endpoint { address, weight, health: Health::Healthy, workload, mesh };
    Arc::new(Test {
        endpoint,
        active: AtomicU32::new(0),
        turn: AtomicU64::new(0),
        ejected: AtomicBool::new(false),
        joined: Duration::ZERO,
    })
}

fn hosts(weights: &[u32]) -> Vec<Arc<Test>> {
    weights.iter().enumerate().map(|(i, w)| host(i, *w, "")).collect()
}

fn at(localities: &[&str]) -> Vec<Arc<Test>> {
    localities.iter().enumerate().map(|(i, l)| host(i, 1, l)).collect()
}

fn eject(hosts: &[Arc<Test>], which: &[usize]) {
    which.iter().for_each(|i| hosts[*i].ejected.store(true, Ordering::Relaxed));
}

/// Everything that a choice needs.
struct Chooser {
    env: Numbers,
    clock: AtomicU64,
    now: Duration,
}

impl Chooser {
    fn new() -> Self {
        Self { env: Numbers(AtomicU64::new(7)), clock: AtomicU64::new(0), now: Duration::ZERO }
    }

    fn pick(&self, layout: &Layout<Arc<Test>>, hash: Option<u64>, tried: Option<&Tried>) -> Option<Address> {
        let now = || self.now;
        let ask = Ask { env: &self.env, now: &now, clock: &self.clock, hash, tried };
        layout.pick(&ask).map(|h| h.endpoint().address.clone())
    }

    /// How often each host is chosen, by its position.
    fn count(&self, layout: &Layout<Arc<Test>>, hosts: &[Arc<Test>], times: usize) -> Vec<usize> {
        let mut count: BTreeMap<Address, usize> = BTreeMap::new();
        for _ in 0..times {
            *count.entry(self.pick(layout, None, None).expect("a host")).or_default() += 1;
        }
        hosts.iter().map(|h| count.get(&h.endpoint().address).copied().unwrap_or(0)).collect()
    }
}

fn build(hosts: &[Arc<Test>], balancer: Balancer, balancing: &Balancing) -> Layout<Arc<Test>> {
    Layout::build(hosts, balancer, balancing, 0)
}

fn plain(hosts: &[Arc<Test>], balancer: Balancer) -> Layout<Arc<Test>> {
    build(hosts, balancer, &Balancing::default())
}

fn panic_below(percent: u32) -> Balancing {
    let outlier = OutlierPlan { min_health_percent: percent, ..OutlierPlan::default() };
    Balancing { outlier: Some(outlier), ..Balancing::default() }
}

fn by_locality(locality: LocalityPlan) -> Balancing {
    Balancing { locality, ..Balancing::default() }
}

fn near(client: &str, to: Option<&str>) -> Near {
    Near { client: Place::parse(client), to: to.map(Into::into), regions_only: false }
}

#[test]
fn round_robin_takes_turns() {
    let three = hosts(&[1, 1, 1]);
    assert_eq!(Chooser::new().count(&plain(&three, Balancer::RoundRobin), &three, 9), [3, 3, 3]);
    let weighted = hosts(&[1, 3]);
    assert_eq!(Chooser::new().count(&plain(&weighted, Balancer::RoundRobin), &weighted, 400), [100, 300]);
}

/// Two choices with repetition: a busy one of three is taken when both choices fall on it, one time in nine.
#[test]
fn r15_least_request() {
    let three = hosts(&[1, 1, 1]);
    three[0].active.store(1, Ordering::Relaxed);
    let count = Chooser::new().count(&plain(&three, Balancer::LeastRequest), &three, 9000);
    assert!((900..1100).contains(&count[0]), "{count:?}");
}

#[test]
fn r16_least_request_by_weight() {
    let two = hosts(&[1, 3]);
    assert_eq!(Chooser::new().count(&plain(&two, Balancer::LeastRequest), &two, 400), [100, 300]);
    let two = hosts(&[1, 3]);
    two[1].active.store(1, Ordering::Relaxed);
    let count = Chooser::new().count(&plain(&two, Balancer::LeastRequest), &two, 400);
    assert_eq!(count, [160, 240], "weight / (active + 1)");
}

#[test]
fn who_is_out_gets_nothing() {
    for balancer in [Balancer::RoundRobin, Balancer::LeastRequest, Balancer::Random, Balancer::RingHash(64)] {
        let three = hosts(&[1, 2, 1]);
        eject(&three, &[1]);
        let count = Chooser::new().count(&plain(&three, balancer), &three, 300);
        assert!(count[1] == 0 && count[0] > 100, "{balancer:?} {count:?}");
        eject(&three, &[0, 2]);
        assert_eq!(Chooser::new().pick(&plain(&three, balancer), None, None), None, "R12 {balancer:?}");
    }
    assert_eq!(Chooser::new().pick(&Layout::empty(), None, None), None);
}

#[test]
fn r6_panic() {
    let four = hosts(&[1, 1, 1, 1]);
    eject(&four, &[0, 1, 2, 3]);
    let layout = build(&four, Balancer::RoundRobin, &panic_below(50));
    assert_eq!((layout.panics(), Chooser::new().count(&layout, &four, 4)), (true, vec![1, 1, 1, 1]));
    let layout = build(&four, Balancer::RoundRobin, &panic_below(0));
    assert_eq!((layout.panics(), Chooser::new().pick(&layout, None, None)), (false, None));
}

#[test]
fn instances_that_are_not_ready_never_panic() {
    let mut four = hosts(&[1, 1, 1, 1]);
    for h in &mut four[..3] {
        Arc::get_mut(h).unwrap().endpoint.health = Health::Unhealthy;
    }
    let layout = build(&four, Balancer::RoundRobin, &panic_below(50));
    assert_eq!((layout.panics(), Chooser::new().count(&layout, &four, 4)), (false, vec![0, 0, 0, 4]));
}

/// Healthy and all hosts of each priority, the panic threshold, the loads, who panics.
#[test]
fn r5_loads_of_priorities() {
    for (health, panic_below, percents, panics) in [
        (&[(4, 4)][..], 0, &[100][..], &[false][..]),
        (&[(3, 4), (4, 4)], 0, &[100, 0], &[false, false]),
        (&[(2, 4), (4, 4)], 0, &[70, 30], &[false, false]),
        (&[(0, 4), (4, 4)], 0, &[0, 100], &[false, false]),
        (&[(1, 4), (1, 4)], 0, &[50, 50], &[false, false]),
        (&[(0, 4), (0, 4)], 0, &[0, 0], &[false, false]),
        // As long as the others can take everything, nobody panics.
        (&[(1, 10), (10, 10)], 50, &[14, 86], &[false, false]),
        (&[(1, 10), (6, 10)], 50, &[15, 85], &[true, false]),
        // Everyone panics: by size.
        (&[(0, 1), (0, 3)], 50, &[25, 75], &[true, true]),
        (&[(1, 200)], 0, &[100], &[false]),
        (&[], 0, &[], &[]),
    ] {
        let got = loads(health, panic_below);
        let got: (Vec<u32>, Vec<bool>) = got.iter().map(|l| (l.percent, l.panic)).unzip();
        assert_eq!(got, (percents.to_vec(), panics.to_vec()), "{health:?} below {panic_below}");
    }
}

#[test]
fn nearest_first_and_what_spills_over() {
    let places = ["r1/z1/s1", "r1/z1/s1", "r1/z1/s2", "r1/z2/s1", "r2/z1/s1"];
    let all = at(&places);
    let plan = FailoverPlan { labels: Vec::new(), near: Some(near("r1/z1/s1", None)) };
    let balancing = by_locality(LocalityPlan::Failover(plan));
    let standing = |hosts: &[Arc<Test>]| {
        let layout = build(hosts, Balancer::RoundRobin, &balancing);
        let of = |h: &Arc<Test>| layout.standing(&h.endpoint().address).map(|s| (s.priority, s.load));
        hosts.iter().map(|h| of(h).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(standing(&all), [(0, 100), (0, 100), (1, 0), (2, 0), (3, 0)]);
    eject(&all, &[0]);
    assert_eq!(standing(&all), [(0, 70), (0, 70), (1, 30), (2, 0), (3, 0)]);
    let layout = build(&all, Balancer::RoundRobin, &balancing);
    let count = Chooser::new().count(&layout, &all, 3000);
    assert!(count[0] == 0 && (2000..2200).contains(&count[1]) && count[3..] == [0, 0], "{count:?}");
    eject(&all, &[1, 2]);
    assert_eq!(standing(&all)[3], (2, 100));
}

#[test]
fn priorities_have_no_gaps() {
    let all = at(&["r2/z1", "r3/z1", "r1/z9"]);
    let plan = FailoverPlan { labels: Vec::new(), near: Some(near("r1/z1", Some("r3"))) };
    let layout = build(&all, Balancer::RoundRobin, &by_locality(LocalityPlan::Failover(plan)));
    let of = |h: &Arc<Test>| layout.standing(&h.endpoint().address).unwrap().priority;
    assert_eq!(all.iter().map(of).collect::<Vec<_>>(), [2, 1, 0], "own region, the one that takes over, the rest");
}

#[test]
fn labels_as_priorities() {
    let labels = |list: &[(&str, &str)]| -> Arc<Workload> {
        let get = |n: &str| list.iter().find(|(k, _)| *k == n).map_or("", |(_, v)| *v);
        Arc::new(Workload {
            network: get("topology.istio.io/network").into(),
            locality: get("locality").into(),
            labels: list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..Workload::default()
        })
    };
    let plan = |list: &[(&str, Option<&str>)]| {
        let labels = list.iter().map(|(l, v)| ((*l).into(), v.map(Into::into))).collect();
        LocalityPlan::Failover(FailoverPlan { labels, near: None })
    };
    let zone = "topology.kubernetes.io/zone";
    let network = "topology.istio.io/network";
    let two = plan(&[("version", Some("v1")), (zone, Some("z1"))]);
    let by_network = plan(&[(network, Some("n1")), ("version", Some("v1")), (zone, Some("z1"))]);
    for (plan, workload, want) in [
        (&two, labels(&[("version", "v1"), ("locality", "r/z1")]), 0),
        (&two, labels(&[("version", "v1"), ("locality", "r/z2")]), 1),
        (&two, labels(&[("version", "v2"), ("locality", "r/z1")]), 2),
        (&by_network, labels(&[(network, "n1"), ("version", "v1"), ("locality", "r/z1")]), 0),
        (&by_network, labels(&[(network, "n1"), ("version", "v2")]), 2),
        (&by_network, labels(&[(network, "n2"), ("version", "v1"), ("locality", "r/z1")]), 3),
        (&by_network, labels(&[(network, "n2"), ("version", "v1"), ("locality", "r/z2")]), 4),
        (&plan(&[("gpu", None)]), labels(&[]), 0),
        (&plan(&[("gpu", None)]), labels(&[("gpu", "a")]), 1),
    ] {
        // Each priority by labels has room for five by nearness.
        assert_eq!(locality::priority(plan, &workload), Some(want * 5), "{plan:?} {workload:?}");
    }
}

#[test]
fn locality_patterns() {
    for (pattern, place, want) in [
        ("r1", "r1/z1/s1", true),
        ("r1/z1", "r1/z1/s1", true),
        ("r1/*", "r1/z1/s1", true),
        ("*", "", true),
        ("r1/z1/*", "r1/z2/s1", false),
        ("r1/z1/s1", "r1/z1/s1", true),
        ("r1/z1/s1", "r1/z1", false),
        ("r2", "r1/z1", false),
    ] {
        assert_eq!(locality::matches(pattern, &Place::parse(place)), want, "{pattern} {place}");
    }
}

#[test]
fn distribution() {
    let all = at(&["r1/z1/s1", "r1/z1/s2", "r1/z2/s1", "r2/z1/s1"]);
    let to = vec![("r1/z1/*".into(), 80), ("r1/z2/*".into(), 20)];
    let balancing = by_locality(LocalityPlan::Distribute(to));
    let layout = build(&all, Balancer::RoundRobin, &balancing);
    let share = |i: usize| layout.standing(&all[i].endpoint().address).map(|s| s.share.round() as u32);
    assert_eq!([share(0), share(1), share(2), share(3)], [Some(40), Some(40), Some(20), None]);
    let count = Chooser::new().count(&layout, &all, 10_000);
    assert!((3800..4200).contains(&count[0]) && (1800..2200).contains(&count[2]) && count[3] == 0, "{count:?}");
    // A locality without healthy endpoints loses its share to the others.
    eject(&all, &[2]);
    let layout = build(&all, Balancer::RoundRobin, &balancing);
    let count = Chooser::new().count(&layout, &all, 1000);
    assert!(count[0] + count[1] == 1000 && (400..600).contains(&count[0]), "{count:?}");
}

#[test]
fn the_own_zone_as_far_as_it_has_capacity() {
    let balancing = |peers: &[(&str, u32)], min_cluster_size| {
        let peers = peers.iter().map(|(p, n)| (Place::parse(p), *n)).collect();
        let near = Near { regions_only: true, ..near("r1/z1", None) };
        let failover = FailoverPlan { labels: Vec::new(), near: Some(near) };
        let client = Place::parse("r1/z1");
        by_locality(LocalityPlan::ZoneAware(ZoneAwarePlan { failover, client, peers, min_cluster_size }))
    };
    let shares = |hosts: &[Arc<Test>], balancing: &Balancing| {
        let layout = build(hosts, Balancer::RoundRobin, balancing);
        let share = |h: &Arc<Test>| layout.standing(&h.endpoint().address).unwrap().share.round() as u32;
        hosts.iter().map(share).collect::<Vec<_>>()
    };
    let even = at(&["r1/z1", "r1/z1", "r1/z2", "r1/z2", "r2/z1"]);
    // Half of the clients, half of the capacity: all stays. Other regions are only for failover.
    assert_eq!(shares(&even, &balancing(&[("r1/z1", 1), ("r1/z2", 1)], 2)), [50, 50, 0, 0, 0]);
    // All clients are here, half of the capacity is: half stays.
    assert_eq!(shares(&even, &balancing(&[("r1/z1", 4)], 2)), [25, 25, 25, 25, 0]);
    assert_eq!(shares(&even, &balancing(&[("r1/z1", 1), ("r1/z2", 1)], 6)), [25, 25, 25, 25, 0], "too small a cluster");
}

#[test]
fn warm_up() {
    let warmup = Warmup { duration: Duration::from_secs(100), minimum: 0.1, aggression: 1.0 };
    for (seconds, want) in [(0, 0.1), (5, 0.1), (50, 0.5), (100, 1.0), (1000, 1.0)] {
        let got = warmup.factor(Duration::from_secs(seconds));
        assert!((got - want).abs() < 1e-9, "{seconds}: {got}");
    }
    let steep = Warmup { aggression: 2.0, ..warmup };
    assert!((steep.factor(Duration::from_secs(25)) - 0.5).abs() < 1e-9, "the square root of a quarter");
    let mut two = hosts(&[1, 1]);
    Arc::get_mut(&mut two[1]).unwrap().joined = Duration::from_secs(100);
    for balancer in [Balancer::RoundRobin, Balancer::LeastRequest] {
        let layout = build(&two, balancer, &Balancing { warmup: Some(warmup), ..Balancing::default() });
        let count = |now| {
            let chooser = Chooser { now: Duration::from_secs(now), ..Chooser::new() };
            two.iter().for_each(|h| h.turn.store(0, Ordering::Relaxed));
            chooser.count(&layout, &two, 1100)
        };
        let cold = count(100);
        assert!((98..=102).contains(&cold[1]), "1 to 10: {cold:?}");
        let half = count(150);
        assert!((364..=369).contains(&half[1]), "1 to 2: {half:?}");
        let warm = count(200);
        assert!((450..650).contains(&warm[1]), "{warm:?}");
    }
}

#[test]
fn tries_go_elsewhere() {
    let three = hosts(&[1, 1, 1]);
    let tried = |endpoints: &[usize], ignore| Tried {
        endpoints: endpoints.iter().map(|i| three[*i].endpoint().address.clone()).collect(),
        ignore_previous_hosts: ignore,
        remote_localities: false,
    };
    let chooser = Chooser::new();
    let layout = plain(&three, Balancer::RoundRobin);
    for _ in 0..50 {
        let got = chooser.pick(&layout, None, Some(&tried(&[0, 2], None)));
        assert_eq!(got, Some(three[1].endpoint().address.clone()));
    }
    assert!(chooser.pick(&layout, None, Some(&tried(&[0, 1, 2], None))).is_some(), "all were tried: any");
    // A key stays where it is, unless the user says otherwise.
    for balancer in [Balancer::RingHash(1024), Balancer::Maglev(997)] {
        let layout = plain(&three, balancer);
        let first = chooser.pick(&layout, Some(42), None).unwrap();
        let at = three.iter().position(|h| h.endpoint().address == first).unwrap();
        assert_eq!(chooser.pick(&layout, Some(42), Some(&tried(&[at], None))), Some(first.clone()));
        let other = chooser.pick(&layout, Some(42), Some(&tried(&[at], Some(true)))).unwrap();
        assert_ne!(other, first);
        assert_eq!(chooser.pick(&layout, Some(42), Some(&tried(&[at], Some(true)))), Some(other), "and stays there");
    }
}

#[test]
fn tries_leave_a_priority_after_two() {
    let all = at(&["r1/z1", "r1/z1", "r2/z1"]);
    let plan = FailoverPlan { labels: Vec::new(), near: Some(near("r1/z1", None)) };
    let layout = build(&all, Balancer::RoundRobin, &by_locality(LocalityPlan::Failover(plan)));
    let address = |i: usize| all[i].endpoint().address.clone();
    let chooser = Chooser::new();
    let pick = |endpoints: &[usize], remote_localities| {
        let endpoints = endpoints.iter().map(|i| address(*i)).collect();
        chooser.pick(&layout, None, Some(&Tried { endpoints, ignore_previous_hosts: Some(true), remote_localities }))
    };
    assert_eq!(pick(&[0], true), Some(address(1)), "after one try it stays");
    assert_eq!(pick(&[0, 1], true), Some(address(2)));
    assert_ne!(pick(&[0, 1], false), Some(address(2)));
    assert!(pick(&[0, 1, 2, 0], true).is_some(), "all priorities were tried: any");
}

#[test]
fn hashes_are_xxh64() {
    assert_eq!((hash(b""), hash(b"abc")), (0xef46_db37_51d8_e999, 0x44bc_2cf5_ad77_0999));
}

#[test]
fn tables_have_the_size_that_was_asked_for() {
    let three: Vec<_> = (0..3).map(|i| (format!("10.0.0.{i}:80"), 1.0 / 3.0)).collect();
    assert!((1024..1030).contains(&Table::ring(&three, 1024).len()));
    assert_eq!(Table::maglev(&three, 65537).len(), 65537);
    let skewed = [("a".to_owned(), 0.999_999_9), ("b".to_owned(), 0.000_000_1)];
    assert!(Table::ring(&skewed, 1024).len() <= (1 << 20) + 1);
    assert!(Table::ring(&[], 1024).is_empty() && Table::maglev(&[], 997).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Each weighted balancer gives everyone its share.
    #[test]
    fn weights_converge(weights in proptest::collection::vec(1_u32..20, 1..8), which in 0..5_usize) {
        let balancer =
            [Balancer::RoundRobin, Balancer::LeastRequest, Balancer::Random, Balancer::RingHash(20_000), Balancer::Maglev(20_011)][which];
        let all = hosts(&weights);
        let layout = plain(&all, balancer);
        let total: u32 = weights.iter().sum();
        let chooser = Chooser::new();
        let times = 20_000;
        let mut count = vec![0_u32; all.len()];
        for i in 0..times {
            // Hashes that are spread evenly take the place of random keys.
            let key = balancer.hashes().then(|| hash(&u32::to_be_bytes(i)));
            let got = chooser.pick(&layout, key, None).unwrap();
            count[all.iter().position(|h| h.endpoint().address == got).unwrap()] += 1;
        }
        let equal = weights.iter().all(|w| *w == weights[0]);
        for (i, weight) in weights.iter().enumerate() {
            let (want, got) = (f64::from(*weight) / f64::from(total), f64::from(count[i]) / f64::from(times));
            let tolerance = match balancer {
                Balancer::RoundRobin => 0.002,
                Balancer::LeastRequest if !equal => 0.002,
                _ => 0.03,
            };
            prop_assert!((want - got).abs() <= tolerance, "{balancer:?} {weights:?} {count:?}");
        }
    }

    /// One endpoint more moves the keys that go to it, and few others: a ring keeps its size, so each of the `n` others gives
    /// up a share of `1 / (n + 1)` of its points, and the keys of these go to the next point, `(n - 1) / n` of them to
    /// another endpoint.
    #[test]
    fn few_keys_move(n in 2_usize..20, maglev: bool) {
        let balancer = if maglev { Balancer::Maglev(65537) } else { Balancer::RingHash(8192) };
        let all: Vec<_> = hosts(&vec![1; n + 1]);
        let (before, after) = (plain(&all[..n], balancer), plain(&all, balancer));
        let chooser = Chooser::new();
        let keys = 5000_u32;
        let added = all[n].endpoint().address.clone();
        let (mut moved, mut between) = (0, 0);
        for key in 0..keys {
            let key = Some(hash(&key.to_be_bytes()));
            let (a, b) = (chooser.pick(&before, key, None).unwrap(), chooser.pick(&after, key, None).unwrap());
            moved += u32::from(a != b);
            between += u32::from(a != b && b != added);
        }
        let fair = f64::from(keys) / (n + 1) as f64;
        let others = if maglev { fair * 0.2 } else { fair * (n - 1) as f64 / (n + 1) as f64 };
        let bound = |expected: f64| expected * 1.25 + 50.0;
        prop_assert!(f64::from(moved) <= bound(fair + others), "{moved} of {keys} moved to one of {}", n + 1);
        prop_assert!(f64::from(between) <= bound(others), "{between} moved between old endpoints of {n}");
    }

    /// Loads are a distribution, whatever the health; nobody without a healthy host takes part unless it panics.
    #[test]
    fn loads_sum_up(health in proptest::collection::vec((0_u32..20, 1_u32..20), 1..6), panic_below in 0_u32..100) {
        let health: Vec<_> = health.into_iter().map(|(h, all)| (h.min(all), all)).collect();
        let loads = loads(&health, panic_below);
        let sum: u32 = loads.iter().map(|l| l.percent).sum();
        let any = health.iter().any(|(h, _)| *h > 0) || loads.iter().all(|l| l.panic);
        prop_assert_eq!(sum, if any { 100 } else { 0 });
        for (load, (healthy, _)) in loads.iter().zip(&health) {
            prop_assert!(load.percent == 0 || *healthy > 0 || load.panic, "{health:?} {loads:?}");
        }
    }
}
