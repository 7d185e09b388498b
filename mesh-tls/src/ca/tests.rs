use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls_pki_types::UnixTime;
use rustls_pki_types::pem::PemObject;
use webpki::KeyUsage;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

use super::*;
use crate::Roots;
use crate::tests::TestEnv;
use crate::verify::ChainVerifier;

const HOUR: Duration = Duration::from_secs(3600);

fn id() -> SpiffeId {
    SpiffeId::new("cluster.local", "default", "bookinfo-productpage")
}

fn csr() -> String {
    Key::generate(KeyKind::EcdsaP256).unwrap().request(&id()).unwrap()
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn own(env: &Arc<TestEnv>) -> Authority {
    Authority::self_signed(AuthorityConfig::default(), env.clone()).unwrap()
}

/// Whether the chain of an answer holds for somebody who trusts this bundle.
fn holds(answer: &[String], bundle: &str, now: SystemTime) -> Result<(), String> {
    let roots = Arc::new(Roots::from_pem(bundle.as_bytes(), None).unwrap());
    let verifier = ChainVerifier::new(Some(roots), true, &rustls::crypto::aws_lc_rs::default_provider());
    let chain: Vec<_> = answer[..answer.len() - 1].iter().map(|p| der(p)).collect();
    let time = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap());
    verifier.verify(&chain[0], &chain[1..], time, KeyUsage::client_auth()).map_err(|e| e.to_string())
}

#[tokio::test(start_paused = true)]
async fn a_leaf_is_as_istios() {
    let env = TestEnv::new();
    let ca = own(&env);
    let answer = ca.issue(&id(), csr().as_bytes(), Duration::ZERO).unwrap();
    assert_eq!(answer.len(), 2, "the leaf and the bundle");
    let (leaf, root) = (der(&answer[0]), der(&answer[1]));
    let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
    let (_, root) = X509Certificate::from_der(&root).unwrap();

    assert_eq!(leaf.version(), X509Version::V3);
    assert_eq!(leaf.subject().iter().count(), 0);
    assert_eq!(root.subject().to_string(), "O=cluster.local");
    assert_eq!(leaf.issuer(), root.subject());
    let now = i64::try_from(env.now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()).unwrap();
    assert_eq!(leaf.validity().not_before.timestamp(), now - 120);
    assert_eq!(leaf.validity().not_after.timestamp(), now + 24 * 3600);

    let mut seen = Vec::new();
    for extension in leaf.extensions() {
        let what = match extension.parsed_extension() {
            ParsedExtension::KeyUsage(usage) => {
                assert_eq!(usage.flags, 0b101, "digital signature and key encipherment");
                "usage"
            }
            ParsedExtension::ExtendedKeyUsage(usage) => {
                assert!(usage.server_auth && usage.client_auth && !usage.any && usage.other.is_empty());
                "extended usage"
            }
            ParsedExtension::BasicConstraints(constraints) => {
                assert!(!constraints.ca && constraints.path_len_constraint.is_none());
                "constraints"
            }
            ParsedExtension::AuthorityKeyIdentifier(signer) => {
                let key_id = root.extensions().iter().find_map(|e| match e.parsed_extension() {
                    ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
                    _ => None,
                });
                assert_eq!(signer.key_identifier.as_ref().map(|k| k.0), key_id);
                "signer"
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                let uri = "spiffe://cluster.local/ns/default/sa/bookinfo-productpage";
                assert_eq!(names.general_names, [GeneralName::URI(uri)]);
                "names"
            }
            other => panic!("{other:?}"),
        };
        seen.push((what, extension.critical));
    }
    seen.sort_unstable();
    let expected =
        [("constraints", true), ("extended usage", false), ("names", true), ("signer", false), ("usage", true)];
    assert_eq!(seen, expected);
    assert_eq!(holds(&answer, &answer[1], env.now()), Ok(()));
    let again = ca.issue(&id(), csr().as_bytes(), Duration::ZERO).unwrap();
    let again = der(&again[0]);
    assert_ne!(X509Certificate::from_der(&again).unwrap().1.raw_serial(), leaf.raw_serial());
}

/// What an attacker may write into a request.
#[tokio::test(start_paused = true)]
async fn of_a_request_only_the_key_counts() {
    let ca = own(&TestEnv::new());
    let key = KeyPair::generate().unwrap();
    let mut wish = CertificateParams::default();
    wish.distinguished_name = DistinguishedName::new();
    wish.distinguished_name.push(DnType::CommonName, "istiod.istio-system.svc");
    wish.subject_alt_names = vec![
        SanType::URI("spiffe://cluster.local/ns/istio-system/sa/istiod".try_into().unwrap()),
        SanType::DnsName("istiod.istio-system.svc".try_into().unwrap()),
    ];
    wish.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    wish.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    wish.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    let request = wish.serialize_request(&key).unwrap().pem().unwrap();
    let answer = ca.issue(&id(), request.as_bytes(), HOUR).unwrap();
    let leaf = der(&answer[0]);
    let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
    assert_eq!(leaf.public_key().raw, key.subject_public_key_info());
    assert_eq!(leaf.subject().iter().count(), 0);
    assert!(!leaf.is_ca());
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names, [GeneralName::URI(&id().to_string())]);
    assert_eq!(leaf.key_usage().unwrap().unwrap().value.flags, 0b101);
    assert!(!leaf.extended_key_usage().unwrap().unwrap().value.code_signing);
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_refused() {
    let ca = own(&TestEnv::new());
    let good = csr();
    let mut forged = pem_body(&good);
    *forged.last_mut().unwrap() ^= 1;
    let mut followed = pem_body(&good);
    followed.push(0);
    let day = HOUR * 24;
    for (what, request, ttl, why) in [
        ("another's key", crate::pem::encode("CERTIFICATE REQUEST", &forged), day, "signature"),
        ("trailing", crate::pem::encode("CERTIFICATE REQUEST", &followed), day, "follows"),
        ("no PEM", "nonsense".to_owned(), day, "PEM"),
        ("no request", crate::pem::encode("CERTIFICATE REQUEST", b"nonsense"), day, "PKCS#10"),
        ("another label", good.replace("CERTIFICATE REQUEST", "CERTIFICATE"), day, "PEM"),
        ("too long", good.clone() + &" ".repeat(1 << 17), day, "too long"),
        ("for ever", good.clone(), day * 91, "longer than"),
    ] {
        match ca.issue(&id(), request.as_bytes(), ttl) {
            Err(CaError::Request(said)) => assert!(said.contains(why), "{what}: {said}"),
            other => panic!("{what}: {other:?}"),
        }
    }
    assert!(ca.issue(&id(), good.as_bytes(), day * 90).is_ok());
    let strange = SpiffeId::new("cluster.local", "default", "ä");
    assert!(matches!(ca.issue(&strange, good.as_bytes(), day), Err(CaError::Request(_))));
}

fn pem_body(request: &str) -> Vec<u8> {
    rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(request.as_bytes()).unwrap().to_vec()
}

fn shared(dir: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus/certs").join(dir);
    if !path.exists() {
        eprintln!("SKIPPED: {} is not there", path.display());
        return None;
    }
    Some(path)
}

fn files(dir: &Path, names: &[(&str, &str)]) -> SecretData {
    let read = |file: &str| std::fs::read(dir.join(file)).unwrap();
    SecretData(names.iter().map(|(name, file)| ((*name).to_owned(), read(file))).collect::<BTreeMap<_, _>>())
}

const ISTIO: [(&str, &str); 4] = [
    ("ca-cert.pem", "ca-cert.pem"),
    ("ca-key.pem", "ca-key.pem"),
    ("cert-chain.pem", "cert-chain.pem"),
    ("root-cert.pem", "root-cert.pem"),
];

/// Istio's layout with some files taken from elsewhere.
fn but(changes: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let changed = |name| changes.iter().find(|(n, _)| *n == name).map(|(_, f)| *f);
    ISTIO.into_iter().map(|(name, file)| (name, changed(name).unwrap_or(file))).collect()
}

#[tokio::test(start_paused = true)]
async fn both_layouts_of_an_operators_root() {
    let Some(dir) = shared("samples") else { return };
    let env = TestEnv::new();
    let alt = [
        ("ca-cert.pem", "ca-cert-alt.pem"),
        ("ca-key.pem", "ca-key-alt.pem"),
        ("cert-chain.pem", "cert-chain-alt.pem"),
        ("root-cert.pem", "root-cert-alt.pem"),
    ];
    let tls = [("tls.crt", "ca-cert.pem"), ("tls.key", "ca-key.pem"), ("ca.crt", "root-cert.pem")];
    // The TLS layout is looked for first.
    let both = [&alt[..], &tls].concat();
    let no_chain = [ISTIO[0], ISTIO[1], ISTIO[3]];
    for (what, names, issuer) in [
        ("Istio's", &ISTIO[..], "Istio CA"),
        ("with the root in the chain", &alt, "Intermediate CA"),
        ("TLS", &tls, "Istio CA"),
        ("both", &both, "Istio CA"),
        ("no chain", &no_chain, "Istio CA"),
    ] {
        let ca = Authority::plugged_in(&files(&dir, names), AuthorityConfig::default(), env.clone()).unwrap();
        let answer = ca.issue(&id(), csr().as_bytes(), HOUR).unwrap();
        assert_eq!(answer.len(), 3, "{what}: leaf, one intermediate, root");
        let leaf = der(&answer[0]);
        assert!(X509Certificate::from_der(&leaf).unwrap().1.issuer().to_string().contains(issuer), "{what}");
        assert_eq!(answer[2], **ca.trust_bundle().borrow());
        assert_eq!(holds(&answer, &answer[2], env.now()), Ok(()), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn operators_files_that_are_refused() {
    let (Some(dir), Some(pki)) = (shared("samples"), shared("pki")) else { return };
    let env = TestEnv::new();
    let read = |names: &[(&str, &str)]| {
        let made = Authority::plugged_in(&files(&dir, names), AuthorityConfig::default(), env.clone());
        made.map(drop).map_err(|e| e.to_string())
    };
    for (what, names, why) in [
        ("another's key", but(&[("ca-key.pem", "ca-key-alt.pem")]), "ca-cert.pem: the key does not belong"),
        (
            "a pair that is broken in the corpus",
            but(&[("ca-cert.pem", "ca-cert-alt-2.pem"), ("ca-key.pem", "ca-key-alt-2.pem")]),
            "the key does not belong",
        ),
        ("a leaf", but(&[("ca-cert.pem", "workload-foo-cert.pem")]), "ca-cert.pem: the certificate is no authority's"),
        ("another's root", but(&[("root-cert.pem", "root-cert-alt.pem")]), "does not lead to the roots"),
        ("no key", but(&[("ca-key.pem", "ca-cert.pem")]), "ca-key.pem: "),
        ("no certificate", but(&[("ca-cert.pem", "ca-key.pem")]), "no certificate in ca-cert.pem"),
        ("no root", but(&[("root-cert.pem", "ca-key.pem")]), "no certificate in root-cert.pem"),
    ] {
        let said = read(&names).unwrap_err();
        assert!(said.contains(why), "{what}: {said}");
    }
    assert!(read(&ISTIO[..3]).unwrap_err().contains("there is no root-cert.pem"));
    let pki = |files_: [&str; 3]| {
        let names = [("ca-cert.pem", files_[0]), ("ca-key.pem", files_[1]), ("root-cert.pem", files_[2])];
        let made = Authority::plugged_in(&files(&pki, &names), AuthorityConfig::default(), env.clone());
        made.map(drop).map_err(|e| e.to_string())
    };
    for (names, why) in [
        (["expired-cert.pem", "key.pem", "expired-cert.pem"], "does not belong"),
        (["cert-parse-fail.pem", "key.pem", "cert.pem"], "can't be read"),
        (["cert.pem", "key-parse-fail.pem", "cert.pem"], "key-pem"),
        (["cert.pem", "key-mismatch.pem", "cert.pem"], "does not belong"),
        (["workload-cert.pem", "workload-key.pem", "cert-chain.pem"], "no authority's"),
        (["cert.pem", "key.pem", "cert-parse-fail.pem"], "can't be read"),
    ] {
        let said = pki(names).unwrap_err();
        let why = why.replace("key-pem", "ca-key.pem: the");
        assert!(said.contains(&why), "{names:?}: {said}");
    }
}

/// An intermediate that the operator made for so long, in Istio's layout.
fn short(env: &TestEnv, life: Duration) -> SecretData {
    let config = AuthorityConfig { root_ttl: life, ..AuthorityConfig::default() };
    let root = profile::root(&config, Key::generate(KeyKind::EcdsaP256).unwrap(), env).unwrap();
    let (cert, key) = (pem_of(&root.certificate), root.issuer.key().private().expose().to_vec());
    let named = |name: &str, data: &[u8]| (name.to_owned(), data.to_vec());
    let roots = named("root-cert.pem", cert.as_bytes());
    SecretData([named("ca-cert.pem", cert.as_bytes()), named("ca-key.pem", &key), roots].into())
}

#[tokio::test(start_paused = true)]
async fn a_leaf_does_not_outlive_its_signer_and_an_expired_signer_signs_nothing() {
    let env = TestEnv::new();
    let data = short(&env, HOUR * 2);
    let ca = Authority::plugged_in(&data, AuthorityConfig::default(), env.clone()).unwrap();
    let answer = ca.issue(&id(), csr().as_bytes(), HOUR * 24).unwrap();
    let leaf = der(&answer[0]);
    let end = X509Certificate::from_der(&leaf).unwrap().1.validity().not_after.timestamp();
    let signer = ca.not_after().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(u64::try_from(end).unwrap(), signer);
    env.jump(HOUR * 2);
    assert!(matches!(ca.issue(&id(), csr().as_bytes(), HOUR), Err(CaError::Signer(_))));
    let late = Authority::plugged_in(&data, AuthorityConfig::default(), env.clone()).unwrap_err();
    assert!(late.to_string().contains("expired"), "{late}");
}

/// At any time, every leaf that is still valid holds for everybody whose own leaf is still valid, by the bundle that came
/// with it.
#[tokio::test(start_paused = true)]
async fn nobody_meets_a_certificate_that_it_cannot_verify_while_the_root_changes() {
    let env = TestEnv::new();
    let ca = own(&env);
    let first = ca.trust_bundle().borrow().clone();
    let mut alive: Vec<(Vec<String>, SystemTime)> = Vec::new();
    let mut steps = vec![Rotation::Stable];
    for minute in 0..40 {
        if minute == 5 {
            ca.rotate_root().unwrap();
            assert!(ca.rotate_root().is_err(), "one change at a time");
        }
        let answer = ca.issue(&id(), csr().as_bytes(), Duration::from_secs(300)).unwrap();
        alive.push((answer, env.now() + Duration::from_secs(300)));
        alive.retain(|(_, end)| *end > env.now());
        for (answer, _) in &alive {
            for (other, _) in &alive {
                let held = holds(answer, other.last().unwrap(), env.now());
                assert_eq!(held, Ok(()), "minute {minute}, {:?}", ca.rotation());
            }
        }
        if steps.last() != Some(&ca.rotation()) {
            steps.push(ca.rotation());
        }
        env.jump(Duration::from_secs(60));
    }
    assert_eq!(steps, [Rotation::Stable, Rotation::Announced, Rotation::Retiring, Rotation::Stable]);
    let last = ca.trust_bundle().borrow().clone();
    assert_ne!(first, last);
    assert!(holds(&alive.last().unwrap().0, &first, env.now()).is_err(), "it is another key");
}

#[tokio::test(start_paused = true)]
async fn an_old_root_is_issued_again_with_its_key() {
    let env = TestEnv::new();
    let config = AuthorityConfig { root_ttl: HOUR * 100, ..AuthorityConfig::default() };
    let ca = Authority::self_signed(config, env.clone()).unwrap();
    let before = ca.not_after();
    let old = ca.issue(&id(), csr().as_bytes(), HOUR).unwrap();
    env.jump(HOUR * 79);
    ca.maintain();
    assert_eq!((ca.not_after(), ca.rotation()), (before, Rotation::Stable));
    env.jump(HOUR * 2);
    ca.maintain();
    assert!(ca.not_after() > before);
    assert_eq!(ca.rotation(), Rotation::Retiring);
    let new = ca.issue(&id(), csr().as_bytes(), HOUR).unwrap();
    assert_eq!(holds(&new, &old[1], env.now()), Ok(()), "who knows the old one only trusts the new one's leaves");
    env.jump(HOUR * 2);
    ca.maintain();
    assert_eq!(ca.rotation(), Rotation::Stable);
    assert_eq!(ca.trust_bundle().borrow().matches("BEGIN").count(), 1);
}

/// An operator's root.
struct Operator {
    issuer: rcgen::Issuer<'static, KeyPair>,
    pem: String,
}

impl Operator {
    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    fn new(name: &str) -> Self {
        let (params, key) = (Self::params(name), KeyPair::generate().unwrap());
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: rcgen::Issuer::new(params, key), pem }
    }

    /// What the CA of one cluster is given.
    fn intermediate(&self, name: &str) -> SecretData {
        let key = KeyPair::generate().unwrap();
        let pem = Self::params(name).signed_by(&key, &self.issuer).unwrap().pem();
        let files = [("ca-cert.pem", &pem), ("ca-key.pem", &key.serialize_pem()), ("cert-chain.pem", &pem)];
        let all = files.into_iter().chain([("root-cert.pem", &self.pem)]);
        SecretData(all.map(|(name, pem)| (name.to_owned(), pem.as_bytes().to_vec())).collect())
    }
}

#[tokio::test(start_paused = true)]
async fn other_files_while_running() {
    let env = TestEnv::new();
    let (one, other) = (Operator::new("root one"), Operator::new("root other"));
    let (first, second, foreign) =
        (one.intermediate("cluster1"), one.intermediate("cluster2"), other.intermediate("cluster3"));
    for multi_root in [false, true] {
        let config = AuthorityConfig { multi_root, ..AuthorityConfig::default() };
        let ca = Authority::plugged_in(&first, config, env.clone()).unwrap();
        let issued_by = || {
            let answer = ca.issue(&id(), csr().as_bytes(), HOUR).unwrap();
            let leaf = der(&answer[0]);
            X509Certificate::from_der(&leaf).unwrap().1.issuer().to_string()
        };
        assert!(issued_by().contains("cluster1"));
        ca.replace(&second).unwrap();
        assert!(issued_by().contains("cluster2"), "another intermediate of the same root is in force at once");
        assert!(ca.rotate_root().is_err());
        let another = ca.replace(&foreign);
        assert_eq!(another.is_ok(), multi_root, "{another:?}");
        assert!(issued_by().contains("cluster2"), "the new root is only announced");
        let trusted = ca.trust_bundle().borrow().matches("BEGIN").count();
        assert_eq!(trusted, if multi_root { 2 } else { 1 });
        env.jump(HOUR * 2);
        assert_eq!(issued_by().contains("cluster3"), multi_root);
        assert!(ca.replace(&SecretData::default()).is_err());
    }
}

/// What an authority of the operator has revoked.
fn revoked(issuer: &rcgen::Issuer<'static, KeyPair>, serials: &[u64]) -> String {
    let certificate = |serial: &u64| rcgen::RevokedCertParams {
        serial_number: rcgen::SerialNumber::from(*serial),
        revocation_time: rcgen::date_time_ymd(2024, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let list = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2024, 1, 1),
        next_update: rcgen::date_time_ymd(2099, 1, 1),
        crl_number: rcgen::SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(certificate).collect(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    list.signed_by(issuer).unwrap().pem().unwrap()
}

impl Operator {
    /// The CA of a cluster with a number of its own, and what it signs with.
    fn numbered(&self, name: &str, serial: u64) -> (SecretData, rcgen::Issuer<'static, KeyPair>) {
        let (mut params, key) = (Self::params(name), KeyPair::generate().unwrap());
        params.serial_number = Some(rcgen::SerialNumber::from(serial));
        let (pem, key_pem) = (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem());
        let files = [("ca-cert.pem", &pem), ("ca-key.pem", &key_pem), ("root-cert.pem", &self.pem)];
        let data = files.map(|(name, pem)| (name.to_owned(), pem.as_bytes().to_vec())).into();
        (SecretData(data), rcgen::Issuer::new(params, key))
    }
}

fn with_lists(data: &SecretData, crl: &str) -> SecretData {
    let mut data = data.clone();
    data.0.insert("ca-crl.pem".into(), crl.as_bytes().to_vec());
    data
}

/// `ca-crl.pem`: what the operator has revoked is refused by whoever has the bundle, as soon as the CA has the list.
#[tokio::test(start_paused = true)]
async fn what_an_operator_has_revoked() {
    let env = TestEnv::new();
    let root = Operator::new("root");
    let ((one, one_issuer), (two, two_issuer)) = (root.numbered("cluster1", 21), root.numbered("cluster2", 22));
    let made = |data: &SecretData| Authority::plugged_in(data, AuthorityConfig::default(), env.clone());
    let lists =
        |by_root: &[u64]| revoked(&root.issuer, by_root) + &revoked(&one_issuer, &[]) + &revoked(&two_issuer, &[]);
    for (what, crl, why) in [
        ("only the root's", revoked(&root.issuer, &[]), Some("has no list of one of the authorities")),
        ("only its own", revoked(&one_issuer, &[]), Some("has no list of one of the authorities")),
        ("it is revoked itself", lists(&[21]), Some("Revoked")),
        ("no list", root.pem.clone(), Some("there is no revocation list in ca-crl.pem")),
        ("broken", crate::pem::encode("X509 CRL", b"nonsense"), Some("the revocation list can't be read")),
        ("nothing", " \n".to_owned(), None),
        ("all of them", lists(&[]), None),
        ("another is revoked", lists(&[22]), None),
    ] {
        match (made(&with_lists(&one, &crl)).map(drop), why) {
            (Ok(()), None) => {}
            (Err(CaError::Files(said)), Some(why)) => assert!(said.contains(why), "{what}: {said}"),
            other => panic!("{what}: {other:?}"),
        }
    }
    // The second cluster's key has been stolen. Its CA goes on, and knows nothing of that.
    let (ours, stolen) = (made(&with_lists(&one, &lists(&[]))).unwrap(), made(&two).unwrap());
    let leaf = |ca: &Authority| ca.issue(&id(), csr().as_bytes(), HOUR).unwrap();
    let verify = |chain: &[String], bundle: &str| {
        let roots = Arc::new(Roots::bundle(bundle.as_bytes()).unwrap());
        let verifier = ChainVerifier::new(Some(roots), true, &rustls::crypto::aws_lc_rs::default_provider());
        let chain: Vec<_> = chain[..chain.len() - 1].iter().map(|p| der(p)).collect();
        let time = UnixTime::since_unix_epoch(env.now().duration_since(SystemTime::UNIX_EPOCH).unwrap());
        verifier.verify(&chain[0], &chain[1..], time, KeyUsage::client_auth()).map_err(|e| e.to_string())
    };
    let mut bundle = ours.trust_bundle();
    let before = leaf(&ours).pop().unwrap();
    assert_eq!((verify(&leaf(&ours), &before), verify(&leaf(&stolen), &before)), (Ok(()), Ok(())));
    bundle.mark_unchanged();
    ours.replace(&with_lists(&one, &lists(&[22]))).unwrap();
    assert!(bundle.has_changed().unwrap(), "who follows the bundle is told");
    let after = leaf(&ours).pop().unwrap();
    assert_eq!(after, **bundle.borrow());
    assert_eq!(verify(&leaf(&ours), &after), Ok(()));
    assert!(verify(&leaf(&stolen), &after).unwrap_err().contains("Revoked"));
    // Lists that are taken back count no more.
    ours.replace(&one).unwrap();
    assert_eq!(verify(&leaf(&stolen), &leaf(&ours).pop().unwrap()), Ok(()));
}

/// Roots of which only some stay are other roots: who knows the old ones alone could not verify what the new ones sign.
#[tokio::test(start_paused = true)]
async fn a_root_more_is_another_bundle() {
    let env = TestEnv::new();
    let (old, new) = (Operator::new("old"), Operator::new("new"));
    let first = old.intermediate("cluster1");
    let mut both = new.intermediate("cluster2");
    both.0.insert("root-cert.pem".into(), [old.pem.as_bytes(), new.pem.as_bytes()].concat());
    let ca = Authority::plugged_in(&first, AuthorityConfig::default(), env.clone()).unwrap();
    let said = ca.replace(&both).unwrap_err().to_string();
    assert!(said.contains("the roots are others"), "{said}");
    let config = AuthorityConfig { multi_root: true, ..AuthorityConfig::default() };
    let ca = Authority::plugged_in(&first, config, env.clone()).unwrap();
    let issue = || ca.issue(&id(), csr().as_bytes(), HOUR).unwrap();
    let knows_old = issue().pop().unwrap();
    ca.replace(&both).unwrap();
    assert_eq!((ca.rotation(), holds(&issue(), &knows_old, env.now())), (Rotation::Announced, Ok(())));
    // Where one has lists and the other none, everything of the latter would be refused.
    let (data, issuer) = old.numbered("cluster3", 23);
    let listed = with_lists(&data, &(revoked(&old.issuer, &[]) + &revoked(&issuer, &[])));
    let config = AuthorityConfig { multi_root: true, ..AuthorityConfig::default() };
    let ca = Authority::plugged_in(&listed, config, env.clone()).unwrap();
    let said = ca.replace(&new.intermediate("cluster4")).unwrap_err().to_string();
    assert!(said.contains("revocation lists"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn the_authority_does_not_print_its_key() {
    let ca = own(&TestEnv::new());
    let printed = format!("{ca:?} {:?}", ca.state.load().signer.issuer);
    let secret = ca.state.load().signer.issuer.key().private();
    let secret = std::str::from_utf8(secret.expose()).unwrap().lines().nth(1).unwrap().to_owned();
    assert!(!printed.contains("PRIVATE") && !printed.contains(&secret), "{printed}");
}

/// What the tour shows: `openssl x509 -text`.
#[tokio::test(start_paused = true)]
async fn openssl_reads_a_leaf_and_what_it_makes_is_signed_or_refused() {
    let run = |arguments: &[&str], input: &str| -> Option<String> {
        let mut child = Command::new("openssl")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Some(String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap())
    };
    if run(&["version"], "").is_none() {
        eprintln!("SKIPPED: there is no openssl");
        return;
    }
    let env = TestEnv::new();
    let config = AuthorityConfig { key: KeyKind::Rsa2048, ..AuthorityConfig::default() };
    let ca = Authority::self_signed(config, env.clone()).unwrap();
    let request = Key::generate(KeyKind::Rsa2048).unwrap().request(&id()).unwrap();
    let answer = ca.issue(&id(), request.as_bytes(), Duration::ZERO).unwrap();
    let text = run(&["x509", "-noout", "-text"], &answer[0]).unwrap();
    let text: Vec<&str> = text.lines().map(str::trim).collect();
    let text = text.join("\n");
    for part in [
        "Version: 3 (0x2)",
        "Signature Algorithm: sha256WithRSAEncryption\nIssuer: O = cluster.local",
        "\nSubject:\n",
        "Public Key Algorithm: rsaEncryption\nPublic-Key: (2048 bit)",
        "X509v3 Key Usage: critical\nDigital Signature, Key Encipherment\n",
        "X509v3 Extended Key Usage:\nTLS Web Server Authentication, TLS Web Client Authentication\n",
        "X509v3 Basic Constraints: critical\nCA:FALSE\n",
        "X509v3 Authority Key Identifier:\n",
        "X509v3 Subject Alternative Name: critical\n\
         URI:spiffe://cluster.local/ns/default/sa/bookinfo-productpage\n",
    ] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
    assert!(!text.contains("Subject Key Identifier"), "{text}");
    for (algorithm, option, fine) in [
        ("rsa", "rsa_keygen_bits:1024", false),
        ("rsa", "rsa_keygen_bits:2048", true),
        ("ec", "ec_paramgen_curve:P-384", true),
    ] {
        let new = ["req", "-new", "-newkey", algorithm, "-pkeyopt", option, "-nodes", "-subj", "/CN=x"];
        let request = run(&[&new[..], &["-keyout", "/dev/null"]].concat(), "").unwrap();
        let signed = ca.issue(&id(), request.as_bytes(), HOUR);
        assert_eq!(signed.is_ok(), fine, "{option}: {signed:?}");
    }
}
