//! Which DestinationRules apply to a service, and what becomes of the fields of a policy.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ClusterInput;
use crate::api::{
    ConnectionPoolSettings, DestinationRule, LoadBalancerSettings, Object, PortSelector, PortTrafficPolicy,
    TcpSettings, TrafficPolicy,
};
use crate::compile::account::Ledger;
use crate::compile::visible::{exported_to, is_private};
use crate::matching::HostPattern;
use crate::model::Service;
use crate::world::{World, covers};

/// Which rules one level of the look-up takes.
type Level<'a> = dyn Fn(&Object<DestinationRule>) -> bool + 'a;

/// The rules for one service, oldest first; they are merged.
pub(in crate::compile) type Rules<'a> = Vec<&'a Arc<Object<DestinationRule>>>;

/// Look-up of DestinationRules for one client.
pub(in crate::compile) struct RuleIndex<'a> {
    world: &'a World,
    namespace: &'a str,
    labels: &'a BTreeMap<String, String>,
    /// Wildcard hosts of rules, most specific first.
    wildcards: Vec<HostPattern>,
}

impl<'a> RuleIndex<'a> {
    pub(in crate::compile) fn new(world: &'a World, namespace: &'a str, labels: &'a BTreeMap<String, String>) -> Self {
        let mut wildcards: Vec<HostPattern> = Vec::new();
        for rule in world.destination_rules().iter().filter(|r| r.spec.host.starts_with('*')) {
            wildcards.push(HostPattern::parse(&rule.spec.host));
        }
        wildcards.sort_by(HostPattern::more_specific);
        wildcards.dedup();
        Self { world, namespace, labels, wildcards }
    }

    /// The rules for a service: of the client's namespace, else of the service's, else of the root namespace; inside
    /// that level the most specific host. Levels are not merged.
    pub(in crate::compile) fn rules(&self, service: &Service) -> Rules<'a> {
        let exact = HostPattern::Exact(service.hostname.clone());
        let wild = self.wildcards.iter().filter(|w| match w {
            HostPattern::Exact(_) => false,
            w => HostPattern::parse(&service.hostname).subset_of(w),
        });
        let hosts: Vec<&[Arc<Object<DestinationRule>>]> = std::iter::once(&exact)
            .chain(wild)
            .map(|h| self.world.destination_rules_of(h))
            .filter(|rules| !rules.is_empty())
            .collect();
        if hosts.is_empty() {
            return Vec::new();
        }
        let root = self.world.root_namespace();
        let default = &self.world.mesh().spec.default_destination_rule_export_to;
        let own = |r: &Object<DestinationRule>| {
            *r.key.namespace == *self.namespace
                && (self.namespace != root || is_private(&r.spec.export_to, default, &r.key.namespace))
        };
        let exported = |r: &Object<DestinationRule>, namespace: &str| {
            *r.key.namespace == *namespace && exported_to(&r.spec.export_to, default, &r.key.namespace, self.namespace)
        };
        let levels: [&Level<'_>; 3] = [&own, &|r| exported(r, &service.namespace), &|r| exported(r, root)];
        let found = levels.iter().find_map(|level| hosts.iter().find_map(|rules| self.merge(rules, level)));
        found.unwrap_or_default()
    }

    /// The rules of one host at one level: those that select the client come before those that select nobody in
    /// particular, and only rules of one kind and one reach are merged.
    fn merge(&self, rules: &'a [Arc<Object<DestinationRule>>], level: &Level<'_>) -> Option<Rules<'a>> {
        let selector = |r: &Object<DestinationRule>| r.spec.workload_selector.as_ref().map(|s| s.match_labels.clone());
        let applies = |r: &&Arc<Object<DestinationRule>>| {
            let own = *r.key.namespace == *self.namespace;
            level(r) && r.spec.workload_selector.as_ref().is_none_or(|s| own && covers(&s.match_labels, self.labels))
        };
        let here: Vec<_> = rules.iter().filter(applies).collect();
        let first = *here.iter().find(|r| r.spec.workload_selector.is_some()).or(here.first())?;
        let reach = |r: &Object<DestinationRule>| first.spec.export_to.iter().all(|e| r.spec.export_to.contains(e));
        Some(here.into_iter().filter(|r| selector(r) == selector(first) && reach(r)).collect())
    }
}

/// What becomes of a policy's fields. `used` says whether its balancer and its connection pool decide a cluster.
pub(super) fn account(
    ledger: &mut Ledger<'_>,
    at: &str,
    policy: &TrafficPolicy,
    service: &Service,
    used: (bool, bool),
) {
    let TrafficPolicy {
        load_balancer,
        connection_pool,
        outlier_detection,
        tls: _,
        port_level_settings,
        tunnel: _,
        proxy_protocol: _,
        retry_budget,
    } = policy;
    for (i, p) in port_level_settings.iter().enumerate() {
        let number = p.port.as_ref().map_or(0, |p| p.number);
        let field = format!("{at}.portLevelSettings[{i}]");
        match service.ports.iter().any(|p| u32::from(p.number) == number) {
            true => ledger.consumed(&field),
            false => ledger.inert(&field, &format!("{} has no port {number}", service.hostname)),
        }
    }
    ledger.later(at, "outlierDetection", outlier_detection);
    ledger.later(at, "retryBudget", retry_budget);
    blocks(ledger, at, (load_balancer.as_ref(), connection_pool.as_ref()), used);
}

/// As [`account`], for an entry of `portLevelSettings`.
pub(super) fn account_port(
    ledger: &mut Ledger<'_>,
    at: &str,
    policy: &PortTrafficPolicy,
    input: &ClusterInput<'_>,
    used: (bool, bool),
) {
    let PortTrafficPolicy { port, load_balancer, connection_pool, outlier_detection, tls: _ } = policy;
    ledger.later(at, "outlierDetection", outlier_detection);
    if let Some(PortSelector { number }) = port {
        ledger.take(&format!("{at}.port"), "number", number);
        if *number != u32::from(input.port.number) {
            return;
        }
    }
    blocks(ledger, at, (load_balancer.as_ref(), connection_pool.as_ref()), used);
}

type Read<'a> = (Option<&'a LoadBalancerSettings>, Option<&'a ConnectionPoolSettings>);

fn blocks(ledger: &mut Ledger<'_>, at: &str, (balancer, pool): Read<'_>, used: (bool, bool)) {
    let by = "a more specific policy (of the port or the subset)";
    if let Some(balancer) = balancer {
        let at = format!("{at}.loadBalancer");
        if used.0 {
            ledger.consumed(&at)
        } else {
            ledger.overridden(&at, by)
        }
        let LoadBalancerSettings {
            simple,
            consistent_hash,
            locality_lb_setting,
            zone_aware_lb_setting,
            warmup_duration_secs,
            warmup,
        } = balancer;
        ledger.take(&at, "simple", simple);
        ledger.later(&at, "consistentHash", consistent_hash);
        ledger.later(&at, "localityLbSetting", locality_lb_setting);
        ledger.later(&at, "zoneAwareLbSetting", zone_aware_lb_setting);
        ledger.later(&at, "warmupDurationSecs", warmup_duration_secs);
        ledger.later(&at, "warmup", warmup);
    }
    if let Some(ConnectionPoolSettings { tcp, http }) = pool {
        let at = format!("{at}.connectionPool");
        if used.1 {
            ledger.consumed(&at)
        } else {
            ledger.overridden(&at, by)
        }
        ledger.later(&at, "http", http);
        let Some(TcpSettings {
            max_connections,
            connect_timeout,
            tcp_keepalive,
            max_connection_duration,
            idle_timeout,
        }) = tcp
        else {
            return;
        };
        let at = format!("{at}.tcp");
        ledger.consumed(&at);
        ledger.take(&at, "connectTimeout", connect_timeout);
        ledger.later(&at, "maxConnections", max_connections);
        ledger.later(&at, "tcpKeepalive", tcp_keepalive);
        ledger.later(&at, "maxConnectionDuration", max_connection_duration);
        ledger.later(&at, "idleTimeout", idle_timeout);
    }
}
