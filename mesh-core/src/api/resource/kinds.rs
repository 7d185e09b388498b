//! Which kinds are read, and names that are near to them.

use crate::api::Kind;

/// A kind that the mesh reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServedKind {
    /// API group; empty for Kubernetes' core group.
    pub group: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Plural, as in URLs and `get`.
    pub plural: &'static str,
    /// Short names for `get`.
    pub short: &'static [&'static str],
    /// Versions, the preferred one first.
    pub versions: &'static [&'static str],
    /// Objects live in namespaces.
    pub namespaced: bool,
}

impl ServedKind {
    /// `apiVersion` in the preferred version.
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.versions[0].to_owned(),
            group => format!("{group}/{}", self.versions[0]),
        }
    }
}

const fn istio(kind: &'static str, plural: &'static str, short: &'static [&'static str]) -> ServedKind {
    let versions = &["v1", "v1beta1", "v1alpha3"];
    ServedKind { group: "networking.istio.io", kind, plural, short, versions, namespaced: true }
}

const fn core(kind: &'static str, plural: &'static str, short: &'static [&'static str]) -> ServedKind {
    ServedKind { group: "", kind, plural, short, versions: &["v1"], namespaced: true }
}

const fn security(kind: &'static str, plural: &'static str, short: &'static [&'static str]) -> ServedKind {
    ServedKind { group: "security.istio.io", versions: &["v1", "v1beta1"], ..istio(kind, plural, short) }
}

static SERVED: [ServedKind; 19] = [
    istio("VirtualService", "virtualservices", &["vs"]),
    istio("DestinationRule", "destinationrules", &["dr"]),
    istio("Gateway", "gateways", &["gw"]),
    istio("ServiceEntry", "serviceentries", &["se"]),
    istio("WorkloadEntry", "workloadentries", &["we"]),
    istio("WorkloadGroup", "workloadgroups", &["wg"]),
    istio("Sidecar", "sidecars", &[]),
    ServedKind { group: "policy.mesh.local", ..core("LocalRateLimit", "localratelimits", &["lrl"]) },
    ServedKind { group: "policy.mesh.local", ..core("EgressPolicy", "egresspolicies", &["ep"]) },
    ServedKind { versions: &["v1beta1"], ..istio("ProxyConfig", "proxyconfigs", &[]) },
    security("PeerAuthentication", "peerauthentications", &["pa"]),
    security("AuthorizationPolicy", "authorizationpolicies", &["ap"]),
    security("RequestAuthentication", "requestauthentications", &["ra"]),
    core("Service", "services", &["svc"]),
    ServedKind { group: "apps", ..core("Deployment", "deployments", &["deploy"]) },
    core("Pod", "pods", &["po"]),
    core("ServiceAccount", "serviceaccounts", &["sa"]),
    ServedKind { namespaced: false, ..core("Namespace", "namespaces", &["ns"]) },
    core("ConfigMap", "configmaps", &["cm"]),
];

/// All kinds that the mesh reads.
pub fn served_kinds() -> &'static [ServedKind] {
    &SERVED
}

pub(super) fn find(kind: &Kind) -> Option<&'static ServedKind> {
    SERVED.iter().find(|k| k.group == &*kind.group && k.kind == &*kind.kind)
}

pub(super) fn named(kind: &str) -> Option<&'static ServedKind> {
    SERVED.iter().find(|k| k.kind == kind)
}

/// The kind that was probably meant: another group or a slip of the pen.
pub(super) fn nearest(kind: &Kind) -> Option<&'static ServedKind> {
    // Gateway is also a kind of the Gateway API, Service one of Knative: the same name elsewhere is no slip.
    let of_group = SERVED.iter().filter(|k| k.group == &*kind.group).map(|k| k.kind);
    closest(&kind.kind, of_group).and_then(named)
}

/// Kinds without namespaces that are common in files.
const CLUSTER_SCOPED: [&str; 18] = [
    "APIService",
    "CSIDriver",
    "CertificateSigningRequest",
    "ClusterIssuer",
    "ClusterRole",
    "ClusterRoleBinding",
    "ClusterTrustBundle",
    "CustomResourceDefinition",
    "GatewayClass",
    "IngressClass",
    "MutatingWebhookConfiguration",
    "Namespace",
    "Node",
    "PersistentVolume",
    "PriorityClass",
    "StorageClass",
    "ValidatingAdmissionPolicy",
    "ValidatingWebhookConfiguration",
];

pub(super) fn is_namespaced(kind: &Kind) -> bool {
    !CLUSTER_SCOPED.contains(&&*kind.kind)
}

/// Fields of Kubernetes' metadata that the mesh does not need and that nobody writes by mistake.
pub(super) const OBJECT_META: [&str; 7] = [
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "managedFields",
    "ownerReferences",
    "selfLink",
];

/// The known name that a name was probably meant to be: at most two letters off, letter case aside.
pub(super) fn closest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let lower = name.to_ascii_lowercase().replace(['_', '-'], "");
    let limit = if lower.len() < 5 { 1 } else { 2 };
    let near = known.map(|k| (distance(&lower, &k.to_ascii_lowercase()), k)).filter(|(d, _)| *d <= limit);
    near.min_by_key(|(d, _)| *d).map(|(_, k)| k)
}

/// Edit distance: insertions, deletions and changes of characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
