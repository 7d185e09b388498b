//! One request and its response, between the codec's types and the stack's.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderValue};
use http::{HeaderMap, Method, Request as HttpRequest, StatusCode, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use mesh_core::error::{Error, ErrorKind};
use mesh_core::layers::{Body, LocalReply, Request, StreamClock, StreamTimer};
use mesh_core::record::{Cx, Flag};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::counted::Counted;
use super::dispatch::{Answer, Calling, Source, dispatch, origin_form};
use super::guard::Shared;
use super::lifetime::Open;
use super::rules;
use super::upgrade;
use crate::drain::{Drain, InFlight};
use crate::stack::Active;

/// The response as the codec takes it.
type Counting = http::Response<Counted<(InFlight, Open)>>;

/// What the requests of one connection have in common.
#[derive(Clone)]
pub(super) struct Exchanges(Arc<Common>);

struct Common {
    active: Arc<ArcSwapOption<Active>>,
    drain: Drain,
    source: Source,
    shared: Arc<Shared>,
}

impl Exchanges {
    pub(super) fn new(active: Arc<ArcSwapOption<Active>>, drain: Drain, source: Source, shared: Arc<Shared>) -> Self {
        Self(Arc::new(Common { active, drain, source, shared }))
    }

    pub(super) fn http1(self, mut request: HttpRequest<Incoming>) -> Http1 {
        let open = (self.0.drain.enter(), self.0.shared.life.enter());
        let verdict = self.0.shared.next_request();
        if let Some(reply) = verdict.refused {
            stand_in(&mut request, reply);
        }
        if verdict.expects_continue {
            request.headers_mut().insert(EXPECT, HeaderValue::from_static("100-continue"));
        }
        let old = request.version() == Version::HTTP_10;
        let keeps = old && request.headers().get_all(CONNECTION).iter().any(asks_to_keep);
        let tunnel = upgrade::Tunnel::asked_for(&mut request);
        let (mut request, received) = incoming(request);
        self.0.shared.pass_informational(&mut request);
        if let Some(timer) = self.0.shared.life.timer() {
            request.extensions_mut().insert(timer);
        }
        let called = self.call(request, None);
        Http1 { called: Called::of(called), asked: Some(Asked { exchanges: self, open, tunnel, received, old, keeps }) }
    }

    /// `clock` is what whoever polls this goes by.
    pub(super) fn http2(self, request: HttpRequest<Incoming>, clock: Option<Arc<StreamClock>>) -> Http2 {
        let open = (self.0.drain.enter(), self.0.shared.life.enter());
        let (mut request, reception) = incoming(request);
        if clock.is_some() {
            request.extensions_mut().insert(StreamTimer { clock, began: Instant::now() });
        }
        join_cookies(request.headers_mut());
        if let Some(reply) = malformed(&request) {
            request.extensions_mut().insert(reply);
        }
        Http2 { called: Called::of(self.call(request, reception.as_deref())), open: Some(open) }
    }

    fn call(&self, request: Request, reception: Option<&Reception>) -> Result<(Calling, Arc<Cx>), Error> {
        let Common { active, source, .. } = &*self.0;
        dispatch(active, source, request, |cx| {
            if let Some(reception) = reception {
                let _ = reception.cx.set(Arc::clone(cx));
            }
        })
    }
}

pin_project! {
    /// A request that the stack has, or that it could not be given.
    #[project = CalledProj]
    enum Called {
        Stack { #[pin] calling: Calling, cx: Arc<Cx> },
        Nobody { error: Option<Error> },
    }
}

impl Called {
    fn of(called: Result<(Calling, Arc<Cx>), Error>) -> Self {
        match called {
            Ok((calling, cx)) => Self::Stack { calling, cx },
            Err(error) => Self::Nobody { error: Some(error) },
        }
    }

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(Answer, Arc<Cx>), Error>> {
        match self.project() {
            CalledProj::Stack { calling, cx } => calling.poll(context).map_ok(|answer| (answer, Arc::clone(cx))),
            CalledProj::Nobody { error } => Poll::Ready(Err(error.take().expect("invariant: polled once to the end"))),
        }
    }
}

pin_project! {
    /// An exchange over HTTP/1.
    pub(super) struct Http1 {
        #[pin]
        called: Called,
        asked: Option<Asked>,
    }
}

/// What has to be known about a request to finish its answer.
struct Asked {
    exchanges: Exchanges,
    open: (InFlight, Open),
    tunnel: Option<upgrade::Tunnel>,
    received: Option<Arc<Reception>>,
    old: bool,
    keeps: bool,
}

impl Future for Http1 {
    type Output = Result<Counting, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let called = ready!(this.called.poll(context));
        let asked = this.asked.take().expect("invariant: polled once to the end");
        Poll::Ready(called.map(|(answer, cx)| asked.finish(answer, &cx)))
    }
}

impl Asked {
    fn finish(self, mut answer: Answer, cx: &Arc<Cx>) -> Counting {
        let Self { exchanges, open, tunnel, received, old, keeps } = self;
        let Common { shared, drain, .. } = &*exchanges.0;
        // The version is a matter of each hop: an upstream of HTTP/1.0 makes no HTTP/1.0 client.
        *answer.version_mut() = Version::HTTP_11;
        if answer.extensions().get::<ReasonPhrase>().is_some() || !knows_reason(answer.status()) {
            set_reason(&mut answer);
        }
        if let Some(tunnel) = tunnel {
            let answer = tunnel.settle(answer, cx, shared.life.tunnel, drain);
            return answer.map(|body| Counted::new(body, open));
        }
        let complete = received.is_none_or(|r| r.complete.load(Ordering::Acquire));
        // The codec speaks the client's version; it keeps an old client's connection only where that asks for it.
        if old && keeps {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("keep-alive"));
        }
        let goes = drain.is_draining() || shared.life.is_closing();
        if !complete || goes || (old && !keeps) {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer.map(|body| Counted::new(body, open))
    }
}

pin_project! {
    /// An exchange over HTTP/2.
    pub(super) struct Http2 {
        #[pin]
        called: Called,
        open: Option<(InFlight, Open)>,
    }
}

impl Future for Http2 {
    type Output = Result<Counting, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (mut answer, _) = ready!(this.called.poll(context))?;
        answer.headers_mut().remove(CONNECTION);
        answer.extensions_mut().remove::<ReasonPhrase>();
        let open = this.open.take().expect("invariant: polled once to the end");
        Poll::Ready(Ok(answer.map(|body| Counted::new(body, open))))
    }
}

/// The codec's request in the stack's form.
fn incoming(request: HttpRequest<Incoming>) -> (Request, Option<Arc<Reception>>) {
    let (mut head, body) = request.into_parts();
    origin_form(&mut head);
    let (body, received) = if body.is_end_stream() {
        (Body::Empty, None)
    } else {
        let reception = Arc::new(Reception::default());
        let body =
            Received { incoming: body, reception: Arc::clone(&reception), http2: head.version == Version::HTTP_2 };
        (Body::Stream(Box::pin(body)), Some(reception))
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

/// What HTTP/2 lets through and HTTP/1 does not. The codec itself resets streams that break the protocol, and answers 431
/// to header lists over 60 KiB.
fn malformed(request: &Request) -> Option<LocalReply> {
    let headers = request.headers();
    if headers.len() > MAX_HEADERS {
        let text = "Request Header Fields Too Large";
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Some(LocalReply::new(status, text, "http2.too_many_headers").flagged(Flag::Dpe));
    }
    let Some(host) = headers.get(HOST) else {
        let nowhere = || LocalReply::new(StatusCode::BAD_REQUEST, "", "missing_host_header");
        return (request.method() != Method::CONNECT).then(nowhere);
    };
    let strange =
        || LocalReply::new(StatusCode::BAD_REQUEST, "Bad Request", "http.invalid_authority").flagged(Flag::Dpe);
    (!host.as_bytes().iter().all(|b| rules::is_of_host(*b))).then(strange)
}

/// Makes a request that could not be parsed visible as what it is: no method, no path, an answer.
fn stand_in(request: &mut HttpRequest<Incoming>, reply: LocalReply) {
    *request.method_mut() = Method::from_bytes(b"-").expect("invariant: a dash is a token");
    request.headers_mut().clear();
    request.extensions_mut().insert(reply);
}

/// Header lines of a request, its host included.
const MAX_HEADERS: usize = 100;

/// What has become of a request's body.
#[derive(Default)]
struct Reception {
    complete: AtomicBool,
    cx: OnceLock<Arc<Cx>>,
}

/// A request's body; what breaks it is the client's doing.
struct Received {
    incoming: Incoming,
    reception: Arc<Reception>,
    http2: bool,
}

impl Received {
    fn broken(&self, error: &hyper::Error) -> Error {
        let gone = error.is_incomplete_message() || error.is_canceled() || error.is_closed();
        let reset = self.http2 && reason(error) == Some(h2::Reason::PROTOCOL_ERROR);
        if reset && let Some(cx) = self.reception.cx.get() {
            cx.flag(Flag::Dpe);
            let _ = cx.details.set("http2.remote_reset".into());
        }
        Error::new(if gone && !reset { ErrorKind::DownstreamGone } else { ErrorKind::DownstreamProtocol })
    }
}

fn reason(error: &hyper::Error) -> Option<h2::Reason> {
    std::error::Error::source(error)?.downcast_ref::<h2::Error>()?.reason()
}

impl Drop for Received {
    /// The codec gives up a stream that it has reset without saying why. What is left of the body says it.
    fn drop(&mut self) {
        if self.http2 && !self.reception.complete.load(Ordering::Acquire) {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            while let Poll::Ready(Some(frame)) = Pin::new(&mut self.incoming).poll_frame(&mut cx) {
                if let Err(error) = frame {
                    self.broken(&error);
                    return;
                }
            }
        }
    }
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.incoming).poll_frame(cx));
        if frame.is_none() || this.incoming.is_end_stream() {
            this.reception.complete.store(true, Ordering::Release);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|error| this.broken(&error))))
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
