//! What is wrong with, or worth knowing about, a set of resources: Istio's analyzers by their codes and texts, and what
//! Istio does not say (fields that are not in force, short hosts at gateways, …).
//!
//! Analyzers look at every object that could be read, also at those that validation refuses, as Istio's do.

mod annotations;
mod authorization;
mod clusters;
mod conditions;
mod control_plane;
mod destination_rule;
mod envoy_filter;
mod fates;
mod gateway;
mod index;
mod kubernetes_gateway;
mod messages;
mod networks;
mod own;
mod pods;
mod security;
mod selectors;
mod service;
mod shadowed;
mod telemetry;
mod virtual_service;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub use annotations::{ANNOTATIONS, Annotation};
pub use fates::{account, account_of, not_in_force};
pub use messages::{
    DENIES_TCP, INERT, MERGED, MILLISECONDS, MTLS_CONFLICT, NEVER, NEVER_MATCHES, NO_SERVICE, NOT_IN_FORCE, OVERRIDDEN,
    OWN, SELECTS_NOTHING, SERVICE_PORT, SHADOWED, SHORT_HOST, SMALL_PERCENTAGE, SPIFFE_PREFIX, TOKEN_NOT_REQUIRED,
    WEIGHTS,
};

use crate::api::{Key, MeshConfig, Resource};
use crate::report::{Level, Report};
use crate::world::World;
use index::Index;

/// What to analyze.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnalyzeInput<'a> {
    /// Every object that could be read, also quarantined ones.
    pub resources: &'a [Resource],
    /// What reading, validating and converting said; part of the result.
    pub reports: &'a [Report],
    /// The World made of those that are not quarantined; without one nothing is said about fields without effect.
    pub world: Option<&'a World>,
    /// Objects of the other clusters of the mesh, by cluster; only their Services are looked at.
    pub clusters: &'a [(String, Vec<Resource>)],
}

type Analyzer = fn(&Index<'_>) -> Vec<Report>;

/// Istio's analyzers that are implemented, by Istio's names (`istioctl analyze -L`); ours begin with `mesh.`.
pub const ANALYZERS: &[&str] = &[
    "annotations.K8sAnalyzer",
    "applicationUID.Analyzer",
    "auth.AuthorizationPoliciesAnalyzer",
    "authn.BlockedCIDRsAnalyzer",
    "conditions.ConditionAnalyzer",
    "deployment.MultiServiceAnalyzer",
    "deprecation.DeprecationAnalyzer",
    "destinationrule.CaCertificateAnalyzer",
    "destinationrule.SubsetSelectPodAnalyzer",
    "envoyfilter.EnvoyPatchAnalyzer",
    "externalcontrolplane.ExternalControlPlaneAnalyzer",
    "gateway.CertificateAnalyzer",
    "gateway.ConflictingGatewayAnalyzer",
    "gateway.IngressGatewayPortAnalyzer",
    "gateway.SecretAnalyzer",
    "injection.Analyzer",
    "injection.ImageAnalyzer",
    "injection.ImageAutoAnalyzer",
    "k8sgateway.CRDVersionAnalyzer",
    "k8sgateway.SelectorAnalyzer",
    "meshnetworks.MeshNetworksAnalyzer",
    "schema.ValidationAnalyzer",
    "service.PortNameAnalyzer",
    "serviceentry.Analyzer",
    "serviceentry.ConflictingServiceEntryProtocolAnalyzer",
    "services.MultiClusterServiceAnalyzer",
    "sidecar.SelectorAnalyzer",
    "telemetry.DefaultSelectorAnalyzer",
    "telemetry.LightstepAnalyzer",
    "telemetry.ProviderAnalyzer",
    "telemetry.SelectorAnalyzer",
    "virtualservice.ConflictingMeshGatewayHostsAnalyzer",
    "virtualservice.DestinationHostAnalyzer",
    "virtualservice.DestinationRuleAnalyzer",
    "virtualservice.GatewayAnalyzer",
    "virtualservice.JWTClaimRouteAnalyzer",
    "webhook.Analyzer",
    "mesh.Account",
    "mesh.Own",
    "mesh.Security",
];

/// Analyzers that run only if they are asked for, as in Istio.
pub const ON_REQUEST: &[&str] = &["maturity.AlphaAnalyzer"];

fn analyzers(name: &str) -> &'static [Analyzer] {
    match name {
        "annotations.K8sAnalyzer" => &[annotations::annotations],
        "applicationUID.Analyzer" => &[pods::user_ids],
        "auth.AuthorizationPoliciesAnalyzer" => &[authorization::policies],
        "authn.BlockedCIDRsAnalyzer" => &[authorization::key_fetching],
        "conditions.ConditionAnalyzer" => &[conditions::negative],
        "maturity.AlphaAnalyzer" => &[annotations::alpha],
        "deployment.MultiServiceAnalyzer" => &[service::deployments],
        "deprecation.DeprecationAnalyzer" => &[selectors::deprecated],
        "destinationrule.CaCertificateAnalyzer" => &[destination_rule::certificates],
        "destinationrule.SubsetSelectPodAnalyzer" => &[destination_rule::subsets],
        "envoyfilter.EnvoyPatchAnalyzer" => &[envoy_filter::patches],
        "externalcontrolplane.ExternalControlPlaneAnalyzer" => &[control_plane::addresses],
        "gateway.CertificateAnalyzer" => &[gateway::certificates],
        "gateway.ConflictingGatewayAnalyzer" => &[gateway::conflicts],
        "gateway.IngressGatewayPortAnalyzer" => &[gateway::ports],
        "gateway.SecretAnalyzer" => &[gateway::secrets],
        "injection.Analyzer" => &[selectors::injection],
        "injection.ImageAnalyzer" => &[pods::proxy_images],
        "injection.ImageAutoAnalyzer" => &[pods::auto_images],
        "k8sgateway.CRDVersionAnalyzer" => &[kubernetes_gateway::versions],
        "k8sgateway.SelectorAnalyzer" => &[kubernetes_gateway::selectors],
        "meshnetworks.MeshNetworksAnalyzer" => &[networks::registries],
        "service.PortNameAnalyzer" => &[service::port_names],
        "serviceentry.Analyzer" => &[service::entry_addresses],
        "serviceentry.ConflictingServiceEntryProtocolAnalyzer" => &[service::entry_protocols],
        "services.MultiClusterServiceAnalyzer" => &[clusters::services],
        "sidecar.SelectorAnalyzer" => &[selectors::sidecars, networks::ambient],
        "telemetry.DefaultSelectorAnalyzer" => &[telemetry::general],
        "telemetry.LightstepAnalyzer" => &[telemetry::lightstep],
        "telemetry.ProviderAnalyzer" => &[telemetry::providers],
        "telemetry.SelectorAnalyzer" => &[telemetry::selectors],
        "virtualservice.ConflictingMeshGatewayHostsAnalyzer" => &[virtual_service::conflicting_hosts],
        "virtualservice.DestinationHostAnalyzer" => &[virtual_service::hosts, virtual_service::ingress],
        "virtualservice.DestinationRuleAnalyzer" => &[virtual_service::subsets],
        "virtualservice.GatewayAnalyzer" => &[virtual_service::gateways],
        "virtualservice.JWTClaimRouteAnalyzer" => &[networks::claims],
        "webhook.Analyzer" => &[pods::webhooks],
        "mesh.Own" => &[
            own::short_hosts,
            own::weights,
            own::faults,
            own::merged,
            own::percentages,
            own::unknown_hosts,
            shadowed::rules,
        ],
        "mesh.Security" => &[security::policies, security::times, security::conflicts],
        _ => &[],
    }
}

/// All that there is to say, most severe first, without duplicates and without what annotations suppress.
pub fn analyze(input: &AnalyzeInput<'_>) -> Vec<Report> {
    analyze_with(input, ANALYZERS)
}

/// As [`analyze`], with these analyzers only.
pub fn analyze_with(input: &AnalyzeInput<'_>, names: &[&str]) -> Vec<Report> {
    let mesh = input.world.map_or_else(MeshConfig::default, |w| w.mesh().spec.clone());
    let index = Index::new(input, &mesh);
    let mut found: Vec<Report> = input.reports.iter().cloned().map(in_analyzers_words).collect();
    for analyzer in names.iter().flat_map(|n| analyzers(n)) {
        found.extend(analyzer(&index));
    }
    if let Some(world) = input.world.filter(|_| names.contains(&"mesh.Account")) {
        found.extend(account(world));
        found.extend(input.resources.iter().flat_map(fates::of_object));
    }
    said_better(&mut found);
    let suppressed = suppressions(input.resources);
    found.retain(|r| !suppressed.get(&r.object).is_some_and(|codes| codes.contains("*") || codes.contains(&*r.code)));
    sort(&mut found);
    found
}

/// The account says of a policy that is for nobody that it has no effect; where an analyzer says so, too, and what to write
/// instead, that is enough.
fn said_better(found: &mut Vec<Report>) {
    let is_better = |r: &&Report| *r.code == *SELECTS_NOTHING.code || *r.code == *messages::NO_WORKLOADS.code;
    let objects: BTreeSet<Key> = found.iter().filter(is_better).map(|r| r.object.clone()).collect();
    found.retain(|r| *r.code != *INERT.code || &*r.field != "spec" || !objects.contains(&r.object));
}

/// Validation and `istioctl analyze` say the same about unreachable rules in slightly different words.
fn in_analyzers_words(mut r: Report) -> Report {
    if matches!(&*r.code, "IST0130" | "IST0131")
        && let Some(rest) = r.message.strip_prefix("virtualService")
    {
        r.message = format!("VirtualService{rest}.");
    }
    r
}

fn sort(reports: &mut Vec<Report>) {
    reports.sort_by(|a, b| {
        let key =
            |r: &Report| (std::cmp::Reverse(r.level), r.code.clone(), r.object.clone(), r.span, r.message.clone());
        key(a).cmp(&key(b))
    });
    reports.dedup_by(|a, b| a.code == b.code && a.object == b.object && a.message == b.message && a.span == b.span);
}

/// `galley.istio.io/analyze-suppress: "IST0107,IST0002"`.
fn suppressions(resources: &[Resource]) -> BTreeMap<&Key, BTreeSet<&str>> {
    let annotation = |r: &'_ Resource| r.meta().annotations.contains_key(SUPPRESS);
    resources
        .iter()
        .filter(|r| annotation(r))
        .map(|r| (r.key(), r.meta().annotations[SUPPRESS].split(',').map(str::trim).collect()))
        .collect()
}

const SUPPRESS: &str = "galley.istio.io/analyze-suppress";

/// A report in the form of `istioctl analyze -o json`, with column, field and fix besides.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Code.
    pub code: String,
    /// Page that explains it; empty for our own codes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub documentation_url: String,
    /// `Error`, `Warning` or `Info`.
    pub level: Level,
    /// What is wrong.
    pub message: String,
    /// `Kind namespace/name`.
    pub origin: String,
    /// `file:line`; empty for live objects.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reference: String,
    /// Column in that line, from 1; 0 is unknown.
    #[serde(skip_serializing_if = "is_zero")]
    pub column: u32,
    /// Field.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// What to write instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if takes a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl From<&Report> for Message {
    fn from(r: &Report) -> Self {
        let page = "https://istio.io/latest/docs/reference/config/analysis";
        let documented = r.code.starts_with("IST");
        Self {
            code: r.code.to_string(),
            documentation_url: match documented {
                true => format!("{page}/{}/?ref=istioctl-analyze", r.code.to_ascii_lowercase()),
                false => String::new(),
            },
            level: r.level,
            message: r.message.clone(),
            origin: r.object.to_string(),
            reference: if r.file.is_empty() { String::new() } else { format!("{}:{}", r.file, r.span.line) },
            column: r.span.column,
            field: r.field.to_string(),
            fix: r.fix.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
