//! What the Layers' tests share: a fixed world, a context, and services that do as they are told.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use parking_lot::Mutex;
use tower::{Layer, Service};

use super::{Body, Request, Response, Upstream};
use crate::api::ContentHash;
use crate::env::Env;
use crate::error::Error;
use crate::matching::RequestMatch;
use crate::record::{ConnInfo, Cx};
use crate::snapshot::{Action, Direction, HeaderOps, Provenance, RouteFilters, RoutePlan, WeightedCluster};

/// The same random number each time, and no time passes.
pub(super) struct Fixed(pub(super) u64);

impl Env for Fixed {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn random(&self) -> u64 {
        self.0
    }
}

pub(super) fn fixed(random: u64) -> Arc<dyn Env> {
    Arc::new(Fixed(random))
}

pub(super) fn context() -> Arc<Cx> {
    context_from("10.0.0.9:1234")
}

pub(super) fn context_from(peer: &str) -> Arc<Cx> {
    let conn = ConnInfo {
        direction: Direction::Outbound,
        peer: peer.parse().unwrap(),
        local: "10.96.0.1:80".parse().unwrap(),
        direct: None,
        sni: "".into(),
        tls: None,
        peer_text: Default::default(),
    };
    Arc::new(Cx::new(Arc::new(conn), ContentHash(1)))
}

/// A GET of a target with headers.
pub(super) fn get(target: &str, headers: &[(&str, &str)]) -> Request {
    let mut builder = http::Request::builder().uri(target).header("host", "a.example");
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Body::Empty).unwrap()
}

pub(super) fn with(mut request: Request, cx: &Arc<Cx>) -> Request {
    request.extensions_mut().insert(Arc::clone(cx));
    request
}

pub(super) fn status(code: u16) -> Response {
    answer(code, &[])
}

pub(super) fn answer(code: u16, headers: &[(&str, &str)]) -> Response {
    let mut builder = http::Response::builder().status(code);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Body::Empty).unwrap()
}

/// Calls a Layer around a service once.
pub(super) async fn call<L, S, R>(layer: &L, inner: S, request: Request) -> Result<http::Response<R>, Error>
where
    S: Upstream,
    L: Layer<S>,
    L::Service: Service<Request, Response = http::Response<R>, Error = Error>,
{
    layer.layer(inner).call(request).await
}

/// A service from an async function.
pub(super) fn service<F, Fut>(f: F) -> impl Upstream
where
    F: Fn(Request) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Response, Error>> + Send + 'static,
{
    tower::service_fn(f)
}

/// What a service has seen.
#[derive(Clone, Default)]
pub(super) struct Seen(Arc<Mutex<Vec<(http::request::Parts, String)>>>);

impl Seen {
    pub(super) fn header(&self, index: usize, name: &str) -> Option<String> {
        let all = self.0.lock();
        all[index].0.headers.get(name).map(|v| v.to_str().unwrap().to_owned())
    }

    pub(super) fn lines(&self, name: &str) -> Vec<String> {
        let all = self.0.lock();
        let values = all.last().unwrap().0.headers.get_all(name).iter();
        values.map(|v| v.to_str().unwrap().to_owned()).collect()
    }

    pub(super) fn target(&self) -> String {
        self.0.lock().last().unwrap().0.uri.to_string()
    }

    pub(super) fn bodies(&self) -> Vec<String> {
        self.0.lock().iter().map(|(_, body)| body.clone()).collect()
    }

    /// A request carried the endpoints of tries before it.
    pub(super) fn tried(&self) -> bool {
        self.0.lock().iter().any(|(parts, _)| parts.extensions.get::<Arc<crate::balance::Tried>>().is_some())
    }

    pub(super) fn count(&self) -> usize {
        self.0.lock().len()
    }
}

/// A service that gives prepared answers in order, the last one again and again, and reads each request first.
pub(super) fn scripted(answers: Vec<Result<Response, Error>>) -> (Seen, impl Upstream) {
    let seen = Seen::default();
    let (log, last) = (seen.clone(), Mutex::new(VecDeque::from(answers)));
    let script = Arc::new(last);
    let upstream = service(move |request: Request| {
        let (log, script) = (log.clone(), Arc::clone(&script));
        async move {
            let (parts, mut body) = request.into_parts();
            let text = read(&mut body).await.0;
            log.0.lock().push((parts, text));
            let mut script = script.lock();
            if script.len() > 1 { script.pop_front().unwrap() } else { again(&script[0]) }
        }
    });
    (seen, upstream)
}

fn again(answer: &Result<Response, Error>) -> Result<Response, Error> {
    match answer {
        Ok(response) => {
            let mut copy = Response::new(Body::Empty);
            *copy.status_mut() = response.status();
            *copy.headers_mut() = response.headers().clone();
            Ok(copy)
        }
        Err(error) => Err(error.clone()),
    }
}

/// Reads a body to its end: text, and how it ended.
pub(super) async fn read<B>(body: &mut B) -> (String, Option<Error>)
where
    B: HttpBody<Data = Bytes, Error = Error> + Unpin,
{
    let mut text = String::new();
    loop {
        match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    text.push_str(std::str::from_utf8(&data).unwrap());
                }
            }
            Some(Err(error)) => return (text, Some(error)),
            None => return (text, None),
        }
    }
}

/// A body in pieces; it stays open for ever if `open`.
pub(super) fn pieces(pieces: &[&'static str], open: bool) -> Body {
    let pieces = pieces.iter().map(|p| Bytes::from_static(p.as_bytes())).collect();
    Body::stream(Pieces { pieces, open })
}

struct Pieces {
    pieces: VecDeque<Bytes>,
    open: bool,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.pieces.pop_front() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            None if self.open => Poll::Pending,
            None => Poll::Ready(None),
        }
    }
}

/// A route to one cluster that changes nothing.
pub(super) fn route() -> RoutePlan {
    let origin = Provenance::default("test");
    let target = WeightedCluster {
        cluster: "up".into(),
        weight: 1,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        authority: None,
        missing_status: http::StatusCode::SERVICE_UNAVAILABLE,
        origin: origin.clone(),
    };
    RoutePlan {
        name: "r".into(),
        matches: RequestMatch::default(),
        action: Action::Forward(vec![target]),
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        rewrite: None,
        filters: RouteFilters::default(),
        headers: Default::default(),
        timeout: None,
        retry: None,
        replay: RoutePlan::REPLAY,
        origin: origin.clone(),
        timeout_origin: origin.clone(),
        retry_origin: origin,
        hash: ContentHash(1),
    }
}
