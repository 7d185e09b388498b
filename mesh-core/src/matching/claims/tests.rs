use serde_json::json;

use super::*;

fn claims() -> Claims {
    let payload = json!({
        "iss": "me", "groups": ["dev", "admin"], "n": 7, "scope": "read write",
        "a": {"b": "deep"}, "example.com/role": "boss"
    });
    let Value::Object(map) = payload else { panic!() };
    Claims::new(map)
}

fn holds(key: &str, value: StringMatcher, invert: bool) -> bool {
    ClaimMatch { path: ClaimMatch::path(key).unwrap(), value, invert }.holds(Some(&claims()))
}

#[test]
fn texts_lists_and_nested_claims() {
    let exact = |v: &str| StringMatcher::Exact(v.into());
    for (key, value, wanted) in [
        ("@request.auth.claims.iss", "me", true),
        ("@request.auth.claims.iss", "you", false),
        ("@request.auth.claims.groups", "admin", true),
        ("@request.auth.claims.groups", "dev,admin", false),
        ("@request.auth.claims.n", "7", false),
        ("@request.auth.claims.scope", "write", true),
        ("@request.auth.claims.a.b", "deep", true),
        ("@request.auth.claims[a][b]", "deep", true),
        ("@request.auth.claims[example.com/role]", "boss", true),
        ("@request.auth.claims.example.com/role", "boss", false),
        ("@request.auth.claims.nope", "x", false),
        ("@request.auth.claims.iss.deeper", "me", false),
    ] {
        assert_eq!(holds(key, exact(value), false), wanted, "{key} {value}");
        assert_eq!(holds(key, exact(value), true), !wanted, "not {key} {value}");
    }
    assert!(holds("@request.auth.claims.n", StringMatcher::Present, false));
    assert!(!holds("@request.auth.claims.nope", StringMatcher::Present, false));
    assert!(holds("@request.auth.claims.groups", StringMatcher::Prefix("ad".into()), false));
    let without = ClaimMatch { path: ["iss".into()].into(), value: exact("me"), invert: true };
    assert!(without.holds(None), "no token: nothing matches, so its inverse holds");
}

#[test]
fn keys() {
    let path = |k| ClaimMatch::path(k).map(|p| p.join("|"));
    assert_eq!(path("@request.auth.claims.a.b").as_deref(), Some("a|b"));
    assert_eq!(path("@request.auth.claims[a.b][c]").as_deref(), Some("a.b|c"));
    for wrong in [
        "@request.auth.claims",
        "@request.auth.claims.",
        "@request.auth.claims[a",
        "@request.auth.claims[]",
        "@request.auth.claimsx",
        "@request.auth.claims.a[b]",
        "x-header",
    ] {
        assert_eq!(path(wrong), None, "{wrong}");
    }
}
