//! `connectionPool` and `retryBudget`: from a policy to the limits of a cluster, and what becomes of their fields.

use std::sync::Arc;
use std::time::Duration;

use super::BalancingClient;
use super::hops::MeshClient;
use crate::api::{
    ConnectionPoolSettings, H2UpgradePolicy, HttpSettings, MeshConfig, MeshH2UpgradePolicy, Object, RetryBudget,
    TcpKeepalive, TcpSettings,
};
use crate::compile::account::Ledger;
use crate::compile::memo::hash_debug;
use crate::snapshot::pool::IDLE_TIMEOUT;
use crate::snapshot::{Balancing, Http2Ping, Keepalive, PoolPlan, Provenance, RetryBudgetPlan, UpstreamProtocol};

/// Settings of the mesh that every cluster depends on.
#[derive(Clone, Debug)]
pub(in crate::compile) struct ClusterDefaults {
    /// `connectTimeout`.
    connect_timeout: Duration,
    pub(super) origin: Provenance,
    /// `defaultTrafficPolicy.connectionPool`, for clusters without an own block.
    pool: Option<ConnectionPoolSettings>,
    pool_origin: Provenance,
    /// `tcpKeepalive`.
    keepalive: Option<Keepalive>,
    /// `h2UpgradePolicy: UPGRADE`.
    upgrade: bool,
    dns_refresh_rate: Duration,
    /// The mesh's own TLS, as clients speak it.
    pub(super) mesh: MeshClient,
    /// Who balances: locality settings and the default outlier detection depend on the client.
    pub(super) client: BalancingClient,
    /// What most clusters have; they share it.
    usual: (Arc<PoolPlan>, Arc<Balancing>),
    pub(in crate::compile) hash: crate::api::ContentHash,
}

impl ClusterDefaults {
    pub(in crate::compile) fn of(mesh: &Object<MeshConfig>, client: BalancingClient) -> Self {
        let MeshConfig {
            connect_timeout,
            default_traffic_policy,
            tcp_keepalive,
            h2_upgrade_policy,
            dns_refresh_rate,
            ..
        } = &mesh.spec;
        let rule = "Istio's default policy";
        let origin = match connect_timeout {
            Some(_) => Provenance::setting(mesh, "spec.connectTimeout", rule),
            None => Provenance::default(rule),
        };
        let pool = default_traffic_policy.as_ref().and_then(|p| p.connection_pool.clone());
        let pool_origin = match &pool {
            Some(_) => Provenance::setting(mesh, "spec.defaultTrafficPolicy.connectionPool", rule),
            None => Provenance::default("no limits by default"),
        };
        let keepalive = tcp_keepalive.as_ref().map(keepalive);
        let mut defaults = Self {
            connect_timeout: connect_timeout.map_or(Duration::from_secs(10), Into::into),
            origin,
            pool,
            pool_origin,
            usual: (Arc::new(PoolPlan { keepalive, ..PoolPlan::default() }), Arc::default()),
            keepalive,
            upgrade: *h2_upgrade_policy == MeshH2UpgradePolicy::Upgrade,
            dns_refresh_rate: dns_refresh_rate.map_or(Duration::from_secs(60), Into::into),
            mesh: MeshClient::of(mesh),
            client,
            hash: crate::api::ContentHash::default(),
        };
        let Self { connect_timeout, origin, pool, pool_origin, keepalive, upgrade, dns_refresh_rate, .. } = &defaults;
        let Self { mesh, client, hash: _, .. } = &defaults;
        let own = hash_debug(&(connect_timeout, origin, pool, pool_origin, keepalive, upgrade, dns_refresh_rate, mesh));
        defaults.hash = own.with(client.hash);
        defaults
    }

    /// How soon names are looked up again where that fails.
    pub(super) fn dns_refresh_rate(&self) -> Duration {
        self.dns_refresh_rate
    }

    /// What is in force for a cluster beside its balancer: shared, where it is what most have.
    pub(super) fn balancing(&self, made: Balancing) -> Arc<Balancing> {
        shared(made, &self.usual.1)
    }

    /// The same without `defaultTrafficPolicy`: for clusters that it is not meant for.
    pub(in crate::compile) fn without_policy(&self) -> Self {
        let pool_origin = Provenance::default("no limits by default");
        Self { pool: None, pool_origin, ..self.clone() }
    }
}

fn shared<T: PartialEq>(made: T, usual: &Arc<T>) -> Arc<T> {
    if made == **usual { Arc::clone(usual) } else { Arc::new(made) }
}

/// What is in force for a cluster.
pub(in crate::compile) struct Pool {
    pub(in crate::compile) plan: Arc<PoolPlan>,
    pub(in crate::compile) origin: Provenance,
    pub(in crate::compile) connect_timeout: Duration,
    /// The HTTP version after `h2UpgradePolicy` and `useClientProtocol`.
    pub(in crate::compile) protocol: UpstreamProtocol,
}

/// The block of a cluster and where it was written.
pub(in crate::compile) type Block<'a> = Option<(&'a ConnectionPoolSettings, Provenance)>;

/// What is known of a cluster before its policy is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::compile) struct Kind {
    /// HTTP version of the port's protocol.
    pub(in crate::compile) protocol: UpstreamProtocol,
    /// `h2UpgradePolicy` applies: clients' clusters of a service. A server speaks to its application as the port says.
    pub(in crate::compile) upgradable: bool,
}

pub(in crate::compile) fn plan(
    kind: Kind,
    block: Block<'_>,
    budget: Option<&RetryBudget>,
    defaults: &ClusterDefaults,
) -> Pool {
    let (settings, origin) = match block {
        Some((settings, origin)) => (Some(settings), origin),
        None => (defaults.pool.as_ref(), defaults.pool_origin.clone()),
    };
    let tcp = settings.and_then(|s| s.tcp.clone()).unwrap_or_default();
    let http = settings.and_then(|s| s.http.clone()).unwrap_or_default();
    let TcpSettings { max_connections, connect_timeout, tcp_keepalive, max_connection_duration, idle_timeout } = tcp;
    let connect_timeout = connect_timeout.map_or(defaults.connect_timeout, Into::into);
    let protocol = protocol(kind, &http, defaults.upgrade);
    let bytes = idle(idle_timeout, Some(IDLE_TIMEOUT));
    let mut plan = PoolPlan {
        max_connections: limit(max_connections),
        keepalive: tcp_keepalive.as_ref().map(keepalive).or(defaults.keepalive),
        max_connection_duration: max_connection_duration.map(Into::into).filter(|d: &Duration| !d.is_zero()),
        ..PoolPlan::default()
    };
    if matches!(protocol, UpstreamProtocol::Tcp | UpstreamProtocol::Client) {
        plan.tcp_idle_timeout = bytes;
    }
    if protocol != UpstreamProtocol::Tcp {
        requests(&mut plan, &http, bytes, protocol);
        plan.retry_budget = budget.map(retry_budget);
    }
    Pool { plan: shared(plan, &defaults.usual.0), origin, connect_timeout, protocol }
}

/// The part about requests.
fn requests(plan: &mut PoolPlan, http: &HttpSettings, tcp_idle: Option<Duration>, protocol: UpstreamProtocol) {
    let HttpSettings {
        http1_max_pending_requests,
        http2_max_requests,
        max_requests_per_connection,
        max_retries,
        idle_timeout,
        h2_upgrade_policy: _,
        use_client_protocol: _,
        max_concurrent_streams,
        http2_keep_alive,
    } = http;
    plan.max_pending = limit(*http1_max_pending_requests);
    plan.max_requests = limit(*http2_max_requests);
    plan.max_requests_per_connection = Some(limit(*max_requests_per_connection)).filter(|n| *n != u32::MAX);
    plan.max_retries = limit(*max_retries);
    plan.idle_timeout = idle(*idle_timeout, tcp_idle);
    if protocol != UpstreamProtocol::Http1 {
        plan.max_concurrent_streams = limit(*max_concurrent_streams);
        plan.http2_keepalive = http2_keep_alive
            .as_ref()
            .and_then(|k| Some(Http2Ping { interval: k.interval?.into(), timeout: k.timeout?.into() }));
    }
}

/// 0 means unset.
fn limit(value: i32) -> u32 {
    u32::try_from(value).ok().filter(|v| *v != 0).unwrap_or(u32::MAX)
}

/// Zero disables.
fn idle(value: Option<crate::api::Duration>, default: Option<Duration>) -> Option<Duration> {
    match value.map(Duration::from) {
        Some(d) => Some(d).filter(|d| !d.is_zero()),
        None => default,
    }
}

fn keepalive(from: &TcpKeepalive) -> Keepalive {
    let TcpKeepalive { probes, time, interval } = from;
    let some = |d: &Option<crate::api::Duration>| d.map(Duration::from).filter(|d| !d.is_zero());
    Keepalive { probes: Some(*probes).filter(|p| *p != 0), time: some(time), interval: some(interval) }
}

fn retry_budget(from: &RetryBudget) -> RetryBudgetPlan {
    let RetryBudget { percent, min_retry_concurrency, budget_interval } = from;
    RetryBudgetPlan {
        percent: percent.unwrap_or(20.0),
        min_concurrency: if *min_retry_concurrency == 0 { 3 } else { *min_retry_concurrency },
        interval: budget_interval.map_or(Duration::ZERO, Into::into),
    }
}

/// UPGRADE upgrades undeclared ports, too; by default the mesh decides, and for declared HTTP ports only.
fn protocol(kind: Kind, http: &HttpSettings, mesh_upgrades: bool) -> UpstreamProtocol {
    let declared = kind.protocol;
    if declared == UpstreamProtocol::Tcp {
        return declared;
    }
    if http.use_client_protocol {
        return UpstreamProtocol::Client;
    }
    let upgrade = match http.h2_upgrade_policy {
        H2UpgradePolicy::Upgrade => true,
        H2UpgradePolicy::DoNotUpgrade => false,
        H2UpgradePolicy::Default => mesh_upgrades && declared == UpstreamProtocol::Http1,
    };
    if upgrade && kind.upgradable { UpstreamProtocol::Http2 } else { declared }
}

/// What becomes of the fields of a block that is in force for a cluster.
pub(in crate::compile) fn account(
    ledger: &mut Ledger<'_>,
    at: &str,
    settings: &ConnectionPoolSettings,
    kind: Kind,
    budget: bool,
) {
    let ConnectionPoolSettings { tcp, http } = settings;
    ledger.consumed(at);
    // A field of an outer default that the mesh sets does not matter here: the block is taken whole.
    let protocol = protocol(kind, &http.clone().unwrap_or_default(), false);
    let http_idle = http.as_ref().is_some_and(|h| h.idle_timeout.is_some());
    if let Some(TcpSettings {
        max_connections,
        connect_timeout,
        tcp_keepalive,
        max_connection_duration,
        idle_timeout,
    }) = tcp
    {
        let at = format!("{at}.tcp");
        ledger.consumed(&at);
        count(ledger, &at, "maxConnections", *max_connections);
        ledger.take(&at, "connectTimeout", connect_timeout);
        ledger.take(&at, "maxConnectionDuration", max_connection_duration);
        if let Some(keepalive) = tcp_keepalive {
            account_keepalive(ledger, &format!("{at}.tcpKeepalive"), keepalive);
        }
        let bytes = matches!(protocol, UpstreamProtocol::Tcp | UpstreamProtocol::Client);
        if idle_timeout.is_some() && http_idle && !bytes {
            ledger.overridden(&format!("{at}.idleTimeout"), "http.idleTimeout");
        } else {
            ledger.take(&at, "idleTimeout", idle_timeout);
        }
    }
    if let Some(http) = http {
        account_http(ledger, &format!("{at}.http"), http, kind, (protocol, budget));
    }
}

fn account_http(
    ledger: &mut Ledger<'_>,
    at: &str,
    http: &HttpSettings,
    kind: Kind,
    (protocol, budget): (UpstreamProtocol, bool),
) {
    let HttpSettings {
        http1_max_pending_requests,
        http2_max_requests,
        max_requests_per_connection,
        max_retries,
        idle_timeout,
        h2_upgrade_policy,
        use_client_protocol,
        max_concurrent_streams,
        http2_keep_alive,
    } = http;
    if protocol == UpstreamProtocol::Tcp {
        ledger.inert(at, "the port carries bytes, not HTTP");
        return;
    }
    ledger.consumed(at);
    count(ledger, at, "http1MaxPendingRequests", *http1_max_pending_requests);
    count(ledger, at, "http2MaxRequests", *http2_max_requests);
    count(ledger, at, "maxRequestsPerConnection", *max_requests_per_connection);
    match *max_retries != 0 && budget {
        true => ledger.overridden(&format!("{at}.maxRetries"), "retryBudget"),
        false => count(ledger, at, "maxRetries", *max_retries),
    }
    ledger.take(at, "idleTimeout", idle_timeout);
    if protocol == UpstreamProtocol::Http1 {
        let why = "the port's HTTP/1.1 connections have no streams and no PING";
        ledger.without_effect(at, "maxConcurrentStreams", max_concurrent_streams, why);
        ledger.without_effect(at, "http2KeepAlive", http2_keep_alive, why);
    } else {
        count(ledger, at, "maxConcurrentStreams", *max_concurrent_streams);
        if let Some(ping) = http2_keep_alive {
            let at = format!("{at}.http2KeepAlive");
            ledger.consumed(&at);
            ledger.take(&at, "interval", &ping.interval);
            ledger.take(&at, "timeout", &ping.timeout);
        }
    }
    let declared = kind.protocol;
    match (use_client_protocol, declared) {
        (true, UpstreamProtocol::Client) => {
            ledger.inert(&format!("{at}.useClientProtocol"), "an undeclared port follows the client anyway");
        }
        _ => {
            ledger.take(at, "useClientProtocol", use_client_protocol);
        }
    }
    let upgrade = format!("{at}.h2UpgradePolicy");
    match h2_upgrade_policy {
        H2UpgradePolicy::Default => {}
        _ if *use_client_protocol => ledger.overridden(&upgrade, "useClientProtocol"),
        _ if !kind.upgradable => {
            ledger.inert(&upgrade, "it is for clients: a server speaks to its application as the port says")
        }
        _ if declared == UpstreamProtocol::Http2 => ledger.inert(&upgrade, "the port's protocol is HTTP/2 already"),
        H2UpgradePolicy::Upgrade | H2UpgradePolicy::DoNotUpgrade => ledger.consumed(&upgrade),
    }
}

/// A count, of which 0 means unset.
fn count(ledger: &mut Ledger<'_>, at: &str, name: &str, value: i32) {
    ledger.take(at, name, &value);
}

/// What becomes of `tcpKeepalive`, here or of the mesh.
pub(in crate::compile) fn account_keepalive(ledger: &mut Ledger<'_>, at: &str, from: &TcpKeepalive) {
    let TcpKeepalive { probes, time, interval } = from;
    ledger.consumed(at);
    ledger.take(at, "probes", probes);
    ledger.take(at, "time", time);
    ledger.take(at, "interval", interval);
}

/// What becomes of a retry budget that is in force for a cluster.
pub(super) fn account_budget(ledger: &mut Ledger<'_>, at: &str, from: &RetryBudget, protocol: UpstreamProtocol) {
    let RetryBudget { percent, min_retry_concurrency, budget_interval } = from;
    if protocol == UpstreamProtocol::Tcp {
        ledger.inert(at, "the port carries bytes, not HTTP");
        return;
    }
    ledger.consumed(at);
    ledger.take(at, "percent", percent);
    ledger.take(at, "minRetryConcurrency", min_retry_concurrency);
    ledger.take(at, "budgetInterval", budget_interval);
}

#[cfg(test)]
mod tests;
