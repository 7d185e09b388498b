//! Who may do what, files 18 to 23: policies by method, path and token, as clients outside and in pods see them.

use std::fs;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData, SigningKey};

use crate::client::{Client, Reply, get};
use crate::mesh::Mesh;
use crate::seed::Seed;

const DENIED: &str = "RBAC: access denied";
const ISSUER: &str = "qjoly@a-cup-of.coffee";

pub(crate) fn in_order(seed: &Seed<'_>, at: SocketAddr) {
    seed.in_force("18");
    nothing_is_allowed(seed.mesh, at);
    seed.in_force("19");
    methods_and_paths(at);
    service_accounts(seed, at);
    tokens(seed, at);
    seed.mesh.run(&["delete", "-f", &seed.path("19")]);
    seed.mesh.run(&["delete", "-f", &seed.path("18")]);
    assert_eq!(get(at, "/productpage", &[]).status, 200, "nothing is refused any more");
}

fn is_denied(reply: &Reply, what: &str) {
    assert_eq!((reply.status, &*reply.body), (403, DENIED), "{what}: {reply:?}");
    assert_eq!(reply.header("content-length"), Some("19"), "{what}");
}

/// The answer is productpage's proxy's: the gateway has been there and back.
fn nothing_is_allowed(mesh: &Mesh, at: SocketAddr) {
    let reply = get(at, "/productpage", &[]);
    is_denied(&reply, "allow-nothing");
    let time = reply.header("x-envoy-upstream-service-time").unwrap_or_else(|| panic!("{reply:?}"));
    assert!(time.parse::<u64>().is_ok(), "{time}");
    let log = mesh.run(&["logs", "productpage-v1", "-c", "proxy"]);
    let line = log.lines().rfind(|l| l.contains("\"GET /productpage ")).unwrap_or_default();
    assert!(line.contains(" 403 - rbac_access_denied_matched_policy[none] "), "{line}");
    // What is refused, and why, as the proxy's admin port and the command line say it.
    let denials = "http://127.0.0.1:15000/denials";
    let denials = mesh.run(&["exec", "productpage-v1", "--", "curl", "-s", "-m", "60", denials]);
    let denials: serde_json::Value = serde_json::from_str(&denials).unwrap();
    assert_eq!(denials[0]["details"], "rbac_access_denied_matched_policy[none]", "{denials:#}");
    assert_eq!(denials[0]["tried"][0]["policy"], "AuthorizationPolicy default/allow-nothing", "{denials:#}");
    let url = "http://bookinfo.test/productpage";
    let explained = ["explain", "request", "--gateway", "bookinfo-gateway", "--url", url];
    let text = mesh.run(&explained);
    assert!(text.contains("outcome: 403 refused: rbac_access_denied_matched_policy[none]"), "{text}");
}

fn methods_and_paths(at: SocketAddr) {
    let ask = |head: &str| Client::new(at).unwrap().send(head, &[], "").unwrap();
    for (head, status) in [
        ("GET /productpage", 200),
        ("GET /productpage?u=test", 200),
        ("GET /static/style.css", 200),
        ("GET /api/v1/products", 200),
        ("POST /productpage", 403),
        ("HEAD /productpage", 403),
        ("GET /static", 403),
        ("GET /api/v1/products/0", 403),
    ] {
        let reply = ask(head);
        assert_eq!(reply.status, status, "{head}: {reply:?}");
    }
    let form = ["content-type: application/x-www-form-urlencoded"];
    let reply = Client::new(at).unwrap().send("POST /login", &form, "username=quentin&passwd=any").unwrap();
    assert!(matches!(reply.status, 302 | 303), "{reply:?}");
}

/// What a workload gets from details, as curl prints it: the body, then the status.
fn from_details(mesh: &Mesh, workload: &str) -> String {
    let url = "http://details:9080/details/0";
    mesh.run(&["exec", workload, "--", "curl", "-s", "-m", "60", "-w", " %{http_code}", url])
}

/// Who may call whom, by the certificates that callers show.
fn service_accounts(seed: &Seed<'_>, at: SocketAddr) {
    assert_eq!(from_details(seed.mesh, "productpage-v1"), format!("{DENIED} 403"), "nobody is allowed yet");
    seed.in_force("20");
    let details = from_details(seed.mesh, "productpage-v1");
    assert!(details.ends_with(" 200") && details.contains("\"author\""), "{details}");
    assert_eq!(from_details(seed.mesh, "ratings-v1"), format!("{DENIED} 403"));
    seed.in_force("21");
    let page = get(at, "/productpage", &[]);
    assert_eq!((page.status, page.body.contains("Error fetching")), (200, false), "{page:?}");
    seed.mesh.run(&["delete", "-f", &seed.path("21")]);
    seed.mesh.run(&["delete", "-f", &seed.path("20")]);
}

/// The tour's issuer, with a key of our own instead of the one whose private half nobody has.
struct Issuer(KeyPair);

impl Issuer {
    fn new() -> Self {
        Self(KeyPair::generate_for(&PKCS_ED25519).unwrap())
    }

    /// File 22 with this key.
    fn manifest(&self, original: &str) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.0.der_bytes());
        let keys =
            format!(r#"{{"keys": [{{"kty": "OKP", "crv": "Ed25519", "kid": "k", "alg": "EdDSA", "x": "{x}"}}]}}"#);
        let line =
            |l: &str| if l.trim_start().starts_with("{\"keys\"") { format!("      {keys}") } else { l.to_owned() };
        original.lines().map(line).collect::<Vec<_>>().join("\n") + "\n"
    }

    fn token(&self, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = self.0.sign(message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn sign(&self, payload: &str) -> String {
        self.token(r#"{"alg":"EdDSA","kid":"k","typ":"JWT"}"#, payload)
    }
}

fn tokens(seed: &Seed<'_>, at: SocketAddr) {
    seed.in_force("22");
    assert_eq!(get(at, "/productpage", &[]).status, 200, "file 19 allows it, and no token is no bad token");
    seed.mesh.run(&["delete", "-f", &seed.path("19")]);
    seed.in_force("23");
    let issuer = Issuer::new();
    let original = fs::read_to_string(seed.path("22")).unwrap();
    let file = std::env::temp_dir().join(format!("{}-jwt.yaml", seed.mesh.name));
    fs::write(&file, issuer.manifest(&original)).unwrap();
    seed.mesh.run(&["apply", "-f", file.to_str().unwrap()]);

    is_denied(&get(at, "/productpage", &[]), "no token");
    let ask = |token: &str| get(at, "/productpage", &[&format!("authorization: Bearer {token}")]);
    let good = issuer.sign(&format!(r#"{{"iss":"{ISSUER}","sub":"me"}}"#));
    assert_eq!(ask(&good).status, 200, "a good token");
    let broken = ask(&format!("xxx{good}"));
    assert_eq!(broken.status, 401, "{broken:?}");
    let realm = "Bearer realm=\"http://bookinfo.test/productpage\", error=\"invalid_token\"";
    assert_eq!(broken.header("www-authenticate"), Some(realm));
    assert_eq!(broken.header("content-length"), Some("42"));
    assert_eq!(broken.body, "Jwt header is an invalid Base64url encoded");
    let issued = |rest: &str| format!(r#"{{"iss":"{ISSUER}"{rest}}}"#);
    for (token, text) in [
        (issuer.sign(&issued(r#","exp":1000000000"#)), "Jwt is expired"),
        (issuer.sign(r#"{"iss":"somebody"}"#), "Jwt issuer is not configured"),
        (Issuer::new().sign(&issued("")), "Jwt verification fails"),
        (
            issuer.token(r#"{"alg":"EdDSA","kid":"other"}"#, &issued("")),
            "Jwks doesn't have key to match kid or alg from Jwt",
        ),
    ] {
        let reply = ask(&token);
        assert_eq!((reply.status, &*reply.body), (401, text), "{reply:?}");
    }
    seed.mesh.run(&["delete", "-f", &seed.path("23")]);
    seed.mesh.run(&["delete", "-f", file.to_str().unwrap()]);
    fs::remove_file(file).unwrap();
    // Again as it was: what follows counts on it.
    seed.in_force("19");
}
