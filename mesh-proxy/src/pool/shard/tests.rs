use mesh_core::layers::limits::Usage;
use mesh_core::snapshot::{EndpointSource, PoolPlan};
use tokio::io::DuplexStream;
use tokio::time::{advance, sleep};

use super::super::slot::Slot;
use super::*;
use crate::cluster::testing;

const S: Duration = Duration::from_secs(1);

fn plan(pool: PoolPlan) -> Arc<ClusterPlan> {
    Arc::new(ClusterPlan {
        pool: pool.into(),
        ..testing::plan("outbound|80||a", EndpointSource::DynamicDns { port: None })
    })
}

fn idle(seconds: u64) -> PoolPlan {
    PoolPlan { idle_timeout: Some(Duration::from_secs(seconds)), ..PoolPlan::default() }
}

/// A shard with connections over pipes.
struct Bench {
    shard: Arc<Shard>,
    usage: Arc<Usage>,
    key: ConnKey,
}

impl Bench {
    fn new() -> Self {
        let conn = mesh_core::record::ConnInfo {
            direction: mesh_core::snapshot::Direction::Outbound,
            peer: "127.0.0.1:1".parse().unwrap(),
            local: "127.0.0.1:2".parse().unwrap(),
            direct: None,
            sni: "".into(),
            tls: None,
            peer_text: Default::default(),
        };
        let whom = crate::dial::For { conn: &conn, host: None, carries: mesh_tls::Carries::Http1 };
        let key = ConnKey::of(&plan(PoolPlan::default()), &testing::endpoint(), whom);
        Self { shard: Arc::new(Shard::new(Arc::default())), usage: Arc::default(), key }
    }

    async fn connection(&self, plan: &Arc<ClusterPlan>) -> (h1::Connection, DuplexStream) {
        let slot = Slot::take(&self.shard, &self.usage, &plan.pool).unwrap();
        let (near, far) = tokio::io::duplex(1024);
        let made = h1::Made { slot, plan: Arc::clone(plan), key: self.key, local: None, tls: None };
        (made.establish(&self.shard, near, false).await.unwrap(), far)
    }

    /// Lets closed connections notice.
    async fn settle(&self) {
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_newest_is_used_first_and_only_under_its_own_limits() {
    let (bench, plan) = (Bench::new(), plan(PoolPlan::default()));
    let mut far = Vec::new();
    let mut numbers = Vec::new();
    for _ in 0..3 {
        let (connection, end) = bench.connection(&plan).await;
        numbers.push(connection.number);
        far.push(end);
        bench.shard.put(connection);
    }
    let newest = bench.shard.take(&plan, bench.key).unwrap();
    assert_eq!(newest.number, numbers[2]);
    bench.shard.put(newest);
    let equal = self::plan(PoolPlan::default());
    assert!(bench.shard.take(&equal, bench.key).is_some(), "of the next configuration with the same limits");
    assert!(bench.shard.take(&self::plan(idle(7)), bench.key).is_none(), "other limits close what is there");
    bench.settle().await;
    assert_eq!(bench.shard.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn idle_and_old_connections_go_without_being_asked_for() {
    let old = PoolPlan { max_connection_duration: Some(15 * S), ..idle(10) };
    for (pool, used_at, gone_after) in [(idle(10), 6, 16), (old.clone(), 6, 15), (old, 0, 10)] {
        let (bench, plan) = (Bench::new(), plan(pool));
        let (connection, _far) = bench.connection(&plan).await;
        bench.shard.put(connection);
        if used_at > 0 {
            sleep(used_at * S).await;
            let again = bench.shard.take(&plan, bench.key).unwrap();
            bench.shard.put(again);
        }
        sleep((gone_after - used_at) * S - Duration::from_millis(10)).await;
        assert_eq!(bench.shard.open(), 1);
        sleep(Duration::from_millis(20)).await;
        bench.settle().await;
        assert_eq!(bench.shard.open(), 0, "{used_at} {gone_after}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shorter_time_wakes_the_sweep() {
    let bench = Bench::new();
    let (long, short) = (plan(idle(100)), plan(idle(10)));
    let (first, _far) = bench.connection(&long).await;
    bench.shard.put(first);
    bench.settle().await;
    let (second, _far) = bench.connection(&short).await;
    bench.shard.put(second);
    sleep(11 * S).await;
    bench.settle().await;
    assert_eq!(bench.shard.open(), 1);
}

/// One connection, one request after the other: whoever looks finds none, and yet it is not begun anew for each of them.
#[tokio::test(start_paused = true)]
async fn who_looks_after_idle_connections_stays_for_a_while() {
    let (bench, plan) = (Bench::new(), plan(PoolPlan::default()));
    let (connection, _far) = bench.connection(&plan).await;
    // The connection's slot has one, and each task.
    let slots = Arc::weak_count(&bench.shard);
    let keepers = || Arc::weak_count(&bench.shard) - slots;
    bench.shard.put(connection);
    let in_use = bench.shard.take(&plan, bench.key).unwrap();
    bench.settle().await;
    assert_eq!(keepers(), 1);
    sleep(STAY / 2).await;
    bench.shard.put(in_use);
    let in_use = bench.shard.take(&plan, bench.key).unwrap();
    bench.settle().await;
    assert_eq!(keepers(), 1);
    sleep(STAY).await;
    bench.settle().await;
    assert_eq!(keepers(), 0, "whenever it looked there were none");
    bench.shard.put(in_use);
    bench.settle().await;
    assert_eq!(keepers(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_an_endpoint_does_to_idle_connections_is_learned() {
    let (bench, plan) = (Bench::new(), plan(idle(100)));
    assert_eq!(bench.shard.peer().idle_limit(Some(100 * S)), Some(100 * S));
    for _ in 0..2 {
        let (connection, far) = bench.connection(&plan).await;
        bench.shard.put(connection);
        advance(20 * S).await;
        drop(far);
        bench.settle().await;
        assert!(bench.shard.take(&plan, bench.key).is_none(), "it is closed");
    }
    assert_eq!(bench.shard.peer().idle_limit(Some(100 * S)), Some(18 * S), "a tenth less");
    bench.shard.peer().announced("timeout=5, max=9");
    assert_eq!(bench.shard.peer().idle_limit(Some(100 * S)), Some(4500 * S / 1000));
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_first_come_first_served() {
    let (bench, plan) = (Bench::new(), plan(PoolPlan::default()));
    let given_up = bench.shard.wait(false);
    let first = bench.shard.wait(false);
    let second = bench.shard.wait(false);
    let again = bench.shard.wait(true);
    drop(given_up);
    let (connection, _far) = bench.connection(&plan).await;
    for waiting in [again, first, second] {
        let (connection, _far) = bench.connection(&plan).await;
        let number = connection.number;
        bench.shard.put(connection);
        assert!(matches!(waiting.await, Ok(Turn::Take(c)) if c.number == number));
    }
    assert!(!bench.shard.has_waiting());
    let number = connection.number;
    bench.shard.put(connection);
    assert_eq!(bench.shard.take(&plan, bench.key).unwrap().number, number, "nobody waits: it is kept");
}

#[tokio::test(start_paused = true)]
async fn a_connection_for_those_who_have_all_given_up_is_kept() {
    let (bench, plan) = (Bench::new(), plan(PoolPlan::default()));
    drop([bench.shard.wait(false), bench.shard.wait(false)]);
    let (connection, _far) = bench.connection(&plan).await;
    bench.shard.put(connection);
    assert!(bench.shard.take(&plan, bench.key).is_some());
    let looks = [bench.shard.wait(false), bench.shard.wait(false)];
    bench.shard.offer_all();
    for waiting in looks {
        assert!(matches!(waiting.await, Ok(Turn::Look)));
    }
}
