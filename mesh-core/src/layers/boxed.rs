//! The erased boundary between levels of the stack.

use std::sync::Arc;
use std::task::{Context, Poll};

use tower::Service;

use super::{Request, Response, SendFuture, Upstream};
use crate::error::Error;

/// The future of an erased service.
pub type BoxFuture = SendFuture<Result<Response, Error>>;

/// A stack that is called by reference.
pub trait HttpService: Send + Sync {
    /// Serves one request.
    fn call(&self, request: Request) -> BoxFuture;

    /// The order of its Layers, if it is known.
    fn order(&self) -> String {
        String::from("HttpService")
    }
}

struct Erased<S>(S);

impl<S: Upstream> HttpService for Erased<S> {
    fn call(&self, request: Request) -> BoxFuture {
        Box::pin(self.0.clone().call(request))
    }

    fn order(&self) -> String {
        super::order::<S>()
    }
}

/// A stack behind one pointer: cloning it is a reference count, calling it one allocation (its future).
///
/// ```
/// use mesh_core::layers::{Body, BoxService, Request, Response};
///
/// let echo = tower::service_fn(|r: Request| async move { Ok(Response::new(r.into_body())) });
/// let _service = BoxService::new(echo);
/// ```
#[derive(Clone)]
pub struct BoxService(Arc<dyn HttpService>);

impl BoxService {
    /// Erases a stack.
    pub fn new(stack: impl Upstream) -> Self {
        Self(Arc::new(Erased(stack)))
    }

    /// The [order](super::order) of the Layers of this stack, until the next that is erased.
    #[must_use]
    pub fn order(&self) -> String {
        self.0.order()
    }

    /// Whether both are the same stack, not an equal one.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl std::fmt::Debug for BoxService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BoxService")
    }
}

impl From<Arc<dyn HttpService>> for BoxService {
    fn from(service: Arc<dyn HttpService>) -> Self {
        Self(service)
    }
}

impl Service<Request> for BoxService {
    type Response = Response;
    type Error = Error;
    type Future = BoxFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> BoxFuture {
        self.0.call(request)
    }
}
