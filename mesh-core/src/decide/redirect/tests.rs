use http::{HeaderMap, Method, StatusCode};

use super::*;

fn to(scheme: &str, authority: &str, plan: RedirectPlan) -> String {
    let (method, headers) = (Method::GET, HeaderMap::new());
    let request =
        RequestFacts { method: &method, scheme, authority, path: "/r", query: None, headers: &headers, claims: None };
    apply_redirect(&plan, &request)
}

fn plan(scheme: Option<&str>, port: Option<u16>) -> RedirectPlan {
    RedirectPlan { code: StatusCode::FOUND, scheme: scheme.map(Into::into), authority: None, port, path: None }
}

#[test]
fn ports() {
    for (scheme, authority, plan, want) in [
        ("http", "a:443", plan(Some("https"), None), "https://a:443/r"), // J9
        ("http", "a:80", plan(Some("https"), None), "https://a/r"),      // J10
        ("https", "a:443", plan(Some("http"), None), "http://a/r"),      // J11
        ("https", "a", plan(None, None), "https://a/r"),                 // J15
        ("http", "a:8080", plan(None, Some(81)), "http://a:81/r"),
        ("https", "[::1]:8443", plan(None, Some(443)), "https://[::1]/r"),
        ("http", "[::1]:8080", plan(None, None), "http://[::1]:8080/r"),
    ] {
        assert_eq!(to(scheme, authority, plan), want);
    }
    // The plan's port goes before the one in its authority.
    for (port, scheme, want) in
        [(None, "http", "http://b:8443/r"), (Some(443), "http", "http://b:443/r"), (Some(443), "https", "https://b/r")]
    {
        let plan = RedirectPlan { authority: Some("b:8443".into()), ..plan(None, port) };
        assert_eq!(to(scheme, "a", plan), want);
    }
}
