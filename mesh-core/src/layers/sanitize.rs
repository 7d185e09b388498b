//! What a proxy does to every request before it looks at it, and to every response before it goes out: hop-by-hop headers,
//! headers that only proxies may set, forwarding headers, request id, path normalization, `server`.

mod forward;
mod hop;
mod request_id;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::{CONNECTION, SERVER, UPGRADE};
use http::{HeaderValue, Method, StatusCode, Uri};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::{LocalReply, Request, Response, Upstream, respond::is_local};
use crate::decide::normalize_target;
use crate::env::Env;
use crate::error::Error;
use crate::record::{Cx, Flag};
use crate::snapshot::{Direction, HttpPlan, PathNormalization, ServerHeader};

pub use forward::{last_forwarded, trusted_address};

/// Config of [`SanitizeLayer`].
#[derive(Clone)]
pub struct SanitizeConfig {
    /// Direction of the listener.
    pub direction: Direction,
    /// `server` of responses; `None`: the upstream's goes through.
    pub server: Option<HeaderValue>,
    /// The peer is the edge: forwarding headers and request id are replaced, not believed.
    pub use_remote_address: bool,
    /// `numTrustedProxies`.
    pub trusted_hops: u32,
    /// Path normalization.
    pub path_normalization: PathNormalization,
    /// What a loopback peer is called in `x-forwarded-for`; `None`: its own address.
    pub node_address: Option<IpAddr>,
    /// Source of request ids.
    pub env: Arc<dyn Env>,
}

impl SanitizeConfig {
    /// From a listener's plan.
    pub fn of(plan: &HttpPlan, direction: Direction, node_address: Option<IpAddr>, env: Arc<dyn Env>) -> Self {
        let HttpPlan { routes: _, server, use_remote_address, trusted_hops, path_normalization, elsewhere: _, hash: _ } =
            plan;
        let server = match server {
            ServerHeader::Overwrite(name) => HeaderValue::from_str(name).ok(),
            ServerHeader::PassThrough => None,
        };
        Self {
            direction,
            server,
            use_remote_address: *use_remote_address,
            trusted_hops: *trusted_hops,
            path_normalization: *path_normalization,
            node_address,
            env,
        }
    }
}

/// Cleans requests and responses.
///
/// ```
/// use mesh_core::layers::{SanitizeConfig, SanitizeLayer};
///
/// fn clean(config: SanitizeConfig) -> SanitizeLayer {
///     SanitizeLayer::new(config)
/// }
/// ```
#[derive(Clone)]
pub struct SanitizeLayer(Arc<SanitizeConfig>);

impl SanitizeLayer {
    /// With this config.
    pub fn new(config: SanitizeConfig) -> Self {
        Self(Arc::new(config))
    }
}

impl<S> Layer<S> for SanitizeLayer {
    type Service = Sanitize<S>;

    fn layer(&self, inner: S) -> Sanitize<S> {
        Sanitize { config: Arc::clone(&self.0), inner }
    }
}

/// Service of [`SanitizeLayer`].
#[derive(Clone)]
pub struct Sanitize<S> {
    config: Arc<SanitizeConfig>,
    inner: S,
}

impl<S: Upstream> Service<Request> for Sanitize<S> {
    type Response = Response;
    type Error = Error;
    type Future = SanitizeFuture<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let refused = self.config.clean(&mut request).err().map(|reply| {
            let cx = request.extensions().get::<Arc<Cx>>().map(|cx| &**cx);
            reply.into_response(cx)
        });
        let upgrade = refused.is_none() && request.headers().contains_key(UPGRADE);
        let inner = match refused {
            Some(response) => Inner::Refused { response: Some(response) },
            None => Inner::Called { future: self.inner.call(request) },
        };
        SanitizeFuture { inner, upgrade, server: self.config.server.clone() }
    }
}

impl SanitizeConfig {
    fn clean(&self, request: &mut Request) -> Result<(), LocalReply> {
        // A request that the server could not parse comes with its answer.
        if let Some(reply) = request.extensions_mut().remove::<LocalReply>() {
            return Err(reply);
        }
        let cx = request.extensions().get::<Arc<Cx>>().cloned();
        if request.method() == Method::CONNECT {
            let reply = LocalReply::new(StatusCode::NOT_FOUND, "", "route_not_found").flagged(Flag::Nr);
            return Err(if request.version() < http::Version::HTTP_2 { reply.closing() } else { reply });
        }
        self.normalize(request, cx.as_deref())?;
        let seen = hop::survey(request.headers());
        hop::clean_request(request.headers_mut(), seen)?;
        let ingress = matches!(self.direction, Direction::Gateway);
        if seen.internal {
            forward::strip_internal(request.headers_mut(), ingress);
        }
        forward::set(self, request.headers_mut(), cx.as_deref(), seen.forwarded);
        request_id::set(&*self.env, self.use_remote_address, request.headers_mut(), cx.as_deref());
        Ok(())
    }

    fn normalize(&self, request: &mut Request, cx: Option<&Cx>) -> Result<(), LocalReply> {
        let refuse = || LocalReply::new(StatusCode::BAD_REQUEST, "", "path_normalization_failed").closing();
        let target = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let changed = match normalize_target(target, self.path_normalization).map_err(|_| refuse())? {
            std::borrow::Cow::Owned(target) => target,
            std::borrow::Cow::Borrowed(same) if same.len() != target.len() => same.to_owned(),
            std::borrow::Cow::Borrowed(_) => return Ok(()),
        };
        *request.uri_mut() = changed.parse::<Uri>().map_err(|_| refuse())?;
        if let Some(cx) = cx {
            let _ = cx.path.set(changed);
        }
        Ok(())
    }
}

pin_project! {
    /// Future of [`Sanitize`].
    pub struct SanitizeFuture<F> {
        #[pin]
        inner: Inner<F>,
        upgrade: bool,
        server: Option<HeaderValue>,
    }
}

pin_project! {
    #[project = InnerProj]
    enum Inner<F> {
        Called { #[pin] future: F },
        Refused { response: Option<Response> },
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for SanitizeFuture<F> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (mut response, ours) = match this.inner.project() {
            InnerProj::Called { future } => {
                let response = ready!(future.poll(cx))?;
                let ours = is_local(&response);
                (response, ours)
            }
            InnerProj::Refused { response } => (response.take().expect("invariant: polled once to the end"), true),
        };
        let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS && *this.upgrade;
        if !ours {
            hop::clean_response(response.headers_mut(), switching);
        }
        if *this.upgrade && !switching && !ours {
            // The client may already be speaking the new protocol: this connection can't carry another request.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(server) = this.server.take() {
            response.headers_mut().insert(SERVER, server);
        }
        Poll::Ready(Ok(response))
    }
}
