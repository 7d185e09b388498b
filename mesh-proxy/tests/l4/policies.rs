//! AuthorizationPolicies about streams of bytes.

use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use mesh_proxy::listener::Door;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::checker::{grpc, status};
use super::support::{Running, Setup, upstream};

const NOTHING: &str = "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nothing, namespace: default}
spec: {}
";

const DENY_POST: &str = "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: post, namespace: default}
spec: {action: DENY, rules: [{to: [{operation: {methods: [POST], ports: ['5432']}}]}]}
";

#[tokio::test]
async fn g5_a_refused_stream_ends_at_the_first_byte_of_the_client() {
    let (listener, at) = upstream();
    for (policies, by) in [(NOTHING, "none"), (DENY_POST, "ns[default]-policy[post]-rule[0]")] {
        let proxy = Running::start(Setup { policies, ..Setup::tcp(Some(at)) }, Door::Inbound).await;
        let mut client = proxy.client().await;
        client.write_all(b"hello").await.unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "", "FIN, and not a byte");
        let record = proxy.record().await;
        assert_eq!(*record.termination, *format!("rbac_access_denied_matched_policy[{by}]"));
        assert_eq!(record.cx.request_bytes.load(Ordering::Relaxed), 5);
        assert_eq!(record.cx.flags.load(Ordering::Relaxed), 0);
        assert!(record.cx.endpoint.get().is_none(), "nobody is dialled");
    }
    drop(listener);
}

/// Nobody is dialled for a client that waits for the server to speak first, either.
#[tokio::test(start_paused = true)]
async fn a_refused_client_hears_nothing_of_the_server() {
    let (listener, at) = upstream();
    let setup = Setup { policies: NOTHING, detect: true, ..Setup::tcp(Some(at)) };
    let proxy = Running::start(setup, Door::Inbound).await;
    let mut client = proxy.client().await;
    // Longer than clients are waited for.
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    client.write_all(b"x").await.unwrap();
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
    assert!(listener.accept().now_or_never().is_none(), "the upstream was dialled");
}

#[tokio::test]
async fn live_streams_are_decided_again() {
    let (listener, at) = upstream();
    let proxy = Running::start(Setup::tcp(Some(at)), Door::Inbound).await;
    let mut client = proxy.client().await;
    client.write_all(b"a").await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), b'a');
    // Policies that allow it leave it alone.
    proxy.apply(&DENY_POST.replace("5432", "80"));
    client.write_all(b"b").await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), b'b');
    proxy.apply(NOTHING);
    let broken = client.read_u8().await.unwrap_err();
    assert_eq!(broken.kind(), std::io::ErrorKind::ConnectionReset, "no regular end");
    let broken = server.read_u8().await.unwrap_err();
    assert_eq!(broken.kind(), std::io::ErrorKind::ConnectionReset, "no regular end");
    let record = proxy.record().await;
    assert_eq!(&*record.termination, "rbac_access_denied_matched_policy[none]");
}

/// A client that was refused and has not spoken yet is let in when that is allowed.
#[tokio::test]
async fn silent_streams_are_decided_again() {
    let (listener, at) = upstream();
    let proxy = Running::start(Setup { policies: NOTHING, ..Setup::tcp(Some(at)) }, Door::Inbound).await;
    let mut client = proxy.client().await;
    proxy.apply("");
    let (mut server, _) = listener.accept().await.unwrap();
    client.write_all(b"a").await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), b'a');
}

/// What comes from the own application is not asked.
#[tokio::test]
async fn outbound_streams_have_no_policies() {
    let (listener, at) = upstream();
    let proxy = Running::start(Setup { policies: NOTHING, ..Setup::tcp(Some(at)) }, Door::Outbound).await;
    let mut client = proxy.client().await;
    let (mut server, _) = listener.accept().await.unwrap();
    client.write_all(b"a").await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), b'a');
}

const ONLY_EXAMPLE: &str = "\
apiVersion: policy.mesh.local/v1
kind: EgressPolicy
metadata: {name: sites, namespace: default}
spec: {rules: [{from: [{source: {serviceAccounts: [web]}}], to: [{operation: {ports: ['5432']}}]}]}
";

/// Which workloads may call which places: by who they are, on connections of their own application.
#[tokio::test]
async fn egress_policies_decide_outbound_streams() {
    let (listener, at) = upstream();
    for (account, port, passes) in [("web", "5432", true), ("web", "80", false), ("other", "5432", false)] {
        let policies: &str = ONLY_EXAMPLE.replace("web", account).replace("5432", port).leak();
        let proxy = Running::start(Setup { policies, ..Setup::tcp(Some(at)) }, Door::Outbound).await;
        let mut client = proxy.client().await;
        client.write_all(b"a").await.unwrap();
        if passes {
            let (mut server, _) = listener.accept().await.unwrap();
            assert_eq!(server.read_u8().await.unwrap(), b'a');
            continue;
        }
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(&*proxy.record().await.termination, "rbac_access_denied_matched_policy[none]");
    }
}

const NO_EXAMPLE: &str = "\
apiVersion: policy.mesh.local/v1
kind: EgressPolicy
metadata: {name: p, namespace: default}
spec: {action: DENY, rules: [{to: [{operation: {hosts: ['*.example']}}]}]}
";

const NO_EXAMPLE_HERE: &str = "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: default}
spec: {action: DENY, rules: [{when: [{key: connection.sni, values: ['*.example']}]}]}
";

/// The beginning of TLS with a server of this name (RFC 8446, 4.1.2, and RFC 6066, 3).
fn hello(name: &str) -> Vec<u8> {
    let vector = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let names = vector(&[&[0][..], &vector(name.as_bytes())].concat());
    let extensions = vector(&[&[0, 0][..], &vector(&names)].concat());
    let body = [&[3, 3][..], &[7; 32], &[0], &vector(&[0x13, 0x01]), &[1, 0], &extensions].concat();
    let message = [&[1, 0][..], &vector(&body)].concat();
    [&[0x16, 3, 1][..], &vector(&message)].concat()
}

/// TLS that goes through is looked at where policies ask for the server's name, and nowhere else would anybody have to.
#[tokio::test]
async fn policies_about_server_names_see_the_names_of_streams() {
    let (listener, at) = upstream();
    for (policies, door) in [(NO_EXAMPLE, Door::Outbound), (NO_EXAMPLE_HERE, Door::Inbound)] {
        for (first, passes) in [(hello("a.example"), false), (hello("a.other"), true), (b"G".to_vec(), true)] {
            let proxy = Running::start(Setup { policies, ..Setup::tcp(Some(at)) }, door).await;
            let mut client = proxy.client().await;
            client.write_all(&first).await.unwrap();
            if passes {
                let (mut server, _) = listener.accept().await.unwrap();
                let mut got = vec![0; first.len()];
                server.read_exact(&mut got).await.unwrap();
                assert_eq!(got, first);
                continue;
            }
            assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
            let termination = proxy.record().await.termination;
            assert_eq!(&*termination, "rbac_access_denied_matched_policy[ns[default]-policy[p]-rule[0]]");
        }
    }
}

const ASK: &str = "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ask, namespace: default}
spec: {action: CUSTOM, provider: {name: checker}, rules: [{}]}
";

/// What an authorizer over gRPC says of a stream; without its answer nobody gets through.
#[tokio::test]
async fn authorizers_decide_streams() {
    let (listener, at) = upstream();
    for (answer, ends) in [(Some(status(0)), ""), (Some(status(7)), "ext_authz_denied"), (None, "ext_authz_error")] {
        let (authorizer, asked) = grpc(answer).await;
        let authorizer = Some(authorizer);
        let setup = Setup { policies: ASK, authorizer, ..Setup::tcp(Some(at)) };
        let proxy = Running::start(setup, Door::Inbound).await;
        let mut client = proxy.client().await;
        client.write_all(b"a").await.unwrap();
        if ends.is_empty() {
            let (mut server, _) = listener.accept().await.unwrap();
            assert_eq!(server.read_u8().await.unwrap(), b'a');
        } else {
            assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
            assert_eq!(&*proxy.record().await.termination, ends);
        }
        assert!(asked.lock()[0].starts_with("/envoy.service.auth.v3.Authorization/Check "));
    }
}
