//! Section I: external authorizers, over HTTP and gRPC.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::checker::{Asked, field, grpc, header, status};
use crate::mesh::{Config, DEFAULT, Door, Mesh, details, flags};
use crate::row::{Answer, GET};
use crate::upstream::{Up, Upstream};

/// An authorizer over HTTP that always gives this answer; an empty one closes the connection.
async fn web(answer: &'static str) -> (SocketAddr, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (at, asked) = (listener.local_addr().unwrap(), Asked::default());
    let told = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let told = Arc::clone(&told);
            tokio::spawn(async move {
                let mut got = Vec::new();
                while stream.read_buf(&mut got).await.unwrap_or(0) > 0 {
                    let text = String::from_utf8_lossy(&got).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse::<usize>().ok());
                    if body.len() < length.unwrap_or(0) {
                        continue;
                    }
                    told.lock().push(text);
                    got.clear();
                    if answer.is_empty() || stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (at, asked)
}

/// The authorizer as a service, the mesh's settings, and a policy that asks it about everything but `/free`.
fn configuration(at: Option<SocketAddr>, kind: &str, settings: &str) -> &'static str {
    let port = at.map_or(9, |a| a.port());
    let protocol = if kind == "Grpc" { "GRPC" } else { "HTTP" };
    format!(
        "
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: authz, namespace: default}}
spec:
  hosts: [authz.example]
  ports: [{{number: 9000, name: p, protocol: {protocol}}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{p: {port}}}}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data:
  mesh: |
    extensionProviders:
    - name: checker
      envoyExtAuthz{kind}: {{service: authz.example, port: 9000{settings}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: ask, namespace: default}}
spec: {{action: CUSTOM, provider: {{name: checker}}, rules: [{{to: [{{operation: {{notPaths: [/free]}}}}]}}]}}
"
    )
    .leak()
}

struct Seen {
    answer: Answer,
    flags: String,
    details: String,
    /// Requests that the application got.
    reached: usize,
    denials: Vec<String>,
}

/// A request to a sidecar with this configuration.
async fn ask(id: &str, extra: &'static str, raw: &str) -> Seen {
    let up = Upstream::start(Up::Echo).await;
    let mut mesh = Mesh::start(&Config { door: Door::Inbound, extra, ..DEFAULT }, up.at).await;
    let mut client = mesh.connect().await;
    client.write_all(raw.as_bytes()).await.unwrap();
    let answered = tokio::time::timeout(Duration::from_secs(5), Answer::read(&mut client, false));
    let answer = answered.await.unwrap_or_else(|_| panic!("{id} hangs"));
    drop(client);
    let record = mesh.record().await;
    let denials = mesh.denials().latest().iter().map(|d| d.reasons.tried[0].to_string()).collect();
    Seen { answer, flags: flags(&record), details: details(&record), reached: up.requests(), denials }
}

const TYPED: &str =
    "GET /p?q=1 HTTP/1.1\r\nhost: up.example\r\nauthorization: Bearer x\r\nx-seen: yes\r\nx-hidden: no\r\n\r\n";
const POST: &str = "POST /p HTTP/1.1\r\nhost: up.example\r\ncontent-type: text/x\r\ncontent-length: 5\r\n\r\nhello";
const GRPC: &str =
    "POST /p.S/M HTTP/1.1\r\nhost: up.example\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n";

#[tokio::test]
async fn i1_and_i2_the_question_and_an_answer_that_allows() {
    let (at, asked) =
        web("HTTP/1.1 200 OK\r\nx-user: me\r\nx-note: hi\r\nx-other: no\r\ncontent-length: 0\r\n\r\n").await;
    let settings = ", timeout: 2s, pathPrefix: /check, includeRequestHeadersInCheck: [X-Seen], \
        includeAdditionalHeadersInCheck: {x-added: fixed}, headersToUpstreamOnAllow: [x-user], \
        headersToDownstreamOnAllow: ['x-no*']";
    let seen = ask("I1, I2", configuration(Some(at), "Http", settings), TYPED).await;
    let question = asked.lock()[0].clone();
    let lines: Vec<&str> = question.lines().collect();
    assert_eq!(lines[0], "GET /check/p?q=1 HTTP/1.1");
    for line in [
        "host: up.example",
        "content-length: 0",
        "authorization: Bearer x",
        "x-seen: yes",
        "x-added: fixed",
        "x-envoy-internal: true",
        "x-envoy-expected-rq-timeout-ms: 2000",
    ] {
        assert!(lines.contains(&line), "no {line} in {question}");
    }
    assert!(!question.contains("x-hidden"), "{question}");
    assert_eq!((&*seen.answer.status, &*seen.flags, &*seen.details), ("200 OK", "-", "via_upstream"));
    assert_eq!((seen.answer.header("x-note"), seen.answer.header("x-other")), (Some("hi"), None));
    let got: Vec<&str> = seen.answer.body.lines().collect();
    assert!(got.contains(&"x-user: me") && got.contains(&"x-hidden: no"), "{got:?}");
    // What no rule matches is not asked about.
    let free = GET.replace("/x", "/free");
    assert_eq!(ask("I2 free", configuration(Some(at), "Http", settings), &free).await.answer.status, "200 OK");
    assert_eq!(asked.lock().len(), 1);
}

#[tokio::test]
async fn i3_answers_that_refuse() {
    let (at, _) =
        web("HTTP/1.1 302 Found\r\nlocation: /login\r\nset-cookie: a=1\r\nset-cookie: b=2\r\nx-other: no\r\n\
         content-type: text/html\r\ncontent-length: 4\r\n\r\ngone")
        .await;
    let settings = ", headersToDownstreamOnDeny: [location, set-cookie]";
    let seen = ask("I3", configuration(Some(at), "Http", settings), GET).await;
    assert_eq!((&*seen.answer.status, &*seen.answer.body, seen.reached), ("302 Found", "gone", 0));
    assert_eq!((&*seen.flags, &*seen.details), ("UAEX", "ext_authz_denied"));
    let cookies = seen.answer.headers.iter().filter(|h| h.starts_with("set-cookie: ")).count();
    assert_eq!((seen.answer.header("location"), cookies), (Some("/login"), 2));
    assert_eq!((seen.answer.header("x-other"), seen.answer.header("content-type")), (None, Some("text/plain")));
    let asked = "CUSTOM istio-ext-authz-checker-ns[default]-policy[ask]-rule[0]: checker refused";
    assert!(seen.denials[0].starts_with(asked), "{:?}", seen.denials);
    for status in ["201 Created", "401 Unauthorized", "403 Forbidden", "404 Not Found"] {
        let (at, _) = web(format!("HTTP/1.1 {status}\r\nx-why: so\r\ncontent-length: 2\r\n\r\nno").leak()).await;
        let seen = ask("I3", configuration(Some(at), "Http", ""), GET).await;
        assert_eq!((&*seen.answer.status, &*seen.answer.body, seen.reached), (status, "no", 0));
        assert_eq!(seen.answer.header("x-why"), Some("so"), "all of them, as none are named");
    }
}

#[tokio::test]
async fn i4_and_i5_no_answer_56() {
    let (broken, _) = web("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n").await;
    let (closing, _) = web("").await;
    // Nobody listens there.
    for at in [Some(broken), Some(closing), None] {
        let seen = ask("I4", configuration(at, "Http", ""), GET).await;
        assert_eq!((&*seen.answer.status, &*seen.answer.body, seen.reached), ("403 Forbidden", "", 0));
        assert_eq!((&*seen.flags, &*seen.details), ("UAEX", "ext_authz_error"));
        let own = ask("I4 status", configuration(at, "Http", ", statusOnError: '503'"), GET).await;
        assert_eq!(own.answer.status, "503 Service Unavailable");
        let open = ask("I5", configuration(at, "Http", ", failOpen: true"), GET).await;
        assert_eq!((&*open.answer.status, open.reached), ("200 OK", 1));
        let marked = open.answer.body.lines().any(|l| l == "x-envoy-auth-failure-mode-allowed: true");
        assert!(marked, "{}", open.answer.body);
    }
}

#[tokio::test]
async fn i6_refusals_for_grpc_clients() {
    let (at, _) = web("HTTP/1.1 403 Forbidden\r\ncontent-length: 6\r\n\r\nno\u{e9}!\n").await;
    let seen = ask("I6", configuration(Some(at), "Http", ""), GRPC).await;
    assert_eq!((&*seen.answer.status, seen.answer.header("grpc-status"), &*seen.flags), ("200 OK", Some("7"), "UAEX"));
    assert_eq!(seen.answer.header("grpc-message"), Some("no%C3%A9!%0A"));
}

#[tokio::test]
async fn i7_and_i8_bodies_and_f19() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let settings =
        |rest: &str| format!(", includeRequestBodyInCheck: {{{rest}}}, includeRequestHeadersInCheck: [content-type]");
    let (at, asked) = web(ok).await;
    let large = ask("I7, F19", configuration(Some(at), "Http", &settings("maxRequestBytes: 4")), POST).await;
    assert_eq!((&*large.answer.status, &*large.answer.body), ("413 Payload Too Large", "Payload Too Large"));
    assert_eq!((&*large.flags, &*large.details, large.reached), ("-", "request_payload_too_large", 0));
    assert_eq!(large.answer.header("connection"), Some("close"));
    assert!(asked.lock().is_empty());
    for (id, rest, shown, partial) in [
        ("I8", "maxRequestBytes: 5", "hello", "false"),
        ("I8 partial", "maxRequestBytes: 4, allowPartialMessage: true", "hell", "true"),
    ] {
        let (at, asked) = web(ok).await;
        let seen = ask(id, configuration(Some(at), "Http", &settings(rest)), POST).await;
        let question = asked.lock()[0].clone();
        assert!(question.ends_with(&format!("\r\n\r\n{shown}")), "{id}: {question}");
        assert!(question.contains(&format!("x-envoy-auth-partial-body: {partial}\r\n")), "{id}: {question}");
        assert!(question.contains("content-type: text/x\r\n"), "what a body is has to be known: {question}");
        assert!(seen.answer.body.ends_with("\r\n\r\nhello"), "{id}: {}", seen.answer.body);
    }
}

#[tokio::test]
async fn i9_grpc_authorizers() {
    let ok = [status(0), field(3, &field(2, &header("x-user", "me")))].concat();
    let (at, asked) = grpc(Some(ok)).await;
    let seen = ask("I9", configuration(Some(at), "Grpc", ""), TYPED).await;
    assert_eq!((&*seen.answer.status, &*seen.flags, &*seen.details), ("200 OK", "-", "via_upstream"));
    assert!(seen.answer.body.lines().any(|l| l == "x-user: me"), "{}", seen.answer.body);
    let question = asked.lock()[0].clone();
    assert!(question.starts_with("/envoy.service.auth.v3.Authorization/Check "), "{question}");
    for part in ["x-hidden", "/p?q=1", "up.example", "GET", "HTTP/1.1"] {
        assert!(question.contains(part), "no {part} in {question:?}");
    }
}

#[tokio::test]
async fn i10_to_i14_grpc_authorizers_that_refuse() {
    let denied = |fields: &[Vec<u8>]| [status(7), field(2, &fields.concat())].concat();
    let unauthorized = field(1, &[1 << 3, 0x91, 0x03]);
    let full = denied(&[unauthorized, field(2, &header("x-d", "1")), field(3, b"nope body")]);
    let table = [
        ("I10", Some(status(7)), "403 Forbidden", "", "ext_authz_denied"),
        ("I11", Some(full.clone()), "401 Unauthorized", "nope body", "ext_authz_denied"),
        ("I12", Some(denied(&[field(3, b"nope")])), "403 Forbidden", "nope", "ext_authz_denied"),
        ("I13", None, "403 Forbidden", "", "ext_authz_error"),
    ];
    for (id, answer, code, body, said) in table {
        let (at, _) = grpc(answer).await;
        let seen = ask(id, configuration(Some(at), "Grpc", ""), GET).await;
        assert_eq!((&*seen.answer.status, &*seen.answer.body, seen.reached), (code, body, 0), "{id}");
        assert_eq!((&*seen.flags, &*seen.details), ("UAEX", said), "{id}");
        if id == "I11" {
            assert_eq!(seen.answer.headers[0], "x-d: 1", "its header comes first");
        }
    }
    let (at, _) = grpc(Some(status(7))).await;
    let seen = ask("I14", configuration(Some(at), "Grpc", ""), GRPC).await;
    assert_eq!((seen.answer.header("grpc-status"), seen.answer.header("grpc-message")), (Some("7"), None));
    let (at, _) = grpc(Some(full)).await;
    let seen = ask("I14", configuration(Some(at), "Grpc", ""), GRPC).await;
    assert_eq!((seen.answer.header("grpc-status"), seen.answer.header("x-d")), (Some("16"), Some("1")));
    assert_eq!((seen.answer.header("grpc-message"), &*seen.flags), (Some("nope body"), "UAEX"));
}

/// An authorizer decides before tokens are looked at, and can't allow what policies deny: example 55.
#[tokio::test]
async fn authorizers_come_first_and_override_nothing() {
    let (at, asked) = web("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let nothing = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                   metadata: {name: nothing, namespace: default}\nspec: {action: DENY, rules: [{}]}\n";
    let extra: &str = format!("{}{nothing}", configuration(Some(at), "Http", "")).leak();
    let seen = ask("55", extra, GET).await;
    assert_eq!((&*seen.answer.status, &*seen.answer.body), ("403 Forbidden", "RBAC: access denied"));
    assert_eq!(asked.lock().len(), 1);
}

/// Key sets are fetched from a service of the mesh, and when that fails, no token is good: H29.
#[tokio::test]
async fn h29_keys_that_are_fetched() {
    let key = crate::signer::Signer::new();
    let document = key.jwks();
    let answer: &str = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{document}", document.len()).leak();
    let (at, asked) = web(answer).await;
    let rule = |uri: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: users, namespace: default}}\n\
             spec: {{jwtRules: [{{issuer: i, jwksUri: '{uri}'}}]}}\n"
        )
    };
    let service = configuration(Some(at), "Http", "").split("---\napiVersion: v1").next().unwrap();
    let token = key.sign(r#"{"iss":"i","sub":"me"}"#);
    let raw = format!("GET /x HTTP/1.1\r\nhost: up.example\r\nauthorization: Bearer {token}\r\n\r\n");
    let by_name: &str = format!("{service}{}", rule("http://authz.example:9000/keys")).leak();
    let by_address: &str = format!("\n{}", rule(&format!("http://{at}/keys"))).leak();
    for extra in [by_name, by_address] {
        assert_eq!(ask("keys", extra, &raw).await.answer.status, "200 OK");
    }
    assert!(asked.lock().iter().all(|q| q.starts_with("GET /keys HTTP/1.1\r\n")), "{:?}", asked.lock());
    let nowhere: &str = format!("\n{}", rule("http://127.0.0.1:9/keys")).leak();
    let seen = ask("H29", nowhere, &raw).await;
    assert_eq!((&*seen.answer.status, &*seen.answer.body), ("401 Unauthorized", "Jwks remote fetch is failed"));
}

#[test]
fn frames() {
    assert_eq!(field(1, b"ab"), [10, 2, b'a', b'b']);
    assert_eq!(Bytes::from(status(7)), Bytes::from_static(&[10, 2, 8, 7]));
}
