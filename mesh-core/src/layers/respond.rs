//! The only Layer that turns an error into a reply. Bodies, statuses, flags and details are Envoy's, as measured.

#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, LOCATION, SERVER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::{Body, Request, Response, Upstream};
use crate::error::{Error, ErrorKind, grpc_status_of_http};
use crate::record::{Cx, Flag};

const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A reply that the proxy makes itself, for a reason that is not an [`Error`]: a policy, a direct response, a request that
/// it refuses. Made anywhere in the stack; [`Respond`] gives it its final form (gRPC, HEAD, `server`).
#[derive(Clone, Debug)]
pub struct LocalReply {
    /// Status.
    pub status: StatusCode,
    /// Text; empty: none.
    pub body: Bytes,
    /// `response_code_details`.
    pub details: &'static str,
    /// Response flag.
    pub flag: Option<Flag>,
    /// Close the connection afterwards.
    pub close: bool,
    /// Status for a gRPC client; unset: the one that [`LocalReply::status`] is mapped to.
    pub grpc: Option<u8>,
    /// `location`.
    pub location: Option<HeaderValue>,
}

impl LocalReply {
    /// A reply without a flag, on a connection that stays.
    pub fn new(status: StatusCode, body: &'static str, details: &'static str) -> Self {
        Self {
            status,
            body: Bytes::from_static(body.as_bytes()),
            details,
            flag: None,
            close: false,
            grpc: None,
            location: None,
        }
    }

    /// The same, closing the connection.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// The same, sending the client elsewhere.
    #[must_use]
    pub fn located(mut self, location: HeaderValue) -> Self {
        self.location = Some(location);
        self
    }

    /// The same with a flag.
    #[must_use]
    pub fn flagged(mut self, flag: Flag) -> Self {
        self.flag = Some(flag);
        self
    }

    /// The same with a gRPC status of its own.
    #[must_use]
    pub fn with_grpc(mut self, status: u8) -> Self {
        self.grpc = Some(status);
        self
    }

    /// The response as it goes up the stack, noted in the context.
    pub fn into_response(mut self, cx: Option<&Cx>) -> Response {
        // Not even a direct response can give these a body (RFC 9110, 6.4.1): nobody would read it.
        if has_no_body(self.status) {
            self.body = Bytes::new();
        }
        if let Some(cx) = cx {
            let _ = cx.details.set(self.details.into());
            if let Some(flag) = self.flag {
                cx.flag(flag);
            }
        }
        let mut response = http::Response::new(Body::from(self.body.clone()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if !self.body.is_empty() {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(self.body.len()));
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        }
        if let Some(location) = self.location {
            headers.insert(LOCATION, location);
        }
        if self.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response.extensions_mut().insert(IsLocal { grpc: self.grpc });
        response
    }
}

fn has_no_body(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}

/// Whether a response is a [`LocalReply`] on its way up.
pub(super) fn is_local(response: &Response) -> bool {
    response.extensions().get::<IsLocal>().is_some()
}

/// Marks a response that was made by [`LocalReply`].
#[derive(Clone, Copy)]
struct IsLocal {
    grpc: Option<u8>,
}

/// Turns errors into replies.
///
/// ```
/// use http::HeaderValue;
/// use mesh_core::layers::RespondLayer;
///
/// let layer = RespondLayer::new(HeaderValue::from_static("istio-envoy"));
/// # let _ = layer;
/// ```
#[derive(Clone, Debug)]
pub struct RespondLayer {
    server: HeaderValue,
}

impl RespondLayer {
    /// `server` is the proxy's name in replies of its own.
    pub fn new(server: HeaderValue) -> Self {
        Self { server }
    }
}

impl<S> Layer<S> for RespondLayer {
    type Service = Respond<S>;

    fn layer(&self, inner: S) -> Respond<S> {
        Respond { server: self.server.clone(), inner }
    }
}

/// Service of [`RespondLayer`].
#[derive(Clone, Debug)]
pub struct Respond<S> {
    server: HeaderValue,
    inner: S,
}

impl<S: Upstream> Service<Request> for Respond<S> {
    type Response = Response;
    type Error = Error;
    type Future = RespondFuture<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let asked = Asked {
            grpc: is_grpc(request.headers()),
            head: request.method() == Method::HEAD,
            http1: request.version() < Version::HTTP_2,
            server: self.server.clone(),
            cx: request.extensions().get::<Arc<Cx>>().cloned(),
        };
        RespondFuture { inner: self.inner.call(request), asked }
    }
}

/// What has to be known about a request to answer it.
struct Asked {
    grpc: bool,
    head: bool,
    http1: bool,
    server: HeaderValue,
    cx: Option<Arc<Cx>>,
}

pin_project! {
    /// Future of [`Respond`].
    pub struct RespondFuture<F> {
        #[pin]
        inner: F,
        asked: Asked,
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for RespondFuture<F> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = match ready!(this.inner.poll(cx)) {
            // The common case: an upstream answered, nothing to do here.
            Ok(response) if response.extensions().is_empty() => response,
            Ok(mut response) => match response.extensions_mut().remove::<IsLocal>() {
                Some(IsLocal { grpc }) => this.asked.finish(response, grpc),
                None => response,
            },
            Err(error) => this.asked.answer(&error),
        };
        Poll::Ready(Ok(response))
    }
}

impl Asked {
    fn answer(&self, error: &Error) -> Response {
        let row = error.kind().row();
        let cx = self.cx.as_deref();
        let reason = error.reason();
        let body = match row.reset_reason {
            None => Bytes::from_static(row.body.as_bytes()),
            Some(word) => {
                let retried = cx.is_some_and(|cx| cx.attempts.load(Ordering::Relaxed) > 1);
                let retried = if retried { "retried and the latest " } else { "" };
                let before = "upstream connect error or disconnect/reset before headers. ";
                format!("{before}{retried}reset reason: {word}").into()
            }
        };
        if let Some(cx) = cx {
            note(cx, error, &reason);
        }
        // Malformed input ends the connection: where the next request begins is not known.
        let close = error.kind() == ErrorKind::DownstreamProtocol;
        let reply = LocalReply {
            status: error.status(),
            body,
            details: row.details,
            flag: None,
            close,
            grpc: None,
            location: None,
        };
        let mut response = reply.into_response(None);
        let debug = cx.and_then(|cx| cx.route.get()).is_none_or(|route| route.headers.debug);
        if error.kind() == ErrorKind::Overflow && debug {
            // Before the others, as Envoy sends it.
            let others = std::mem::take(response.headers_mut());
            response.headers_mut().insert(OVERLOADED, HeaderValue::from_static("true"));
            response.headers_mut().extend(others);
        }
        response.extensions_mut().remove::<IsLocal>();
        let status = response.status();
        error.change_reply(status, response.headers_mut());
        // The kind's own, where the status is.
        let own = error.status() == row.status;
        self.finish(response, own.then(|| error.kind().grpc_status()))
    }

    /// Gives a reply of ours the form that the client understands.
    fn finish(&self, mut response: Response, grpc: Option<u8>) -> Response {
        if self.grpc {
            response = into_grpc(response, grpc);
        }
        let headers = response.headers_mut();
        if !headers.contains_key(SERVER) {
            headers.insert(SERVER, self.server.clone());
        }
        // 1xx and 204 can't have a body, so Envoy gives them no length either.
        let may_have_body = response.status() != StatusCode::NO_CONTENT && !response.status().is_informational();
        let unsized_empty = response.body().is_empty() && !response.headers().contains_key(CONTENT_LENGTH);
        if self.http1 && may_have_body && unsized_empty {
            let (name, value) = if self.head && !self.grpc {
                (TRANSFER_ENCODING, HeaderValue::from_static("chunked"))
            } else {
                (CONTENT_LENGTH, HeaderValue::from_static("0"))
            };
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// Writes down in the context why there is no upstream response.
fn note(cx: &Cx, error: &Error, reason: &str) {
    let row = error.kind().row();
    if let Some(flag) = Flag::from_name(row.flag) {
        cx.flag(flag);
    }
    let underscored = reason.replace(' ', "_");
    let details = match row.reset_reason {
        None => row.details.to_owned(),
        Some(word) if reason.is_empty() => format!("{}{{{}}}", row.details, word.replace(' ', "_")),
        Some(word) => format!("{}{{{}|{underscored}}}", row.details, word.replace(' ', "_")),
    };
    let _ = cx.details.set(details);
    if !reason.is_empty() {
        let _ = cx.failure_reason.set(underscored);
    }
}

/// HTTP 200 with the status in the header: a trailers-only gRPC response.
fn into_grpc(response: Response, status: Option<u8>) -> Response {
    let (parts, body) = response.into_parts();
    let mut out = http::Response::new(Body::Empty);
    // What a rule has added, and where a redirect leads, stays.
    let headers = out.headers_mut();
    *headers = parts.headers;
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let status = status.unwrap_or_else(|| grpc_status_of_http(parts.status));
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(status)));
    if let Body::Full(text) = &body {
        headers.insert(GRPC_MESSAGE, grpc_message(text));
    }
    out
}

/// Percent-encodes a `grpc-message`: control characters, everything outside ASCII, and the percent sign.
fn grpc_message(text: &[u8]) -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = Vec::with_capacity(text.len());
    for &b in text {
        if (b' '..=b'~').contains(&b) && b != b'%' {
            out.push(b);
        } else {
            out.extend([b'%', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
        }
    }
    HeaderValue::from_bytes(&out).expect("invariant: only printable ASCII was pushed")
}

/// Content type exactly `application/grpc`, or that with a `+suffix`.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(rest) = headers.get(CONTENT_TYPE).and_then(|v| v.as_bytes().strip_prefix(b"application/grpc")) else {
        return false;
    };
    rest.is_empty() || rest[0] == b'+'
}
