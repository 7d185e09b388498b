//! The few shapes of answers that the services give.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, LOCATION, SET_COOKIE};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

/// What every service answers with.
pub(crate) type Reply = Response<Full<Bytes>>;

/// A body with its content type.
pub(crate) fn content(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// A value as JSON.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    let body = serde_json::to_vec(value).expect("invariant: answers have string keys only");
    content(status, "application/json", body)
}

/// `{"error": message}`.
pub(crate) fn json_error(status: StatusCode, message: &str) -> Reply {
    json(status, &serde_json::json!({ "error": message }))
}

/// `{"status": message}`, what `/health` answers.
pub(crate) fn healthy(service: &str) -> Reply {
    json(StatusCode::OK, &serde_json::json!({ "status": format!("{service} is healthy") }))
}

/// A page that depends on the user and on the moment, so that no cache may keep it.
pub(crate) fn page(html: String) -> Reply {
    let mut reply = content(StatusCode::OK, "text/html; charset=utf-8", html);
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// Sends the browser on and sets a cookie.
pub(crate) fn redirect_with_cookie(location: &'static str, cookie: &str) -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = StatusCode::FOUND;
    reply.headers_mut().insert(LOCATION, HeaderValue::from_static(location));
    if let Ok(value) = HeaderValue::from_str(cookie) {
        reply.headers_mut().insert(SET_COOKIE, value);
    }
    reply
}

/// No such path here.
pub(crate) fn not_found(request: &Parts) -> Reply {
    let text = format!("no page at {}\n", request.uri.path());
    content(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", text)
}

/// The path exists, the method does not fit.
pub(crate) fn wrong_method(allowed: &'static str) -> Reply {
    let mut reply = content(StatusCode::METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", format!("use {allowed}\n"));
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    reply
}

/// HEAD is answered as GET; the server drops the body.
pub(crate) fn is_get(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// The product id of a path such as `/details/0`.
pub(crate) fn product_id(segment: &str) -> Result<u32, Box<Reply>> {
    segment.parse().map_err(|_| {
        Box::new(json_error(StatusCode::BAD_REQUEST, "the product id in the path must be a number, such as 0"))
    })
}
