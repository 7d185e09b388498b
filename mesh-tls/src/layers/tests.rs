use std::sync::Arc;
use std::time::Duration;

use mesh_core::snapshot::TlsParameters;
use tokio::io::{DuplexStream, duplex};
use tokio::time::Instant;
use tower::{Layer, Service, service_fn};

use super::*;
use crate::mtls::tests::{Workload, account};
use crate::tests::TestEnv;
use crate::{Authority, AuthorityConfig, KeyKind, MtlsUpstream, Secrets};

fn books(account: &str) -> MtlsConnectConfig {
    MtlsConnectConfig::new(MtlsUpstream {
        host: "books.default.svc.cluster.local".into(),
        port: 80,
        subset: "".into(),
        accounts: vec![format!("spiffe://cluster.local/ns/default/sa/{account}").into()],
        parameters: TlsParameters::mesh(false, []),
    })
}

async fn workload(ca: &Arc<Authority>, env: &Arc<TestEnv>, name: &str) -> Workload {
    Workload::start(ca, env, &account(name), KeyKind::EcdsaP256).await
}

fn authority(env: &Arc<TestEnv>) -> Arc<Authority> {
    Arc::new(Authority::self_signed(AuthorityConfig::default(), env.clone()).unwrap())
}

/// Who each side says that the other is.
async fn meet(
    server: &Secrets,
    client: &Secrets,
    expected: &str,
) -> (Result<String, TlsError>, Result<String, TlsError>) {
    let (ours, theirs) = duplex(1 << 16);
    let whoever = service_fn(async |(_stream, peer): (TlsStream<DuplexStream>, PeerIdentity)| {
        Ok::<_, TlsError>(peer.principal().to_owned())
    });
    let mut accept = MtlsAcceptLayer::new(MtlsAcceptConfig::default(), server).layer(whoever);
    let mut io = Some(ours);
    let mut dial = {
        let dialled = Arc::new(parking_lot::Mutex::new(io.take()));
        let dial = service_fn(move |()| std::future::ready(Ok::<_, TlsError>(dialled.lock().take().unwrap())));
        MtlsConnectLayer::new(books(expected), client).layer(dial)
    };
    let (accepted, connected) = tokio::join!(accept.call(theirs), dial.call(()));
    (accepted, connected.map(|(_, peer)| peer.principal().to_owned()))
}

#[tokio::test(start_paused = true)]
async fn each_side_knows_the_other() {
    let env = TestEnv::new();
    let ca = authority(&env);
    let (server, client) = (workload(&ca, &env, "books").await, workload(&ca, &env, "reader").await);
    let (accepted, connected) = meet(&server.secrets, &client.secrets, "books").await;
    assert_eq!(accepted.unwrap(), "cluster.local/ns/default/sa/reader");
    assert_eq!(connected.unwrap(), "cluster.local/ns/default/sa/books");
    // Somebody else answers than was meant.
    let (_, connected) = meet(&server.secrets, &client.secrets, "other").await;
    assert!(connected.unwrap_err().is_verification());
    // Of another mesh.
    let stranger = workload(&authority(&env), &env, "reader").await;
    let (accepted, _) = meet(&server.secrets, &stranger.secrets, "books").await;
    assert!(accepted.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_handshake_has_its_time() {
    let env = TestEnv::new();
    let ca = authority(&env);
    let books_ = workload(&ca, &env, "books").await;
    let (silent, io) = duplex(1 << 16);
    let nobody = service_fn(async |_: (TlsStream<DuplexStream>, PeerIdentity)| Ok::<_, TlsError>(()));
    let began = Instant::now();
    let mut accept = MtlsAcceptLayer::new(MtlsAcceptConfig::default(), &*books_.secrets).layer(nobody);
    let error = accept.call(io).await.unwrap_err();
    assert!(matches!(&error, TlsError::Handshake(io) if io.kind() == std::io::ErrorKind::TimedOut), "{error}");
    assert_eq!(began.elapsed(), HANDSHAKE);
    let mut io = Some(silent);
    let config = MtlsConnectConfig { handshake: Duration::from_secs(1), ..books("books") };
    let silent = Arc::new(parking_lot::Mutex::new(io.take()));
    let dial = service_fn(move |()| std::future::ready(Ok::<_, TlsError>(silent.lock().take().unwrap())));
    let (_kept, began) = (accept, Instant::now());
    let result = MtlsConnectLayer::new(config, &*books_.secrets).layer(dial).call(()).await;
    assert!(result.is_err());
    assert!(began.elapsed() <= Duration::from_secs(1));
}
