//! Which handshakes succeed, by what `explain` says of TLS.

use mesh_core::explain::{Hop, Target};
use mesh_core::snapshot::TlsVersion;

use super::expect::is_behind;
use super::secrets::{CLIENT_NAME, Certificates, Hello, REVOKED, STRANGER};

/// TLS that a gateway ends, in `explain`'s words.
pub(crate) struct Server<'e> {
    /// Its certificates, or the first of them where the rest is told apart by the name that the client asks for.
    certificates: Vec<&'e str>,
    /// What it says of clients' certificates; `None`: it doesn't ask.
    clients: Option<&'e str>,
    versions: Option<&'e str>,
    suites: Vec<&'e str>,
    curves: Vec<&'e str>,
}

impl<'e> Server<'e> {
    /// `None`: no TLS of a gateway's own ends here.
    pub(crate) fn of(hop: &'e Hop) -> Option<Self> {
        let (_, said) = hop.tls.as_ref()?.value.split_once(": TLS ends with ")?;
        let (own, clients) = said.split_once("; ").map_or((said, None), |(own, clients)| (own, Some(clients)));
        let mut parts = own.split(", ");
        let certificates = parts.next()?.split(" or ").map(name).collect();
        let mut server = Self { certificates, clients, versions: None, suites: vec![], curves: vec![] };
        for part in parts {
            if let Some(all) = part.strip_prefix("cipher suites ") {
                server.suites = all.split(' ').collect();
            } else if let Some(all) = part.strip_prefix("key exchange by ") {
                server.curves = all.split(' ').collect();
            } else {
                server.versions = Some(part);
            }
        }
        Some(server)
    }

    /// Whether it is one of its certificates that was shown.
    pub(crate) fn shows(&self, certificate: &str) -> bool {
        self.certificates.contains(&certificate)
    }

    /// Whether a client's handshake succeeds.
    pub(crate) fn welcomes(&self, hello: &Hello, pins: &[String]) -> bool {
        self.understands(hello) && self.clients.is_none_or(|clients| trusts(clients, hello.shows, pins))
    }

    fn understands(&self, Hello { speaks, .. }: &Hello) -> bool {
        let (min, max) = match self.versions {
            None => (TlsVersion::V1_2, TlsVersion::V1_3),
            Some("TLS 1.2 only") => (TlsVersion::V1_2, TlsVersion::V1_2),
            Some("TLS 1.3 only") => (TlsVersion::V1_3, TlsVersion::V1_3),
            Some("no version is left") => return false,
            Some(other) => panic!("versions: {other}"),
        };
        let (min, max) = (min.max(speaks.min), max.min(speaks.max));
        // All keys of the laboratory are of elliptic curves.
        let is_usable = |suite: &&str| suite.contains("ECDSA");
        let own = |s: &str| speaks.cipher_suites.is_empty() || speaks.cipher_suites.iter().any(|own| **own == *s);
        let suite = max == TlsVersion::V1_3
            || self.suites.is_empty()
            || self.suites.iter().filter(|s| is_usable(s)).any(|s| own(s));
        let group = |c: &&str| {
            // Which came after TLS 1.2.
            let has = max == TlsVersion::V1_3 || !c.contains("MLKEM");
            has && (speaks.curves.is_empty() || speaks.curves.iter().any(|own| **own == **c))
        };
        let curve = self.curves.is_empty() || self.curves.iter().any(group);
        min <= max && suite && curve
    }
}

/// `Secret NAMESPACE/NAME`, or `files DIRECTORY/NAME.pem and …`.
fn name(certificate: &str) -> &str {
    let first = certificate.split(" and ").next().unwrap_or_default();
    first.rsplit('/').next().unwrap_or_default().trim_end_matches(".pem")
}

/// `clients must show a certificate, verified by ROOTS, for A or B, pinned to P or Q`.
fn trusts(clients: &str, shown: Option<&'static str>, pins: &[String]) -> bool {
    let Some(shown) = shown else { return clients.starts_with("clients may ") };
    let mut parts = clients.split(", ").skip(1);
    let first = parts.next().expect("invariant: it is said whether certificates are verified");
    let Some(roots) = first.strip_prefix("verified by ") else { return true };
    let known = if shown == STRANGER { roots.contains("elsewhere") } else { !roots.contains("elsewhere") };
    // The list says nothing of the other authority's certificates, of which nobody knows then whether they are good.
    let listed = roots.contains("checked") || roots.contains("crl.pem");
    let revoked = listed && (shown == REVOKED || shown == STRANGER);
    let has = |list: &str, own: &[&str]| list.split(" or ").any(|one| own.contains(&one));
    // Only the usual client's certificate is pinned.
    let own: Vec<&str> = if shown == super::secrets::CLIENT { pins.iter().map(|p| &**p).collect() } else { vec![] };
    let expected = parts.all(|part| match (part.strip_prefix("for "), part.strip_prefix("pinned to ")) {
        (Some(names), _) => has(names, &[CLIENT_NAME]),
        (_, Some(all)) => has(all, &own),
        _ => panic!("clients: {part}"),
    });
    known && !revoked && expected
}

/// What a cluster says of TLS with its upstreams.
fn upstream(target: &Target) -> Option<&str> {
    target.policies.iter().find(|p| p.what == "tls").map(|p| &*p.decided.value)
}

/// Whether upstreams pass for what they should be. `authority`: what the request asks them for.
pub(crate) fn accepts(target: &Target, authority: Option<&str>, certificates: &Certificates) -> bool {
    if is_behind(target) {
        return true;
    }
    // No other upstream is of the mesh.
    if target.transport.iter().any(|t| t.value.starts_with("mutual TLS")) {
        return false;
    }
    let Some(said) = upstream(target) else { return true };
    let part = |before: &str| said.split_once(before).map(|(_, rest)| rest.split(", ").next().unwrap_or_default());
    if said.contains(", the server is not verified") {
        return true;
    }
    let roots = part(", verified by ").unwrap_or_default();
    let trusted = ["authorities of Secret", "/ca.pem"].iter().any(|t| roots.contains(t)) && !roots.contains("revoking");
    let named = match said.split_once(", the server must be one of ") {
        Some((_, names)) => {
            let names = names.split(", verified by ").next().unwrap_or_default();
            names.split(", ").any(|n| certificates.is_upstream(n))
        }
        None => authority.is_none_or(|a| certificates.is_upstream(a)),
    };
    trusted && named
}

/// The certificate that upstreams are shown.
pub(crate) fn shown_to(target: &Target) -> Option<&str> {
    upstream(target)?.split_once(", showing ").map(|(_, shown)| name(shown.split(", ").next().unwrap_or_default()))
}
