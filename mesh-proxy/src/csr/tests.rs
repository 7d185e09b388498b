use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use mesh_core::env::Env;
use mesh_tls::{
    Authority, AuthorityConfig, CaError, CertManager, CertSigner, CertSource, CertState, RotationConfig, SpiffeId,
    Tokens,
};
use prost::Message as _;

use super::*;
use crate::discovery::proto::Value;

#[derive(Default)]
struct FixedEnv(AtomicU64);

impl Env for FixedEnv {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn random(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// A CA that knows one workload.
struct Ca {
    authority: Authority,
    tokens: Tokens,
}

impl CsrServer for Ca {
    fn sign(&self, authorization: Option<&str>, request: &CertificateRequest) -> Result<Vec<String>, CaError> {
        let id = self.tokens.authenticate(authorization, "sleep-1")?;
        let validity = Duration::from_secs(request.validity_duration.try_into().unwrap_or(0));
        self.authority.issue(&id, request.csr.as_bytes(), validity)
    }
}

fn id() -> SpiffeId {
    SpiffeId::new("cluster.local", "default", "sleep")
}

/// A client of a CA, with this in its token file.
fn client(ca: &Arc<Ca>, token: Option<&str>) -> (impl CertSigner + Clone + use<>, tempfile::Dir) {
    let dir = tempfile::Dir::new();
    let path = dir.0.join("istio-token");
    if let Some(token) = token {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        file.write_all(token.as_bytes()).unwrap();
    }
    let ca = Arc::clone(ca);
    let dial = move || {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        tokio::spawn(serve(theirs, Arc::clone(&ca) as Arc<dyn CsrServer>));
        std::future::ready(Ok::<_, std::io::Error>(ours))
    };
    (CsrClient::new(Redial(dial), Some(path), "Kubernetes"), dir)
}

/// A directory that goes with the test.
mod tempfile {
    use std::sync::atomic::{AtomicU64, Ordering};

    pub(super) struct Dir(pub(super) std::path::PathBuf);

    impl Dir {
        pub(super) fn new() -> Self {
            static NEXT: AtomicU64 = AtomicU64::new(0);
            let name = format!("mesh-csr-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

fn ca() -> Arc<Ca> {
    let authority = Authority::self_signed(AuthorityConfig::default(), Arc::new(FixedEnv::default())).unwrap();
    Arc::new(Ca { authority, tokens: Tokens::default() })
}

#[tokio::test]
async fn a_workload_gets_its_identity_over_grpc() {
    let ca = ca();
    let token = ca.tokens.issue(id(), "sleep-1").unwrap();
    let (client, _dir) = client(&ca, Some(&format!("{}\n", token.expose())));
    let (manager, handle) = CertManager::new(id(), client, RotationConfig::default(), Arc::new(FixedEnv::default()));
    let mut state = handle.watch();
    let issued = async {
        let state = state.wait_for(|s| !matches!(s, CertState::Waiting)).await.unwrap();
        state.clone()
    };
    let state = tokio::select! {
        () = manager.run() => unreachable!("it runs for ever"),
        state = issued => state,
    };
    let CertState::Issued(cert) = state else { panic!("{state:?}") };
    assert_eq!(cert.id, id());
    assert_eq!(*cert.bundle, **ca.authority.trust_bundle().borrow());
}

/// Over the proxy's one connection to its control plane, beside the configuration.
#[tokio::test]
async fn the_configuration_channel_carries_it() {
    use crate::discovery::secrets::NoSecrets;
    use crate::discovery::{Target, connect, serve_with};
    let ca = ca();
    let token = ca.tokens.issue(id(), "sleep-1").unwrap();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let (tx, _streams) = tokio::sync::mpsc::channel(1);
    let io = tokio::net::UnixStream::from_std(ours).unwrap();
    tokio::spawn(serve_with(io, tx, Arc::new(NoSecrets), Arc::clone(&ca) as Arc<dyn CsrServer>));
    let proxy = mesh_core::snapshot::ProxyId {
        kind: mesh_core::snapshot::ProxyKind::Sidecar,
        workload: "c//Pod/default/sleep-1".into(),
        name: "sleep-1".into(),
        namespace: "default".into(),
        addresses: vec![],
        domain: "cluster.local".into(),
    };
    let source = connect(Target::Fd(theirs.into()), proxy, Arc::default());
    let dir = tempfile::Dir::new();
    let path = dir.0.join("istio-token");
    std::fs::write(&path, token.expose()).unwrap();
    let client = CsrClient::new(source.channel(), Some(path), "Kubernetes");
    let (manager, handle) = CertManager::new(id(), client, RotationConfig::default(), Arc::new(FixedEnv::default()));
    let mut state = handle.watch();
    tokio::select! {
        () = manager.run() => unreachable!("it runs for ever"),
        state = state.wait_for(|s| !matches!(s, CertState::Waiting)) => {
            assert!(matches!(&*state.unwrap(), CertState::Issued(_)));
        }
    }
}

/// What the CA trusts is told, and told again when it is something else.
#[tokio::test]
async fn the_configuration_channel_says_what_the_ca_trusts() {
    use crate::discovery::secrets::{ROOT_CA, SecretPem, SecretServer};
    use crate::discovery::{Target, connect, serve_with};
    struct Bundle(tokio::sync::watch::Receiver<u64>);
    impl SecretServer for Bundle {
        fn get(&self, name: &str) -> Result<SecretPem, String> {
            let bundle = || SecretPem::Roots(format!("bundle {}", *self.0.borrow()).into_bytes(), None);
            (name == ROOT_CA).then(bundle).ok_or_else(|| "nothing else".to_owned())
        }

        fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
            self.0.clone()
        }
    }
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let (tx, _streams) = tokio::sync::mpsc::channel(1);
    let io = tokio::net::UnixStream::from_std(ours).unwrap();
    let now = tokio::sync::watch::Sender::new(1);
    tokio::spawn(serve_with(io, tx, Arc::new(Bundle(now.subscribe())), ca() as Arc<dyn CsrServer>));
    let proxy = mesh_core::snapshot::ProxyId {
        kind: mesh_core::snapshot::ProxyKind::Sidecar,
        workload: "c//Pod/default/sleep-1".into(),
        name: "sleep-1".into(),
        namespace: "default".into(),
        addresses: vec![],
        domain: "cluster.local".into(),
    };
    let source = connect(Target::Fd(theirs.into()), proxy, Arc::default());
    let mut bundle = source.channel().bundle();
    for number in [1, 2] {
        now.send_replace(number);
        let wanted = format!("bundle {number}");
        bundle.wait_for(|b| b.as_ref().is_some_and(|b| *b == wanted)).await.unwrap();
    }
}

#[tokio::test]
async fn who_cannot_prove_it_gets_nothing_and_learns_nothing() {
    let ca = ca();
    let stolen = ca.tokens.issue(SpiffeId::new("cluster.local", "default", "other"), "other-1").unwrap();
    for token in [Some("nonsense"), Some(""), Some(stolen.expose())] {
        let (client, _dir) = client(&ca, token);
        let said = client.sign(&id(), b"", Duration::ZERO).await.unwrap_err();
        assert_eq!(said, CaError::Unauthenticated("request authenticate failure".into()), "{token:?}");
    }
    let (client, _dir) = self::client(&ca, None);
    let said = client.sign(&id(), b"", Duration::ZERO).await.unwrap_err();
    assert!(matches!(said, CaError::Unavailable(why) if why.starts_with("token ")));
}

#[tokio::test]
async fn a_bad_request_is_told_and_a_ca_that_is_gone_is_asked_again_later() {
    let ca = ca();
    let token = ca.tokens.issue(id(), "sleep-1").unwrap();
    let (client, _dir) = client(&ca, Some(token.expose()));
    let said = client.sign(&id(), b"nonsense", Duration::ZERO).await.unwrap_err();
    assert!(matches!(&said, CaError::Request(why) if why.contains("PEM")), "{said:?}");
    let gone = CsrClient::new(
        Redial(|| std::future::ready(Err::<tokio::io::DuplexStream, _>(std::io::ErrorKind::ConnectionRefused.into()))),
        None,
        "Kubernetes",
    );
    let said = gone.sign(&id(), b"", Duration::ZERO).await.unwrap_err();
    assert!(matches!(&said, CaError::Unavailable(_)), "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn a_ca_that_does_not_answer_is_not_waited_for() {
    let silent = CsrClient::new(
        Redial(|| {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            std::mem::forget(theirs);
            std::future::ready(Ok::<_, std::io::Error>(ours))
        }),
        None,
        "Kubernetes",
    );
    let said = silent.sign(&id(), b"", Duration::ZERO).await.unwrap_err();
    assert_eq!(said, CaError::Unavailable("no answer in time".into()));
}

/// Field numbers of `ca.proto`, byte by byte.
#[test]
fn messages_are_istios() {
    let fields = [("ImpersonatedIdentity".to_owned(), Value { string_value: Some("x".into()) })];
    let metadata = Some(Struct { fields: fields.into() });
    let request = CertificateRequest { csr: "c".into(), validity_duration: 5, metadata };
    let bytes = request.encode_to_vec();
    assert_eq!(bytes[..5], [0x0a, 1, b'c', 0x18, 5]);
    assert_eq!(bytes[5], 0x22);
    let read = CertificateRequest::decode(&*bytes).unwrap();
    assert_eq!(read.impersonated(), Some("x"));
    let response = CertificateResponse { cert_chain: vec!["a".into(), "b".into()] };
    assert_eq!(response.encode_to_vec(), [0x0a, 1, b'a', 0x0a, 1, b'b']);
}
