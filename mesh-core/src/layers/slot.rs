//! A place in the order for something that is plugged in: extensions, and policies before their own Layer exists.

use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::{Layer, Service};

use super::{BoxFuture, BoxService, Request, Upstream};
use crate::error::Error;

/// Code that wraps everything below its slot. It may answer itself, change the request, the response, or either body
/// as it streams.
pub trait Extension: Send + Sync + 'static {
    /// Serves a request; `next` is the rest of the stack.
    fn call(&self, request: Request, next: BoxService) -> BoxFuture;
}

/// Fills a slot. `Name` says which one, so that the order of a stack can be read off its type.
///
/// ```
/// use std::sync::Arc;
/// use mesh_core::layers::{Body, BoxFuture, BoxService, Extension, Request, Response, SlotLayer};
/// use tower::{Layer, Service};
///
/// struct BeforeAuthz;
/// struct Teapot;
/// impl Extension for Teapot {
///     fn call(&self, _: Request, _: BoxService) -> BoxFuture {
///         Box::pin(async { Ok(http::Response::builder().status(418).body(Body::Empty).unwrap()) })
///     }
/// }
///
/// let inner = tower::service_fn(|_: Request| async { Ok::<_, mesh_core::error::Error>(Response::new(Body::Empty)) });
/// let _service = SlotLayer::<BeforeAuthz>::new(Arc::new(Teapot)).layer(inner);
/// ```
pub struct SlotLayer<Name> {
    extension: Arc<dyn Extension>,
    name: PhantomData<fn() -> Name>,
}

impl<Name> SlotLayer<Name> {
    /// A slot with something in it.
    pub fn new(extension: Arc<dyn Extension>) -> Self {
        Self { extension, name: PhantomData }
    }
}

impl<Name> Clone for SlotLayer<Name> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.extension))
    }
}

impl<Name, S> Layer<S> for SlotLayer<Name> {
    type Service = Slot<Name, S>;

    fn layer(&self, inner: S) -> Self::Service {
        Slot { extension: Arc::clone(&self.extension), inner, name: PhantomData }
    }
}

/// A filled slot.
pub struct Slot<Name, S> {
    extension: Arc<dyn Extension>,
    inner: S,
    name: PhantomData<fn() -> Name>,
}

impl<Name, S: Clone> Clone for Slot<Name, S> {
    fn clone(&self) -> Self {
        Self { extension: Arc::clone(&self.extension), inner: self.inner.clone(), name: PhantomData }
    }
}

impl<Name, S: Upstream> Service<Request> for Slot<Name, S> {
    type Response = super::Response;
    type Error = Error;
    type Future = BoxFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> BoxFuture {
        self.extension.call(request, BoxService::new(self.inner.clone()))
    }
}
