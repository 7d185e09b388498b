use super::*;

fn reviews() -> Endpoint {
    Endpoint { host: "reviews".to_owned(), port: 9080 }
}

#[test]
fn endpoints_are_written_as_authorities() {
    assert_eq!(reviews().to_string(), "reviews:9080");
    assert_eq!(Endpoint { host: "::1".to_owned(), port: 1 }.to_string(), "[::1]:1");
}

#[test]
fn a_request_names_the_service_also_through_a_proxy() {
    let mut headers = HeaderMap::new();
    headers.insert("end-user", HeaderValue::from_static("jason"));
    for target in ["/reviews/0", "http://reviews:9080/reviews/0"] {
        let request = request(&reviews(), target, &headers).unwrap();
        assert_eq!(request.uri().to_string(), target);
        assert_eq!(request.headers()["host"], "reviews:9080");
        assert_eq!(request.headers()["end-user"], "jason");
    }
}

#[test]
fn a_host_that_is_none_is_a_failure_not_a_panic() {
    let to = Endpoint { host: "bad host".to_owned(), port: 1 };
    assert!(request(&to, "http://bad host:1/", &HeaderMap::new()).is_err());
}
