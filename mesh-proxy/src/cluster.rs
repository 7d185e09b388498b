//! What outlives snapshots: clusters with their endpoints, connections and counters, keyed by name and address.
//!
//! A configuration change builds new stacks; they find the same [`Cluster`] here, so pools stay warm, limits keep counting
//! and balancers go on where they were. Everything on the request path is atomics and one pool shard for each worker.

mod buckets;
mod dns;
mod health;
mod member;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use mesh_core::balance::{Ask, Layout, Tried};
use mesh_core::env::Env;
use mesh_core::error::{Error, ErrorKind};
use mesh_core::layers::BoxService;
use mesh_core::layers::limits::Usage;
use mesh_core::layers::mirror::Budget;
use mesh_core::layers::rate_limit::TokenBucket;
use mesh_core::model::{Health, Workload};
use mesh_core::outlier::{Detector, Event};
use mesh_core::record::{ConnInfo, Sink};
use mesh_core::snapshot::{
    Address, ClusterPlan, Direction, Endpoint, EndpointSource, Map, MeshPeer, RateLimitPlan, Snapshot,
};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::admin::ClusterEndpoints;
use crate::jwks::Keys;
use crate::listener::CAPTURE_PORTS;
use crate::net::{AppAddress, ConnectOptions, Net, Purpose};
use crate::stack::Standing;
use crate::telemetry::denials::Denials;
use crate::tls::Tls;
pub use member::{Active, Member};

thread_local! {
    static WORKER: Cell<usize> = const { Cell::new(0) };
}

/// Says which worker this thread is (from 0), so that it uses its own pool shard. Threads that never call it share the
/// first one.
pub fn enter_worker(index: usize) {
    WORKER.set(index);
}

/// The state of a process that is not configuration.
pub struct Runtime<N: Net> {
    /// The network.
    pub net: N,
    /// Clock and randomness.
    pub env: Arc<dyn Env>,
    /// Readers of request records.
    pub sinks: Arc<[Arc<dyn Sink>]>,
    /// What a loopback client is called in `x-forwarded-for`.
    pub node_address: Option<IpAddr>,
    /// TLS towards upstreams and clients.
    pub tls: Tls,
    /// How the own application is reached.
    pub app: AppAddress,
    /// Environment variables, for header values (`%ENVIRONMENT(NAME)%`).
    pub variables: BTreeMap<String, String>,
    /// Mirrored requests have `-shadow` after their host (istiod's `DISABLE_SHADOW_HOST_SUFFIX=false`). Default: no.
    pub shadow_suffix: bool,
    /// The application itself, where it is in this process: inbound requests end there.
    pub application: Option<BoxService>,
    /// What is in force, for requests that the proxy makes itself.
    pub(crate) snapshot: ArcSwapOption<Snapshot>,
    /// Keys of tokens that are fetched.
    pub(crate) keys: Keys,
    /// What was refused.
    pub denials: Arc<Denials>,
    /// Policies about requests, for those that last.
    pub(crate) standing: Standing,
    workers: usize,
    preserve_case: AtomicBool,
    clusters: ArcSwap<Map<Arc<str>, Arc<Cluster<N>>>>,
    buckets: buckets::Buckets,
    nobody: Arc<Workload>,
}

impl<N: Net> Runtime<N> {
    /// An empty one, with a pool shard for each of `workers` threads.
    pub fn new(net: N, env: Arc<dyn Env>, sinks: Vec<Arc<dyn Sink>>, workers: usize) -> Self {
        Self {
            net,
            sinks: sinks.into(),
            node_address: None,
            tls: Tls::default(),
            app: AppAddress::default(),
            variables: BTreeMap::new(),
            shadow_suffix: false,
            application: None,
            snapshot: ArcSwapOption::empty(),
            keys: Keys::default(),
            denials: Arc::new(Denials::new(Arc::clone(&env))),
            standing: Standing::default(),
            workers: workers.max(1),
            preserve_case: AtomicBool::new(false),
            clusters: ArcSwap::default(),
            buckets: buckets::Buckets::default(),
            nobody: Arc::new(Workload::default()),
            env,
        }
    }

    /// The cluster of a name; made empty if it is new.
    pub fn cluster(&self, name: &str) -> Arc<Cluster<N>> {
        if let Some(found) = self.clusters.load().get(name) {
            return Arc::clone(found);
        }
        let fresh = Cluster::new(name.into(), self.workers);
        // Two threads may add at the same time: the first one in the map is the one.
        self.clusters.rcu(|all| {
            let mut all = Map::clone(all);
            all.entry(name.into()).or_insert_with(|| Arc::clone(&fresh));
            all
        });
        Arc::clone(self.clusters.load().get(name).expect("invariant: just added, and only `retain` removes"))
    }

    /// Makes the clusters of these names that there are not yet. One at a time each would cost a copy of the list.
    pub(crate) fn expect<'n>(&self, names: impl Iterator<Item = &'n Arc<str>>) {
        let known = self.clusters.load();
        let fresh = names.filter(|name| !known.contains_key(*name));
        let fresh: Vec<_> = fresh.map(|n| (Arc::clone(n), Cluster::new(Arc::clone(n), self.workers))).collect();
        if fresh.is_empty() {
            return;
        }
        self.clusters.rcu(|all| {
            let mut all = Map::clone(all);
            all.reserve(fresh.len());
            for (name, cluster) in &fresh {
                all.entry(Arc::clone(name)).or_insert_with(|| Arc::clone(cluster));
            }
            all
        });
    }

    /// The bucket of a rate limit: one in the process for as long as any stack uses it and its rates stay.
    pub fn bucket(&self, plan: &RateLimitPlan) -> Arc<TokenBucket> {
        self.buckets.of(plan)
    }

    /// Sets a cluster's endpoints. Those that stay keep connections and counters. Says whether anything changed.
    pub fn set_endpoints(&self, cluster: &str, endpoints: Vec<Arc<Endpoint>>) -> bool {
        let cluster = self.cluster(cluster);
        let changed = cluster.set(endpoints, self.env.random());
        if let Some(used) = cluster.used.get().filter(|_| changed) {
            used.know(|address| Arc::new(self.endpoint_at(address)));
        }
        changed
    }

    /// The endpoints of a cluster now, for the config dump.
    pub fn endpoints(&self, cluster: &str) -> Vec<Arc<Endpoint>> {
        self.cluster(cluster).endpoints()
    }

    /// Forgets clusters that no plan names any more.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        if self.clusters.load().keys().all(|name| keep(name)) {
            return;
        }
        self.clusters.rcu(|all| {
            let mut all = Map::clone(all);
            all.retain(|name, _| keep(name));
            all
        });
    }

    /// Picks an endpoint of a cluster for one request or connection; a further try avoids the endpoints of those before,
    /// unless it finds no other in a few choices.
    ///
    /// # Errors
    /// [`ErrorKind::NoHealthyUpstream`] if there is none.
    pub async fn pick(
        &self,
        plan: &ClusterPlan,
        cluster: &Cluster<N>,
        conn: &ConnInfo,
        choice: Choice<'_>,
    ) -> Result<Active<N>, Error> {
        let member = match &plan.source {
            EndpointSource::Service { .. } => self.choose(cluster, choice),
            EndpointSource::Dns { .. } => {
                if cluster.members.load().is_empty() {
                    // Boxed, as below: hardly any request waits here, and each would have room for it in its future.
                    Box::pin(cluster.dns.first_answer(plan.connect_timeout)).await;
                }
                self.choose(cluster, choice)
            }
            EndpointSource::DynamicDns { port } => {
                let dialled = match conn.local.port() {
                    80 if plan.tls.is_some() => 443,
                    dialled => dialled,
                };
                let at = SocketAddr::new(conn.local.ip(), port.unwrap_or(dialled));
                let address = match choice.host.unwrap_or(&conn.sni) {
                    // Nothing tells a name: where the client dialled, unless a service is meant.
                    "" if port.is_none() => at,
                    name => Box::pin(cluster.asked.address(self, name, at.port())).await?,
                };
                (!self.is_own(address, conn)).then(|| self.dialled(cluster, address.into()))
            }
            // A client of explicit proxying that names what nobody knows has dialled us: that would be a loop.
            // The same goes for one that has dialled a unix socket, which has no port.
            EndpointSource::OriginalDst { .. }
                if CAPTURE_PORTS.contains(&conn.local.port()) || conn.local.port() == 0 =>
            {
                None
            }
            EndpointSource::OriginalDst { port } => {
                let port = port.unwrap_or(conn.local.port());
                Some(self.dialled(cluster, SocketAddr::new(conn.local.ip(), port).into()))
            }
            EndpointSource::LocalOriginalDst => {
                Some(self.dialled(cluster, self.app.connect(conn, conn.local.port()).0.into()))
            }
            EndpointSource::LocalApp { port, ip: None } => {
                Some(self.dialled(cluster, self.app.connect(conn, *port).0.into()))
            }
            EndpointSource::LocalApp { port, ip: Some(ip) } => {
                Some(self.dialled(cluster, self.app.at(*ip, *port).into()))
            }
            EndpointSource::LocalSocket(path) => Some(self.dialled(cluster, Address::Unix(Arc::clone(path)))),
            EndpointSource::BlackHole => None,
        };
        member.map(Active::new).ok_or_else(|| Error::new(ErrorKind::NoHealthyUpstream))
    }

    /// Whether a name that a client chose leads back to this proxy: the request would come again, for ever.
    fn is_own(&self, to: SocketAddr, conn: &ConnInfo) -> bool {
        let gateway = conn.direction == Direction::Gateway;
        let here =
            to.ip().is_loopback() || Some(to.ip()) == self.node_address || (gateway && to.ip() == conn.local.ip());
        here && (CAPTURE_PORTS.contains(&to.port()) || (gateway && to.port() == conn.local.port()))
    }

    fn choose(&self, cluster: &Cluster<N>, Choice { hash, tried, host: _ }: Choice<'_>) -> Option<Arc<Member<N>>> {
        let now = || cluster.began.elapsed();
        let ask = Ask { env: &*self.env, now: &now, clock: &cluster.clock, hash, tried };
        cluster.layout.load().pick(&ask).cloned()
    }

    /// Uses the endpoints of a cluster as its plan says. To be called inside a tokio runtime.
    pub fn configure(&self, plan: &ClusterPlan) {
        if matches!(plan.source, EndpointSource::Service { .. } | EndpointSource::Dns { .. }) {
            self.cluster(&plan.name).configure(plan, self.env.random());
        }
    }

    /// Connections to the own application leave from an address that capture lets through, as Istio's do.
    pub(crate) fn options(&self, plan: &ClusterPlan) -> ConnectOptions {
        let keepalive = plan.pool.keepalive;
        match &plan.source {
            // From loopback to loopback: nothing there is captured.
            EndpointSource::LocalApp { ip: Some(_), .. } | EndpointSource::LocalSocket(_) => {
                ConnectOptions { purpose: Purpose::App, source: None, keepalive }
            }
            EndpointSource::LocalApp { ip: None, .. } | EndpointSource::LocalOriginalDst => {
                let source = self.app.captured.then_some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6)));
                ConnectOptions { purpose: Purpose::App, source, keepalive }
            }
            EndpointSource::Dns { .. } | EndpointSource::DynamicDns { .. } => {
                ConnectOptions { purpose: Purpose::Named, source: None, keepalive }
            }
            EndpointSource::Service { .. } | EndpointSource::OriginalDst { .. } | EndpointSource::BlackHole => {
                ConnectOptions { purpose: Purpose::Upstream, source: None, keepalive }
            }
        }
    }

    /// Whether header names keep their case on new HTTP/1.1 connections.
    pub(crate) fn preserves_case(&self) -> bool {
        self.preserve_case.load(Ordering::Relaxed)
    }

    /// Says whether header names keep their case.
    pub(crate) fn preserve_case(&self, preserve: bool) {
        self.preserve_case.store(preserve, Ordering::Relaxed);
    }

    /// Brings the look-up of a cluster's names into line with its plan: they are looked up in the background as long as
    /// the cluster is there. Other kinds of clusters look nothing up.
    pub(crate) fn follow_names(self: &Arc<Self>, plan: &ClusterPlan) {
        if let EndpointSource::Dns { names, first_only, retry } = &plan.source {
            let cluster = self.cluster(&plan.name);
            let wanted = dns::Wanted { names: names.clone(), first_only: *first_only, retry: *retry };
            cluster.dns.follow(self, &cluster, wanted);
        }
    }

    /// Endpoints of every cluster, with what is known of each.
    pub fn all_endpoints(&self) -> Vec<ClusterEndpoints> {
        let mut all: Vec<_> = self.clusters.load().values().map(|c| c.status()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The member for an address that is not configured but comes with the connection.
    fn dialled(&self, cluster: &Cluster<N>, address: Address) -> Arc<Member<N>> {
        if let Some(known) = cluster.dialled.load().get(&address) {
            return Arc::clone(known);
        }
        let endpoint = cluster.known(&address).unwrap_or_else(|| Arc::new(self.endpoint_at(address.clone())));
        let fresh = Arc::new(Member::new(endpoint, self.workers, cluster.began.elapsed()));
        cluster.dialled.rcu(|all| {
            let mut all = Map::clone(all);
            if all.len() >= MAX_DIALLED {
                all.retain(|_, m| m.is_active());
            }
            all.entry(address.clone()).or_insert_with(|| Arc::clone(&fresh));
            all
        });
        cluster.dialled.load().get(&address).map_or(fresh, Arc::clone)
    }

    fn endpoint_at(&self, address: Address) -> Endpoint {
        let (workload, mesh) = (Arc::clone(&self.nobody), MeshPeer::default());
        Endpoint { address, weight: 1, health: Health::Healthy, workload, mesh }
    }
}

/// Addresses that are remembered for a passthrough cluster before the unused ones are forgotten.
const MAX_DIALLED: usize = 1024;

/// What a choice depends on, beside the endpoints.
#[derive(Clone, Copy, Default)]
pub struct Choice<'a> {
    /// Consistent hash of the request; `None`: any endpoint will do.
    pub hash: Option<u64>,
    /// The tries before.
    pub tried: Option<&'a Tried>,
    /// The host that is asked for, for clusters that resolve it then.
    pub host: Option<&'a str>,
}

/// One cluster. Until it is used, all that there is of it is what configuration says: of thousands that a proxy may use, most
/// never are. Whatever is asked of its endpoints or counters first makes these; from then on asking costs one look.
pub struct Cluster<N: Net> {
    name: Arc<str>,
    me: Weak<Self>,
    workers: usize,
    began: Instant,
    /// What it was told, until its first use.
    told: Mutex<Told>,
    used: OnceLock<Box<Used<N>>>,
}

/// What configuration says about a cluster that is not used yet.
#[derive(Clone, Default)]
struct Told {
    /// Each with when it came, on the cluster's clock.
    endpoints: Box<[(Arc<Endpoint>, Duration)]>,
    rules: Option<health::Rules>,
    /// Where tasks for it run.
    runtime: Option<Handle>,
    seed: u64,
}

/// A cluster's endpoints and counters.
pub struct Used<N: Net> {
    name: Arc<str>,
    members: ArcSwap<Vec<Arc<Member<N>>>>,
    /// The members in the order in which they are used.
    layout: ArcSwap<Layout<Arc<Member<N>>>>,
    ordering: Mutex<()>,
    rules: ArcSwap<health::Rules>,
    dialled: ArcSwap<Map<Address, Arc<Member<N>>>>,
    /// Virtual time of weighted balancing.
    clock: AtomicU64,
    detector: Arc<Detector>,
    changed: Arc<Notify>,
    watch: Mutex<health::Watch>,
    dns: dns::Names,
    copies: Arc<Budget>,
    asked: dns::Asked,
    usage: Arc<Usage>,
}

impl<N: Net> std::ops::Deref for Cluster<N> {
    type Target = Used<N>;

    fn deref(&self) -> &Used<N> {
        match self.used.get() {
            Some(used) => used,
            None => self.first_use(),
        }
    }
}

impl<N: Net> Cluster<N> {
    fn new(name: Arc<str>, workers: usize) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            name,
            me: Weak::clone(me),
            workers,
            began: Instant::now(),
            told: Mutex::default(),
            used: OnceLock::new(),
        })
    }

    #[cold]
    fn first_use(&self) -> &Used<N> {
        // Whoever tells it something looks under this lock whether it is used.
        let mut told = self.told.lock();
        self.used.get_or_init(|| {
            let used = self.as_told(&std::mem::take(&mut *told));
            used.warn();
            Box::new(used)
        })
    }

    /// What it is when it is used first.
    fn as_told(&self, told: &Told) -> Used<N> {
        let Told { endpoints, rules, runtime, seed } = told;
        let used = Used::new(Arc::clone(&self.name));
        let member = |(endpoint, joined): &(Arc<Endpoint>, Duration)| {
            Arc::new(Member::new(Arc::clone(endpoint), self.workers, *joined))
        };
        used.take_members(endpoints.iter().map(member).collect());
        if let Some(rules) = rules {
            used.follow(rules, runtime.as_ref(), &self.me);
        }
        used.lay_out(*seed);
        used
    }

    /// The endpoints now.
    fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let told = self.told.lock();
        match self.used.get() {
            Some(used) => used.members.load().iter().map(|m| Arc::clone(m.endpoint())).collect(),
            None => told.endpoints.iter().map(|(endpoint, _)| Arc::clone(endpoint)).collect(),
        }
    }

    /// Sets the endpoints. Says whether anything changed.
    fn set(&self, endpoints: Vec<Arc<Endpoint>>, seed: u64) -> bool {
        let now = self.began.elapsed();
        let used = {
            let mut told = self.told.lock();
            match self.used.get() {
                Some(used) => used,
                None => return told.set(endpoints, now, seed),
            }
        };
        used.set(endpoints, (self.workers, now), seed)
    }
}

impl Told {
    fn set(&mut self, endpoints: Vec<Arc<Endpoint>>, now: Duration, seed: u64) -> bool {
        let old = &self.endpoints;
        if old.len() == endpoints.len() && old.iter().zip(&endpoints).all(|((old, _), new)| **old == **new) {
            return false;
        }
        let with_age = |new: Arc<Endpoint>| {
            let joined = old.iter().find(|(old, _)| old.address == new.address).map_or(now, |(_, joined)| *joined);
            (new, joined)
        };
        let next = endpoints.into_iter().map(with_age).collect();
        (self.endpoints, self.seed) = (next, seed);
        true
    }
}

impl<N: Net> Used<N> {
    fn new(name: Arc<str>) -> Self {
        let changed: Arc<Notify> = Arc::default();
        Self {
            members: ArcSwap::default(),
            layout: ArcSwap::from_pointee(Layout::empty()),
            ordering: Mutex::default(),
            rules: ArcSwap::default(),
            dialled: ArcSwap::default(),
            clock: AtomicU64::new(0),
            detector: Arc::new(health::detector(Arc::clone(&name), Arc::clone(&changed))),
            changed,
            watch: Mutex::default(),
            dns: dns::Names::default(),
            name,
            copies: Arc::default(),
            asked: dns::Asked::default(),
            usage: Arc::default(),
        }
    }

    /// Bounds of the copies that are mirrored here.
    pub(crate) fn copies(&self) -> Arc<Budget> {
        Arc::clone(&self.copies)
    }

    /// What is in use of its limits.
    pub fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }

    /// Its outlier detection.
    pub(crate) fn detector(&self) -> &Arc<Detector> {
        &self.detector
    }

    /// Tells outlier detection how connecting to a member for a TCP stream went.
    pub(crate) fn connected(&self, member: &Member<N>, result: Result<(), &Error>) {
        let event = match result.map_err(Error::kind) {
            Ok(()) => Event::Connected,
            Err(ErrorKind::ConnectTimeout) => Event::LocalTimeout,
            Err(_) => Event::LocalFailure,
        };
        self.detector.observe(&member.endpoint().address, event);
    }

    /// What is known of an address that a client dialled, where the cluster's endpoints are not chosen here.
    fn known(&self, address: &Address) -> Option<Arc<Endpoint>> {
        self.members.load().iter().find(|m| m.endpoint().address == *address).map(|m| Arc::clone(m.endpoint()))
    }

    /// Brings what is known of addresses that clients have dialled up to date; `nobody` is one of which nothing is known.
    fn know(&self, nobody: impl Fn(Address) -> Arc<Endpoint>) {
        if self.dialled.load().is_empty() {
            return;
        }
        self.dialled.rcu(|all| {
            let now = |(address, member): (&Address, &Arc<Member<N>>)| {
                let endpoint = self.known(address).unwrap_or_else(|| nobody(address.clone()));
                let same = **member.endpoint() == *endpoint;
                let member = if same { Arc::clone(member) } else { Arc::new(member.with_endpoint(endpoint)) };
                (address.clone(), member)
            };
            all.iter().map(now).collect::<Map<_, _>>()
        });
    }

    fn set(&self, endpoints: Vec<Arc<Endpoint>>, (workers, now): (usize, Duration), seed: u64) -> bool {
        let old = self.members.load();
        let member = |endpoint: Arc<Endpoint>| {
            let same = old.iter().find(|m| m.endpoint().address == endpoint.address);
            match same {
                Some(same) if **same.endpoint() == *endpoint => Arc::clone(same),
                Some(same) => Arc::new(same.with_endpoint(endpoint)),
                None => Arc::new(Member::new(endpoint, workers, now)),
            }
        };
        let new: Vec<_> = endpoints.into_iter().map(member).collect();
        let unchanged = new.len() == old.len() && new.iter().zip(old.iter()).all(|(a, b)| Arc::ptr_eq(a, b));
        if !unchanged {
            self.take_members(new);
            self.order(seed);
        }
        !unchanged
    }

    fn take_members(&self, members: Vec<Arc<Member<N>>>) {
        self.detector.set_hosts(members.iter().map(|m| (m.endpoint().address.clone(), Arc::clone(m.outlier()))));
        self.members.store(Arc::new(members));
    }
}

/// The pool shard of this thread.
pub(crate) fn shard_index(shards: usize) -> usize {
    WORKER.get() % shards.max(1)
}
