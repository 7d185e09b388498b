//! The blocks of a traffic policy.

use std::collections::BTreeMap;
use std::collections::HashSet;

use super::common::{duration, fqdn, not_negative, port};
use super::{Check, below};
use crate::api::{ClientTlsMode, ClientTlsSettings, ConnectionPoolSettings, ConsistentHashLb, H2UpgradePolicy};
use crate::api::{HttpCookie, HttpSettings, LoadBalancerSettings, LocalityFailover, LocalityLoadBalancerSetting};
use crate::api::{OutlierDetection, TcpSettings, TrafficPolicy, TunnelSettings, WarmupConfiguration};
use crate::yaml::{child, item};

pub(super) fn check(check: &mut Check<'_>, path: &str, policy: &TrafficPolicy) {
    if *policy == TrafficPolicy::default() {
        check.error(path, "traffic policy must have at least one field");
    }
    let TrafficPolicy {
        load_balancer,
        connection_pool: pool,
        outlier_detection: outliers,
        tls,
        port_level_settings,
        tunnel,
        proxy_protocol,
        retry_budget,
    } = policy;
    let blocks = Blocks { load_balancer, pool, outliers, tls };
    blocks.check(check, path);
    if tunnel.is_some() && proxy_protocol.is_some() {
        check.error(path, "tunnel and proxyProtocol must not be set together");
    }
    let ports = child(path, "portLevelSettings");
    if port_level_settings.len() > 4096 {
        check.invalid(&ports, port_level_settings.len(), "must have at most 4096 items");
    }
    for (i, settings) in port_level_settings.iter().enumerate() {
        let at = item(&ports, i);
        match &settings.port {
            Some(p) if p.number != 0 => check.ok(&below(&at, "port.number"), port(p.number)),
            _ => check.error(&child(&at, "port"), "portTrafficPolicy must have valid port"),
        }
        let blocks = Blocks {
            load_balancer: &settings.load_balancer,
            pool: &settings.connection_pool,
            outliers: &settings.outlier_detection,
            tls: &settings.tls,
        };
        if blocks.is_empty() {
            check.error(&at, "port traffic policy must have at least one field");
        }
        blocks.check(check, &at);
    }
    if let Some(settings) = tunnel {
        self::tunnel(check, &child(path, "tunnel"), settings);
    }
    if let Some(budget) = retry_budget
        && let Some(percent) = budget.percent
        && !(0.0..=100.0).contains(&percent)
    {
        check.invalid(&below(path, "retryBudget.percent"), percent, "should be from 0 to 100");
    }
}

struct Blocks<'a> {
    load_balancer: &'a Option<LoadBalancerSettings>,
    pool: &'a Option<ConnectionPoolSettings>,
    outliers: &'a Option<OutlierDetection>,
    tls: &'a Option<ClientTlsSettings>,
}

impl Blocks<'_> {
    fn is_empty(&self) -> bool {
        self.load_balancer.is_none() && self.pool.is_none() && self.outliers.is_none() && self.tls.is_none()
    }

    fn check(&self, check: &mut Check<'_>, path: &str) {
        if let Some(settings) = self.load_balancer {
            load_balancer(check, &child(path, "loadBalancer"), settings, self.outliers.is_some());
        }
        if let Some(settings) = self.pool {
            connection_pool(check, &child(path, "connectionPool"), settings);
        }
        if let Some(settings) = self.outliers {
            outlier_detection(check, &child(path, "outlierDetection"), settings);
        }
        if let Some(settings) = self.tls {
            client_tls(check, &child(path, "tls"), settings);
        }
    }
}

fn tunnel(check: &mut Check<'_>, path: &str, settings: &TunnelSettings) {
    let TunnelSettings { protocol, target_host, target_port } = settings;
    if !matches!(protocol.as_str(), "" | "CONNECT" | "POST") {
        check.error(&child(path, "protocol"), "tunnel protocol must be \"CONNECT\" or \"POST\"");
    }
    let at = child(path, "targetHost");
    if target_host.is_empty() {
        check.required(&at);
    } else if target_host.parse::<std::net::IpAddr>().is_err() {
        check.ok(&at, fqdn(target_host));
    }
    check.ok(&child(path, "targetPort"), port(*target_port).map_err(|e| format!("tunnel target port is invalid: {e}")));
}

fn load_balancer(check: &mut Check<'_>, path: &str, settings: &LoadBalancerSettings, has_outliers: bool) {
    let LoadBalancerSettings {
        simple,
        consistent_hash,
        locality_lb_setting,
        zone_aware_lb_setting,
        warmup_duration_secs,
        warmup,
    } = settings;
    if simple.is_some() && consistent_hash.is_some() {
        check.error(path, "At most one of [simple consistentHash] should be set");
    }
    if let Some(hash) = consistent_hash {
        self::consistent_hash(check, &child(path, "consistentHash"), hash);
    }
    duration(check, &child(path, "warmupDurationSecs"), *warmup_duration_secs);
    if warmup_duration_secs.is_some() && warmup.is_some() {
        check.error(path, "only one of warmupDurationSecs or warmup can be set");
    }
    if let Some(warmup) = warmup {
        self::warmup(check, &child(path, "warmup"), warmup);
    }
    if locality_lb_setting.is_some() && zone_aware_lb_setting.is_some() {
        check.error(path, "only one of localityLbSetting and zoneAwareLbSetting can be set");
    }
    if let Some(setting) = locality_lb_setting {
        locality(check, &child(path, "localityLbSetting"), setting, has_outliers);
    }
    if let Some(setting) = zone_aware_lb_setting {
        let at = child(path, "zoneAwareLbSetting");
        failovers(check, &child(&at, "failover"), &setting.failover);
        if setting.min_cluster_size == Some(0) {
            check.invalid(&child(&at, "minClusterSize"), 0, "should be greater than or equal to 1");
        }
    }
}

fn warmup(check: &mut Check<'_>, path: &str, warmup: &WarmupConfiguration) {
    let at = child(path, "duration");
    match warmup.duration {
        None => check.required(&at),
        some => duration(check, &at, some),
    }
    if let Some(percent) = warmup.minimum_percent.filter(|p| !(0.0..=100.0).contains(p)) {
        check.invalid(&child(path, "minimumPercent"), percent, "should be from 0 to 100");
    }
    if let Some(aggression) = warmup.aggression.filter(|a| *a <= 0.0) {
        check.invalid(&child(path, "aggression"), aggression, "should be greater than 0");
    }
}

fn consistent_hash(check: &mut Check<'_>, path: &str, hash: &ConsistentHashLb) {
    let ConsistentHashLb {
        http_header_name,
        http_cookie,
        use_source_ip,
        http_query_parameter_name,
        ring_hash,
        maglev,
        minimum_ring_size,
    } = hash;
    let keys = [
        http_header_name.is_some(),
        http_cookie.is_some(),
        use_source_ip.is_some(),
        http_query_parameter_name.is_some(),
    ];
    if keys.iter().filter(|k| **k).count() > 1 {
        let message = "At most one of [httpHeaderName httpCookie useSourceIp httpQueryParameterName] should be set";
        check.error(path, message);
    }
    if let Some(cookie) = http_cookie {
        self::cookie(check, &child(path, "httpCookie"), cookie);
    }
    if ring_hash.is_some() && maglev.is_some() {
        check.error(path, "At most one of [ringHash maglev] should be set");
    }
    if minimum_ring_size.is_some() {
        let at = child(path, "minimumRingSize");
        if ring_hash.is_some() || maglev.is_some() {
            check.error(&at, "only one of MinimumRingSize or Maglev/Ringhash can be specified");
        }
        check.warn(
            &at,
            "consistent hash MinimumRingSize is deprecated, use ConsistentHash's RingHash configuration instead",
        );
    }
    if let Some(maglev) = maglev {
        let at = below(path, "maglev.tableSize");
        match maglev.table_size {
            0 => check.error_fix(&at, "tableSize must be set for maglev", "write tableSize: 65537"),
            n if n >= 5_000_011 => check.error(&at, "tableSize must be less than 5000011 for maglev"),
            n if !is_prime(n) => check.error(&at, format!("tableSize must be a prime number for maglev, {n} is none")),
            _ => {}
        }
    }
}

fn cookie(check: &mut Check<'_>, path: &str, cookie: &HttpCookie) {
    if cookie.name.is_empty() {
        check.error(&child(path, "name"), "name required for HttpCookie");
    }
    let mut names = HashSet::new();
    for (i, attribute) in cookie.attributes.iter().enumerate() {
        let at = child(&item(&child(path, "attributes"), i), "name");
        if attribute.name.is_empty() {
            check.error(&at, "name required for HttpCookie attribute");
        } else if !names.insert(&attribute.name) {
            check.error(&at, format!("duplicate HttpCookie attribute {:?}", attribute.name));
        }
    }
}

fn is_prime(n: u64) -> bool {
    n > 1 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
}

/// Locality settings, of a rule or of the mesh.
pub(super) fn locality(check: &mut Check<'_>, path: &str, setting: &LocalityLoadBalancerSetting, has_outliers: bool) {
    let LocalityLoadBalancerSetting { distribute, failover, failover_priority, enabled: _ } = setting;
    if !distribute.is_empty() && !failover.is_empty() {
        check.error(path, "can not simultaneously specify 'distribute' and 'failover'");
    }
    if !failover.is_empty() && failover_priority.iter().any(|l| is_locality_label(l)) {
        check.error(path, "can not simultaneously set 'failover' and topology label in 'failover_priority'");
    }
    let froms: Vec<_> = distribute.iter().map(|d| d.from.as_str()).collect();
    for (i, share) in distribute.iter().enumerate() {
        let at = item(&child(path, "distribute"), i);
        patterns(check, &child(&at, "from"), &froms[..=i]);
        shares(check, &child(&at, "to"), &share.to);
    }
    failovers(check, &child(path, "failover"), failover);
    if !failover.is_empty() && !has_outliers {
        check.warn(path, "outlier detection policy must be provided for failover");
    }
}

fn is_locality_label(label: &str) -> bool {
    let topology = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];
    topology.contains(&label.split('=').next().unwrap_or_default())
}

fn shares(check: &mut Check<'_>, path: &str, to: &BTreeMap<String, u32>) {
    let keys: Vec<_> = to.keys().map(String::as_str).collect();
    for (i, (locality, weight)) in to.iter().enumerate() {
        let at = child(path, locality);
        patterns(check, &at, &keys[..=i]);
        if !(1..=100).contains(weight) {
            check.error(&at, format!("locality weight must be in range [1, 100], but is {weight}"));
        }
    }
    let total: u64 = to.values().map(|w| u64::from(*w)).sum();
    if total != 100 {
        check.error_fix(path, format!("total locality weight {total} != 100"), "make the weights sum up to 100");
    }
}

/// The last pattern is well formed and doesn't overlap the ones before it.
fn patterns(check: &mut Check<'_>, path: &str, all: &[&str]) {
    let Some((last, before)) = all.split_last() else {
        return;
    };
    let segments: Vec<_> = last.split('/').collect();
    let wild = segments.iter().position(|s| s.contains('*'));
    if last.is_empty() || segments.iter().any(|s| s.is_empty()) || segments.len() > 3 {
        check.error(path, format!("locality {last:?} must be region/zone/subzone, without empty parts"));
    } else if wild.is_some_and(|w| w + 1 != segments.len() || segments[w] != "*") {
        check.error(path, format!("locality {last:?} wildcard '*' can only be its last part"));
    }
    let covers = |a: &str, b: &str| {
        let prefix = a.strip_suffix('*').map_or_else(|| format!("{a}/"), str::to_owned);
        a == b || b.starts_with(&prefix)
    };
    if let Some(other) = before.iter().find(|o| covers(o, last) || covers(last, o)) {
        check.error(path, format!("locality {last} overlaps with {other}"));
    }
}

fn failovers(check: &mut Check<'_>, path: &str, values: &[LocalityFailover]) {
    for (i, LocalityFailover { from, to }) in values.iter().enumerate() {
        let at = item(path, i);
        if from == to {
            check.error(&at, format!("locality lb failover settings must specify different regions: {from} -> {to}"));
        }
        for (field, region) in [("from", from), ("to", to)] {
            if region.contains(['/', '*']) || region.is_empty() {
                check.error(&child(&at, field), "locality lb failover only specify region");
            }
        }
    }
}

/// Limits, of a rule, a Sidecar or the mesh.
pub(super) fn connection_pool(check: &mut Check<'_>, path: &str, settings: &ConnectionPoolSettings) {
    let ConnectionPoolSettings { tcp, http } = settings;
    if tcp.is_none() && http.is_none() {
        check.error(path, "connection pool must have at least one field");
    }
    if let Some(TcpSettings { max_connections, connect_timeout, tcp_keepalive, max_connection_duration, .. }) = tcp {
        let at = child(path, "tcp");
        not_negative(check, &child(&at, "maxConnections"), "max connections", *max_connections);
        duration(check, &child(&at, "connectTimeout"), *connect_timeout);
        duration(check, &child(&at, "maxConnectionDuration"), *max_connection_duration);
        if let Some(keepalive) = tcp_keepalive {
            duration(check, &below(&at, "tcpKeepalive.time"), keepalive.time);
            duration(check, &below(&at, "tcpKeepalive.interval"), keepalive.interval);
        }
    }
    if let Some(http) = http {
        self::http(check, &child(path, "http"), http);
    }
}

fn http(check: &mut Check<'_>, at: &str, http: &HttpSettings) {
    let counts = [
        ("http1MaxPendingRequests", "max pending requests", http.http1_max_pending_requests),
        ("http2MaxRequests", "max requests", http.http2_max_requests),
        ("maxRequestsPerConnection", "max requests per connection", http.max_requests_per_connection),
        ("maxRetries", "max retries", http.max_retries),
        ("maxConcurrentStreams", "max concurrent streams", http.max_concurrent_streams),
    ];
    for (field, what, value) in counts {
        not_negative(check, &child(at, field), what, value);
    }
    duration(check, &child(at, "idleTimeout"), http.idle_timeout);
    if http.h2_upgrade_policy == H2UpgradePolicy::Upgrade && http.use_client_protocol {
        let message = "use client protocol must not be true when H2UpgradePolicy is UPGRADE";
        check.error(&child(at, "useClientProtocol"), message);
    }
    if let Some(probes) = &http.http2_keep_alive {
        let at = child(at, "http2KeepAlive");
        for (field, value) in [("interval", probes.interval), ("timeout", probes.timeout)] {
            match value {
                None => check.required(&child(&at, field)),
                some => duration(check, &child(&at, field), some),
            }
        }
    }
}

/// Outlier detection, of a rule or of the mesh.
pub(super) fn outlier_detection(check: &mut Check<'_>, path: &str, outliers: &OutlierDetection) {
    duration(check, &child(path, "interval"), outliers.interval);
    duration(check, &child(path, "baseEjectionTime"), outliers.base_ejection_time);
    if outliers.consecutive_errors != 0 {
        let message = "outlier detection consecutive errors is deprecated, use consecutiveGatewayErrors or consecutive5xxErrors instead";
        check.warn(&child(path, "consecutiveErrors"), message);
    }
    if !outliers.split_external_local_origin_errors && outliers.consecutive_local_origin_failures.is_some_and(|n| n > 0)
    {
        let message = "outlier detection consecutive local origin failures is specified, but split external local origin errors is set to false";
        check.error_fix(
            &child(path, "consecutiveLocalOriginFailures"),
            message,
            "set splitExternalLocalOriginErrors: true",
        );
    }
    for (field, what, value) in [
        ("maxEjectionPercent", "outlier detection max ejection percent", outliers.max_ejection_percent),
        ("minHealthPercent", "outlier detection min health percent", outliers.min_health_percent),
    ] {
        if !(0..=100).contains(&value) {
            check.error(&child(path, field), format!("{what}: percentage {value} is not in range 0..100"));
        }
    }
    for (i, status) in outliers.outlier_detection_http_error_codes.iter().enumerate() {
        if !(100..=599).contains(status) {
            let at = item(&child(path, "outlierDetectionHttpErrorCodes"), i);
            check.invalid(&at, status, "should be from 100 to 599");
        }
    }
}

/// TLS towards a service.
pub(super) fn client_tls(check: &mut Check<'_>, path: &str, tls: &ClientTlsSettings) {
    let has_files = [&tls.client_certificate, &tls.private_key, &tls.ca_certificates, &tls.ca_crl];
    let named = !tls.credential_name.is_empty();
    if named && has_files.iter().any(|f| !f.is_empty()) {
        let message = "cannot specify client certificates or CA certificate or CA CRL If credentialName is set";
        check.error(&child(path, "credentialName"), message);
    }
    if tls.mode == ClientTlsMode::Mutual && !named {
        if tls.client_certificate.is_empty() {
            check.error(&child(path, "clientCertificate"), "client certificate required for mutual tls");
        }
        if tls.private_key.is_empty() {
            check.error(&child(path, "privateKey"), "private key required for mutual tls");
        }
    }
    if tls.insecure_skip_verify == Some(true) {
        let at = child(path, "insecureSkipVerify");
        if tls.mode == ClientTlsMode::Simple {
            if !tls.ca_certificates.is_empty() {
                check.error(&at, "cannot specify CA certificate when insecureSkipVerify is set to true");
            }
            if named {
                check.error(&at, "cannot specify credentialName when insecureSkipVerify is set to true");
            }
        }
        if !tls.subject_alt_names.is_empty() {
            check.error(&at, "cannot specify subjectAltNames when insecureSkipVerify is set to true");
        }
    }
}
