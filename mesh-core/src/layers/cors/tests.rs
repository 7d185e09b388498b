use http::Method;

use super::*;
use crate::layers::testing::{answer, call, context, get, scripted, with};

fn layer() -> CorsLayer {
    let config = CorsConfig::allow_origins([StringMatcher::Exact("http://a.example".into())])
        .methods(HeaderValue::from_static("GET,POST"))
        .headers(HeaderValue::from_static("x-a"))
        .expose(HeaderValue::from_static("x-e"))
        .max_age(Duration::from_secs(60))
        .credentials();
    CorsLayer::new(config)
}

#[tokio::test]
async fn a_preflight_is_answered_here() {
    let (seen, inner) = scripted(vec![Ok(answer(200, &[]))]);
    let cx = context();
    let preflight = || {
        let mut r = get("/", &[("origin", "http://a.example"), ("access-control-request-method", "GET")]);
        *r.method_mut() = Method::OPTIONS;
        r
    };
    let response = call(&layer(), inner, with(preflight(), &cx)).await.unwrap();
    assert_eq!((response.status().as_u16(), seen.count()), (200, 0));
    assert_eq!(cx.details.get().unwrap(), "cors_response");
    assert_eq!(response.headers()["access-control-allow-methods"], "GET,POST");
    assert_eq!(response.headers()["access-control-max-age"], "60");
    // Of another origin: forwarded, or answered without allowing it.
    let other = || {
        let mut r = preflight();
        r.headers_mut().insert("origin", HeaderValue::from_static("http://b.example"));
        r
    };
    let (seen, inner) = scripted(vec![Ok(answer(204, &[]))]);
    assert_eq!(call(&layer(), inner, other()).await.unwrap().status(), 204);
    assert_eq!(seen.count(), 1);
    let (seen, inner) = scripted(vec![Ok(answer(204, &[]))]);
    let response = call(&CorsLayer::new(layer().0.answer_unmatched()), inner, other()).await.unwrap();
    assert_eq!((response.status().as_u16(), seen.count()), (200, 0));
    assert!(!response.headers().contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn a_responses_own_origin_is_replaced() {
    // F15
    let own = answer(200, &[("access-control-allow-origin", "*"), ("x-e", "1")]);
    let (_, inner) = scripted(vec![Ok(own)]);
    let response = call(&layer(), inner, get("/", &[("origin", "http://a.example")])).await.unwrap();
    let origins: Vec<_> = response.headers().get_all("access-control-allow-origin").iter().collect();
    assert_eq!(origins, ["http://a.example"]);
    assert_eq!(response.headers()["access-control-expose-headers"], "x-e");
    // Another origin gets what the application says.
    let (_, inner) = scripted(vec![Ok(answer(200, &[]))]);
    let response = call(&layer(), inner, get("/", &[("origin", "http://b.example")])).await.unwrap();
    assert!(!response.headers().contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn a_reply_for_a_failed_request_may_be_read_by_the_page() {
    let allow = CorsLayer::new(CorsConfig::allow_origins([StringMatcher::Exact("http://here".into())]));
    let (_, inner) = scripted(vec![Err(Error::new(crate::error::ErrorKind::NoHealthyUpstream))]);
    let error = call(&allow, inner, get("/", &[("origin", "http://here")])).await.unwrap_err();
    let mut headers = HeaderMap::new();
    error.change_reply(error.status(), &mut headers);
    assert_eq!(headers["access-control-allow-origin"], "http://here");
}
