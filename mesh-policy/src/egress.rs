//! EgressPolicy: which workloads may call which hosts. It is an AuthorizationPolicy whose source is the workload itself and
//! whose operations are what it asks of others.
//!
//! Why a kind of its own, and no annotation of AuthorizationPolicy: a control plane that does not know the annotation would
//! enforce such a policy on what is asked *of* the workload, which is something else altogether.

use std::sync::Arc;

use mesh_core::api::{AuthorizationPolicy, AuthorizationRule, Object, RuleCondition, RuleOperation, RuleTo};

/// The policies as they are for streams of bytes: hosts are server names of TLS, since nothing else names a host there.
pub fn for_bytes(policies: &[Arc<Object<AuthorizationPolicy>>]) -> Vec<Arc<Object<AuthorizationPolicy>>> {
    policies.iter().map(|p| if names_hosts(&p.spec) { Arc::new(by_server_name(p)) } else { Arc::clone(p) }).collect()
}

fn operations(rule: &AuthorizationRule) -> impl Iterator<Item = &RuleOperation> {
    rule.to.iter().flatten().filter_map(|t| t.operation.as_ref())
}

fn names_hosts(spec: &AuthorizationPolicy) -> bool {
    let mut all = spec.rules.iter().flat_map(operations);
    all.any(|o| !o.hosts.is_empty() || !o.not_hosts.is_empty())
}

/// A rule for each of its operations, whose hosts are a condition on the server name.
fn by_server_name(policy: &Object<AuthorizationPolicy>) -> Object<AuthorizationPolicy> {
    let split = |rule: &AuthorizationRule| -> Vec<AuthorizationRule> {
        match &rule.to {
            None => vec![rule.clone()],
            Some(to) => to.iter().map(|to| with_condition(rule, to)).collect(),
        }
    };
    let rules = policy.spec.rules.iter().flat_map(split).collect();
    Object { spec: AuthorizationPolicy { rules, ..policy.spec.clone() }, ..policy.clone() }
}

fn with_condition(rule: &AuthorizationRule, to: &RuleTo) -> AuthorizationRule {
    let mut rule = AuthorizationRule { to: None, ..rule.clone() };
    let Some(operation) = &to.operation else { return rule };
    let mut rest = operation.clone();
    let (values, not_values) = (std::mem::take(&mut rest.hosts), std::mem::take(&mut rest.not_hosts));
    if !values.is_empty() || !not_values.is_empty() {
        rule.when.push(RuleCondition { key: "connection.sni".to_owned(), values, not_values });
    }
    if rest != RuleOperation::default() {
        rule.to = Some(vec![RuleTo { operation: Some(rest) }]);
    }
    rule
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mesh_core::api::Resource;
    use mesh_core::record::ConnInfo;
    use mesh_core::snapshot::Direction;

    use super::*;
    use crate::authz::{AuthzInput, Protocol, TrustDomains};
    use crate::{Decision, Peer, Policies, PolicyInput};

    fn policies(spec: &str) -> Policies {
        let text = format!(
            "apiVersion: policy.mesh.local/v1\nkind: EgressPolicy\nmetadata: {{name: p, namespace: foo}}\nspec: {spec}\n"
        );
        let (resources, reports) = mesh_core::yaml::read("f", &text);
        assert!(reports.is_empty(), "{reports:?}");
        let found = resources.into_iter().filter_map(|r| match r {
            Resource::EgressPolicy(o) => Some(o),
            _ => None,
        });
        let policies = &for_bytes(&found.collect::<Vec<_>>());
        let trust_domains = &TrustDomains::default();
        Policies::compile(&AuthzInput { policies, protocol: Protocol::Tcp, trust_domains, providers: &BTreeMap::new() })
    }

    #[test]
    fn hosts_of_bytes_are_server_names() {
        let spec = "{rules: [{from: [{source: {serviceAccounts: [a]}}], to: [{operation: {hosts: ['*.example.com']}}, \
                    {operation: {ports: ['5432']}}]}]}";
        let policies = policies(spec);
        for (account, sni, port, allowed) in [
            ("a", "api.example.com", 443, true),
            ("a", "api.example.org", 443, false),
            ("a", "", 443, false),
            ("a", "", 5432, true),
            ("b", "api.example.com", 443, false),
        ] {
            let conn = ConnInfo {
                direction: Direction::Outbound,
                peer: "10.0.0.1:1".parse().unwrap(),
                local: format!("192.0.2.1:{port}").parse().unwrap(),
                direct: None,
                sni: sni.into(),
                tls: None,
                peer_text: Default::default(),
            };
            let id = format!("cluster.local/ns/foo/sa/{account}");
            let input = PolicyInput::connection(&conn, conn.peer.ip());
            let input = PolicyInput { peer: Peer::Spiffe(&id), ..input };
            assert_eq!(policies.decide(&input) == Decision::Allow, allowed, "{account} {sni} {port}");
        }
    }
}
