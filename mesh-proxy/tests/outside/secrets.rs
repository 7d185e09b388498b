//! Certificates: of upstreams, of gateways, of clients. One authority signed all of them.

use std::path::Path;

use mesh_core::snapshot::TlsVersion;
use mesh_proxy::discovery::secrets::{SecretPem, SecretServer};
use mesh_tls::{Acceptor, TlsStream};
use rcgen::{CertificateRevocationListParams, KeyIdMethod, SerialNumber, date_time_ymd};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::certificates::{Ca, Leaf, TlsClient, acceptor};

/// Names that clients ask for, and the one that upstreams are to have.
const NAMES: [&str; 9] = [
    "up.example",
    "a.example.com",
    "b.example.com",
    "ext.example.com",
    "nobody.example.org",
    "srv.shop.svc.cluster.local",
    "secure.back.svc.cluster.local",
    "one.tls.example",
    "two.tls.example",
];

/// What everybody shows.
pub(crate) struct Certificates {
    ca: Ca,
    leaf: Leaf,
    /// Nothing ever changes; but while this is here, something could.
    changes: watch::Sender<u64>,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let ca = Ca::new("lab");
        let leaf = ca.leaf(&NAMES);
        Self { ca, leaf, changes: watch::Sender::new(0) }
    }

    /// Writes them where rules name files.
    pub(crate) fn write(&self, directory: &Path) {
        std::fs::create_dir_all(directory).unwrap();
        let files = [
            ("ca.pem", &self.ca.pem),
            ("crl.pem", &crl(&self.ca)),
            ("leaf.pem", &self.leaf.pem),
            ("key.pem", &self.leaf.key),
        ];
        for (name, text) in files {
            std::fs::write(directory.join(name), text).unwrap();
        }
    }

    /// A server's end.
    pub(crate) fn acceptor(&self) -> Acceptor {
        acceptor(&self.leaf, None, TlsVersion::V1_3)
    }

    /// A client's end; it shows a certificate where it is asked for one.
    pub(crate) async fn connect<S>(&self, stream: S, name: &str) -> std::io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let client = TlsClient { shows: Some(&self.leaf), ..TlsClient::new(&self.ca, name) };
        client.connect(stream).await.map_err(std::io::Error::other)
    }
}

/// A list of revoked certificates: none.
fn crl(ca: &Ca) -> String {
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(2096, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(&ca.issuer).unwrap().pem().unwrap()
}

impl SecretServer for Certificates {
    fn get(&self, name: &str) -> Result<SecretPem, String> {
        let bytes = |text: &str| text.as_bytes().to_vec();
        Ok(match name.ends_with("-cacert") || name.starts_with("configmap:") {
            true => SecretPem::Roots(bytes(&self.ca.pem), None),
            false => SecretPem::Identity(bytes(&self.leaf.pem), bytes(&self.leaf.key)),
        })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
