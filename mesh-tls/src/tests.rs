//! Both ends over an in-memory stream, with certificates made on the spot.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use mesh_core::env::Env;
use mesh_core::snapshot::{
    ClientCertificate, DownstreamTls, PeerNames, Provenance, Sni, TlsParameters, TlsVersion, UpstreamTls,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;

/// A wall clock that goes with tokio's, which tests pause, and numbers that are the same in every run.
pub(crate) struct TestEnv {
    start: tokio::time::Instant,
    base: AtomicU64,
    drawn: AtomicU64,
}

impl TestEnv {
    /// Beginning at the present: TLS connections are verified at the real time.
    pub(crate) fn new() -> Arc<Self> {
        let now = rustls_pki_types::UnixTime::now().as_secs();
        Arc::new(Self { start: tokio::time::Instant::now(), base: now.into(), drawn: AtomicU64::new(0) })
    }

    /// Sets the clock forward.
    pub(crate) fn jump(&self, by: Duration) {
        self.base.fetch_add(by.as_secs(), Ordering::Relaxed);
    }
}

impl Env for TestEnv {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.base.load(Ordering::Relaxed)) + self.start.elapsed()
    }

    fn random(&self) -> u64 {
        self.drawn.fetch_add(1, Ordering::Relaxed).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// An authority.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
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

    /// A leaf; names with a scheme are URIs.
    pub(crate) fn leaf(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let mut params = CertificateParams::default();
        params.distinguished_name = called("leaf");
        params.serial_number = Some(SerialNumber::from(7));
        params.subject_alt_names = names
            .iter()
            .map(|n| match n.contains("://") {
                true => SanType::URI((*n).try_into().unwrap()),
                false => SanType::DnsName((*n).try_into().unwrap()),
            })
            .collect();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Leaf { pem: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }

    fn revoking(&self, serial: u64) -> String {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2099, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

fn called(name: &str) -> DistinguishedName {
    let mut out = DistinguishedName::new();
    out.push(DnType::CommonName, name);
    out
}

pub(crate) struct Leaf {
    pub(crate) pem: String,
    key: String,
}

impl Leaf {
    fn material(&self) -> SecretState {
        let key = PrivateKey::from_pem(self.key.as_bytes());
        SecretState::Ready(Material::Identity(Identity::from_pem(self.pem.as_bytes(), &key).unwrap()))
    }
}

fn roots(pem: &str, crl: Option<&str>) -> SecretState {
    SecretState::Ready(Material::Roots(Arc::new(Roots::from_pem(pem.as_bytes(), crl.map(str::as_bytes)).unwrap())))
}

fn named(name: &str) -> SecretRef {
    SecretRef::Credential { namespace: "ns".into(), name: name.into() }
}

fn server_plan() -> DownstreamTls {
    DownstreamTls {
        certificates: vec![named("server")],
        client: ClientCertificate::None,
        roots: None,
        workloads: None,
        names: vec![],
        spki: vec![],
        hashes: vec![],
        verify: true,
        alpn: vec!["h2".into(), "http/1.1".into()],
        parameters: TlsParameters::default(),
        origin: Provenance::default("test"),
        hash: Default::default(),
    }
}

fn client_plan() -> UpstreamTls {
    UpstreamTls {
        mode: "SIMPLE",
        identity: None,
        roots: named("roots"),
        sni: Sni::Host("a.example.com".into()),
        names: PeerNames::Host("a.example.com".into()),
        verify: true,
        alpn: vec![],
        parameters: TlsParameters::default(),
        origin: Provenance::default("test"),
        hash: Default::default(),
    }
}

/// Acceptor and connector with key material by name.
struct Pair {
    secrets: Secrets,
    acceptor: Acceptor,
    connector: Connector,
}

impl Pair {
    fn new(server: DownstreamTls, client: UpstreamTls, material: &[(&str, SecretState)]) -> Self {
        let secrets = Secrets::default();
        let acceptor = Acceptor::new(Arc::new(server), &secrets);
        let connector = Connector::new(Arc::new(client), &secrets);
        for (name, state) in material {
            secrets.set(&named(name), state.clone());
        }
        Self { secrets, acceptor, connector }
    }

    /// What each side says: agreed protocol and the other one's names, or why not. A byte crosses each way first, because
    /// in TLS 1.3 a client that is refused learns it only then.
    async fn shake(&self, host: Option<&str>, carries: Carries) -> (Result<String, String>, Result<String, String>) {
        let (a, b) = duplex(1 << 16);
        let server = async {
            let mut stream = self.acceptor.accept(b).await.map_err(|e| e.to_string())?;
            stream.write_all(b"s").await.map_err(|e| e.to_string())?;
            stream.flush().await.map_err(|e| e.to_string())?;
            stream.read_u8().await.map_err(|e| e.to_string())?;
            Ok(said(&stream))
        };
        let client = async {
            let mut stream = self.connector.connect(a, host, carries).await.map_err(|e| e.to_string())?;
            stream.read_u8().await.map_err(|e| e.to_string())?;
            stream.write_all(b"c").await.map_err(|e| e.to_string())?;
            stream.flush().await.map_err(|e| e.to_string())?;
            Ok(said(&stream))
        };
        tokio::join!(server, client)
    }
}

fn said<S>(stream: &TlsStream<S>) -> String {
    let info = stream.info();
    let names: Vec<String> = info.peer.iter().flat_map(|p| p.names()).collect();
    assert_eq!(info.verified().is_some(), info.is_verified);
    // Nobody is anybody because of a certificate that was not verified.
    assert!(info.is_verified || info.identity.is_none());
    let doubt = if info.is_verified || info.peer.is_none() { "" } else { "?" };
    format!("{} {} [{}]{doubt}", info.version, info.alpn, names.join(", "))
}

fn ok(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

#[tokio::test]
async fn a_server_is_verified_by_chain_and_by_the_host() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let server = ca.leaf(&["a.example.com", "*.wild.example.com"], |_| {});
    let material = |ca: &Ca| [("server", server.material()), ("roots", roots(&ca.pem, None))];
    let pair = Pair::new(server_plan(), client_plan(), &material(&ca));
    let (accepted, connected) = pair.shake(None, Carries::Http2).await;
    assert_eq!(accepted, ok("TLSv1.3 h2 []"));
    assert_eq!(connected, ok("TLSv1.3 h2 [a.example.com, *.wild.example.com]"));
    assert!(pair.shake(Some("x.wild.example.com"), Carries::Http1).await.1.is_ok());
    // A28
    let refused = pair.shake(Some("b.example.com"), Carries::Http1).await.1.unwrap_err();
    assert!(refused.ends_with("SAN matcher, certificate SANs are [a.example.com, *.wild.example.com]:TLS_error_end"));
    // A27
    let pair = Pair::new(server_plan(), client_plan(), &material(&other));
    let refused = pair.shake(None, Carries::Http1).await.1.unwrap_err();
    assert!(refused.contains("CERTIFICATE_VERIFY_FAILED:verify cert failed: X509_verify_cert: "), "{refused}");
    let pair = Pair::new(server_plan(), UpstreamTls { verify: false, ..client_plan() }, &material(&other));
    assert!(pair.shake(Some("b.example.com"), Carries::Http1).await.1.is_ok());
}

#[tokio::test]
async fn bytes_for_a_wildcard_host_are_for_any_server_of_its_domain() {
    let ca = Ca::new("ca");
    for (name, holds) in [("db.example.com", true), ("*.example.com", true), ("db.example.org", false)] {
        let server = ca.leaf(&[name], |_| {});
        let material = [("server", server.material()), ("roots", roots(&ca.pem, None))];
        let host: Arc<str> = "*.example.com".into();
        let plan = UpstreamTls { sni: Sni::Host(host.clone()), names: PeerNames::Host(host), ..client_plan() };
        let pair = Pair::new(server_plan(), plan, &material);
        let connected = pair.shake(None, Carries::Bytes).await.1;
        assert_eq!(connected.is_ok(), holds, "{name}: {connected:?}");
    }
}

#[tokio::test]
async fn names_in_the_plan_replace_the_host() {
    let ca = Ca::new("ca");
    let id = "spiffe://cluster.local/ns/default/sa/reviews";
    let server = ca.leaf(&[id], |_| {});
    let material = [("server", server.material()), ("roots", roots(&ca.pem, None))];
    for (names, holds) in [(&[id][..], true), (&["spiffe://cluster.local/ns/default/sa/other"], false)] {
        let names = PeerNames::OneOf(names.iter().map(|n| (*n).into()).collect());
        let pair = Pair::new(server_plan(), UpstreamTls { names, ..client_plan() }, &material);
        let connected = pair.shake(None, Carries::Bytes).await.1;
        assert_eq!(connected.is_ok(), holds, "{connected:?}");
    }
}

#[tokio::test]
async fn expired_foreign_and_revoked_certificates_are_refused() {
    let ca = Ca::new("ca");
    let fine = ca.leaf(&["a.example.com"], |_| {});
    let expired = ca.leaf(&["a.example.com"], |p| p.not_after = date_time_ymd(2020, 1, 1));
    let future = ca.leaf(&["a.example.com"], |p| p.not_before = date_time_ymd(2090, 1, 1));
    let authority = ca.leaf(&["a.example.com"], |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let none = ca.revoking(99);
    let this = ca.revoking(7);
    for (leaf, crl, why) in [
        (&fine, None, ""),
        (&fine, Some(&none), ""),
        (&fine, Some(&this), "certificate revoked"),
        (&expired, None, "certificate has expired"),
        (&future, None, "certificate is not yet valid"),
        (&authority, None, "CaUsedAsEndEntity"),
    ] {
        let material = [("server", leaf.material()), ("roots", roots(&ca.pem, crl.map(String::as_str)))];
        let connected = Pair::new(server_plan(), client_plan(), &material).shake(None, Carries::Http1).await.1;
        match why {
            "" => assert!(connected.is_ok(), "{connected:?}"),
            why => assert!(connected.clone().is_err_and(|e| e.contains(why)), "{why}: {connected:?}"),
        }
    }
}

#[tokio::test]
async fn a_certificate_that_is_among_the_authorities_is_trusted_as_it_is() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["a.example.com".to_owned()]).unwrap();
    // What `openssl req -x509` makes.
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = Leaf { pem: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() };
    let material = [("server", own.material()), ("roots", roots(&own.pem, None))];
    let pair = Pair::new(server_plan(), client_plan(), &material);
    assert!(pair.shake(None, Carries::Http1).await.1.is_ok());
}

#[tokio::test]
async fn clients_show_certificates_as_the_mode_asks() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let server = ca.leaf(&["a.example.com"], |_| {});
    let id = "spiffe://cluster.local/ns/default/sa/a";
    let (client, foreign) = (ca.leaf(&[id], |_| {}), other.leaf(&[id], |_| {}));
    let pin = |leaf: &Leaf| {
        let key = PrivateKey::from_pem(leaf.key.as_bytes());
        let identity = Identity::from_pem(leaf.pem.as_bytes(), &key).unwrap();
        peer::read(&identity.certified().cert).unwrap()
    };
    let spki = pin(&client).spki;
    let hash: String =
        pin(&client).hash.as_bytes().chunks(2).map(|c| format!("{}:", String::from_utf8_lossy(c))).collect();
    let hash: Arc<str> = hash.trim_end_matches(':').to_uppercase().into();
    use ClientCertificate::{Optional, Required};
    let plan = |client: ClientCertificate| DownstreamTls { client, roots: Some(named("roots")), ..server_plan() };
    let table = [
        ("required", plan(Required), Some(&client), true),
        ("required, none", plan(Required), None, false),
        ("required, foreign", plan(Required), Some(&foreign), false),
        ("optional", plan(Optional), Some(&client), true),
        ("optional, none", plan(Optional), None, true),
        ("optional, foreign", plan(Optional), Some(&foreign), false),
        ("unverified, foreign", DownstreamTls { verify: false, ..plan(Required) }, Some(&foreign), true),
        ("unverified, none", DownstreamTls { verify: false, ..plan(Required) }, None, true),
        ("name", DownstreamTls { names: vec![id.into()], ..plan(Required) }, Some(&client), true),
        ("other name", DownstreamTls { names: vec!["x".into()], ..plan(Required) }, Some(&client), false),
        ("key", DownstreamTls { spki: vec![spki.clone()], ..plan(Required) }, Some(&client), true),
        ("other key", DownstreamTls { spki: vec!["AAAA".into()], ..plan(Required) }, Some(&client), false),
        ("hash", DownstreamTls { hashes: vec![hash], ..plan(Required) }, Some(&client), true),
        (
            "either",
            DownstreamTls { hashes: vec!["00".into()], spki: vec![spki], ..plan(Required) },
            Some(&client),
            true,
        ),
    ];
    for (what, server_plan, shown, holds) in table {
        for max in [TlsVersion::V1_2, TlsVersion::V1_3] {
            let parameters = TlsParameters { max, ..TlsParameters::default() };
            let identity = shown.map(|_| named("client"));
            let mut material = vec![("server", server.material()), ("roots", roots(&ca.pem, None))];
            material.extend(shown.map(|leaf| ("client", leaf.material())));
            let client_plan = UpstreamTls { identity, parameters, ..client_plan() };
            let pair = Pair::new(server_plan.clone(), client_plan, &material);
            let (accepted, _) = pair.shake(None, Carries::Http1).await;
            assert_eq!(accepted.is_ok(), holds, "{what} {max:?}: {accepted:?}");
            let Some(leaf) = shown.filter(|_| holds) else { continue };
            let expected = if std::ptr::eq(leaf, &client) { format!("[{id}]") } else { format!("[{id}]?") };
            assert!(accepted.unwrap().ends_with(&expected), "{what}");
        }
    }
}

#[tokio::test]
async fn the_servers_order_of_protocols_wins_and_none_in_common_is_no_error() {
    let ca = Ca::new("ca");
    let server = ca.leaf(&["a.example.com"], |_| {});
    let material = [("server", server.material()), ("roots", roots(&ca.pem, None))];
    for (offered, agreed) in
        [(&["http/1.1", "h2"][..], "h2"), (&["istio", "http/1.1"], "http/1.1"), (&["spdy"], ""), (&[], "")]
    {
        let alpn = offered.iter().map(|p| (*p).into()).collect();
        let pair = Pair::new(server_plan(), UpstreamTls { alpn, ..client_plan() }, &material);
        assert_eq!(pair.shake(None, Carries::Bytes).await.0, Ok(format!("TLSv1.3 {agreed} []")), "S2 {offered:?}");
    }
}

#[tokio::test]
async fn versions_suites_and_curves_are_limited() {
    let ca = Ca::new("ca");
    let server = ca.leaf(&["a.example.com"], |_| {});
    let material = [("server", server.material()), ("roots", roots(&ca.pem, None))];
    let only = |min, max, suite: &str, curve: &str| {
        let list = |s: &str| (!s.is_empty()).then(|| s.into()).into_iter().collect();
        TlsParameters { min, max, cipher_suites: list(suite), curves: list(curve) }
    };
    use TlsVersion::{V1_2, V1_3};
    let (gcm, chacha) = ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305");
    for (ours, theirs, agreed) in [
        (only(V1_2, V1_2, "", ""), only(V1_2, V1_3, "", ""), "TLSv1.2"),
        (only(V1_3, V1_3, "", ""), only(V1_2, V1_2, "", ""), ""),
        (only(V1_3, V1_2, "", ""), only(V1_2, V1_3, "", ""), ""),
        (only(V1_2, V1_2, gcm, ""), only(V1_2, V1_2, gcm, ""), "TLSv1.2"),
        (only(V1_2, V1_2, gcm, ""), only(V1_2, V1_2, chacha, ""), ""),
        (only(V1_2, V1_3, gcm, ""), only(V1_2, V1_3, chacha, ""), "TLSv1.3"),
        (only(V1_2, V1_3, "", "P-256"), only(V1_2, V1_3, "", "P-256"), "TLSv1.3"),
        (only(V1_2, V1_3, "", "P-256"), only(V1_2, V1_3, "", "P-384"), ""),
    ] {
        let what = format!("{ours:?} {theirs:?}");
        let server = DownstreamTls { parameters: ours, ..server_plan() };
        let pair = Pair::new(server, UpstreamTls { parameters: theirs, ..client_plan() }, &material);
        let accepted = pair.shake(None, Carries::Bytes).await.0;
        match agreed {
            "" => assert!(accepted.is_err(), "{what}: {accepted:?}"),
            version => assert!(accepted.clone().is_ok_and(|s| s.starts_with(version)), "{what}: {accepted:?}"),
        }
    }
}

#[tokio::test]
async fn new_key_material_is_in_force_for_the_next_connection_and_old_ones_go_on() {
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let material = [
        ("server", old.leaf(&["a.example.com"], |_| {}).material()),
        ("roots", roots(&[old.pem.as_str(), new.pem.as_str()].concat(), None)),
    ];
    let pair = Pair::new(server_plan(), client_plan(), &material);
    let (a, b) = duplex(1 << 16);
    let (server, client) = tokio::join!(pair.acceptor.accept(b), pair.connector.connect(a, None, Carries::Http1));
    let (mut server, mut client) = (server.unwrap(), client.unwrap());
    let before = client.info().peer.clone().unwrap().hash.clone();

    pair.secrets.set(&named("server"), new.leaf(&["a.example.com"], |_| {}).material());
    let (a, b) = duplex(1 << 16);
    let (_next, next) = tokio::join!(pair.acceptor.accept(b), pair.connector.connect(a, None, Carries::Http1));
    assert_ne!(next.unwrap().info().peer.clone().unwrap().hash, before);

    client.write_all(b"still here").await.unwrap();
    client.flush().await.unwrap();
    let mut got = [0; 10];
    server.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"still here");

    pair.secrets.set(&named("server"), SecretState::Missing(SecretError("it was deleted".into())));
    let said = pair.acceptor.ready().await.unwrap_err().to_string();
    assert!(said.contains("Secret ns/server: it was deleted"), "{said}");
}

#[tokio::test]
async fn material_on_its_way_is_waited_for() {
    let ca = Ca::new("ca");
    let pair = Pair::new(server_plan(), client_plan(), &[("roots", roots(&ca.pem, None))]);
    let deliver = async {
        tokio::task::yield_now().await;
        pair.secrets.set(&named("server"), ca.leaf(&["a.example.com"], |_| {}).material());
    };
    let ((), (accepted, _)) = tokio::join!(deliver, pair.shake(None, Carries::Http1));
    assert!(accepted.is_ok(), "{accepted:?}");
}

#[tokio::test]
async fn of_two_certificates_the_client_gets_the_one_that_it_can_use_and_a_broken_one_does_not_matter() {
    let ca = Ca::new("ca");
    let good = ca.leaf(&["a.example.com"], |_| {});
    let missing = SecretState::Missing(SecretError("no such Secret".into()));
    let material = [("broken", missing), ("server", good.material()), ("roots", roots(&ca.pem, None))];
    let plan = DownstreamTls { certificates: vec![named("broken"), named("server")], ..server_plan() };
    assert!(Pair::new(plan, client_plan(), &material).shake(None, Carries::Http1).await.1.is_ok());
}

#[test]
fn a_key_of_another_certificate_is_refused_and_keys_are_not_printed() {
    let ca = Ca::new("ca");
    let (a, b) = (ca.leaf(&["a"], |_| {}), ca.leaf(&["b"], |_| {}));
    let said = Identity::from_pem(a.pem.as_bytes(), &PrivateKey::from_pem(b.key.as_bytes())).unwrap_err();
    assert_eq!(said.to_string(), "the private key does not belong to the certificate");
    let broken = Identity::from_pem(a.pem.as_bytes(), &PrivateKey::from_pem(b"nonsense")).unwrap_err();
    assert!(!broken.to_string().contains("nonsense"));
    assert!(!format!("{:?}", a.material()).contains("PRIVATE"));
}
