//! Mutual TLS as tower Layers over services of connections, for applications that serve and dial themselves: whoever is
//! below gets a stream that is encrypted and knows who is at its other end.

#[cfg(test)]
mod tests;

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tower::{Layer, Service};

use crate::{
    Carries, MtlsAcceptor, MtlsConfig, MtlsConnector, MtlsUpstream, PeerIdentity, SecretSource, TlsError, TlsStream,
    TrustDomains,
};

/// Longest time for a handshake unless a config says otherwise.
const HANDSHAKE: Duration = Duration::from_secs(15);

type SendFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// A handshake that takes too long has failed.
async fn in_time<T>(limit: Duration, handshake: impl Future<Output = Result<T, TlsError>>) -> Result<T, TlsError> {
    match timeout(limit, handshake).await {
        Ok(done) => done,
        Err(_) => Err(TlsError::handshake(io::ErrorKind::TimedOut.into())),
    }
}

/// Config of [`MtlsAcceptLayer`].
#[derive(Clone, PartialEq, Debug)]
pub struct MtlsAcceptConfig {
    /// Who may connect, and with which limits.
    pub mtls: MtlsConfig,
    /// Longest time for a handshake. Default 15 s.
    pub handshake: Duration,
}

impl Default for MtlsAcceptConfig {
    fn default() -> Self {
        Self { mtls: MtlsConfig::default(), handshake: HANDSHAKE }
    }
}

/// Ends mutual TLS on connections; the service below gets `(`[`TlsStream`]`, `[`PeerIdentity`]`)`. A peer that is not a
/// workload of the mesh does not reach it: the service's error is then made of a [`TlsError`].
///
/// ```
/// use mesh_tls::{MtlsAcceptConfig, MtlsAcceptLayer, PeerIdentity, Secrets, TlsError, TlsStream};
/// use tokio::io::DuplexStream;
/// use tower::{Layer, service_fn};
///
/// let layer = MtlsAcceptLayer::new(MtlsAcceptConfig::default(), &Secrets::default());
/// let service = layer.layer(service_fn(|(_stream, peer): (TlsStream<DuplexStream>, PeerIdentity)| async move {
///     Ok::<_, TlsError>(peer.uri().clone())
/// }));
/// # let _ = service;
/// ```
#[derive(Clone)]
pub struct MtlsAcceptLayer {
    acceptor: Arc<MtlsAcceptor>,
    handshake: Duration,
}

impl MtlsAcceptLayer {
    /// With this config, and the own identity and the mesh's roots from `secrets`.
    pub fn new(config: MtlsAcceptConfig, secrets: &dyn SecretSource) -> Self {
        let MtlsAcceptConfig { mtls, handshake } = config;
        Self { acceptor: Arc::new(MtlsAcceptor::new(mtls, secrets)), handshake }
    }
}

impl fmt::Debug for MtlsAcceptLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MtlsAcceptLayer({:?})", self.acceptor)
    }
}

impl<S> Layer<S> for MtlsAcceptLayer {
    type Service = MtlsAccept<S>;

    fn layer(&self, inner: S) -> MtlsAccept<S> {
        MtlsAccept { layer: self.clone(), inner }
    }
}

/// Service of [`MtlsAcceptLayer`].
#[derive(Clone, Debug)]
pub struct MtlsAccept<S> {
    layer: MtlsAcceptLayer,
    inner: S,
}

impl<S, IO> Service<IO> for MtlsAccept<S>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<(TlsStream<IO>, PeerIdentity), Error: From<TlsError>, Future: Send> + Clone + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = MtlsAcceptFuture<S::Response, S::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, io: IO) -> Self::Future {
        let (MtlsAcceptLayer { acceptor, handshake }, mut inner) = (self.layer.clone(), self.inner.clone());
        MtlsAcceptFuture(Box::pin(async move {
            let accepted = in_time(handshake, acceptor.accept(io)).await?;
            poll_fn(|cx| inner.poll_ready(cx)).await?;
            inner.call(accepted).await
        }))
    }
}

/// Future of [`MtlsAccept`].
pub struct MtlsAcceptFuture<T, E>(SendFuture<T, E>);

impl<T, E> Future for MtlsAcceptFuture<T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

/// Config of [`MtlsConnectLayer`].
#[derive(Clone, PartialEq, Debug)]
pub struct MtlsConnectConfig {
    /// The destination, and who may answer there.
    pub upstream: MtlsUpstream,
    /// Trust domain of the mesh with its aliases.
    pub trust: TrustDomains,
    /// What connections are going to carry.
    pub carries: Carries,
    /// Longest time for a handshake. Default 15 s.
    pub handshake: Duration,
}

impl MtlsConnectConfig {
    /// To this destination, for HTTP/1.1, in the trust domain `cluster.local`.
    pub fn new(upstream: MtlsUpstream) -> Self {
        Self { upstream, trust: TrustDomains::default(), carries: Carries::Http1, handshake: HANDSHAKE }
    }
}

/// Begins mutual TLS on connections that the service below makes. If somebody else answers there than the config expects,
/// there is no connection.
///
/// ```
/// use mesh_core::snapshot::TlsParameters;
/// use mesh_tls::{MtlsConnectConfig, MtlsConnectLayer, MtlsUpstream, Secrets};
/// use tokio::net::TcpStream;
/// use tower::{Layer, service_fn};
///
/// let upstream = MtlsUpstream {
///     host: "books.default.svc.cluster.local".into(),
///     port: 80,
///     subset: "".into(),
///     accounts: vec!["spiffe://cluster.local/ns/default/sa/books".into()],
///     parameters: TlsParameters::mesh(false, []),
/// };
/// let layer = MtlsConnectLayer::new(MtlsConnectConfig::new(upstream), &Secrets::default());
/// let service = layer.layer(service_fn(|at: std::net::SocketAddr| async move {
///     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(TcpStream::connect(at).await?)
/// }));
/// # let _ = service;
/// ```
#[derive(Clone)]
pub struct MtlsConnectLayer {
    connector: Arc<MtlsConnector>,
    carries: Carries,
    handshake: Duration,
}

impl MtlsConnectLayer {
    /// With this config, and the own identity and the mesh's roots from `secrets`.
    pub fn new(config: MtlsConnectConfig, secrets: &dyn SecretSource) -> Self {
        let MtlsConnectConfig { upstream, trust, carries, handshake } = config;
        Self { connector: Arc::new(MtlsConnector::new(&upstream, &trust, secrets)), carries, handshake }
    }
}

impl fmt::Debug for MtlsConnectLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MtlsConnectLayer({:?}, {:?})", self.connector, self.carries)
    }
}

impl<S> Layer<S> for MtlsConnectLayer {
    type Service = MtlsConnect<S>;

    fn layer(&self, inner: S) -> MtlsConnect<S> {
        MtlsConnect { layer: self.clone(), inner }
    }
}

/// Service of [`MtlsConnectLayer`].
#[derive(Clone, Debug)]
pub struct MtlsConnect<S> {
    layer: MtlsConnectLayer,
    inner: S,
}

impl<S, T> Service<T> for MtlsConnect<S>
where
    T: Send + 'static,
    S: Service<T, Error: From<TlsError>, Future: Send> + Clone + Send + 'static,
    S::Response: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Response = (TlsStream<S::Response>, PeerIdentity);
    type Error = S::Error;
    type Future = MtlsConnectFuture<Self::Response, S::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: T) -> Self::Future {
        let (MtlsConnectLayer { connector, carries, handshake }, mut inner) = (self.layer.clone(), self.inner.clone());
        MtlsConnectFuture(Box::pin(async move {
            poll_fn(|cx| inner.poll_ready(cx)).await?;
            let io = inner.call(target).await?;
            Ok(in_time(handshake, connector.connect(io, carries)).await?)
        }))
    }
}

/// Future of [`MtlsConnect`].
pub struct MtlsConnectFuture<T, E>(SendFuture<T, E>);

impl<T, E> Future for MtlsConnectFuture<T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}
