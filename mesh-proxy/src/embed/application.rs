//! Where inbound requests end: services of this process, by the port on which they are served.

use std::any::Any;
use std::error::Error as StdError;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use mesh_core::error::{Error, ErrorKind};
use mesh_core::layers::{Body, BoxFuture, BoxService, HttpService, Request, order};
use mesh_core::record::Cx;
use mesh_core::snapshot::Map;
use tower::{Service, ServiceExt};

use super::{trace, upgrade};
use crate::http::upgrade::asks_for_websocket;

pub(super) type BoxError = Box<dyn StdError + Send + Sync>;

/// A service that an application can have served: any of tower's that takes our body and can be cloned.
///
/// Implemented by every such service; a shorthand for bounds.
pub trait Application<B>:
    Service<http::Request<Body>, Response = http::Response<B>, Error: Into<BoxError>, Future: Send + 'static>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S, B> Application<B> for S
where
    S: Service<http::Request<Body>, Response = http::Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
}

/// The services by port. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Applications(Arc<ArcSwap<Map<u16, BoxService>>>);

/// The service of a request that did not come by one of our ports.
#[derive(Clone)]
pub(super) struct Handler(pub(super) BoxService);

impl Applications {
    /// Has a port's requests answered by a service, instead of the one before.
    pub(super) fn set(&self, port: u16, service: BoxService) {
        self.0.rcu(|all| {
            let mut all = Map::clone(all);
            all.insert(port, service.clone());
            all
        });
    }

    /// Nothing is served.
    pub(super) fn is_empty(&self) -> bool {
        self.0.load().is_empty()
    }

    /// A port is not served any more. A service may hold the mesh, which holds this: so it must not stay here.
    pub(super) fn remove(&self, port: u16) {
        self.0.rcu(|all| {
            let mut all = Map::clone(all);
            all.remove(&port);
            all
        });
    }
}

impl HttpService for Applications {
    fn call(&self, mut request: Request) -> BoxFuture {
        // Its server has the connection that an upgrade would need.
        if let Some(Handler(mut service)) = request.extensions_mut().remove() {
            return service.call(request);
        }
        let port = request.extensions().get::<Arc<Cx>>().map(|cx| cx.conn.local.port());
        match port.and_then(|port| self.0.load().get(&port).cloned()) {
            Some(service) if asks_for_websocket(request.headers()) => Box::pin(upgrade::serve(service, request)),
            Some(mut service) => service.call(request),
            None => Box::pin(std::future::ready(Err(Error::new(ErrorKind::ConnectFailure)))),
        }
    }

    fn order(&self) -> String {
        order::<Self>()
    }
}

/// A service in the stack's form. What it fails with is what an application that crashes looks like: its connection ends.
pub(super) fn boxed<B>(service: impl Application<B>) -> BoxService
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    BoxService::new(tower::service_fn(move |request: Request| {
        let service = service.clone();
        trace::serving(trace::of(request.headers()), async move {
            match service.oneshot(request).await {
                Ok(response) => Ok(response.map(body)),
                Err(error) => Err(failed(&*error.into())),
            }
        })
    }))
}

/// A body in the stack's form.
pub(super) fn body<B>(body: B) -> Body
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    in_form(body, |error| failed(&*error.into()))
}

/// A body in the stack's form, where it does not have it already.
pub(super) fn in_form<B>(body: B, failed: impl Fn(B::Error) -> Error + Send + 'static) -> Body
where
    B: HttpBody<Data = Bytes> + Send + 'static,
{
    let mut body = Some(body);
    // What is all here can't fail.
    match (&mut body as &mut dyn Any).downcast_mut::<Option<Body>>() {
        Some(Some(Body::Empty)) => return Body::Empty,
        Some(Some(Body::Full(bytes))) => return Body::from(std::mem::take(bytes)),
        _ => {}
    }
    body.map_or(Body::Empty, |body| Body::stream(body.map_err(failed)))
}

fn failed(error: &(dyn StdError + Send + Sync)) -> Error {
    tracing::warn!(%error, "the application failed");
    Error::new(ErrorKind::ConnectionTermination)
}
