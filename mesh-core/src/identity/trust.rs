//! The trust domain of a mesh and its aliases.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::SpiffeId;
use crate::api::MeshConfig;

const SCHEME: &str = "spiffe://";

/// Trust domains of a mesh (`MeshConfig.trustDomain`, default `cluster.local`, and `trustDomainAliases`).
///
/// ```
/// use mesh_core::identity::TrustDomains;
///
/// let mesh = TrustDomains::new("td2", ["td1"]);
/// assert!(mesh.accepts("spiffe://td1/ns/foo/sa/a"));
/// assert!(!mesh.accepts("spiffe://td3/ns/foo/sa/a"));
/// let both = ["spiffe://td1/ns/foo/sa/a".to_owned(), "spiffe://td2/ns/foo/sa/a".to_owned()];
/// assert_eq!(mesh.expand(["spiffe://td2/ns/foo/sa/a"]), both);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrustDomains {
    own: Arc<str>,
    aliases: Vec<Arc<str>>,
    federated: Vec<Arc<str>>,
}

impl Default for TrustDomains {
    fn default() -> Self {
        Self::new("cluster.local", [])
    }
}

impl TrustDomains {
    /// The own one and its aliases.
    pub fn new<'a>(own: &str, aliases: impl IntoIterator<Item = &'a str>) -> Self {
        let aliases = aliases.into_iter().map(Into::into).collect();
        Self { own: own.replace('@', ".").into(), aliases, federated: Vec::new() }
    }

    /// Those of a mesh's settings.
    pub fn of(mesh: &MeshConfig) -> Self {
        let own = Some(&*mesh.trust_domain).filter(|d| !d.is_empty()).unwrap_or("cluster.local");
        let federated = mesh.ca_certificates.iter().flat_map(|c| &c.trust_domains);
        Self::new(own, mesh.trust_domain_aliases.iter().map(String::as_str))
            .with_federated(federated.map(String::as_str))
    }

    /// With domains of other meshes whose workloads may call (`caCertificates[].trustDomains`).
    pub fn with_federated<'a>(mut self, domains: impl IntoIterator<Item = &'a str>) -> Self {
        self.federated.extend(domains.into_iter().map(Arc::from));
        self
    }

    /// The own one.
    pub fn own(&self) -> &str {
        &self.own
    }

    /// The own one and its aliases.
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&*self.own).chain(self.aliases.iter().map(|a| &**a))
    }

    /// All domains whose workloads may connect.
    pub fn accepted(&self) -> impl Iterator<Item = &str> {
        self.domains().chain(self.federated.iter().map(|f| &**f))
    }

    /// Whether a peer with this URI may connect (spec of Istio's inbound filter chains: the URI begins with
    /// `spiffe://DOMAIN/`).
    pub fn accepts(&self, uri: &str) -> bool {
        let Some((domain, path)) = uri.strip_prefix(SCHEME).and_then(|rest| rest.split_once('/')) else { return false };
        !path.is_empty() && self.accepted().any(|d| d == domain)
    }

    /// The names that a destination's certificate may have: each of these, and what it is called in the other domains of
    /// this mesh. Sorted, without repetitions. Names of other domains, and of another form, stay as they are.
    pub fn expand<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let mut out = BTreeSet::new();
        for name in names {
            out.insert(name.to_owned());
            let Ok(id) = name.parse::<SpiffeId>() else { continue };
            if self.domains().any(|d| d == id.trust_domain()) {
                out.extend(self.domains().map(|d| SpiffeId::new(d, id.namespace(), id.service_account()).to_string()));
            }
        }
        out.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_whole() {
        let mesh = TrustDomains::new("cluster.local", ["old"]).with_federated(["partner"]);
        for (uri, accepted) in [
            ("spiffe://cluster.local/ns/a/sa/b", true),
            ("spiffe://old/ns/a/sa/b", true),
            ("spiffe://partner/ns/a/sa/b", true),
            ("spiffe://cluster.local.evil/ns/a/sa/b", false),
            ("spiffe://cluster.loca/ns/a/sa/b", false),
            ("spiffe://cluster.local", false),
            ("spiffe://cluster.local/", false),
            ("SPIFFE://cluster.local/ns/a/sa/b", false),
            ("cluster.local/ns/a/sa/b", false),
            ("", false),
        ] {
            assert_eq!(mesh.accepts(uri), accepted, "{uri}");
        }
    }

    #[test]
    fn names_of_others_are_not_expanded() {
        let mesh = TrustDomains::new("cluster.local", ["old"]).with_federated(["partner"]);
        let names = ["spiffe://partner/ns/a/sa/b", "example.com", "spiffe://old/ns/a/sa/b"];
        let all =
            ["example.com", "spiffe://cluster.local/ns/a/sa/b", "spiffe://old/ns/a/sa/b", "spiffe://partner/ns/a/sa/b"];
        assert_eq!(mesh.expand(names), all);
    }
}
