//! What a proxy does to every request before it looks at it, and to every response before it goes out: hop-by-hop headers,
//! headers that only proxies may set, forwarding headers, request id, path normalization, `server`.

mod client_cert;
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

use super::{LocalReply, Request, Response, Upstream, respond::is_local, value};
use crate::decide::{SlashDecision, decide_slashes, normalize_target};
use crate::env::Env;
use crate::error::Error;
use crate::record::{Cx, Flag};
use crate::snapshot::{
    Direction, EscapedSlashes, HttpPlan, HttpSettings, PathNormalization, ServerHeader, Underscores,
};

pub(crate) use client_cert::forward;
pub use forward::{forwarded_client, last_forwarded, trusted_address};

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
    /// How HTTP is spoken.
    pub settings: HttpSettings,
    /// What a loopback peer is called in `x-forwarded-for`; `None`: its own address.
    pub node_address: Option<IpAddr>,
    /// Source of request ids.
    pub env: Arc<dyn Env>,
}

impl SanitizeConfig {
    /// From a listener's plan.
    pub fn of(plan: &HttpPlan, direction: Direction, node_address: Option<IpAddr>, env: Arc<dyn Env>) -> Self {
        let HttpPlan {
            routes: _,
            server,
            use_remote_address,
            trusted_hops,
            path_normalization,
            settings,
            elsewhere: _,
            hash: _,
        } = plan;
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
            settings: *settings,
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
pub struct SanitizeLayer(Arc<Cleaner>);

/// The config, with what need not be made for each request.
struct Cleaner {
    config: SanitizeConfig,
    node_text: Option<HeaderValue>,
}

impl SanitizeLayer {
    /// With this config.
    pub fn new(config: SanitizeConfig) -> Self {
        let node_text = config.node_address.map(value::address);
        Self(Arc::new(Cleaner { config, node_text }))
    }
}

impl<S> Layer<S> for SanitizeLayer {
    type Service = Sanitize<S>;

    fn layer(&self, inner: S) -> Sanitize<S> {
        Sanitize { cleaner: Arc::clone(&self.0), inner }
    }
}

/// Service of [`SanitizeLayer`].
#[derive(Clone)]
pub struct Sanitize<S> {
    cleaner: Arc<Cleaner>,
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
        let server = self.cleaner.config.server.clone();
        match self.cleaner.clean(&mut request) {
            Ok(seen) => {
                let upgrade = seen.upgrade && request.headers().contains_key(UPGRADE);
                SanitizeFuture { inner: Inner::Called { future: self.inner.call(request) }, upgrade, server }
            }
            Err(reply) => {
                let cx = request.extensions().get::<Arc<Cx>>().map(|cx| &**cx);
                let response = Some(reply.into_response(cx));
                SanitizeFuture { inner: Inner::Refused { response }, upgrade: false, server }
            }
        }
    }
}

impl Cleaner {
    /// Cleans a request; says what it had.
    fn clean(&self, request: &mut Request) -> Result<hop::Seen, LocalReply> {
        // A request that the server could not parse comes with its answer.
        if let Some(reply) = request.extensions_mut().remove::<LocalReply>() {
            return Err(reply);
        }
        let cx = request.extensions().get::<Arc<Cx>>().cloned();
        if request.method() == Method::CONNECT {
            let reply = LocalReply::new(StatusCode::NOT_FOUND, "", "route_not_found").flagged(Flag::Nr);
            return Err(if request.version() < http::Version::HTTP_2 { reply.closing() } else { reply });
        }
        self.slashes(request)?;
        self.normalize(request, cx.as_deref())?;
        let config = &self.config;
        if config.settings.underscores != Underscores::Allow {
            self.underscores(request)?;
        }
        let seen = hop::survey(request.headers());
        hop::clean_request(request.headers_mut(), seen)?;
        let ingress = matches!(config.direction, Direction::Gateway);
        if seen.internal {
            forward::strip_internal(request.headers_mut(), ingress);
        }
        forward::set(self, request.headers_mut(), cx.as_deref(), seen.forwarded);
        let make = config.settings.request_id.then_some(&*config.env);
        request_id::set(make, config.use_remote_address, request.headers_mut(), cx.as_deref());
        Ok(seen)
    }

    /// `httpPathWithEscapedSlashesAction`.
    fn slashes(&self, request: &mut Request) -> Result<(), LocalReply> {
        let refuse = |status| LocalReply::new(status, "", "path_normalization_failed");
        if self.config.settings.escaped_slashes == EscapedSlashes::Keep {
            return Ok(());
        }
        let target = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let bad = || refuse(StatusCode::BAD_REQUEST).closing();
        match decide_slashes(target, self.config.settings.escaped_slashes) {
            SlashDecision::Keep => Ok(()),
            SlashDecision::Refuse => Err(bad()),
            SlashDecision::Redirect(to) => {
                let location = to.parse().map_err(|_| bad())?;
                Err(refuse(StatusCode::TEMPORARY_REDIRECT).located(location))
            }
            SlashDecision::Forward(to) => {
                *request.uri_mut() = to.parse::<Uri>().map_err(|_| bad())?;
                Ok(())
            }
        }
    }

    /// `httpHeadersWithUnderscoresAction`, where it is not to allow them.
    fn underscores(&self, request: &mut Request) -> Result<(), LocalReply> {
        let named: Vec<_> = request.headers().keys().filter(|n| n.as_str().contains('_')).cloned().collect();
        if !named.is_empty() && self.config.settings.underscores == Underscores::Reject {
            let details = match request.version() {
                http::Version::HTTP_2 => "http2.unexpected_underscore",
                _ => "http1.unexpected_underscore",
            };
            return Err(LocalReply::new(StatusCode::BAD_REQUEST, "Bad Request", details).flagged(Flag::Dpe).closing());
        }
        for name in named {
            request.headers_mut().remove(name);
        }
        Ok(())
    }

    fn normalize(&self, request: &mut Request, cx: Option<&Cx>) -> Result<(), LocalReply> {
        let refuse = || LocalReply::new(StatusCode::BAD_REQUEST, "", "path_normalization_failed").closing();
        let target = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let changed = match normalize_target(target, self.config.path_normalization).map_err(|_| refuse())? {
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
