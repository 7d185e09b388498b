//! Keys of consistent hashing: the hash of a request, and the cookie that is made for a client without one.

#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::HeaderValue;
use http::header::{COOKIE, SET_COOKIE};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::{Request, Response, Upstream};
use crate::balance::hash;
use crate::env::Env;
use crate::error::Error;
use crate::record::{ConnInfo, Cx};
use crate::snapshot::{CookiePlan, HashKey};

/// The hash of a request, in its extensions; whoever chooses the endpoint reads it. None there: any endpoint will do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Affinity(pub u64);

/// Config of [`AffinityLayer`].
#[derive(Clone)]
pub struct AffinityConfig {
    /// What the hash is made of.
    pub key: HashKey,
    /// Randomness for cookies.
    pub env: Arc<dyn Env>,
}

/// Puts a request's [`Affinity`] into its extensions.
///
/// ```
/// use std::sync::Arc;
/// use mesh_core::env::Env;
/// use mesh_core::layers::{AffinityConfig, AffinityLayer};
/// use mesh_core::snapshot::HashKey;
///
/// fn by_user(env: Arc<dyn Env>) -> AffinityLayer {
///     AffinityLayer::new(AffinityConfig { key: HashKey::Header("x-user".parse().unwrap()), env })
/// }
/// ```
#[derive(Clone)]
pub struct AffinityLayer(Arc<AffinityConfig>);

impl AffinityLayer {
    /// With this config.
    pub fn new(config: AffinityConfig) -> Self {
        Self(Arc::new(config))
    }
}

impl<S> Layer<S> for AffinityLayer {
    type Service = WithAffinity<S>;

    fn layer(&self, inner: S) -> WithAffinity<S> {
        WithAffinity { config: Arc::clone(&self.0), inner }
    }
}

/// Service of [`AffinityLayer`].
#[derive(Clone)]
pub struct WithAffinity<S> {
    config: Arc<AffinityConfig>,
    inner: S,
}

impl<S: Upstream> Service<Request> for WithAffinity<S> {
    type Response = Response;
    type Error = Error;
    type Future = AffinityFuture<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let (found, cookie) = key(&self.config, &request);
        if let Some(hash) = found {
            request.extensions_mut().insert(Affinity(hash));
        }
        AffinityFuture { inner: self.inner.call(request), cookie }
    }
}

fn key(config: &AffinityConfig, request: &Request) -> (Option<u64>, Option<HeaderValue>) {
    match &config.key {
        HashKey::Header(name) => (of_header(request, name), None),
        HashKey::SourceIp => {
            // The client's address as forwarding headers give it, where they are believed.
            let cx = request.extensions().get::<Arc<Cx>>();
            (cx.map(|cx| hash(cx.remote().ip().to_string().as_bytes())), None)
        }
        HashKey::Query(name) => (of_query(request, name), None),
        HashKey::Cookie(cookie) => of_cookie(request, cookie, &*config.env),
    }
}

/// The hash of a TCP connection.
pub fn of_connection(key: &HashKey, conn: &ConnInfo) -> Option<u64> {
    match key {
        HashKey::SourceIp => Some(hash(conn.peer.ip().to_string().as_bytes())),
        HashKey::Header(_) | HashKey::Cookie(_) | HashKey::Query(_) => None,
    }
}

/// Of several lines all count, whatever their order, as in Envoy.
fn of_header(request: &Request, name: &http::HeaderName) -> Option<u64> {
    let mut values: Vec<&[u8]> = request.headers().get_all(name).iter().map(HeaderValue::as_bytes).collect();
    match &values[..] {
        [] => None,
        [only] => Some(hash(only)),
        _ => {
            values.sort_unstable();
            Some(hash(&values.concat()))
        }
    }
}

fn of_query(request: &Request, name: &str) -> Option<u64> {
    let mut pairs = request.uri().query()?.split('&').map(|p| p.split_once('=').unwrap_or((p, "")));
    pairs.find(|(n, _)| *n == name).map(|(_, value)| hash(value.as_bytes()))
}

/// The cookie's hash; for a client without it a new one, if the rule says how long it lives.
fn of_cookie(request: &Request, plan: &CookiePlan, env: &dyn Env) -> (Option<u64>, Option<HeaderValue>) {
    let sent = request.headers().get_all(COOKIE).iter().filter_map(|c| c.to_str().ok());
    let mut pairs = sent.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    if let Some((_, value)) = pairs.find(|(name, _)| name.trim() == &*plan.name) {
        let value = value.trim();
        let bare = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
        return (Some(hash(bare.as_bytes())), None);
    }
    let Some(attributes) = &plan.attributes else { return (None, None) };
    let value = format!("{:016x}", env.random());
    let line = HeaderValue::try_from(format!("{}=\"{value}\"{attributes}", plan.name));
    (Some(hash(value.as_bytes())), line.ok())
}

pin_project! {
    /// Future of [`WithAffinity`].
    pub struct AffinityFuture<F> {
        #[pin]
        inner: F,
        cookie: Option<HeaderValue>,
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for AffinityFuture<F> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        if let Some(cookie) = this.cookie.take() {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
        Poll::Ready(Ok(response))
    }
}
