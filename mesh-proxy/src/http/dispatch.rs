//! One request into the stack in force: what a server does with each request, and an application that calls.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use arc_swap::ArcSwapOption;
use http::header::{HOST, HeaderValue};
use http::{Method, Uri};
use mesh_core::error::{Error, ErrorKind};
use mesh_core::layers::{MeterBody, Request};
use mesh_core::record::{ConnInfo, Cx};
use mesh_core::snapshot::{Direction, ListenerPlan, Map, Snapshot};
use pin_project_lite::pin_project;
use tower::Service;

use crate::listener::{Route, split_authority};
use crate::stack::{Active, HttpStack, Inbound, Outbound};

/// The response of the stack.
pub(crate) type Answer = http::Response<MeterBody>;

pin_project! {
    /// What a stack makes of a request: one of the two kinds of stacks there are.
    #[project = CallingProj]
    pub(crate) enum Calling {
        Inbound { #[pin] future: <Inbound as Service<Request>>::Future },
        Outbound { #[pin] future: <Outbound as Service<Request>>::Future },
    }
}

impl Future for Calling {
    type Output = Result<Answer, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            CallingProj::Inbound { future } => future.poll(cx),
            CallingProj::Outbound { future } => future.poll(cx),
        }
    }
}

/// Authorities of one source whose connections are kept.
const MAX_KNOWN: usize = 256;

/// Where requests come from: a connection, or an application of this process.
pub(crate) struct Source {
    conn: Arc<ConnInfo>,
    route: Route,
    known: ArcSwapOption<Known>,
}

/// The connections of [`Route::ByAuthority`], by authority, under a configuration.
#[derive(Clone)]
struct Known {
    under: Weak<Snapshot>,
    to: Map<HeaderValue, Arc<ConnInfo>>,
}

impl Known {
    fn under(snapshot: &Arc<Snapshot>) -> Self {
        Self { under: Arc::downgrade(snapshot), to: Map::default() }
    }
}

impl Source {
    pub(crate) fn new(conn: Arc<ConnInfo>, route: Route) -> Self {
        Self { conn, route, known: ArcSwapOption::empty() }
    }

    pub(crate) fn route(&self) -> Route {
        self.route
    }

    /// The connection of a request, and its listener's plan, if it has one.
    fn of<'a>(&self, snapshot: &'a Arc<Snapshot>, request: &Request) -> (Arc<ConnInfo>, Option<&'a Arc<ListenerPlan>>) {
        match self.route {
            Route::ByAuthority => self.by_authority(snapshot, request),
            route => (Arc::clone(&self.conn), route.listener(snapshot)),
        }
    }

    /// For an explicitly proxied request: the connection as if it had been captured on its way to where the authority leads.
    fn by_authority<'a>(
        &self,
        snapshot: &'a Arc<Snapshot>,
        request: &Request,
    ) -> (Arc<ConnInfo>, Option<&'a Arc<ListenerPlan>>) {
        let host = request.headers().get(HOST);
        let known = self.known.load();
        let current = known.as_ref().filter(|known| known.under.as_ptr() == Arc::as_ptr(snapshot));
        let conn = match host.zip(current).and_then(|(host, known)| known.to.get(host)) {
            Some(conn) => Arc::clone(conn),
            None => {
                let authority = host.and_then(|h| h.to_str().ok()).unwrap_or_default();
                let Some(to) = Route::of_authority(snapshot, authority, 80) else {
                    let port = split_authority(authority, 80).map_or(80, |(_, port)| port);
                    return (Arc::clone(&self.conn), Some(snapshot.outbound(None, port)));
                };
                let conn = Arc::new(ConnInfo { local: to, ..ConnInfo::clone(&self.conn) });
                // A copy: the value may be a piece of what was read with it.
                if let Ok(host) = HeaderValue::from_str(authority)
                    && current.is_none_or(|known| known.to.len() < MAX_KNOWN)
                {
                    let mut next = current.map_or_else(|| Known::under(snapshot), |known| Known::clone(known));
                    next.to.insert(host, Arc::clone(&conn));
                    // Of two that come at once one is found out again later.
                    self.known.store(Some(Arc::new(next)));
                }
                conn
            }
        };
        let listener = snapshot.outbound(Some(conn.local.ip()), conn.local.port());
        (conn, Some(listener))
    }
}

/// Calls the stack in force. One look at the configuration for the whole request. `known` is told the request's context
/// before anything happens to it.
pub(crate) fn dispatch(
    active: &ArcSwapOption<Active>,
    source: &Source,
    mut request: Request,
    known: impl FnOnce(&Arc<Cx>),
) -> Result<(Calling, Arc<Cx>), Error> {
    let active = active.load();
    let Some(active) = &*active else { return Err(Error::new(ErrorKind::LocalReset)) };
    let (conn, listener) = source.of(&active.snapshot, &request);
    let stack = listener.and_then(|l| {
        // A connection that would not be let in any more asks nothing more, whoever is quicker: it, or who closes it.
        if l.key.direction == Direction::Inbound && !l.allows(conn.tls.as_deref()) {
            return None;
        }
        let renamed = || active.http(&l.key, source.route.renamed(l)?);
        active.http(&l.key, source.route.server()).or_else(renamed)
    });
    let cx = Arc::new(Cx::new(conn, active.snapshot.hash));
    request.extensions_mut().insert(Arc::clone(&cx));
    known(&cx);
    // The listener is gone or no longer HTTP: the client is to come again and meet what is there now.
    let Some(stack) = stack else { return Err(Error::new(ErrorKind::LocalReset)) };
    // Not in the future: it has no room for the request then, and is moved that much faster.
    let calling = match &**stack {
        HttpStack::Inbound(stack) => Calling::Inbound { future: stack.clone().call(request) },
        HttpStack::Outbound(stack) => Calling::Outbound { future: stack.clone().call(request) },
    };
    Ok((calling, cx))
}

/// Brings the head of a request to the one form that the stack knows: authority in `host`, path and query in the URI.
pub(crate) fn origin_form(head: &mut http::request::Parts) {
    if head.method != Method::CONNECT && head.uri.authority().is_some() {
        let uri = std::mem::take(&mut head.uri).into_parts();
        if let Some(authority) = uri.authority.and_then(|a| HeaderValue::from_str(a.as_str()).ok()) {
            head.headers.insert(HOST, authority);
        }
        let path = uri.path_and_query.filter(|p| p.as_str() != "");
        head.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    }
}

#[cfg(test)]
mod tests;
