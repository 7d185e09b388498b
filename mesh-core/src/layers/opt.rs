//! A place in a stack that the configuration may leave empty.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower::{Layer, Service};

/// A Layer, if there is one: else the service below is called as it is.
///
/// tower's `option_layer` does the same. This one is made to vanish: a stack has a dozen of them, and what each moves and calls
/// by itself is more than what most Layers do.
///
/// ```
/// use std::time::Duration;
///
/// use mesh_core::layers::{BoxService, PerTryLayer, optional};
/// use tower::{Layer, Service};
///
/// fn limited(cluster: BoxService, per_try: Option<Duration>) -> BoxService {
///     BoxService::new(optional(per_try.map(PerTryLayer::new)).layer(cluster))
/// }
/// ```
pub fn optional<L>(layer: Option<L>) -> OptionalLayer<L> {
    OptionalLayer(layer)
}

/// From [`optional`].
#[derive(Clone, Copy, Debug)]
pub struct OptionalLayer<L>(Option<L>);

impl<L: Layer<S>, S> Layer<S> for OptionalLayer<L> {
    type Service = Opt<L::Service, S>;

    fn layer(&self, inner: S) -> Self::Service {
        match &self.0 {
            Some(layer) => Opt::Filled(layer.layer(inner)),
            None => Opt::Empty(inner),
        }
    }
}

/// Service of [`OptionalLayer`].
#[derive(Clone, Copy, Debug)]
pub enum Opt<Filled, Empty> {
    /// The Layer's.
    Filled(Filled),
    /// The one below.
    Empty(Empty),
}

impl<R, A, B> Service<R> for Opt<A, B>
where
    A: Service<R>,
    B: Service<R, Response = A::Response, Error = A::Error>,
{
    type Response = A::Response;
    type Error = A::Error;
    type Future = OptFuture<A::Future, B::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), A::Error>> {
        match self {
            Self::Filled(service) => service.poll_ready(cx),
            Self::Empty(service) => service.poll_ready(cx),
        }
    }

    #[inline]
    fn call(&mut self, request: R) -> Self::Future {
        match self {
            Self::Filled(service) => OptFuture { which: Which::Filled { future: service.call(request) } },
            Self::Empty(service) => OptFuture { which: Which::Empty { future: service.call(request) } },
        }
    }
}

pin_project! {
    /// Future of [`Opt`].
    pub struct OptFuture<A, B> {
        #[pin]
        which: Which<A, B>,
    }
}

pin_project! {
    #[project = WhichProj]
    enum Which<A, B> {
        Filled { #[pin] future: A },
        Empty { #[pin] future: B },
    }
}

impl<A: Future, B: Future<Output = A::Output>> Future for OptFuture<A, B> {
    type Output = A::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<A::Output> {
        match self.project().which.project() {
            WhichProj::Filled { future } => future.poll(cx),
            WhichProj::Empty { future } => future.poll(cx),
        }
    }
}
