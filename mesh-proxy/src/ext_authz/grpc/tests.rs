use super::super::proto::{BoolValue, HeaderValue as Value, HttpStatus, OkResponse, Status};
use super::*;

fn option(key: &str, value: &str, append: Option<bool>) -> HeaderValueOption {
    let header = Value { key: key.into(), value: value.into(), ..Value::default() };
    HeaderValueOption { header: Some(header), append: append.map(|value| BoolValue { value }) }
}

fn names(headers: &[(HeaderName, HeaderValue)]) -> Vec<&str> {
    headers.iter().map(|(n, _)| n.as_str()).collect()
}

#[test]
fn answers_that_allow() {
    let ok = OkResponse {
        headers: vec![option("x-set", "1", None), option("x-add", "2", Some(true)), option(":path", "/", None)],
        headers_to_remove: vec!["x-gone".into(), "host".into()],
        response_headers_to_add: vec![option("x-down", "3", None)],
    };
    let answer = CheckResponse { status: Some(Status { code: 0 }), ok: Some(ok), denied: None };
    let Verdict::Allow(allowed) = verdict(answer) else { panic!() };
    assert_eq!((names(&allowed.set), names(&allowed.append)), (vec!["x-set"], vec!["x-add"]));
    assert_eq!((allowed.remove, names(&allowed.response)), (vec!["x-gone".parse().unwrap()], vec!["x-down"]));
    assert_eq!(verdict(CheckResponse::default()), Verdict::Allow(Allowed::default()));
}

#[test]
fn i10_to_i12_answers_that_refuse() {
    let refused = |denied: Option<HttpResponse>| match verdict(CheckResponse {
        status: Some(Status { code: 7 }),
        denied,
        ok: None,
    }) {
        Verdict::Deny(refused) => refused,
        Verdict::Allow(_) => panic!(),
    };
    let bare = refused(None);
    assert_eq!((bare.status.as_u16(), bare.body.len(), bare.headers.len()), (403, 0, 0), "I10");
    let headers = vec![option("x-d", "1", None)];
    let full = HttpResponse { status: Some(HttpStatus { code: 401 }), headers, body: "nope".into() };
    let full = refused(Some(full));
    assert_eq!((full.status.as_u16(), &*full.body, names(&full.headers)), (401, &b"nope"[..], vec!["x-d"]), "I11");
    let body = refused(Some(HttpResponse { body: "nope".into(), ..HttpResponse::default() }));
    assert_eq!((body.status.as_u16(), &*body.body), (403, &b"nope"[..]), "I12");
    let wrong = HttpResponse { status: Some(HttpStatus { code: 100 }), ..HttpResponse::default() };
    assert_eq!(refused(Some(wrong)).status, 403, "an interim status is no answer");
}
