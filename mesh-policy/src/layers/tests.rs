mod standing;

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use http::StatusCode;
use mesh_core::api::{ContentHash, Resource};
use mesh_core::env::Env;
use mesh_core::error::Error;
use mesh_core::layers::{Body, Request, RespondLayer, Response, SendFuture, Upstream};
use mesh_core::matching::Claims;
use mesh_core::record::{ConnInfo, PeerCertificate, TlsInfo};
use mesh_core::snapshot::Direction;
use parking_lot::Mutex;
use tower::{Layer, Service, ServiceBuilder};

use super::*;
use crate::authz::{AuthzInput, Protocol, TrustDomains};
use crate::ext_authz::{Allowed, BodyInCheck, Check, ExternalAuthorizer, Provider, Refused, Verdict};
use crate::jwt::tests::{KEY, NOW, authenticator, now, policies, set};
use crate::jwt::{Authenticator, KeySetSource, KeyStore};
use crate::{Notice, Observer, Peer, Policies, Refusal};

struct Clock;

impl Env for Clock {
    fn now(&self) -> SystemTime {
        now()
    }

    fn random(&self) -> u64 {
        0
    }
}

/// A peer's certificate with these URIs.
fn certificate(uris: &[&str]) -> PeerCertificate {
    PeerCertificate {
        uris: uris.iter().map(|u| (*u).into()).collect(),
        dns: vec!["a.example".into()],
        ips: Vec::new(),
        emails: Vec::new(),
        subject: "".into(),
        serial: "".into(),
        hash: "".into(),
        spki: "".into(),
        not_after: SystemTime::UNIX_EPOCH,
        chain: Vec::new(),
    }
}

fn connection(uris: &[&str]) -> ConnInfo {
    let peer = (!uris.is_empty()).then(|| Arc::new(certificate(uris)));
    ConnInfo {
        direction: Direction::Inbound,
        peer: "10.0.0.9:1234".parse().unwrap(),
        local: "10.0.0.1:8080".parse().unwrap(),
        direct: None,
        sni: "".into(),
        tls: Some(Arc::new(
            TlsInfo {
                version: "TLSv1.3",
                cipher: "".into(),
                alpn: "".into(),
                peer,
                is_verified: false,
                identity: None,
                own: None,
                client_cert: None,
            }
            .into_verified(),
        )),
        peer_text: Default::default(),
    }
}

fn cx(uri: &str) -> Arc<Cx> {
    let uris: &[&str] = if uri.is_empty() { &[] } else { &[uri] };
    Arc::new(Cx::new(Arc::new(connection(uris)), ContentHash(1)))
}

fn get(target: &str, headers: &[(&str, &str)], cx: &Arc<Cx>) -> Request {
    let mut builder = http::Request::builder().uri(target).header("host", "a.example");
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let mut request = builder.body(Body::Empty).unwrap();
    request.extensions_mut().insert(Arc::clone(cx));
    request
}

/// Answers 200, and counts.
fn upstream(count: &Arc<AtomicUsize>) -> impl Upstream {
    let count = Arc::clone(count);
    tower::service_fn(move |request: Request| {
        count.fetch_add(1, Ordering::Relaxed);
        let user = request.extensions().get::<Claims>().and_then(|c| c.text("sub")).unwrap_or("nobody").to_owned();
        ready(Ok::<_, Error>(Response::new(Body::from(bytes::Bytes::from(user)))))
    })
}

fn allow(rules: &str) -> Arc<Policies> {
    let text = format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: foo}}\nspec: {{rules: {rules}}}\n"
    );
    let found = mesh_core::yaml::read("f", &text).0.into_iter().filter_map(|r| match r {
        Resource::AuthorizationPolicy(o) => Some(o),
        _ => None,
    });
    Arc::new(Policies::compile(&AuthzInput {
        policies: &found.collect::<Vec<_>>(),
        protocol: Protocol::Http,
        trust_domains: &TrustDomains::default(),
        providers: &BTreeMap::new(),
    }))
}

async fn text(response: Response) -> String {
    match response.into_body() {
        Body::Full(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn call<L>(layer: &L, request: Request) -> (Response, usize)
where
    L: Layer<Box_>,
    L::Service: Service<Request, Response = Response, Error = Error>,
{
    let count = Arc::default();
    let mut service = layer.layer(mesh_core::layers::BoxService::new(upstream(&count)));
    let response = service.call(request).await.unwrap();
    (response, count.load(Ordering::Relaxed))
}

type Box_ = mesh_core::layers::BoxService;

#[test]
fn identities_of_peers() {
    for (uris, peer) in [
        (&[][..], Peer::Anonymous),
        (&["spiffe://td/ns/a/sa/b"], Peer::Spiffe("td/ns/a/sa/b")),
        (&["https://a"], Peer::Other("https://a")),
        (&["spiffe://td/ns/a/sa/b", "spiffe://td/ns/a/sa/c"], Peer::Other("spiffe://td/ns/a/sa/b")),
    ] {
        assert_eq!(Peer::of(&connection(uris)), peer);
    }
    let mut conn = connection(&["x"]);
    conn.tls = Some(Arc::new(TlsInfo {
        peer: Some(Arc::new(certificate(&[]))),
        ..TlsInfo::clone(conn.tls.as_ref().unwrap())
    }));
    assert_eq!(Peer::of(&conn), Peer::Other("a.example"));
    conn.tls = None;
    assert_eq!(Peer::of(&conn), Peer::Anonymous);
    // Shown, but verified by nobody.
    for uris in [&["spiffe://td/ns/a/sa/b"][..], &[]] {
        let mut conn = connection(&["x"]);
        let tls = TlsInfo::clone(conn.tls.as_ref().unwrap());
        let peer = Some(Arc::new(certificate(uris)));
        conn.tls = Some(Arc::new(TlsInfo { peer, is_verified: false, identity: None, ..tls }));
        assert_eq!(Peer::of(&conn), Peer::Anonymous, "{uris:?}");
    }
}

/// Keeps what it is told: the rule that was nearest to letting something through, and notices.
struct Told(Arc<Mutex<Vec<String>>>);

impl Observer for Told {
    fn refused(&self, _: &Cx, refusal: &Refusal<'_>) {
        let reasons = refusal.reasons();
        assert_eq!(reasons.details, refusal.details());
        self.0.lock().push(reasons.nearest.unwrap_or_else(|| reasons.tried[0].to_string()));
    }

    fn noticed(&self, _: &Cx, notice: &Notice<'_>) {
        self.0.lock().push(notice.to_string());
    }
}

/// What a PROXY header says is the client (`remoteIpBlocks`), not the peer (`ipBlocks`).
#[test]
fn addresses_behind_a_proxy_header() {
    let mut conn = connection(&[]);
    conn.direct = Some("10.1.1.1:9".parse().unwrap());
    let input = crate::PolicyInput::connection(&conn, conn.peer.ip());
    assert_eq!((input.source_ip.to_string(), input.remote_ip.to_string()), ("10.1.1.1".into(), "10.0.0.9".into()));
}

#[tokio::test(start_paused = true)]
async fn policies_allow_and_refuse() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    let policies = allow("[{from: [{source: {namespaces: [shop]}}], to: [{operation: {paths: ['/a*']}}]}]");
    let layer = AuthzLayer::new(AuthzConfig { observer: Some(Arc::new(Told(log))), ..AuthzConfig::new(policies) });
    let shop = cx("spiffe://td/ns/shop/sa/b");
    let (response, reached) = call(&layer, get("/a?x", &[], &shop)).await;
    assert_eq!((response.status(), reached), (StatusCode::OK, 1));
    assert!(shop.details.get().is_none());
    let (response, reached) = call(&layer, get("/b", &[], &shop)).await;
    assert_eq!((response.status(), reached), (StatusCode::FORBIDDEN, 0));
    assert_eq!(
        (&response.headers()["content-type"], &response.headers()["content-length"]),
        (&"text/plain".parse().unwrap(), &19.into())
    );
    assert_eq!(text(response).await, "RBAC: access denied");
    assert_eq!(shop.details.get().unwrap(), "rbac_access_denied_matched_policy[none]");
    assert!(told.lock()[0].contains("path is /b, wanted one of /a*"), "{:?}", told.lock());
    // Nobody, and a request about whose connection nothing is known.
    assert_eq!(call(&layer, get("/a", &[], &cx(""))).await.0.status(), 403);
    let bare = http::Request::builder().uri("/a").header("host", "a").body(Body::Empty).unwrap();
    assert_eq!(call(&layer, bare).await.0.status(), 403);
}

#[tokio::test(start_paused = true)]
async fn hosts_that_are_not_clear() {
    let layer = AuthzLayer::new(AuthzConfig::new(allow("[{to: [{operation: {hosts: [a.example]}}]}]")));
    let status = async |target: &str, headers: &[(&str, &str)]| {
        let mut request = get(target, headers, &cx(""));
        if headers.iter().any(|(n, _)| *n == "x-no-host") {
            request.headers_mut().remove("host");
        }
        call(&layer, request).await.0.status().as_u16()
    };
    assert_eq!(status("/", &[]).await, 200);
    assert_eq!(status("http://A.example/", &[]).await, 200);
    assert_eq!(status("http://a.example/", &[("x-no-host", "")]).await, 200);
    assert_eq!(status("http://b.example/", &[]).await, 403);
    assert_eq!(status("/", &[("host", "a.example")]).await, 403);
    assert_eq!(status("/", &[("x-no-host", "")]).await, 403);
}

#[tokio::test(start_paused = true)]
async fn g3_denials_for_grpc() {
    let layer = ServiceBuilder::new()
        .layer(RespondLayer::new("x".parse().unwrap()))
        .layer(AuthzLayer::new(AuthzConfig::new(allow("[]"))))
        .into_inner();
    let (response, _) = call(&layer, get("/p.S/M", &[("content-type", "application/grpc")], &cx(""))).await;
    assert_eq!((response.status().as_u16(), &response.headers()["grpc-status"]), (200, &"7".parse().unwrap()));
    assert_eq!(response.headers()["grpc-message"], "RBAC: access denied");
}

fn jwt(authenticator: Authenticator) -> JwtLayer {
    JwtLayer::new(JwtConfig::new(Arc::new(authenticator), Arc::new(Clock)))
}

fn bearer(body: &str) -> String {
    format!("Bearer {}", KEY.sign(body))
}

#[tokio::test(start_paused = true)]
async fn tokens_pass_and_are_refused_h() {
    let layer = jwt(authenticator(&["issuer: i, audiences: [x]"]));
    let good = bearer(r#"{"iss":"i","sub":"me","aud":"x"}"#);
    let (response, reached) = call(&layer, get("/", &[("authorization", &good)], &cx(""))).await;
    assert_eq!((text(response).await.as_str(), reached), ("me", 1));
    let none = cx("");
    let (response, _) = call(&layer, get("/", &[], &none)).await;
    assert_eq!(text(response).await, "nobody");
    let expired = bearer(&format!(r#"{{"iss":"i","aud":"x","exp":{}}}"#, NOW - 61));
    let context = cx("");
    let (response, reached) = call(&layer, get("/p/q?a='b", &[("authorization", &expired)], &context)).await;
    assert_eq!((response.status().as_u16(), reached), (401, 0));
    let names: Vec<_> = response.headers().keys().map(|k| k.as_str()).collect();
    assert_eq!(names, ["www-authenticate", "content-length", "content-type"]);
    let challenge = response.headers()["www-authenticate"].to_str().unwrap().to_owned();
    assert_eq!(challenge, "Bearer realm=\"http://a.example/p/q?a='b\", error=\"invalid_token\"");
    assert_eq!(text(response).await, "Jwt is expired");
    assert_eq!(context.details.get().unwrap(), "jwt_authn_access_denied{Jwt_is_expired}");
    let other = bearer(r#"{"iss":"i","aud":"y"}"#);
    let (response, _) = call(&layer, get("/", &[("authorization", &other)], &cx(""))).await;
    assert_eq!(response.status(), 403);
    // Path and query are cut, scheme and host are not counted.
    let long = format!("/{}", "x".repeat(300));
    let headers = [("authorization", "Bearer x"), ("x-forwarded-proto", "https")];
    let (response, _) = call(&layer, get(&long, &headers, &cx(""))).await;
    let challenge = response.headers()["www-authenticate"].to_str().unwrap().to_owned();
    assert_eq!(challenge, format!("Bearer realm=\"https://a.example/{}\", error=\"invalid_token\"", "x".repeat(255)));
}

#[tokio::test(start_paused = true)]
async fn a_missing_token_is_no_invalid_one_h1() {
    let layer = jwt(authenticator(&["issuer: i, presence: REQUIRED"]));
    let (response, _) = call(&layer, get("/", &[], &cx(""))).await;
    assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"http://a.example/\"");
    assert_eq!(text(response).await, "Jwt is missing");
}

#[tokio::test(start_paused = true)]
async fn refusals_for_grpc_h() {
    let layer = ServiceBuilder::new()
        .layer(RespondLayer::new("x".parse().unwrap()))
        .layer(jwt(authenticator(&["issuer: i, audiences: [x]"])))
        .into_inner();
    for (token, status, message) in [
        (
            "Bearer x".to_owned(),
            "16",
            "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
        ),
        (bearer(r#"{"iss":"i"}"#), "7", "Audiences in Jwt are not allowed"),
    ] {
        let headers = [("content-type", "application/grpc"), ("authorization", token.as_str())];
        let (response, _) = call(&layer, get("/p.S/M", &headers, &cx(""))).await;
        let has = |name: &str| response.headers()[name].to_str().unwrap();
        assert_eq!((response.status().as_u16(), has("grpc-status"), has("grpc-message")), (200, status, message));
        assert!(has("www-authenticate").starts_with("Bearer realm="));
    }
}

#[tokio::test(start_paused = true)]
async fn the_user_is_what_policies_see_41() {
    let layer = ServiceBuilder::new()
        .layer(jwt(authenticator(&["issuer: i"])))
        .layer(AuthzLayer::new(AuthzConfig::new(allow("[{from: [{source: {requestPrincipals: ['*']}}]}]"))))
        .into_inner();
    let status = async |headers: &[(&str, &str)]| call(&layer, get("/", headers, &cx(""))).await.0.status().as_u16();
    assert_eq!(status(&[]).await, 403);
    assert_eq!(status(&[("authorization", &bearer(r#"{"iss":"i","sub":"s"}"#))]).await, 200);
    assert_eq!(status(&[("authorization", &bearer(r#"{"iss":"i"}"#))]).await, 403);
}

/// Answers after a while.
struct Slow(Option<String>);

impl KeySetSource for Slow {
    async fn fetch(&self, _: &str) -> Result<Arc<[u8]>, String> {
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        self.0.clone().map(|k| k.into_bytes().into()).ok_or_else(|| "refused".to_owned())
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_requests_wait_for_keys_h29() {
    let rule = "issuer: i, jwksUri: 'http://keys/'";
    for (source, status) in [(Slow(Some(set(&[KEY.jwk("k", "")]))), 200), (Slow(None), 401)] {
        let (authenticator, fetched) = Authenticator::compile(&policies(&[rule]), &KeyStore::default());
        let layer = jwt(authenticator);
        let begun = tokio::time::Instant::now();
        let token = bearer(r#"{"iss":"i","sub":"s"}"#);
        let request = get("/", &[("authorization", &token)], &cx(""));
        let response = tokio::select! {
            () = fetched[0].run(&source) => unreachable!(),
            (response, _) = call(&layer, request) => response,
        };
        assert_eq!((response.status().as_u16(), begun.elapsed().as_secs()), (status, 3));
        if status == 401 {
            assert_eq!(text(response).await, "Jwks remote fetch is failed");
        }
    }
    // Nobody fetches: nobody waits for ever.
    let (authenticator, _fetched) = Authenticator::compile(&policies(&[rule]), &KeyStore::default());
    let token = bearer(r#"{"iss":"i"}"#);
    let (response, reached) = call(&jwt(authenticator), get("/", &[("authorization", &token)], &cx(""))).await;
    assert_eq!((text(response).await.as_str(), reached), ("Jwks remote fetch is failed", 0));
}

/// Answers what it is told to, and keeps what it was asked.
struct Authorizer(Result<Verdict, String>, Arc<Mutex<Vec<Check>>>);

impl ExternalAuthorizer for Authorizer {
    fn check(&self, check: &Check) -> SendFuture<Result<Verdict, String>> {
        self.1.lock().push(check.clone());
        Box::pin(ready(self.0.clone()))
    }

    fn admits(&self, _: &Arc<ConnInfo>) -> SendFuture<Result<bool, String>> {
        Box::pin(ready(Err("not asked here".to_owned())))
    }
}

/// A Layer that asks about everything but `/free`.
fn asking(answer: Result<Verdict, String>, change: impl Fn(&mut Provider)) -> (ExtAuthzLayer, Arc<Mutex<Vec<Check>>>) {
    let text = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: foo}\n\
                spec: {action: CUSTOM, provider: {name: x}, rules: [{to: [{operation: {notPaths: [/free]}}]}]}\n";
    let found = mesh_core::yaml::read("f", text).0.into_iter().filter_map(|r| match r {
        Resource::AuthorizationPolicy(o) => Some(o),
        _ => None,
    });
    let policies = Arc::new(Policies::compile(&AuthzInput {
        policies: &found.collect::<Vec<_>>(),
        protocol: Protocol::Http,
        trust_domains: &TrustDomains::default(),
        providers: &[("x".to_owned(), crate::authz::Provider::Http)].into(),
    }));
    let asked = Arc::default();
    let mut provider = Provider {
        name: "x".into(),
        authorizer: Arc::new(Authorizer(answer, Arc::clone(&asked))),
        fail_open: false,
        status_on_error: StatusCode::FORBIDDEN,
        body: None,
    };
    change(&mut provider);
    let providers = vec![provider].into();
    (ExtAuthzLayer::new(ExtAuthzConfig { policies, port: None, providers, observer: None }), asked)
}

#[tokio::test(start_paused = true)]
async fn authorizers_are_asked() {
    let note = ("x-note".parse().unwrap(), "hi".parse().unwrap());
    let allowed = Allowed { response: vec![note], ..Allowed::default() };
    let (layer, asked) = asking(Ok(Verdict::Allow(allowed)), |_| {});
    let (response, reached) = call(&layer, get("/free", &[], &cx(""))).await;
    assert_eq!((response.status().as_u16(), reached, asked.lock().len()), (200, 1, 0));
    let (response, reached) = call(&layer, get("/a?b", &[], &cx(""))).await;
    assert_eq!((response.headers()["x-note"].to_str().unwrap(), reached), ("hi", 1));
    assert_eq!(asked.lock()[0].uri, "/a?b");

    let refused = Refused { status: StatusCode::UNAUTHORIZED, headers: Vec::new(), body: "no".into() };
    let (layer, _) = asking(Ok(Verdict::Deny(refused)), |_| {});
    let context = cx("");
    let (response, reached) = call(&layer, get("/a", &[], &context)).await;
    assert_eq!((response.status().as_u16(), text(response).await.as_str(), reached), (401, "no", 0));
    assert_eq!(context.details.get().unwrap(), "ext_authz_denied");
}

#[tokio::test(start_paused = true)]
async fn authorizers_that_do_not_answer() {
    let (layer, _) = asking(Err("gone".into()), |p| p.status_on_error = StatusCode::SERVICE_UNAVAILABLE);
    let (response, reached) = call(&layer, get("/a", &[], &cx(""))).await;
    assert_eq!((response.status().as_u16(), reached), (503, 0));
    let (layer, _) = asking(Err("gone".into()), |p| p.fail_open = true);
    assert_eq!(call(&layer, get("/a", &[], &cx(""))).await.1, 1);
}

#[tokio::test(start_paused = true)]
async fn authorizers_see_as_much_of_a_body_as_they_may() {
    let ask = async |max: usize, allow_partial: bool| {
        let body = Some(BodyInCheck { max, allow_partial });
        let (layer, asked) = asking(Ok(Verdict::Allow(Allowed::default())), |p| p.body = body);
        let mut request = get("/a", &[], &cx(""));
        *request.body_mut() = Body::from("hello");
        let (response, reached) = call(&layer, request).await;
        let shown = asked.lock().first().and_then(|c| c.body.clone());
        (response.status().as_u16(), reached, shown)
    };
    assert_eq!(ask(5, false).await, (200, 1, Some(("hello".into(), false))));
    assert_eq!(ask(5, true).await, (200, 1, Some(("hello".into(), false))));
    assert_eq!(ask(2, true).await, (200, 1, Some(("he".into(), true))));
    assert_eq!(ask(4, false).await, (413, 0, None));
}
