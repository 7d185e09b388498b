//! Two workloads over an in-memory stream.

use std::time::Duration;

use mesh_core::snapshot::{TlsVersion, XfccDetails};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, IsCa, Issuer, KeyPair, SanType, date_time_ymd};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;
use crate::tests::TestEnv;
use crate::{
    Authority, AuthorityConfig, CertManager, CertState, Identity, KeyKind, Material, PrivateKey, Roots, RotationConfig,
    SecretState, Secrets, SpiffeId, deliver,
};

/// A workload whose identity is kept fresh.
pub(crate) struct Workload {
    pub(crate) secrets: Arc<Secrets>,
    handle: crate::CertHandle,
    _tasks: tokio::task::JoinSet<()>,
}

impl Workload {
    pub(crate) async fn start(ca: &Arc<Authority>, env: &Arc<TestEnv>, id: &SpiffeId, key: KeyKind) -> Self {
        use crate::CertSource as _;
        let config = RotationConfig { key, ..RotationConfig::default() };
        let (manager, handle) = CertManager::new(id.clone(), Arc::clone(ca), config, env.clone());
        let secrets = Arc::new(Secrets::default());
        let mut tasks = tokio::task::JoinSet::new();
        let (source, into) = (handle.clone(), Arc::clone(&secrets));
        tasks.spawn(manager.run());
        tasks.spawn(async move { deliver(&source, &into).await });
        handle.watch().wait_for(|s| matches!(s, CertState::Issued(_))).await.unwrap();
        Self { secrets, handle, _tasks: tasks }
    }
}

pub(crate) fn account(name: &str) -> SpiffeId {
    SpiffeId::new("cluster.local", "default", name)
}

fn reviews(accounts: &[&str]) -> MtlsUpstream {
    MtlsUpstream {
        host: "reviews.default.svc.cluster.local".into(),
        port: 9080,
        subset: "v1".into(),
        accounts: accounts.iter().map(|a| (*a).into()).collect(),
        parameters: TlsParameters::mesh(false, []),
    }
}

type Ends = (
    Result<(TlsStream<tokio::io::DuplexStream>, PeerIdentity), TlsError>,
    Result<(TlsStream<tokio::io::DuplexStream>, PeerIdentity), TlsError>,
);

async fn shake(acceptor: &MtlsAcceptor, connector: &MtlsConnector, carries: Carries) -> Ends {
    let (a, b) = duplex(1 << 16);
    tokio::join!(acceptor.accept(b), connector.connect(a, carries))
}

#[tokio::test]
async fn both_sides_know_each_other() {
    let env = TestEnv::new();
    let ca = Arc::new(Authority::self_signed(AuthorityConfig::default(), env.clone()).unwrap());
    for key in [KeyKind::EcdsaP256, KeyKind::Rsa2048] {
        let server = Workload::start(&ca, &env, &account("reviews"), key).await;
        let client = Workload::start(&ca, &env, &account("productpage"), key).await;
        let acceptor = MtlsAcceptor::new(MtlsConfig::default(), &*server.secrets);
        let upstream = reviews(&["spiffe://cluster.local/ns/default/sa/reviews"]);
        assert_eq!(upstream.sni(), "outbound_.9080_.v1_.reviews.default.svc.cluster.local");
        let connector = MtlsConnector::new(&upstream, &TrustDomains::default(), &*client.secrets);
        acceptor.ready().await.unwrap();
        for (carries, agreed) in [(Carries::Http1, "http/1.1"), (Carries::Http2, "h2"), (Carries::Bytes, "")] {
            for _ in 0..2 {
                let (accepted, connected) = shake(&acceptor, &connector, carries).await;
                let ((mut inner, peer), (outer, other)) = (accepted.unwrap(), connected.unwrap());
                assert_eq!(peer.principal(), "cluster.local/ns/default/sa/productpage");
                assert_eq!(peer.id(), Some(&account("productpage")));
                assert_eq!(peer.certificate().hash.len(), 64);
                let said = format!(
                    "By={};Hash={};Subject=\"\";URI={}",
                    account("reviews"),
                    peer.certificate().hash,
                    account("productpage")
                );
                assert_eq!(inner.info().client_cert(XfccDetails::default()).unwrap(), said.as_str(), "N1");
                assert_eq!(outer.info().client_cert, None);
                assert_eq!(other.principal(), "cluster.local/ns/default/sa/reviews");
                assert_eq!((&*inner.info().alpn, inner.info().version), (agreed, "TLSv1.3"));
                // Tickets, if there were any, come with the first bytes.
                inner.write_all(b"x").await.unwrap();
                inner.flush().await.unwrap();
                let mut outer = outer;
                outer.read_u8().await.unwrap();
                assert!(!inner.is_resumed() && !outer.is_resumed(), "every connection is verified");
            }
        }
    }
}

#[tokio::test]
async fn secure_naming_and_trust_domains() {
    let env = TestEnv::new();
    let ca = Arc::new(Authority::self_signed(AuthorityConfig::default(), env.clone()).unwrap());
    let old = SpiffeId::new("old", "default", "reviews");
    let foreign = SpiffeId::new("foreign", "default", "productpage");
    let trust = TrustDomains::new("cluster.local", ["old"]);
    let reviews_id = account("reviews").to_string();
    for (server, client, expected, skip, accepted, connected) in [
        (account("reviews"), account("a"), &[reviews_id.as_str()][..], false, true, true),
        (account("ratings"), account("a"), &[&reviews_id], false, true, false),
        (old.clone(), account("a"), &[&reviews_id], false, true, true),
        (account("ratings"), account("a"), &[], false, true, true),
        (account("reviews"), old, &[&reviews_id], false, true, true),
        (account("reviews"), foreign.clone(), &[&reviews_id], false, false, true),
        (account("reviews"), foreign, &[&reviews_id], true, true, true),
    ] {
        let what = format!("{server} {client} {expected:?} {skip}");
        let server = Workload::start(&ca, &env, &server, KeyKind::EcdsaP256).await;
        let client = Workload::start(&ca, &env, &client, KeyKind::EcdsaP256).await;
        let config = MtlsConfig { trust: trust.clone(), check_trust_domain: !skip, ..MtlsConfig::default() };
        let acceptor = MtlsAcceptor::new(config, &*server.secrets);
        let connector = MtlsConnector::new(&reviews(expected), &trust, &*client.secrets);
        let (server, client) = shake(&acceptor, &connector, Carries::Http1).await;
        assert_eq!((server.is_ok(), client.is_ok()), (accepted, connected), "{what}");
        if let Err(error) = client {
            assert!(error.to_string().contains("SAN matcher"), "{what}: {error}");
        }
        if let Err(error) = server {
            assert!(error.to_string().contains("spiffe://foreign/ns/default/sa/productpage"), "{what}: {error}");
        }
    }
}

/// S1, S6, and certificates that somebody made up.
#[tokio::test]
async fn whoever_is_not_a_workload_of_the_mesh_is_refused() {
    let env = TestEnv::new();
    let ca = Arc::new(Authority::self_signed(AuthorityConfig::default(), env.clone()).unwrap());
    let server = Workload::start(&ca, &env, &account("reviews"), KeyKind::EcdsaP256).await;
    let acceptor = MtlsAcceptor::new(MtlsConfig::default(), &*server.secrets);
    acceptor.ready().await.unwrap();

    // An authority with a known key, that the server trusts from now on: what it signs is as good as the mesh's.
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let uri = |name: &str| SanType::URI(name.try_into().unwrap());
    let fine = "spiffe://cluster.local/ns/default/sa/a";
    let leaf = |issuer: &Issuer<'_, KeyPair>, change: &dyn Fn(&mut CertificateParams)| {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![uri(fine)];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let pem = params.signed_by(&key, issuer).unwrap().pem();
        let key = PrivateKey::from_pem(key.serialize_pem().as_bytes());
        SecretState::Ready(Material::Identity(Identity::from_pem(pem.as_bytes(), &key).unwrap()))
    };
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let other = Issuer::new(params, KeyPair::generate().unwrap());
    let trusted = SecretState::Ready(Material::Roots(Arc::new(Roots::from_pem(root.as_bytes(), None).unwrap())));
    server.secrets.set(&SecretRef::MeshRoots, trusted.clone());

    let table: Vec<(&str, Option<SecretState>, bool)> = vec![
        ("fine", Some(leaf(&issuer, &|_| {})), true),
        ("none", None, false),
        ("another CA", Some(leaf(&other, &|_| {})), false),
        ("expired", Some(leaf(&issuer, &|p| p.not_after = date_time_ymd(2020, 1, 1))), false),
        ("not yet valid", Some(leaf(&issuer, &|p| p.not_before = date_time_ymd(2090, 1, 1))), false),
        ("CA:TRUE", Some(leaf(&issuer, &|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))), false),
        ("two identities", Some(leaf(&issuer, &|p| p.subject_alt_names.push(uri("spiffe://cluster.local/b")))), false),
        ("no identity", Some(leaf(&issuer, &|p| p.subject_alt_names.clear())), false),
        (
            "a name",
            Some(leaf(&issuer, &|p| p.subject_alt_names = vec![SanType::DnsName("reviews".try_into().unwrap())])),
            false,
        ),
        (
            "another trust domain",
            Some(leaf(&issuer, &|p| p.subject_alt_names = vec![uri("spiffe://other/ns/default/sa/a")])),
            false,
        ),
    ];
    for (what, shown, welcome) in table {
        for max in [TlsVersion::V1_2, TlsVersion::V1_3] {
            let client = Secrets::default();
            let mut plan = reviews(&[]).plan(&TrustDomains::default());
            plan.parameters.max = max;
            plan.verify = false;
            plan.identity = shown.as_ref().map(|_| SecretRef::Workload);
            let connector = Connector::new(Arc::new(plan), &client);
            if let Some(shown) = &shown {
                client.set(&SecretRef::Workload, shown.clone());
            }
            let (a, b) = duplex(1 << 16);
            let dial = async {
                let mut stream = connector.connect(a, None, Carries::Http1).await?;
                let mut got = Vec::new();
                let _ = stream.read_to_end(&mut got).await;
                Ok::<_, TlsError>(got)
            };
            let serve = async {
                let (mut stream, peer) = acceptor.accept(b).await?;
                let _ = stream.write_all(b"welcome").await;
                let _ = stream.shutdown().await;
                Ok::<_, TlsError>(peer)
            };
            let (accepted, got) = tokio::join!(serve, dial);
            assert_eq!(accepted.is_ok(), welcome, "{what} {max:?}: {accepted:?}");
            assert_eq!(got.is_ok_and(|g| g == b"welcome"), welcome, "{what} {max:?}");
        }
    }
}

#[tokio::test]
async fn a_new_certificate_is_for_the_next_connection_and_open_ones_go_on() {
    let env = TestEnv::new();
    let ca = Arc::new(Authority::self_signed(AuthorityConfig::default(), env.clone()).unwrap());
    let server = Workload::start(&ca, &env, &account("reviews"), KeyKind::EcdsaP256).await;
    let client = Workload::start(&ca, &env, &account("a"), KeyKind::EcdsaP256).await;
    let acceptor = MtlsAcceptor::new(MtlsConfig::default(), &*server.secrets);
    let upstream = reviews(&["spiffe://cluster.local/ns/default/sa/reviews"]);
    let connector = MtlsConnector::new(&upstream, &TrustDomains::default(), &*client.secrets);
    let (accepted, connected) = shake(&acceptor, &connector, Carries::Http1).await;
    let ((mut inner, _), (mut outer, before)) = (accepted.unwrap(), connected.unwrap());

    // Also over the change of the root: the client learns of it when the server already has a certificate of it.
    ca.rotate_root().unwrap();
    for end in [&client, &server] {
        use crate::CertSource as _;
        let mut state = end.handle.watch();
        state.borrow_and_update();
        end.handle.renew();
        state.changed().await.unwrap();
    }
    env.jump(Duration::from_secs(2 * 24 * 3600));
    ca.maintain();
    assert_eq!(ca.rotation(), crate::Rotation::Retiring);
    env.jump(Duration::ZERO);

    let (accepted, connected) = shake(&acceptor, &connector, Carries::Http1).await;
    accepted.unwrap();
    assert_ne!(connected.unwrap().1.certificate().hash, before.certificate().hash);
    outer.write_all(b"still here").await.unwrap();
    outer.flush().await.unwrap();
    let mut got = [0; 10];
    inner.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"still here");
}

#[tokio::test]
async fn without_an_identity_nothing_is_served_and_nothing_is_dialled() {
    let secrets = Secrets::default();
    let acceptor = MtlsAcceptor::new(MtlsConfig::default(), &secrets);
    let connector = MtlsConnector::new(&reviews(&[]), &TrustDomains::default(), &secrets);
    let missing = SecretState::Missing(crate::SecretError("the workload has no certificate: why".into()));
    for name in [SecretRef::Workload, SecretRef::MeshRoots] {
        secrets.set(&name, missing.clone());
    }
    let (accepted, connected) = shake(&acceptor, &connector, Carries::Http1).await;
    for error in [accepted.unwrap_err(), connected.unwrap_err(), acceptor.ready().await.unwrap_err()] {
        assert!(error.to_string().contains("the workload has no certificate: why"), "{error}");
    }
}

#[test]
fn limits() {
    let default = TlsParameters::mesh(false, []);
    assert_eq!((default.min, default.max), (TlsVersion::V1_2, TlsVersion::V1_3));
    assert!(default.cipher_suites.iter().all(|s| mesh_core::snapshot::CIPHER_SUITES.contains(&&**s)));
    let raised = TlsParameters::mesh(true, ["ECDHE-RSA-AES128-GCM-SHA256"]);
    assert_eq!((raised.min, raised.cipher_suites.len()), (TlsVersion::V1_3, 1));
}
