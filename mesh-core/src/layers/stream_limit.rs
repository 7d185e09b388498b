//! How long a request may take altogether, may take to arrive, and may stand still: `httpMaxStreamDuration`,
//! `httpRequestTimeout` and `httpStreamIdleTimeout` of `connectionSettings`. Unlike a route's timeout they hold for all
//! requests of a listener, and for slow clients too.

mod clock;
#[cfg(test)]
mod tests;
mod watch;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

pub use clock::{StreamClock, StreamTimer};

use super::{Body, Request, Response, Upstream};
use crate::error::{Error, ErrorKind};
use crate::record::Cx;
use crate::snapshot::HttpSettings;
use watch::Watch;

/// Config of [`StreamLimitLayer`]. `None`: no limit, which is the default of each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StreamLimitConfig {
    /// Time without a byte in either direction.
    pub idle: Option<Duration>,
    /// Time for the request to arrive completely.
    pub request: Option<Duration>,
    /// Time for request and response.
    pub total: Option<Duration>,
}

impl StreamLimitConfig {
    /// The limits of a listener; `None`: it has none.
    pub fn of(settings: &HttpSettings) -> Option<Self> {
        let limits = Self {
            idle: settings.stream_idle_timeout,
            request: settings.request_timeout,
            total: settings.max_stream_duration,
        };
        (limits != Self::default()).then_some(limits)
    }
}

/// Ends requests that are over a limit. Before the response's head: 504 `stream timeout` (`SI`; 408 if the request has not
/// come completely), 408 `request timeout`, 504 `downstream duration timeout`. After it the response is cut.
///
/// The three share one timer, which is not touched while bytes flow. On a connection that has a [`StreamClock`], it is the
/// connection's, so that a request costs no timer at all.
///
/// ```
/// use std::time::Duration;
/// use mesh_core::layers::{StreamLimitConfig, StreamLimitLayer};
///
/// let layer = StreamLimitLayer::new(StreamLimitConfig { idle: Some(Duration::from_secs(300)), ..Default::default() });
/// # let _ = layer;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct StreamLimitLayer(StreamLimitConfig);

impl StreamLimitLayer {
    /// With this config.
    pub fn new(config: StreamLimitConfig) -> Self {
        Self(config)
    }
}

impl<S> Layer<S> for StreamLimitLayer {
    type Service = StreamLimit<S>;

    fn layer(&self, inner: S) -> StreamLimit<S> {
        StreamLimit { config: self.0, inner }
    }
}

/// Service of [`StreamLimitLayer`].
#[derive(Clone, Copy, Debug)]
pub struct StreamLimit<S> {
    config: StreamLimitConfig,
    inner: S,
}

impl<S: Upstream> Service<Request> for StreamLimit<S> {
    type Response = Response;
    type Error = Error;
    type Future = StreamLimitFuture<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let timer = request.extensions_mut().remove::<StreamTimer>();
        let cx = request.extensions().get::<Arc<Cx>>().cloned();
        let (request, watch) = Watch::of(request, self.config, timer, cx.as_ref());
        StreamLimitFuture { inner: self.inner.call(request), state: Some(State { watch, cx }) }
    }
}

/// What the response's head and its body have in common.
struct State {
    watch: Watch,
    cx: Option<Arc<Cx>>,
}

pin_project! {
    /// Future of [`StreamLimit`].
    pub struct StreamLimitFuture<F> {
        #[pin]
        inner: F,
        state: Option<State>,
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for StreamLimitFuture<F> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(result) = this.inner.poll(cx) {
            let state = this.state.take();
            return Poll::Ready(result.map(|response| match state {
                Some(mut state) if !response.body().is_empty() => {
                    state.watch.moved();
                    response.map(|body| Body::Stream(Box::pin(LimitedBody { body, state })))
                }
                _ => response,
            }));
        }
        let Some(state) = this.state else { return Poll::Pending };
        let kind = ready!(state.watch.poll(cx));
        if let Some(context) = &state.cx {
            context.given_up.store(kind == ErrorKind::IdleTimeout, Ordering::Relaxed);
        }
        let error = Error::new(kind);
        // Who has not said everything is told so, not that the destination was slow.
        let clients = kind == ErrorKind::IdleTimeout && !state.watch.request_is_complete();
        Poll::Ready(Err(if clients { error.with_status(StatusCode::REQUEST_TIMEOUT) } else { error }))
    }
}

/// The response's body, cut when it is over a limit.
struct LimitedBody {
    body: Body,
    state: State,
}

impl HttpBody for LimitedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.state.watch.moved();
            return Poll::Ready(frame);
        }
        let kind = ready!(this.state.watch.poll(cx));
        if let Some(cx) = &this.state.cx {
            clock::cut(cx, kind);
        }
        this.body = Body::Empty;
        Poll::Ready(Some(Err(Error::new(kind))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
