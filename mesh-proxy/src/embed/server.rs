//! Requests to the application: whole listeners, and a Layer for servers that somebody else runs.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use http_body::Body as HttpBody;
use mesh_core::layers::Body;
use mesh_core::snapshot::Direction;
use tokio::sync::oneshot;
use tower::{Layer, Service};

use super::Mesh;
use super::application::{Application, BoxError, Handler, body, boxed};
use crate::http::counted::Counted;
use crate::http::dispatch::{Source, dispatch, origin_form};
use crate::listener::accept::accept;
use crate::listener::{Door, Route};
use crate::net::{HostListener, Listener};

impl Mesh {
    /// Serves every connection of a listener as a sidecar serves captured ones: plaintext or mutual TLS as
    /// PeerAuthentication says, HTTP/1.1 and HTTP/2, authorization, tokens, metrics, logs; requests that are let in are
    /// answered by `app`. The port that counts in policies and Services is the listener's.
    ///
    /// A request that asks for WebSocket has hyper's `OnUpgrade` among its extensions: an answer of 101 opens the stream,
    /// which lasts as long as policies let it (axum's `WebSocketUpgrade` does this).
    ///
    /// Resolves when [`Mesh::shutdown`] does.
    ///
    /// # Errors
    /// The listener can't be used.
    pub async fn serve<B>(&self, listener: TcpListener, app: impl Application<B>) -> io::Result<()>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let listener = HostListener::from_std(listener)?;
        let port = listener.local_addr()?.port();
        self.0.applications.set(port, boxed(app));
        let shared = &self.0.shared;
        let (stop, stopped) = oneshot::channel();
        let accepting = accept(shared.clone(), listener, Door::InboundDirect, stopped);
        let mut over = self.0.over.subscribe();
        let ended = async move {
            // The sender lives in `self`, so it can't be gone.
            let _ = over.wait_for(|over| *over).await;
            drop(stop);
        };
        tokio::join!(accepting, ended);
        self.0.applications.remove(port);
        Ok(())
    }
}

/// Inbound policies, metrics and logs around a service. From [`Mesh::layer`].
#[derive(Clone)]
pub struct MeshLayer {
    mesh: Mesh,
    source: Arc<Source>,
}

impl std::fmt::Debug for MeshLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MeshLayer").field(&self.mesh).finish()
    }
}

impl MeshLayer {
    pub(super) fn new(mesh: Mesh, port: u16) -> Self {
        let conn = Arc::new(mesh.own(Direction::Inbound, port));
        Self { mesh, source: Arc::new(Source::new(conn, Route::Inbound(port))) }
    }
}

impl<S> Layer<S> for MeshLayer {
    type Service = MeshService<S>;

    fn layer(&self, inner: S) -> MeshService<S> {
        MeshService { layer: self.clone(), inner }
    }
}

/// Service of [`MeshLayer`].
#[derive(Clone, Debug)]
pub struct MeshService<S> {
    layer: MeshLayer,
    inner: S,
}

impl<S, R, B> Service<http::Request<R>> for MeshService<S>
where
    S: Service<http::Request<Body>, Response = http::Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: HttpBody<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<R>) -> Self::Future {
        let MeshLayer { mesh, source } = self.layer.clone();
        let (mut head, payload) = request.into_parts();
        origin_form(&mut head);
        head.extensions.insert(Handler(boxed(self.inner.clone())));
        let request = http::Request::from_parts(head, body(payload));
        let open = mesh.0.shared.inbound.enter();
        let called = dispatch(mesh.0.shared.http.active(), &source, request, |_| {});
        Box::pin(async move {
            let _mesh = mesh;
            let answer = match called {
                Ok((calling, _)) => calling.await,
                Err(error) => Err(error),
            };
            Ok(match answer {
                Ok(answer) => answer.map(|body| Body::stream(Counted::new(body, open))),
                Err(error) => {
                    tracing::debug!(%error, "a request that the mesh does not let in");
                    forbidden()
                }
            })
        })
    }
}

/// The plan lets nobody in whose identity is not known, or has no HTTP for this port. A sidecar would have ended the
/// connection; a Layer can only answer.
fn forbidden() -> http::Response<Body> {
    let mut response =
        http::Response::new(Body::from("mutual TLS is required here: serve this port with Mesh::serve\n"));
    *response.status_mut() = StatusCode::FORBIDDEN;
    response
}
