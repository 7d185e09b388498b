//! Certificates: of upstreams, of gateways, of clients.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use mesh_core::record::TlsInfo;
use mesh_core::snapshot::{ClientCertificate, TlsParameters, TlsVersion};
use mesh_proxy::discovery::secrets::{SecretPem, SecretServer};
use mesh_tls::{Acceptor, CertificateInfo, TlsStream};
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber, date_time_ymd};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::certificates::{Ca, Leaf, TlsClient, acceptor};

/// Names that clients ask for, and the one that upstreams are to have.
const NAMES: [&str; 10] = [
    "up.example",
    "a.example.com",
    "b.example.com",
    "ext.example.com",
    "nobody.example.org",
    "srv.shop.svc.cluster.local",
    "side.shop.svc.cluster.local",
    "secure.back.svc.cluster.local",
    "one.tls.example",
    "two.tls.example",
];

/// What every upstream shows.
pub(crate) const UPSTREAM: &str = "leaf";
/// Who a client with a certificate is.
pub(crate) const CLIENT_NAME: &str = "client.example";
/// What clients have.
pub(crate) const CLIENT: &str = "client";
/// The same of an authority that nobody trusts who isn't told to.
pub(crate) const STRANGER: &str = "stranger";
/// The same, taken back by `crl.pem`.
pub(crate) const REVOKED: &str = "revoked";

/// What a client says by TLS.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Hello {
    /// The server that it asks for.
    pub(crate) name: String,
    /// The certificate that it has.
    pub(crate) shows: Option<&'static str>,
    pub(crate) speaks: TlsParameters,
}

impl Hello {
    /// One that everybody understands.
    pub(crate) fn to(name: &str) -> Self {
        Self { name: name.to_owned(), shows: Some(CLIENT), speaks: TlsParameters::default() }
    }
}

/// What everybody shows.
pub(crate) struct Certificates {
    ca: Ca,
    /// Signs for a stranger.
    other: Ca,
    leaves: BTreeMap<&'static str, Leaf>,
    /// Their names by what they are told apart by.
    by_hash: BTreeMap<Arc<str>, &'static str>,
    pins: [String; 2],
    /// Addresses among the names of upstreams.
    addresses: Vec<IpAddr>,
    /// Nothing ever changes; but while this is here, something could.
    changes: watch::Sender<u64>,
}

impl Certificates {
    /// Upstreams at these addresses may be asked for by them.
    pub(crate) fn new(addresses: &[IpAddr]) -> Self {
        let (ca, other) = (Ca::new("lab"), Ca::new("elsewhere"));
        let mut leaves = BTreeMap::new();
        for (serial, name) in [(1, CLIENT), (2, REVOKED), (3, "upstream")] {
            let leaf = ca.leaf_with(&[CLIENT_NAME], |p| p.serial_number = Some(SerialNumber::from(serial)));
            leaves.insert(name, leaf);
        }
        leaves.insert(STRANGER, other.leaf(&[CLIENT_NAME]));
        for name in ["gateway", "other", "first", "second"] {
            leaves.insert(name, ca.leaf(&NAMES));
        }
        let ips: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let names: Vec<&str> = NAMES.into_iter().chain(ips.iter().map(|ip| &**ip)).collect();
        leaves.insert(UPSTREAM, ca.leaf_with(&names, |p| p.serial_number = Some(SerialNumber::from(4))));
        let hash = |leaf: &Leaf| CertificateInfo::of_pem(&leaf.pem).remove(0).hash;
        let by_hash = leaves.iter().map(|(name, leaf)| (hash(leaf), *name)).collect();
        let client = CertificateInfo::of_pem(&leaves[CLIENT].pem).remove(0);
        let pins = [client.hash.to_string(), client.spki.to_string()];
        Self { ca, other, leaves, by_hash, pins, addresses: addresses.to_vec(), changes: watch::Sender::new(0) }
    }

    /// Writes them where rules name files: `NAME.pem` and `NAME-key.pem`, authorities and lists.
    pub(crate) fn write(&self, directory: &Path) {
        std::fs::create_dir_all(directory).unwrap();
        let mut files = vec![
            ("ca.pem".to_owned(), self.ca.pem.clone()),
            ("elsewhere.pem".to_owned(), self.other.pem.clone()),
            ("crl.pem".to_owned(), crl(&self.ca, 2)),
            ("revoking.pem".to_owned(), crl(&self.ca, 4)),
        ];
        for (name, leaf) in &self.leaves {
            files.extend([(format!("{name}.pem"), leaf.pem.clone()), (format!("{name}-key.pem"), leaf.key.clone())]);
        }
        for (name, text) in files {
            std::fs::write(directory.join(name), text).unwrap();
        }
    }

    /// Hash and key of the clients' certificate, as rules pin them.
    pub(crate) fn pins(&self) -> &[String; 2] {
        &self.pins
    }

    /// Names of upstreams, with their addresses.
    pub(crate) fn is_upstream(&self, name: &str) -> bool {
        NAMES.iter().any(|n| n.eq_ignore_ascii_case(name))
            || name.parse().is_ok_and(|ip: IpAddr| self.addresses.contains(&ip))
    }

    /// What a certificate that a peer showed is called here.
    pub(crate) fn called(&self, stream: &TlsInfo) -> Option<&'static str> {
        self.by_hash.get(&stream.peer.as_ref()?.hash).copied()
    }

    /// A server's end: clients may show whatever they have.
    pub(crate) fn acceptor(&self) -> Acceptor {
        acceptor(&self.leaves[UPSTREAM], (ClientCertificate::Optional, None), TlsVersion::V1_3)
    }

    /// A client's end.
    pub(crate) async fn connect<S>(&self, stream: S, hello: &Hello) -> std::io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Hello { name, shows, speaks } = hello;
        let shows = shows.map(|name| &self.leaves[name]);
        let client = TlsClient { shows, speaks: speaks.clone(), ..TlsClient::new(&self.ca, name) };
        client.connect(stream).await.map_err(std::io::Error::other)
    }
}

/// A list of revoked certificates: the one with this number.
fn crl(ca: &Ca, serial: u64) -> String {
    let revoked = RevokedCertParams {
        serial_number: SerialNumber::from(serial),
        revocation_time: date_time_ymd(2024, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(2096, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![revoked],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(&ca.issuer).unwrap().pem().unwrap()
}

impl SecretServer for Certificates {
    fn get(&self, name: &str) -> Result<SecretPem, String> {
        let bytes = |text: &str| text.as_bytes().to_vec();
        let own = name.strip_prefix("kubernetes://").unwrap_or_default();
        Ok(match own.strip_suffix("-cacert") {
            Some("elsewhere") => SecretPem::Roots(bytes(&self.other.pem), None),
            Some("checked") => SecretPem::Roots(bytes(&self.ca.pem), Some(bytes(&crl(&self.ca, 2)))),
            Some(_) => SecretPem::Roots(bytes(&self.ca.pem), None),
            None => {
                let leaf = self.leaves.get(own).ok_or_else(|| format!("nobody has {name}"))?;
                SecretPem::Identity(bytes(&leaf.pem), bytes(&leaf.key))
            }
        })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
