//! Section H: RequestAuthentications in the stacks of sidecars and gateways.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::mesh::Door;
use crate::row::{Row, row};
use crate::signer::Signer;
use crate::upstream::Up;

static KEY: LazyLock<Signer> = LazyLock::new(Signer::new);
static OTHER: LazyLock<Signer> = LazyLock::new(Signer::new);

/// Rules of a RequestAuthentication behind the door; `$keys` is the key set of [`KEY`].
fn rules(door: Door, rules: &str) -> &'static str {
    let namespace = if door == Door::Gateway { "istio-system" } else { "default" };
    let head = "\n---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\n";
    let rules = rules.replace("$keys", &format!("jwks: '{}'", KEY.jwks()));
    format!("{head}metadata: {{name: users, namespace: {namespace}}}\nspec: {{jwtRules: {rules}}}\n").leak()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A request with these headers to a sidecar with this rule.
fn inbound(id: &'static str, rule: &str, lines: &[&str]) -> Row {
    row(id, Up::Echo).door(Door::Inbound).extra(rules(Door::Inbound, rule)).headers(lines)
}

const RULE: &str = "[{issuer: i, audiences: [aud1], $keys}]";

fn refused(row: Row, status: &'static str, text: &'static str) -> Row {
    let details = format!("jwt_authn_access_denied{{{}}}", text.replace(' ', "_")).leak();
    row.local(status, text).log("-", details).tries(0)
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}")
}

const TWO_DOTS: &str = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections";

/// The texts, byte for byte, as clients get them.
#[tokio::test]
async fn h3_to_h18_bad_tokens_40_43() {
    let head = r#"{"alg":"EdDSA","kid":"k"}"#;
    let good = r#"{"iss":"i","aud":"aud1"}"#;
    let (past, future) = (now() - 100, now() + 100);
    let not_json = KEY.token("no", good);
    let unsigned = KEY.sign(good).rsplit_once('.').unwrap().0.to_owned();
    let table = [
        ("H3", "a.b".to_owned(), TWO_DOTS),
        ("H3", "a.b.c.d".to_owned(), TWO_DOTS),
        ("H3", format!("{unsigned}."), TWO_DOTS),
        ("H4", not_json, "Jwt header is an invalid JSON"),
        ("H5", KEY.token(r#"{"kid":"k"}"#, good), "Jwt header [alg] field is required and must be a string"),
        ("H6", KEY.token(r#"{"alg":"none"}"#, good), "Jwt header [alg] is not supported"),
        ("H7", KEY.token(r#"{"alg":"EdDSA","kid":1}"#, good), "Jwt header [kid] field is not a string"),
        ("H8", KEY.token(head, "no"), "Jwt payload is an invalid JSON"),
        ("H9", format!("{unsigned}.a"), "Jwt signature is an invalid Base64url encoded"),
        ("H10", OTHER.sign(good), "Jwt verification fails"),
        ("H11", KEY.sign(r#"{"iss":"j","aud":"aud1"}"#), "Jwt issuer is not configured"),
        ("H11", KEY.sign(r#"{"iss":1,"aud":"aud1"}"#), "Jwt payload [iss] field is not a string"),
        ("H12", KEY.sign(&format!(r#"{{"iss":"i","aud":"aud1","exp":{past}}}"#)), "Jwt is expired"),
        ("H13", KEY.sign(&format!(r#"{{"iss":"i","aud":"aud1","nbf":{future}}}"#)), "Jwt not yet valid"),
        ("H15", KEY.sign(r#"{"iss":"i","exp":"x"}"#), "Jwt payload [exp] field is not an integer"),
        ("H15", KEY.sign(r#"{"iss":"i","exp":-1}"#), "Jwt payload [exp] field is not a positive 64 bit integer"),
        (
            "H18",
            KEY.token(r#"{"alg":"EdDSA","kid":"other"}"#, good),
            "Jwks doesn't have key to match kid or alg from Jwt",
        ),
        ("H18", KEY.token(r#"{"alg":"HS256","kid":"k"}"#, good), "Jwks doesn't have key to match kid or alg from Jwt"),
    ];
    for (id, token, text) in table {
        let row = refused(inbound(id, RULE, &[&bearer(&token)]), "401 Unauthorized", text);
        let seen =
            row.has(&["www-authenticate: Bearer realm=\"http://up.example/x\", error=\"invalid_token\""]).run().await;
        let first = &seen.answer.headers[..3];
        let names: Vec<_> = first.iter().map(|h| h.split(':').next().unwrap()).collect();
        assert_eq!(names, ["www-authenticate", "content-length", "content-type"], "{id}");
    }
    let other = bearer(&KEY.sign(r#"{"iss":"i","aud":"aud2"}"#));
    refused(inbound("H16, 43", RULE, &[&other]), "403 Forbidden", "Audiences in Jwt are not allowed").run().await;
    let grpc = format!(
        "POST /x HTTP/1.1\r\nhost: up.example\r\ncontent-type: application/grpc\r\n{}\r\ncontent-length: 0\r\n\r\n",
        bearer(&OTHER.sign(good))
    );
    let row = inbound("H10 gRPC", RULE, &[]).raw(grpc).body("").tries(0);
    let row = row.log("-", "jwt_authn_access_denied{Jwt_verification_fails}");
    row.has(&["grpc-status: 16", "grpc-message: Jwt verification fails", "www-authenticate: Bearer realm="])
        .run()
        .await;
}

#[tokio::test]
async fn h1_and_h2_without_a_token() {
    let required = "[{issuer: i, presence: REQUIRED, $keys}]";
    let h1 = refused(inbound("H1", required, &["x: y"]), "401 Unauthorized", "Jwt is missing");
    let seen = h1.run().await;
    assert_eq!(seen.answer.header("www-authenticate"), Some("Bearer realm=\"http://up.example/x\""));
    let outputs = "[{issuer: i, outputPayloadToHeader: x-payload, \
                   outputClaimToHeaders: [{header: x-sub, claim: sub}], $keys}]";
    let h2 = inbound("H2", outputs, &["x-payload: forged", "x-sub: forged", "x-else: kept"]).tries(1);
    h2.upstream_has(&["x-else: kept"]).upstream_lacks(&["x-payload", "x-sub"]).run().await;
    for line in ["authorization: Basic abc", "authorization: bearer x.y.z"] {
        let kept: &[&str] = vec![line].leak();
        inbound("H20", RULE, kept).tries(1).upstream_has(kept).run().await;
    }
}

#[tokio::test]
async fn good_tokens_and_what_becomes_of_them() {
    let (past, future) = (now() - 30, now() + 30);
    for (id, payload) in [
        ("H12 leeway", format!(r#"{{"iss":"i","aud":"aud1","exp":{past}}}"#)),
        ("H13 leeway", format!(r#"{{"iss":"i","aud":"aud1","nbf":{future}}}"#)),
        ("H14", r#"{"iss":"i","aud":"aud1","exp":32503680000.5}"#.to_owned()),
        ("H17", r#"{"iss":"i","aud":["x","https://aud1/"]}"#.to_owned()),
    ] {
        let row = inbound(id, RULE, &[&bearer(&KEY.sign(&payload))]).tries(1);
        row.upstream_lacks(&["authorization"]).run().await;
    }
    let token = KEY.sign(r#"{"iss":"i","sub":"me","num":7,"o":{"k":"v"}}"#);
    let rule = "[{issuer: i, forwardOriginalToken: true, outputPayloadToHeader: x-payload, outputClaimToHeaders: \
                [{header: x-n, claim: num}, {header: x-k, claim: o.k}, {header: x-gone, claim: none}], $keys}]";
    let payload: &str = format!("x-payload: {}", token.split('.').nth(1).unwrap()).leak();
    let kept: &str = bearer(&token).leak();
    let wanted: &[&str] = vec![payload, "x-n: 7", "x-k: v", kept].leak();
    let row = inbound("H25, H26", rule, &[kept, "x-n: forged", "x-gone: forged"]).tries(1);
    row.upstream_has(wanted).upstream_lacks(&["x-gone"]).run().await;
    let rule = "[{issuer: i, fromParams: [t], $keys}]";
    let target = format!("/x?a=1&t={token}&b=2");
    let row = inbound("H27", rule, &[]).get(&target).tries(1);
    row.upstream_has(&["GET /x?a=1&b=2 HTTP/1.1"]).run().await;
}

#[tokio::test]
async fn h28_preflights_come_without_tokens() {
    let raw = "OPTIONS /x HTTP/1.1\r\nhost: up.example\r\norigin: http://a\r\n\
               access-control-request-method: GET\r\nauthorization: Bearer bad\r\n\r\n";
    inbound("H28", RULE, &[]).raw(raw).tries(1).run().await;
}

/// The claims of a token decide at a gateway which route is taken; what a client writes into a header does not.
#[tokio::test]
async fn routes_by_claims() {
    let routes = "[{match: [{headers: {'@request.auth.claims.group': {exact: staff}}}], retries: {attempts: 0}, \
                  route: [$up]}, {directResponse: {status: 418}}]";
    let extra = rules(Door::Gateway, "[{issuer: i, $keys}]");
    let ask = |id, lines: &[&str]| row(id, Up::Echo).routes(routes).extra(extra).headers(lines);
    let staff = bearer(&KEY.sign(r#"{"iss":"i","sub":"me","group":["x","staff"]}"#));
    ask("staff", &[&staff]).tries(1).run().await;
    let guest = bearer(&KEY.sign(r#"{"iss":"i","sub":"me","group":"guests"}"#));
    let answered = |row: Row| row.status("418 Unknown").log("-", "direct_response").tries(0);
    answered(ask("guest", &[&guest])).run().await;
    answered(ask("nobody", &["x: y"])).run().await;
}

/// Tokens and policies together: examples 40 to 42, and 45.
#[tokio::test]
async fn g11_policies_about_claims() {
    let policy = |spec: &str| {
        let head = "\n---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n";
        format!("{head}metadata: {{name: x, namespace: default}}\nspec: {spec}\n")
    };
    let with = |id, spec: &str, lines: &[&str]| {
        let extra: &str = format!("{}{}", rules(Door::Inbound, "[{issuer: i, $keys}]"), policy(spec)).leak();
        row(id, Up::Echo).door(Door::Inbound).extra(extra).headers(lines)
    };
    let none = "rbac_access_denied_matched_policy[none]";
    let denied = |row: Row| row.local("403 Forbidden", "RBAC: access denied").log("-", none).tries(0);
    let anybody = "{rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}";
    let (me, nameless) = (bearer(&KEY.sign(r#"{"iss":"i","sub":"me"}"#)), bearer(&KEY.sign(r#"{"iss":"i"}"#)));
    denied(with("41 none", anybody, &["x: y"])).run().await;
    with("41 valid", anybody, &[&me]).tries(1).run().await;
    denied(with("41 without sub", anybody, &[&nameless])).run().await;
    let group = "{rules: [{when: [{key: 'request.auth.claims[groups]', values: [g1]}]}]}";
    for (id, groups, passes) in [
        ("G11 list", r#"["g0","g1"]"#, true),
        ("G11 text", r#""g1""#, true),
        ("G11 words", r#""g0 g1""#, false),
        ("G11 number", "1", false),
    ] {
        let token = bearer(&KEY.sign(&format!(r#"{{"iss":"i","sub":"me","groups":{groups}}}"#)));
        match passes {
            true => with(id, group, &[&token]).tries(1).run().await,
            false => denied(with(id, group, &[&token])).run().await,
        };
    }
    let not = "{rules: [{when: [{key: 'request.auth.claims[role]', notValues: [admin]}]}]}";
    with("G11 missing", not, &["x: y"]).tries(1).run().await;
}
