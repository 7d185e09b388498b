//! One request and its response, between the codec's types and the stack's.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderValue};
use http::{HeaderMap, Method, Request as HttpRequest, StatusCode, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use mesh_core::error::{Error, ErrorKind};
use mesh_core::layers::{Body, LocalReply, MeterBody, Request};
use mesh_core::record::{ConnInfo, Cx};
use mesh_core::snapshot::{ListenerPlan, Snapshot};
use tower::Service;

use super::counted::Counted;
use super::guard::Shared;
use super::upgrade;
use crate::drain::Drain;
use crate::listener::{Route, split_authority};
use crate::stack::{Active, HttpStack};

/// The response of the stack.
pub(super) type Answer = http::Response<MeterBody>;
/// The response as the codec takes it.
type Counting = http::Response<Counted>;

/// What the requests of one connection have in common.
#[derive(Clone)]
pub(super) struct Exchanges(Arc<Common>);

struct Common {
    active: Arc<ArcSwapOption<Active>>,
    drain: Drain,
    conn: Arc<ConnInfo>,
    route: Route,
    shared: Arc<Shared>,
}

impl Exchanges {
    pub(super) fn new(
        active: Arc<ArcSwapOption<Active>>,
        drain: Drain,
        conn: Arc<ConnInfo>,
        route: Route,
        shared: Arc<Shared>,
    ) -> Self {
        Self(Arc::new(Common { active, drain, conn, route, shared }))
    }

    pub(super) async fn http1(self, request: HttpRequest<Incoming>) -> Result<Counting, Error> {
        let in_flight = self.0.drain.enter();
        let answer = self.answer(request).await?;
        Ok(answer.map(|body| Counted::new(body, in_flight)))
    }

    async fn answer(&self, mut request: HttpRequest<Incoming>) -> Result<Answer, Error> {
        let verdict = self.0.shared.next_request();
        if let Some(reply) = verdict.refused {
            stand_in(&mut request, reply);
        }
        if verdict.expects_continue {
            request.headers_mut().insert(EXPECT, HeaderValue::from_static("100-continue"));
        }
        let old = request.version() == http::Version::HTTP_10;
        let keeps = old && request.headers().get_all(CONNECTION).iter().any(asks_to_keep);
        let tunnel = upgrade::Tunnel::asked_for(&mut request);
        let (request, received) = incoming(request);
        let mut request = request;
        self.0.shared.pass_informational(&mut request);
        let (mut answer, cx) = self.call(request).await?;
        // The version is a matter of each hop: an upstream of HTTP/1.0 makes no HTTP/1.0 client.
        *answer.version_mut() = http::Version::HTTP_11;
        if answer.extensions().get::<ReasonPhrase>().is_some() || !knows_reason(answer.status()) {
            set_reason(&mut answer);
        }
        if let Some(tunnel) = tunnel {
            return Ok(tunnel.settle(answer, &cx));
        }
        let complete = received.is_none_or(|r| r.load(Ordering::Acquire));
        // The codec speaks the client's version; it keeps an old client's connection only where that asks for it.
        if old && keeps {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("keep-alive"));
        }
        if !complete || self.0.drain.is_draining() || (old && !keeps) {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(answer)
    }

    pub(super) async fn http2(self, request: HttpRequest<Incoming>) -> Result<Counting, Error> {
        let in_flight = self.0.drain.enter();
        let (mut request, _) = incoming(request);
        join_cookies(request.headers_mut());
        let (mut answer, _) = self.call(request).await?;
        answer.headers_mut().remove(CONNECTION);
        answer.extensions_mut().remove::<ReasonPhrase>();
        Ok(answer.map(|body| Counted::new(body, in_flight)))
    }

    /// Calls the stack in force. One look at the configuration for the whole request.
    async fn call(&self, mut request: Request) -> Result<(Answer, Arc<Cx>), Error> {
        let Common { active, conn, route, .. } = &*self.0;
        let (stack, config, conn) = {
            let active = active.load();
            let Some(active) = &*active else { return Err(Error::new(ErrorKind::LocalReset)) };
            let (conn, listener) = match route {
                Route::ByAuthority => by_authority(&active.snapshot, conn, &request),
                _ => (Arc::clone(conn), route.listener(&active.snapshot)),
            };
            (listener.and_then(|l| active.http(&l.key, route.server())).cloned(), active.snapshot.hash, conn)
        };
        let cx = Arc::new(Cx::new(conn, config));
        request.extensions_mut().insert(Arc::clone(&cx));
        // The listener is gone or no longer HTTP: the client is to come again and meet what is there now.
        let Some(stack) = stack else { return Err(Error::new(ErrorKind::LocalReset)) };
        let answer = match &*stack {
            HttpStack::Inbound(stack) => stack.clone().call(request).await?,
            HttpStack::Outbound(stack) => stack.clone().call(request).await?,
        };
        Ok((answer, cx))
    }
}

/// The listener for an explicitly proxied request, and the connection as if it had been captured on its way there.
fn by_authority<'a>(
    snapshot: &'a Snapshot,
    conn: &Arc<ConnInfo>,
    request: &Request,
) -> (Arc<ConnInfo>, Option<&'a Arc<ListenerPlan>>) {
    let authority = request.headers().get(HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
    let port = split_authority(authority, 80).map_or(80, |(_, port)| port);
    match Route::of_authority(snapshot, authority, 80) {
        Some(to) => {
            let listener = snapshot.outbound(Some(to.ip()), to.port());
            (Arc::new(ConnInfo { local: to, ..ConnInfo::clone(conn) }), Some(listener))
        }
        None => (Arc::clone(conn), Some(snapshot.outbound(None, port))),
    }
}

/// Brings a request to the one form that the stack knows: authority in `host`, path and query in the URI.
fn incoming(request: HttpRequest<Incoming>) -> (Request, Option<Arc<AtomicBool>>) {
    let (mut head, body) = request.into_parts();
    if head.method != Method::CONNECT && head.uri.authority().is_some() {
        let uri = std::mem::take(&mut head.uri).into_parts();
        if let Some(authority) = uri.authority.and_then(|a| HeaderValue::from_str(a.as_str()).ok()) {
            head.headers.insert(HOST, authority);
        }
        let path = uri.path_and_query.filter(|p| p.as_str() != "");
        head.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    }
    let (body, received) = if body.is_end_stream() {
        (Body::Empty, None)
    } else {
        let complete = Arc::new(AtomicBool::new(false));
        let body = Received { incoming: body, complete: Arc::clone(&complete) };
        (Body::Stream(Box::pin(body)), Some(complete))
    };
    (http::Request::from_parts(head, body), received)
}

/// Whether a `connection` header of an HTTP/1.0 request asks to keep the connection.
fn asks_to_keep(value: &HeaderValue) -> bool {
    value.as_bytes().split(|b| *b == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"keep-alive"))
}

/// HTTP/2 may send a cookie header in parts; applications expect one line.
fn join_cookies(headers: &mut HeaderMap) {
    let parts: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if parts.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&parts.join(&b"; "[..]))
    {
        headers.insert(COOKIE, joined);
    }
}

/// Makes a request that could not be parsed visible as what it is: no method, no path, an answer.
fn stand_in(request: &mut HttpRequest<Incoming>, reply: LocalReply) {
    *request.method_mut() = Method::from_bytes(b"-").expect("invariant: a dash is a token");
    request.headers_mut().clear();
    request.extensions_mut().insert(reply);
}

/// A request's body; what breaks it is the client's doing.
struct Received {
    incoming: Incoming,
    complete: Arc<AtomicBool>,
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.incoming).poll_frame(cx));
        if frame.is_none() || this.incoming.is_end_stream() {
            this.complete.store(true, Ordering::Release);
        }
        Poll::Ready(frame.map(|frame| {
            frame.map_err(|error| {
                let gone = error.is_incomplete_message() || error.is_canceled() || error.is_closed();
                Error::new(if gone { ErrorKind::DownstreamGone } else { ErrorKind::DownstreamProtocol })
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// Whether Envoy has a phrase for a status; it calls the others `Unknown`, also those that the codec knows.
fn knows_reason(status: StatusCode) -> bool {
    status != StatusCode::IM_A_TEAPOT && status.canonical_reason().is_some()
}

/// The upstream's own phrase does not go on.
fn set_reason(answer: &mut Answer) {
    answer.extensions_mut().remove::<ReasonPhrase>();
    if !knows_reason(answer.status()) {
        answer.extensions_mut().insert(ReasonPhrase::from_static(b"Unknown"));
    }
}

/// Replaces a body that must not go out.
pub(super) fn without_body(answer: Answer) -> Answer {
    let mut answer = answer.map(|body| body.replaced(Body::Empty));
    answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    answer
}
