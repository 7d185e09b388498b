//! Kinds as users name them on the command line: plural, singular and short names, as `kubectl` has them.

use mesh_core::api::Kind;

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct KindInfo {
    /// API group; empty for Kubernetes' core group.
    pub group: &'static str,
    /// `VirtualService`.
    pub kind: &'static str,
    /// `virtualservices`.
    pub plural: &'static str,
    /// `vs`.
    pub short: &'static [&'static str],
    /// Objects live in a namespace.
    pub namespaced: bool,
}

const fn row(
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
) -> KindInfo {
    KindInfo { group, kind, plural, short, namespaced: true }
}

const fn cluster(kind: &'static str, plural: &'static str, short: &'static [&'static str]) -> KindInfo {
    KindInfo { group: "", kind, plural, short, namespaced: false }
}

const NETWORKING: &str = "networking.istio.io";
const SECURITY: &str = "security.istio.io";
const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// Kinds with names of their own. Where two kinds share a name the first row wins; `gateways.gateway.networking.k8s.io`
/// names the other.
pub const KINDS: &[KindInfo] = &[
    row("", "Pod", "pods", &["po"]),
    row("", "Service", "services", &["svc"]),
    row("apps", "Deployment", "deployments", &["deploy"]),
    row("", "ServiceAccount", "serviceaccounts", &["sa"]),
    row("", "ConfigMap", "configmaps", &["cm"]),
    row("", "Secret", "secrets", &[]),
    cluster("Namespace", "namespaces", &["ns"]),
    row(NETWORKING, "VirtualService", "virtualservices", &["vs"]),
    row(NETWORKING, "DestinationRule", "destinationrules", &["dr"]),
    row(NETWORKING, "Gateway", "gateways", &["gw"]),
    row(NETWORKING, "ServiceEntry", "serviceentries", &["se"]),
    row(NETWORKING, "Sidecar", "sidecars", &[]),
    row(NETWORKING, "WorkloadEntry", "workloadentries", &["we"]),
    row(NETWORKING, "WorkloadGroup", "workloadgroups", &["wg"]),
    row(NETWORKING, "EnvoyFilter", "envoyfilters", &[]),
    row(NETWORKING, "ProxyConfig", "proxyconfigs", &[]),
    row(SECURITY, "AuthorizationPolicy", "authorizationpolicies", &["ap"]),
    row(SECURITY, "PeerAuthentication", "peerauthentications", &["pa"]),
    row(SECURITY, "RequestAuthentication", "requestauthentications", &["ra"]),
    row("policy.mesh.local", "EgressPolicy", "egresspolicies", &["ep"]),
    row("telemetry.istio.io", "Telemetry", "telemetries", &["telemetry"]),
    row("extensions.istio.io", "WasmPlugin", "wasmplugins", &[]),
    row("install.istio.io", "IstioOperator", "istiooperators", &["iop", "io"]),
    row(GATEWAY_API, "HTTPRoute", "httproutes", &[]),
    row(GATEWAY_API, "GRPCRoute", "grpcroutes", &[]),
    row(GATEWAY_API, "TCPRoute", "tcproutes", &[]),
    row(GATEWAY_API, "TLSRoute", "tlsroutes", &[]),
    row(GATEWAY_API, "ReferenceGrant", "referencegrants", &["refgrant"]),
    row(GATEWAY_API, "Gateway", "gateways", &["gtw"]),
    KindInfo { group: GATEWAY_API, kind: "GatewayClass", plural: "gatewayclasses", short: &["gc"], namespaced: false },
];

/// Kinds of Kubernetes that live in no namespace, besides those in [`KINDS`].
const CLUSTER_KINDS: &[&str] = &[
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "MutatingWebhookConfiguration",
    "Node",
    "PersistentVolume",
    "PriorityClass",
    "StorageClass",
    "ValidatingWebhookConfiguration",
];

/// The row of a kind, if it has one.
pub fn info(kind: &Kind) -> Option<&'static KindInfo> {
    KINDS.iter().find(|k| *k.kind == *kind.kind && *k.group == *kind.group)
}

/// Objects of this kind live in a namespace.
pub fn namespaced(kind: &Kind) -> bool {
    info(kind).map_or_else(|| !CLUSTER_KINDS.contains(&&*kind.kind), |k| k.namespaced)
}

/// The name before the slash where kubectl names an object: `virtualservice.networking.istio.io`.
pub fn long_name(kind: &Kind) -> String {
    let name = kind.kind.to_ascii_lowercase();
    if kind.group.is_empty() { name } else { format!("{name}.{}", kind.group) }
}

/// Finds the kind that a user means: `vs`, `virtualservice`, `VirtualServices`, `gateways.networking.istio.io`.
///
/// # Errors
/// No such kind; the text names the nearest one.
pub fn find(text: &str) -> Result<&'static KindInfo, String> {
    let wanted = text.to_ascii_lowercase();
    let (name, group) = wanted.split_once('.').map_or((wanted.as_str(), None), |(n, g)| (n, Some(g)));
    let is = |k: &&KindInfo| {
        (k.plural == name || k.kind.eq_ignore_ascii_case(name) || k.short.contains(&name))
            && group.is_none_or(|g| k.group == g || k.group.starts_with(&format!("{g}.")))
    };
    KINDS.iter().find(is).ok_or_else(|| {
        let near =
            KINDS.iter().min_by_key(|k| distance(name, k.plural).min(distance(name, &k.kind.to_ascii_lowercase())));
        let hint = near.map(|k| format!("; did you mean {}?", k.plural)).unwrap_or_default();
        format!("no kind is called {text:?}{hint}")
    })
}

/// Edits between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let change = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_name_kinds_as_with_kubectl() {
        for (text, kind) in [
            ("vs", "VirtualService"),
            ("virtualservice", "VirtualService"),
            ("VirtualServices", "VirtualService"),
            ("po", "Pod"),
            ("deploy", "Deployment"),
            ("deployments.apps", "Deployment"),
            ("virtualservices.networking.istio.io", "VirtualService"),
        ] {
            assert_eq!(find(text).unwrap().kind, kind, "{text}");
        }
        assert_eq!(find("gateway").unwrap().group, NETWORKING);
        assert_eq!(find("gateways.gateway.networking.k8s.io").unwrap().group, GATEWAY_API);
        assert_eq!(
            find("virtualservce").unwrap_err(),
            "no kind is called \"virtualservce\"; did you mean virtualservices?"
        );
    }

    #[test]
    fn unknown_kinds_are_namespaced_unless_kubernetes_says_otherwise() {
        assert!(namespaced(&Kind::new("example.com", "Thing")));
        assert!(!namespaced(&Kind::new("rbac.authorization.k8s.io", "ClusterRole")));
        assert!(!namespaced(&Kind::new("", "Namespace")));
    }
}
