//! An authority and its leaves, made on the spot.

use std::sync::Arc;

use mesh_core::snapshot::{ClientCertificate, DownstreamTls, PeerNames, Provenance, Sni, TlsParameters, UpstreamTls};
use mesh_tls::{
    Acceptor, Carries, Connector, Identity, Material, PrivateKey, Roots, SecretRef, SecretState, Secrets, TlsStream,
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) struct Ca {
    pub(crate) issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

pub(crate) struct Leaf {
    pub(crate) pem: String,
    pub(crate) key: String,
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = called(name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub(crate) fn leaf(&self, names: &[&str]) -> Leaf {
        self.leaf_with(names, |_| {})
    }

    pub(crate) fn leaf_with(&self, names: &[&str], change: impl Fn(&mut CertificateParams)) -> Leaf {
        let mut params = CertificateParams::default();
        params.distinguished_name = called("leaf");
        let name = |n: &&str| match n.parse() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) if n.contains("://") => SanType::URI((*n).try_into().unwrap()),
            Err(_) => SanType::DnsName((*n).try_into().unwrap()),
        };
        params.subject_alt_names = names.iter().map(name).collect();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Leaf { pem: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }

    pub(crate) fn roots(&self) -> SecretState {
        SecretState::Ready(Material::Roots(Arc::new(Roots::from_pem(self.pem.as_bytes(), None).unwrap())))
    }
}

fn called(name: &str) -> DistinguishedName {
    let mut out = DistinguishedName::new();
    out.push(DnType::CommonName, name);
    out
}

impl Leaf {
    pub(crate) fn material(&self) -> SecretState {
        let key = PrivateKey::from_pem(self.key.as_bytes());
        SecretState::Ready(Material::Identity(Identity::from_pem(self.pem.as_bytes(), &key).unwrap()))
    }
}

fn secret(name: &str) -> SecretRef {
    SecretRef::Credential { namespace: "test".into(), name: name.into() }
}

/// A client of our own.
pub(crate) struct TlsClient<'a> {
    pub(crate) ca: &'a Ca,
    pub(crate) shows: Option<&'a Leaf>,
    pub(crate) sni: &'a str,
    pub(crate) carries: Carries,
    pub(crate) speaks: TlsParameters,
}

impl<'a> TlsClient<'a> {
    pub(crate) fn new(ca: &'a Ca, sni: &'a str) -> Self {
        Self { ca, shows: None, sni, carries: Carries::Http1, speaks: TlsParameters::default() }
    }

    pub(crate) async fn connect<IO>(&self, io: IO) -> Result<TlsStream<IO>, String>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let plan = UpstreamTls {
            mode: "SIMPLE",
            identity: self.shows.map(|_| secret("client")),
            roots: secret("roots"),
            sni: Sni::Name(self.sni.into()),
            names: PeerNames::Host(self.sni.into()),
            verify: true,
            alpn: vec![],
            parameters: self.speaks.clone(),
            origin: Provenance::default("test"),
            hash: Default::default(),
        };
        let secrets = Secrets::default();
        let connector = Connector::new(Arc::new(plan), &secrets);
        secrets.set(&secret("roots"), self.ca.roots());
        if let Some(leaf) = self.shows {
            secrets.set(&secret("client"), leaf.material());
        }
        connector.connect(io, None, self.carries).await.map_err(|e| e.to_string())
    }
}

/// A TLS server of our own: whether it asks for clients' certificates, and the authority that has to have signed them.
pub(crate) fn acceptor(
    leaf: &Leaf,
    (client, clients): (ClientCertificate, Option<&Ca>),
    max: mesh_core::snapshot::TlsVersion,
) -> Acceptor {
    let plan = DownstreamTls {
        certificates: vec![secret("server")],
        client,
        roots: clients.map(|_| secret("roots")),
        workloads: None,
        names: vec![],
        spki: vec![],
        hashes: vec![],
        verify: clients.is_some(),
        alpn: vec!["h2".into(), "http/1.1".into()],
        parameters: TlsParameters { max, ..TlsParameters::default() },
        origin: Provenance::default("test"),
        hash: Default::default(),
    };
    let secrets = Secrets::default();
    let acceptor = Acceptor::new(Arc::new(plan), &secrets);
    secrets.set(&secret("server"), leaf.material());
    if let Some(ca) = clients {
        secrets.set(&secret("roots"), ca.roots());
    }
    acceptor
}
