use super::*;
use crate::matching::StringMatcher;
use crate::snapshot::Provenance;

fn plan() -> CorsPlan {
    let value = |v| Some(HeaderValue::from_static(v));
    CorsPlan {
        allow_origins: vec![StringMatcher::Exact("http://a.example".into())],
        allow_methods: value("GET,POST"),
        allow_headers: value("x-a,x-b"),
        expose_headers: value("x-e"),
        max_age: Some(86_400),
        allow_credentials: true,
        forward_unmatched: true,
        origin: Provenance::default("test"),
    }
}

fn decide(plan: &CorsPlan, method: &Method, headers: &[(&'static str, &'static str)]) -> CorsDecision {
    let headers = headers.iter().map(|(k, v)| (k.parse().unwrap(), HeaderValue::from_static(v))).collect();
    decide_cors(plan, method, &headers)
}

fn lines(headers: &HeaderMap) -> Vec<String> {
    headers
        .iter()
        .map(|(k, v)| format!("{}: {}", &k.as_str()["access-control-".len()..], v.to_str().unwrap()))
        .collect()
}

const ORIGIN_A: (&str, &str) = ("origin", "http://a.example");
const ORIGIN_B: (&str, &str) = ("origin", "http://b.example");
const ASKS: (&str, &str) = ("access-control-request-method", "PUT");

#[test]
fn preflights() {
    // F10
    let CorsDecision::Answer(headers) = decide(&plan(), &Method::OPTIONS, &[ORIGIN_A, ASKS]) else { panic!() };
    assert_eq!(
        lines(&headers),
        [
            "allow-origin: http://a.example",
            "allow-credentials: true",
            "allow-methods: GET,POST",
            "allow-headers: x-a,x-b",
            "max-age: 86400",
            "expose-headers: x-e",
        ]
    );
    // F11
    assert_eq!(decide(&plan(), &Method::OPTIONS, &[ORIGIN_B, ASKS]), CorsDecision::Pass);
    // F12
    let methods_only = CorsPlan {
        allow_headers: None,
        expose_headers: None,
        max_age: None,
        allow_credentials: false,
        forward_unmatched: false,
        ..plan()
    };
    let CorsDecision::Answer(headers) = decide(&methods_only, &Method::OPTIONS, &[ORIGIN_B, ASKS]) else { panic!() };
    assert_eq!(lines(&headers), ["allow-methods: GET,POST"]);
    // Which headers may be read is nothing to an origin that is not allowed.
    let ignored = CorsPlan { forward_unmatched: false, ..plan() };
    let CorsDecision::Answer(headers) = decide(&ignored, &Method::OPTIONS, &[ORIGIN_B, ASKS]) else { panic!() };
    let rest = ["allow-credentials: true", "allow-methods: GET,POST", "allow-headers: x-a,x-b", "max-age: 86400"];
    assert_eq!(lines(&headers), rest);
    // F13, F14
    let star = || Some(HeaderValue::from_static("*"));
    let any = vec![StringMatcher::Exact("*".into())];
    let any = CorsPlan { allow_origins: any, allow_methods: star(), allow_headers: star(), ..methods_only };
    let CorsDecision::Answer(headers) = decide(&any, &Method::OPTIONS, &[ORIGIN_B, ASKS]) else { panic!() };
    assert_eq!(lines(&headers), ["allow-origin: http://b.example", "allow-methods: PUT", "allow-headers: "]);
    let asks = ("access-control-request-headers", "x-q, x-r");
    let CorsDecision::Answer(headers) = decide(&any, &Method::OPTIONS, &[ORIGIN_B, ASKS, asks]) else { panic!() };
    assert_eq!(lines(&headers)[2], "allow-headers: x-q, x-r");
}

#[test]
fn simple_requests() {
    // F15
    let simple = ["allow-origin: http://a.example", "allow-credentials: true", "expose-headers: x-e"];
    let CorsDecision::Allow(headers) = decide(&plan(), &Method::GET, &[ORIGIN_A]) else { panic!() };
    assert_eq!(lines(&headers), simple);
    // F16
    let CorsDecision::Allow(headers) = decide(&plan(), &Method::OPTIONS, &[ORIGIN_A]) else { panic!() };
    assert_eq!(lines(&headers), simple);
    for headers in [&[ORIGIN_B] as &[_], &[], &[("origin", "")], &[ASKS]] {
        assert_eq!(decide(&plan(), &Method::GET, headers), CorsDecision::Pass);
    }
}
