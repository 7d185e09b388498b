use http::Request;
use http_body_util::BodyExt;

use super::*;

async fn call(service: &Ratings, method: Method, path: &str, body: &'static str) -> (StatusCode, String) {
    let (parts, ()) = Request::builder().method(method).uri(path).body(()).unwrap().into_parts();
    let reply = service.handle(&parts, &Bytes::from_static(body.as_bytes()));
    let status = reply.status();
    let body = reply.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn ratings_are_read_posted_and_read_again() {
    let service = Ratings::default();
    let first = call(&service, Method::GET, "/ratings/0", "").await;
    assert_eq!(first, (StatusCode::OK, r#"{"id":0,"ratings":{"Reviewer1":5,"Reviewer2":4}}"#.to_owned()));
    let posted = call(&service, Method::POST, "/ratings/0", r#"{"Reviewer1":1}"#).await;
    assert_eq!(posted, (StatusCode::OK, r#"{"id":0,"ratings":{"Reviewer1":1}}"#.to_owned()));
    assert_eq!(call(&service, Method::GET, "/ratings/0", "").await, posted);
    assert!(call(&service, Method::GET, "/ratings/1", "").await.1.contains("\"Reviewer2\":4"));
}

#[tokio::test]
async fn bad_requests_are_refused() {
    let service = Ratings::default();
    assert_eq!(call(&service, Method::GET, "/ratings/x", "").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(call(&service, Method::POST, "/ratings/0", "five").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(call(&service, Method::DELETE, "/ratings/0", "").await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(call(&service, Method::GET, "/ratings", "").await.0, StatusCode::NOT_FOUND);
    assert_eq!(call(&service, Method::GET, "/health", "").await.0, StatusCode::OK);
}
