//! `security.istio.io` AuthorizationPolicy: who may do what at a workload.

use serde::{Deserialize, Serialize};

use super::LabelSelector;
use super::values::is_default;

/// Spec of an AuthorizationPolicy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct AuthorizationPolicy {
    /// Workloads of the namespace (of the mesh, in the root namespace); absent: all.
    #[serde(skip_serializing_if = "is_default")]
    pub selector: Option<LabelSelector>,
    /// What it is attached to instead of a selector.
    #[serde(skip_serializing_if = "is_default")]
    pub target_ref: Option<PolicyTargetReference>,
    /// What it is attached to instead of a selector; at most 16.
    #[serde(skip_serializing_if = "is_default")]
    pub target_refs: Vec<PolicyTargetReference>,
    /// What a matching rule does.
    #[serde(skip_serializing_if = "is_default")]
    pub action: AuthorizationAction,
    /// Rules, any of which may match; at most 512. None: the policy never matches.
    #[serde(skip_serializing_if = "is_default")]
    pub rules: Vec<AuthorizationRule>,
    /// Who decides, with action `CUSTOM`.
    #[serde(skip_serializing_if = "is_default")]
    pub provider: Option<AuthorizationProvider>,
}

/// What a matching rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub enum AuthorizationAction {
    /// Allows; as soon as one such policy applies to a workload, what none allows is denied.
    #[default]
    #[serde(rename = "ALLOW")]
    Allow,
    /// Denies, whatever allows.
    #[serde(rename = "DENY")]
    Deny,
    /// Marks for the log; decides nothing.
    #[serde(rename = "AUDIT")]
    Audit,
    /// Asks an external authorizer, before everything else.
    #[serde(rename = "CUSTOM")]
    Custom,
}

/// An external authorizer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct AuthorizationProvider {
    /// Name in `extensionProviders` of the mesh.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
}

/// What a policy is attached to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyTargetReference {
    /// API group; empty: Kubernetes' core group.
    #[serde(skip_serializing_if = "is_default")]
    pub group: String,
    /// Kind: `Gateway`, `GatewayClass`, `Service`, `ServiceEntry`.
    #[serde(skip_serializing_if = "is_default")]
    pub kind: String,
    /// Name.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// Has to be empty: the policy's own.
    #[serde(skip_serializing_if = "is_default")]
    pub namespace: String,
}

/// A rule: any of `from`, any of `to` and every condition in `when`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct AuthorizationRule {
    /// Where requests come from; absent: anywhere.
    #[serde(skip_serializing_if = "is_default")]
    pub from: Option<Vec<RuleFrom>>,
    /// What they want; absent: anything.
    #[serde(skip_serializing_if = "is_default")]
    pub to: Option<Vec<RuleTo>>,
    /// More conditions, all of which have to hold.
    #[serde(skip_serializing_if = "is_default")]
    pub when: Vec<RuleCondition>,
}

/// One alternative of `from`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RuleFrom {
    /// The source; required.
    #[serde(skip_serializing_if = "is_default")]
    pub source: Option<RuleSource>,
}

/// One alternative of `to`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RuleTo {
    /// The operation; required.
    #[serde(skip_serializing_if = "is_default")]
    pub operation: Option<RuleOperation>,
}

/// Where a request comes from: every field that is given has to hold, by any of its values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RuleSource {
    /// Identities of peers without `spiffe://`; exact, `prefix*`, `*suffix`, `*`.
    #[serde(skip_serializing_if = "is_default")]
    pub principals: Vec<String>,
    /// Not: identities of peers without `spiffe://`; exact, `prefix*`, `*suffix`, `*`.
    #[serde(skip_serializing_if = "is_default")]
    pub not_principals: Vec<String>,
    /// `issuer/subject` of the request's token.
    #[serde(skip_serializing_if = "is_default")]
    pub request_principals: Vec<String>,
    /// Not: `issuer/subject` of the request's token.
    #[serde(skip_serializing_if = "is_default")]
    pub not_request_principals: Vec<String>,
    /// Namespaces of peers; `*` stands for any text, anywhere.
    #[serde(skip_serializing_if = "is_default")]
    pub namespaces: Vec<String>,
    /// Not: namespaces of peers; `*` stands for any text, anywhere.
    #[serde(skip_serializing_if = "is_default")]
    pub not_namespaces: Vec<String>,
    /// Service accounts of peers: `name` in the policy's namespace, or `namespace/name`; at most 16.
    #[serde(skip_serializing_if = "is_default")]
    pub service_accounts: Vec<String>,
    /// Not: service accounts of peers: `name` in the policy's namespace, or `namespace/name`; at most 16.
    #[serde(skip_serializing_if = "is_default")]
    pub not_service_accounts: Vec<String>,
    /// Trust domains of peers; exact, `prefix*`, `*suffix`, `*`.
    #[serde(skip_serializing_if = "is_default")]
    pub trust_domains: Vec<String>,
    /// Not: trust domains of peers; exact, `prefix*`, `*suffix`, `*`.
    #[serde(skip_serializing_if = "is_default")]
    pub not_trust_domains: Vec<String>,
    /// Addresses and networks of the TCP peer.
    #[serde(skip_serializing_if = "is_default")]
    pub ip_blocks: Vec<String>,
    /// Not: addresses and networks of the TCP peer.
    #[serde(skip_serializing_if = "is_default")]
    pub not_ip_blocks: Vec<String>,
    /// Addresses and networks of the client, as trusted proxies tell.
    #[serde(skip_serializing_if = "is_default")]
    pub remote_ip_blocks: Vec<String>,
    /// Not: addresses and networks of the client, as trusted proxies tell.
    #[serde(skip_serializing_if = "is_default")]
    pub not_remote_ip_blocks: Vec<String>,
}

/// What a request wants: every field that is given has to hold, by any of its values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RuleOperation {
    /// Hosts as the client sent them, with port if it did; letter case is ignored.
    #[serde(skip_serializing_if = "is_default")]
    pub hosts: Vec<String>,
    /// Not: hosts as the client sent them, with port if it did; letter case is ignored.
    #[serde(skip_serializing_if = "is_default")]
    pub not_hosts: Vec<String>,
    /// Ports of the workload.
    #[serde(skip_serializing_if = "is_default")]
    pub ports: Vec<String>,
    /// Not: ports of the workload.
    #[serde(skip_serializing_if = "is_default")]
    pub not_ports: Vec<String>,
    /// Methods.
    #[serde(skip_serializing_if = "is_default")]
    pub methods: Vec<String>,
    /// Not: methods.
    #[serde(skip_serializing_if = "is_default")]
    pub not_methods: Vec<String>,
    /// Paths without query; exact, `prefix*`, `*suffix`, `*`, or templates with `{*}` and `{**}`.
    #[serde(skip_serializing_if = "is_default")]
    pub paths: Vec<String>,
    /// Not: paths without query; exact, `prefix*`, `*suffix`, `*`, or templates with `{*}` and `{**}`.
    #[serde(skip_serializing_if = "is_default")]
    pub not_paths: Vec<String>,
}

/// A condition on an attribute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RuleCondition {
    /// Name of the attribute.
    #[serde(skip_serializing_if = "is_default")]
    pub key: String,
    /// It has one of these.
    #[serde(skip_serializing_if = "is_default")]
    pub values: Vec<String>,
    /// It has none of these.
    #[serde(skip_serializing_if = "is_default")]
    pub not_values: Vec<String>,
}

/// Annotation of a policy that is only tried: its rules are evaluated and recorded, nothing is refused.
pub const DRY_RUN: &str = "istio.io/dry-run";

/// A truth value in any of the spellings that Go's `strconv.ParseBool` reads.
pub fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}
