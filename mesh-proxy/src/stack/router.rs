//! From a request to the stack of its route.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use mesh_core::decide::choose;
use mesh_core::env::Env;
use mesh_core::error::Error;
use mesh_core::layers::modify::with_facts;
use mesh_core::layers::route::no_route;
use mesh_core::layers::{BoxFuture, BoxService, Request, Response};
use mesh_core::record::Cx;
use mesh_core::snapshot::HttpPlan;
use tower::Service;

use super::host::Host;

/// Decides the route and the destination, then calls their stack. Only acts on what `mesh_core::decide` says.
#[derive(Clone)]
pub struct Router(Arc<Routes>);

pub(super) struct Routes {
    pub(super) plan: Arc<HttpPlan>,
    /// In the order of the table's virtual hosts.
    pub(super) hosts: Vec<Arc<Host>>,
    pub(super) env: Arc<dyn Env>,
}

impl Router {
    pub(super) fn new(routes: Routes) -> Self {
        Self(Arc::new(routes))
    }

    pub(super) fn routes(&self) -> &Routes {
        &self.0
    }

    fn find(&self, request: &Request) -> Option<BoxService> {
        let routes = &*self.0;
        let choice = with_facts(request, |facts| choose(&routes.plan.routes, facts, || routes.env.random()))?;
        let target = routes.hosts.get(choice.host)?.target(choice.route, choice.destination)?;
        if let Some(cx) = request.extensions().get::<Arc<Cx>>() {
            let _ = cx.route.set(choice.plan);
            if let Some(cluster) = &target.cluster {
                let _ = cx.cluster.set(Arc::clone(cluster));
            }
        }
        Some(target.service.clone())
    }
}

impl Service<Request> for Router {
    type Response = Response;
    type Error = Error;
    type Future = RouterFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> RouterFuture {
        match self.find(&request) {
            Some(mut service) => RouterFuture(Ok(service.call(request))),
            None => RouterFuture(Err(no_route(&self.0.plan, &request))),
        }
    }
}

/// Future of [`Router`]; without a route it is the error.
pub struct RouterFuture(Result<BoxFuture, Error>);

impl Future for RouterFuture {
    type Output = Result<Response, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(route) => route.as_mut().poll(cx),
            Err(error) => Poll::Ready(Err(error.clone())),
        }
    }
}
