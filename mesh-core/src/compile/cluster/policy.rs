//! Which DestinationRules apply to a service, and what becomes of the fields of a policy.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::pool::{self, Kind};
use super::{ClusterInput, balancing, upstream_protocol};
use crate::api::{
    ConnectionPoolSettings, DestinationRule, LoadBalancerSettings, Object, OutlierDetection, PortSelector,
    PortTrafficPolicy, TrafficPolicy,
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
    /// For a server's own clusters: rules that select client workloads don't count.
    server: bool,
}

impl<'a> RuleIndex<'a> {
    pub(in crate::compile) fn new(world: &'a World, namespace: &'a str, labels: &'a BTreeMap<String, String>) -> Self {
        let mut wildcards: Vec<HostPattern> = Vec::new();
        for rule in world.destination_rules().iter().filter(|r| r.spec.host.starts_with('*')) {
            wildcards.push(HostPattern::parse(&rule.spec.host));
        }
        wildcards.sort_by(HostPattern::more_specific);
        wildcards.dedup();
        Self { world, namespace, labels, wildcards, server: false }
    }

    /// The same for the clusters that lead to the own application.
    pub(in crate::compile) fn of_server(self) -> Self {
        Self { server: true, ..self }
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
            let selects = |s: &crate::api::LabelSelector| !self.server && own && covers(&s.match_labels, self.labels);
            level(r) && r.spec.workload_selector.as_ref().is_none_or(selects)
        };
        let here: Vec<_> = rules.iter().filter(applies).collect();
        let first = *here.iter().find(|r| r.spec.workload_selector.is_some()).or(here.first())?;
        let reach = |r: &Object<DestinationRule>| first.spec.export_to.iter().all(|e| r.spec.export_to.contains(e));
        Some(here.into_iter().filter(|r| selector(r) == selector(first) && reach(r)).collect())
    }
}

/// Which blocks of a policy decide a cluster.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "one for each block, and what the blocks have to know of each other")]
pub(super) struct Used {
    pub(super) balancer: bool,
    pub(super) pool: bool,
    /// Each cluster that the pool decides has a retry budget.
    pub(super) budgeted: bool,
    pub(super) budget: bool,
    pub(super) outlier: bool,
    /// Endpoints are taken out in one of the clusters that the balancer decides.
    pub(super) ejects: bool,
    /// There are endpoints to choose from in one of those that the outlier block decides.
    pub(super) chooses: bool,
}

/// What becomes of a policy's fields.
pub(super) fn account(ledger: &mut Ledger<'_>, at: &str, policy: &TrafficPolicy, input: &ClusterInput<'_>, used: Used) {
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
        match input.service.ports.iter().any(|p| u32::from(p.number) == number) {
            true => ledger.consumed(&field),
            false => ledger.inert(&field, &format!("{} has no port {number}", input.service.hostname)),
        }
    }
    if let Some(budget) = retry_budget {
        let at = format!("{at}.retryBudget");
        match used.budget {
            true => pool::account_budget(ledger, &at, budget, upstream_protocol(input.port.protocol)),
            false => ledger.overridden(&at, MORE_SPECIFIC),
        }
    }
    let read =
        Read { balancer: load_balancer.as_ref(), pool: connection_pool.as_ref(), outlier: outlier_detection.as_ref() };
    blocks(ledger, at, &read, used, input);
}

/// As [`account`], for an entry of `portLevelSettings`.
pub(super) fn account_port(
    ledger: &mut Ledger<'_>,
    at: &str,
    policy: &PortTrafficPolicy,
    input: &ClusterInput<'_>,
    used: Used,
) {
    let PortTrafficPolicy { port, load_balancer, connection_pool, outlier_detection, tls: _ } = policy;
    if let Some(PortSelector { number }) = port {
        ledger.take(&format!("{at}.port"), "number", number);
        if *number != u32::from(input.port.number) {
            return;
        }
    }
    let read =
        Read { balancer: load_balancer.as_ref(), pool: connection_pool.as_ref(), outlier: outlier_detection.as_ref() };
    blocks(ledger, at, &read, used, input);
}

/// The blocks of a policy, whether it is a port's or not.
struct Read<'a> {
    balancer: Option<&'a LoadBalancerSettings>,
    pool: Option<&'a ConnectionPoolSettings>,
    outlier: Option<&'a OutlierDetection>,
}

const MORE_SPECIFIC: &str = "a more specific policy (of the port or the subset)";

fn blocks(ledger: &mut Ledger<'_>, at: &str, read: &Read<'_>, used: Used, input: &ClusterInput<'_>) {
    let by = MORE_SPECIFIC;
    if let Some(balancer) = read.balancer {
        let at = format!("{at}.loadBalancer");
        if used.balancer {
            ledger.consumed(&at);
            balancing::account(ledger, &at, balancer, input, used.ejects);
        } else {
            ledger.overridden(&at, by);
        }
    }
    if let Some(outlier) = read.outlier {
        let at = format!("{at}.outlierDetection");
        match (used.outlier, used.chooses) {
            (false, _) => ledger.overridden(&at, by),
            (true, false) => ledger.inert(&at, "there are no endpoints to choose from: the client dials one"),
            (true, true) => balancing::account_outlier(ledger, &at, outlier),
        }
    }
    if let Some(pool) = read.pool {
        let at = format!("{at}.connectionPool");
        let kind = Kind { protocol: upstream_protocol(input.port.protocol), upgradable: true };
        match used.pool {
            true => pool::account(ledger, &at, pool, kind, used.budgeted),
            false => ledger.overridden(&at, by),
        }
    }
}
