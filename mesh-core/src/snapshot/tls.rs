//! TLS as a plan says it: which key material, by reference, and what is expected of the peer. Keys and certificates
//! themselves are never here: mesh-tls resolves a [`SecretRef`] when a connection needs it.

use std::fmt;
use std::sync::Arc;

use super::Provenance;
use crate::api::ContentHash;
use crate::identity::TrustDomains;
use crate::record::PeerIdentity;

/// Name of key material that configuration refers to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SecretRef {
    /// `credentialName`: certificate and key of a Secret in the proxy's own namespace.
    Credential {
        /// Namespace of the proxy.
        namespace: Arc<str>,
        /// Name of the Secret.
        name: Arc<str>,
    },
    /// Authorities, and a revocation list if there is one, of the Secret `NAME-cacert`, else of `NAME`.
    CredentialRoots {
        /// Namespace of the proxy.
        namespace: Arc<str>,
        /// Name of the Secret, without `-cacert`.
        name: Arc<str>,
    },
    /// `configmap://NAME`: authorities in a ConfigMap.
    ConfigMapRoots {
        /// Namespace of the ConfigMap.
        namespace: Arc<str>,
        /// Name of the ConfigMap.
        name: Arc<str>,
    },
    /// Files beside the proxy with a certificate chain and its key.
    Files {
        /// `serverCertificate` or `clientCertificate`.
        certificate: Arc<str>,
        /// `privateKey`.
        key: Arc<str>,
    },
    /// A file beside the proxy with authorities.
    RootsFile {
        /// `caCertificates`; `None`: the system's.
        roots: Option<Arc<str>>,
        /// `caCrl`.
        crl: Option<Arc<str>>,
    },
    /// The workload's own certificate and key, issued by the mesh.
    Workload,
    /// The mesh's authorities.
    MeshRoots,
}

impl SecretRef {
    /// The operating system's authorities.
    pub const SYSTEM: Self = Self::RootsFile { roots: None, crl: None };
}

impl std::fmt::Display for SecretRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Credential { namespace, name } => write!(f, "Secret {namespace}/{name}"),
            Self::CredentialRoots { namespace, name } => write!(f, "authorities of Secret {namespace}/{name}"),
            Self::ConfigMapRoots { namespace, name } => write!(f, "authorities of ConfigMap {namespace}/{name}"),
            Self::Files { certificate, key } => write!(f, "files {certificate} and {key}"),
            Self::RootsFile { roots, crl } => {
                f.write_str(roots.as_deref().unwrap_or("the system's authorities"))?;
                crl.as_ref().map_or(Ok(()), |crl| write!(f, " with {crl}"))
            }
            Self::Workload => f.write_str("the workload's certificate"),
            Self::MeshRoots => f.write_str("the mesh's authorities"),
        }
    }
}

/// A TLS version that is spoken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// Limits of what is negotiated.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TlsParameters {
    /// Lowest version.
    pub min: TlsVersion,
    /// Highest version; below `min`: no handshake can succeed.
    pub max: TlsVersion,
    /// OpenSSL names of the TLS 1.2 cipher suites, preferred first; empty: all safe ones. TLS 1.3's can't be chosen.
    pub cipher_suites: Box<[Arc<str>]>,
    /// Names of the key exchange groups, preferred first; empty: all, X25519MLKEM768 first.
    pub curves: Box<[Arc<str>]>,
}

impl Default for TlsParameters {
    fn default() -> Self {
        Self { min: TlsVersion::V1_2, max: TlsVersion::V1_3, cipher_suites: Box::default(), curves: Box::default() }
    }
}

impl std::fmt::Display for TlsParameters {
    /// What is not the default, each with a comma before it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { min, max, cipher_suites, curves } = self;
        match (min, max) {
            (TlsVersion::V1_2, TlsVersion::V1_3) => {}
            (TlsVersion::V1_3, TlsVersion::V1_3) => f.write_str(", TLS 1.3 only")?,
            (TlsVersion::V1_2, TlsVersion::V1_2) => f.write_str(", TLS 1.2 only")?,
            (TlsVersion::V1_3, TlsVersion::V1_2) => f.write_str(", no version is left")?,
        }
        if !cipher_suites.is_empty() {
            write!(f, ", cipher suites {}", cipher_suites.join(" "))?;
        }
        if curves.is_empty() { Ok(()) } else { write!(f, ", key exchange by {}", curves.join(" ")) }
    }
}

impl TlsParameters {
    /// Limits of the mesh's own TLS (`MeshConfig.meshMTLS`): TLS 1.2 at least, or 1.3 with `only_1_3`; `suites` replace the
    /// default ones of TLS 1.2 if there are any. Key exchange is by X25519MLKEM768 where both can.
    pub fn mesh<'a>(only_1_3: bool, suites: impl IntoIterator<Item = &'a str>) -> Self {
        let chosen: Box<[Arc<str>]> = suites.into_iter().map(Arc::from).collect();
        Self {
            min: if only_1_3 { TlsVersion::V1_3 } else { TlsVersion::V1_2 },
            max: TlsVersion::V1_3,
            cipher_suites: if chosen.is_empty() { MESH_SUITES.map(Arc::from).into() } else { chosen },
            curves: Box::default(),
        }
    }
}

/// Cipher suites of TLS 1.2 that Istio's sidecars accept by default, in their order. Its list ends with two suites
/// without forward secrecy, which the TLS library does not have.
const MESH_SUITES: [&str; 4] = [
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
];

/// Server name that a client sends.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Sni {
    /// The request's authority, without the port; for bytes this name.
    Host(Arc<str>),
    /// This one.
    Name(Arc<str>),
}

/// Names that a peer's certificate must have.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum PeerNames {
    /// Any: its chain is enough.
    Any,
    /// The request's authority, without the port; for bytes this name.
    Host(Arc<str>),
    /// One of these: DNS names or URIs.
    OneOf(Vec<Arc<str>>),
    /// The identity of the endpoint that was dialled, or one of these. Where neither is known, any workload of the mesh.
    Endpoint(Vec<Arc<str>>),
}

/// TLS towards an upstream (`DestinationRule.trafficPolicy.tls`).
#[derive(Clone, PartialEq, Debug)]
pub struct UpstreamTls {
    /// `SIMPLE`, `MUTUAL` or `ISTIO_MUTUAL`.
    pub mode: &'static str,
    /// Client certificate; `None`: none is shown.
    pub identity: Option<SecretRef>,
    /// Authorities that may sign the server's certificate.
    pub roots: SecretRef,
    /// Server name to send.
    pub sni: Sni,
    /// What the server's certificate must name.
    pub names: PeerNames,
    /// `insecureSkipVerify` is not set.
    pub verify: bool,
    /// Protocols to offer, preferred first.
    pub alpn: Vec<Arc<str>>,
    /// Limits.
    pub parameters: TlsParameters,
    /// The field that says so.
    pub origin: Provenance,
    /// Hash over all of it.
    pub hash: ContentHash,
}

impl UpstreamTls {
    /// Whether it is the mesh's own, between workloads.
    pub fn is_mesh(&self) -> bool {
        self.identity == Some(SecretRef::Workload)
    }

    /// Whether the host that a request asks for makes a difference.
    pub fn by_host(&self) -> bool {
        matches!(self.sni, Sni::Host(_)) || matches!(self.names, PeerNames::Host(_))
    }

    /// With the hash of all of it.
    #[must_use]
    pub fn hashed(mut self) -> Self {
        let Self { mode, identity, roots, sni, names, verify, alpn, parameters, origin: _, hash: _ } = &self;
        let text = format!("{:?}", (mode, identity, roots, sni, names, verify, alpn, parameters));
        self.hash = ContentHash::of(text.as_bytes());
        self
    }
}

impl std::fmt::Display for UpstreamTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.mode)?;
        match &self.sni {
            Sni::Host(_) => f.write_str(", sni: the authority")?,
            Sni::Name(name) => write!(f, ", sni: {name}")?,
        }
        match (self.verify, &self.names) {
            (false, _) => f.write_str(", the server is not verified")?,
            (true, PeerNames::Any) => {}
            (true, PeerNames::Host(_)) => f.write_str(", the server must be the authority")?,
            (true, PeerNames::OneOf(names)) => write!(f, ", the server must be one of {}", names.join(", "))?,
            (true, PeerNames::Endpoint(others)) if others.is_empty() => {
                f.write_str(", the server must have the service account of the endpoint")?;
            }
            (true, PeerNames::Endpoint(others)) => {
                let others = others.join(", ");
                write!(f, ", the server must have the service account of the endpoint, or be one of {others}")?;
            }
        }
        if self.verify {
            write!(f, ", verified by {}", self.roots)?;
        }
        self.identity.as_ref().map_or(Ok(()), |i| write!(f, ", showing {i}"))?;
        if self.is_mesh() { Ok(()) } else { self.parameters.fmt(f) }
    }
}

/// Whether a server asks its clients for certificates.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ClientCertificate {
    /// It does not ask (`SIMPLE`).
    #[default]
    None,
    /// It asks, and verifies one that is shown (`OPTIONAL_MUTUAL`).
    Optional,
    /// It refuses clients without (`MUTUAL`).
    Required,
}

/// What is said about a client (`proxyHeaders.setCurrentClientCertDetails`). `By` and `Hash` are always said.
#[expect(clippy::struct_excessive_bools, reason = "one for each key of the header")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct XfccDetails {
    /// `Subject`.
    pub subject: bool,
    /// `Cert`: the certificate.
    pub cert: bool,
    /// `Chain`: the certificate and what was sent with it.
    pub chain: bool,
    /// `URI`.
    pub uri: bool,
    /// `DNS`.
    pub dns: bool,
}

impl Default for XfccDetails {
    /// A sidecar's: subject, URI and DNS names.
    fn default() -> Self {
        Self { subject: true, cert: false, chain: false, uri: true, dns: true }
    }
}

impl fmt::Display for XfccDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, cert, chain, uri, dns } = *self;
        f.write_str("By, Hash")?;
        let others = [(cert, "Cert"), (chain, "Chain"), (subject, "Subject"), (uri, "URI"), (dns, "DNS")];
        others.iter().filter(|(said, _)| *said).try_for_each(|(_, key)| write!(f, ", {key}"))
    }
}

impl XfccDetails {
    /// A gateway's: with the certificate.
    pub const GATEWAY: Self = Self { subject: true, cert: true, chain: false, uri: true, dns: true };
}

/// Which workloads of the mesh may be clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Workloads {
    /// Those of these trust domains.
    Of(TrustDomains),
    /// All whose certificates hold (`PILOT_SKIP_VALIDATE_TRUST_DOMAIN`).
    All,
}

/// TLS that a server ends (`Gateway.servers[].tls`, or the mesh's own).
#[derive(Clone, PartialEq, Debug)]
pub struct DownstreamTls {
    /// Certificates, of which the client gets the one that it can verify: at most one for each kind of key.
    pub certificates: Vec<SecretRef>,
    /// Client certificates.
    pub client: ClientCertificate,
    /// Authorities that may sign clients' certificates; `None`: none.
    pub roots: Option<SecretRef>,
    /// Only workloads of the mesh may be clients, and which; `None`: whoever has a certificate that holds.
    pub workloads: Option<Workloads>,
    /// Names, one of which a client's certificate must have; empty: any.
    pub names: Vec<Arc<str>>,
    /// Base64 SHA-256 of public keys. With `hashes`: one of either list must match; both empty: any.
    pub spki: Vec<Arc<str>>,
    /// Hexadecimal SHA-256 of certificates.
    pub hashes: Vec<Arc<str>>,
    /// `insecureSkipVerify` is not set: a client certificate that is shown must hold.
    pub verify: bool,
    /// Protocols in the order of preference.
    pub alpn: Vec<Arc<str>>,
    /// Limits.
    pub parameters: TlsParameters,
    /// The field that says so.
    pub origin: Provenance,
    /// Hash over all of it.
    pub hash: ContentHash,
}

impl DownstreamTls {
    /// With the hash of all of it.
    #[must_use]
    pub fn hashed(mut self) -> Self {
        let Self { certificates, client, roots, workloads, names, spki, hashes, verify, .. } = &self;
        let asked = (client, roots, workloads, names, spki, hashes, verify);
        let Self { alpn, parameters, origin: _, hash: _, .. } = &self;
        let text = format!("{:?}", (certificates, asked, alpn, parameters));
        self.hash = ContentHash::of(text.as_bytes());
        self
    }

    /// Whether another server asks the same of its clients: if not, who was let in there may not pass here.
    pub fn asks_as(&self, other: &Self) -> bool {
        let asked = |Self { client, roots, workloads, names, spki, hashes, verify, .. }: &Self| {
            let lists = (names.clone(), spki.clone(), hashes.clone());
            (*client, roots.clone(), workloads.clone(), lists, *verify)
        };
        asked(self) == asked(other)
    }

    /// Whether a workload may be a client, as far as its identity says it.
    pub fn welcomes(&self, peer: &PeerIdentity) -> bool {
        match &self.workloads {
            None | Some(Workloads::All) => true,
            Some(Workloads::Of(trust)) => trust.accepts(peer.uri()),
        }
    }

    /// What ends the mesh's own TLS: clients must be these workloads.
    pub fn mesh(workloads: Workloads, parameters: TlsParameters) -> Self {
        Self {
            certificates: vec![SecretRef::Workload],
            client: ClientCertificate::Required,
            roots: Some(SecretRef::MeshRoots),
            workloads: Some(workloads),
            names: Vec::new(),
            spki: Vec::new(),
            hashes: Vec::new(),
            verify: true,
            // Istio's TCP ports put `istio-peer-exchange` before them, which promises an exchange of metadata; we have none.
            alpn: ["h2", "http/1.1"].map(Arc::from).into(),
            parameters,
            origin: Provenance::default("mutual TLS of the mesh"),
            hash: ContentHash::default(),
        }
        .hashed()
    }
}

/// Version of the PROXY protocol's header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ProxyHeader {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// A tunnel through the endpoint (`DestinationRule.trafficPolicy.tunnel`).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TunnelPlan {
    /// `POST` instead of `CONNECT`.
    pub post: bool,
    /// `HOST:PORT` at the far end.
    pub target: Arc<str>,
}

impl std::fmt::Display for DownstreamTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let certificates: Vec<_> = self.certificates.iter().map(ToString::to_string).collect();
        write!(f, "TLS ends with {}", certificates.join(" or "))?;
        if self.workloads.is_none() {
            self.parameters.fmt(f)?;
        }
        match self.client {
            ClientCertificate::None => return Ok(()),
            ClientCertificate::Required if self.verify => f.write_str("; clients must show a certificate")?,
            // Who takes any certificate takes none as well.
            ClientCertificate::Optional | ClientCertificate::Required => {
                f.write_str("; clients may show a certificate")?;
            }
        }
        match (&self.roots, self.verify) {
            (_, false) => f.write_str(", which is not verified")?,
            (Some(roots), true) => write!(f, ", verified by {roots}")?,
            (None, true) => {}
        }
        if self.verify && !self.names.is_empty() {
            write!(f, ", for {}", self.names.join(" or "))?;
        }
        let pins: Vec<&str> = self.spki.iter().chain(&self.hashes).map(|p| &**p).collect();
        if self.verify && !pins.is_empty() {
            write!(f, ", pinned to {}", pins.join(" or "))?;
        }
        Ok(())
    }
}

impl std::fmt::Display for TunnelPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", if self.post { "POST" } else { "CONNECT" }, self.target)
    }
}

/// TLS 1.2 cipher suites that can be chosen, by their OpenSSL names.
pub const CIPHER_SUITES: [&str; 6] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
];

/// Key exchange groups that can be chosen.
pub const ECDH_CURVES: [&str; 4] = ["X25519MLKEM768", "X25519", "P-256", "P-384"];
