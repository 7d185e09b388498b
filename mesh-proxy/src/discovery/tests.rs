use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use mesh_core::snapshot::ProxyKind;
use tokio::net::UnixStream;

use super::*;
use mesh_core::wire::WireResource;

fn proxy() -> ProxyId {
    ProxyId {
        kind: ProxyKind::Sidecar,
        workload: "c//Pod/default/reviews-1".into(),
        name: "reviews-1".into(),
        namespace: "default".into(),
        addresses: vec![IpAddr::V4(Ipv4Addr::new(10, 244, 0, 7))],
        domain: "cluster.local".into(),
    }
}

fn resource(kind: &str, name: &str, body: &str) -> Arc<WireResource> {
    let name = ResourceName { kind: kind.into(), name: name.into() };
    Arc::new(WireResource { name, version: ContentHash::of(body.as_bytes()), body: body.as_bytes().into() })
}

fn delta(nonce: &str, changed: Vec<Arc<WireResource>>, removed: Vec<ResourceName>) -> Delta {
    Delta { nonce: nonce.into(), changed, removed }
}

#[tokio::test]
async fn deltas_and_acknowledgements_cross_an_inherited_socket() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let (tx, mut streams) = mpsc::channel(1);
    tokio::spawn(serve(UnixStream::from_std(ours).unwrap(), tx));
    let mut source = connect(Target::Fd(theirs.into()), proxy(), Arc::default());

    let mut stream = streams.recv().await.unwrap();
    assert_eq!(stream.id, proxy());
    assert!(stream.held.is_empty());
    let sent = delta("1", vec![resource("mesh/Service", "default/a.b:c", "{}"), resource("x/Y", "n/m", "yy")], vec![]);
    stream.deltas.send(sent.clone()).await.unwrap();
    assert_eq!(source.next().await.unwrap(), sent);

    let refused = Rejection { name: sent.changed[1].name.clone(), message: "unknown kind".into() };
    let ack = Ack { nonce: "1".into(), config: ContentHash(0xfeed), rejected: vec![refused] };
    source.ack(ack.clone()).await;
    assert_eq!(stream.acks.recv().await.unwrap(), ack);

    // Whoever holds the server's end sees a proxy go, and the proxy sees its server go.
    drop(stream.deltas);
    assert_eq!(source.next().await, None);
}

#[tokio::test]
async fn a_reconnected_proxy_says_what_it_holds() {
    let name = format!("mesh-discovery-test-{}", std::process::id());
    let address =
        <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(&name).unwrap();
    let listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::UnixListener::from_std(listener).unwrap();
    let (tx, mut streams) = mpsc::channel(1);
    let mut source = connect(Target::Path(format!("@{name}").into()), proxy(), Arc::default());

    let server = tokio::spawn(serve(listener.accept().await.unwrap().0, tx.clone()));
    let stream = streams.recv().await.unwrap();
    let (a, b) = (resource("k/A", "n/a", "1"), resource("k/B", "n/b", "2"));
    stream.deltas.send(delta("1", vec![a.clone(), b.clone()], vec![])).await.unwrap();
    stream.deltas.send(delta("2", vec![], vec![a.name.clone()])).await.unwrap();
    assert_eq!(source.next().await.unwrap().nonce, "1");
    assert_eq!(source.next().await.unwrap().removed, std::slice::from_ref(&a.name));
    server.abort();
    drop(stream);

    tokio::spawn(serve(listener.accept().await.unwrap().0, tx));
    let stream = streams.recv().await.unwrap();
    assert_eq!(stream.held, [(b.name.clone(), b.version)].into());
    stream.deltas.send(delta("3", vec![], vec![])).await.unwrap();
    assert_eq!(source.next().await.unwrap(), delta("3", vec![], vec![]));
}

#[test]
fn wrong_names_and_versions_are_left_out_by_name() {
    let good = proto::Resource { name: "k/A:n/a".into(), version: "10".into(), resource: Some(proto::Any::default()) };
    let bad = proto::Resource { name: "nameless".into(), ..good.clone() };
    let response = proto::DeltaResponse { resources: vec![good, bad], ..proto::DeltaResponse::default() };
    let (delta, foreign) = response.into_delta();
    assert_eq!(delta.changed.len(), 1);
    assert_eq!(delta.changed[0].version, ContentHash(0x10));
    assert_eq!(foreign, ["nameless"]);
}
