//! Calls through the outbound stack.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use http::uri::Scheme;
use http_body::{Body as HttpBody, Frame, SizeHint};
use mesh_core::error::{Error, ErrorKind};
use mesh_core::layers::{Body, MeterBody, Request};
use mesh_core::snapshot::Direction;
use tower::Service;

use super::application::{self, BoxError};
use super::{Mesh, trace};
use crate::drain::InFlight;
use crate::http::counted::Counted;
use crate::http::dispatch::{Source, dispatch, origin_form};
use crate::listener::Route;

/// Calls the hosts of the mesh, and what is outside it as `outboundTrafficPolicy` says. From [`Mesh::client`]. Clones share
/// everything.
///
/// A request begins when it is called, not when its future is polled for the first time: timeouts run from there, and the
/// configuration then in force is its configuration.
///
/// A request names its host in the URI (`http://reviews:9080/`) or in `host`, with the names that a sidecar would know:
/// short ones of the own namespace, too. What a sidecar answers by itself is answered the same way: 503 with Envoy's body
/// when there is no healthy endpoint, 404 without a route. `https` URIs are refused with 400: TLS inside the mesh is the
/// mesh's; for TLS of the application's own use [`Mesh::connector`].
#[derive(Clone)]
pub struct Client {
    mesh: Mesh,
    source: Arc<Source>,
}

impl Client {
    pub(super) fn new(mesh: Mesh) -> Self {
        let conn = Arc::new(mesh.own(Direction::Outbound, 0));
        Self { mesh, source: Arc::new(Source::new(conn, Route::ByAuthority)) }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Client").field(&self.mesh).finish()
    }
}

impl<B> Service<http::Request<B>> for Client
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = http::Response<ResponseBody>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let mesh = self.mesh.clone();
        let open = mesh.0.shared.outbound.enter();
        if request.uri().scheme() == Some(&Scheme::HTTPS) {
            return Box::pin(std::future::ready(Ok(refused(open))));
        }
        // Not in the future, which would have room for the request then.
        let active = mesh.0.shared.http.active();
        let called = dispatch(active, &self.source, in_form(request), |_| {});
        Box::pin(async move {
            // Until it is answered it is a part of the mesh.
            let _mesh = mesh;
            let (calling, _) = called?;
            Ok(calling.await?.map(|body| ResponseBody(Counted::new(body, open))))
        })
    }
}

fn in_form<B>(request: http::Request<B>) -> Request
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (mut head, body) = request.into_parts();
    origin_form(&mut head);
    trace::carry_on(&mut head.headers);
    // Whose body breaks, that is the client: nobody has to be told but the upstream.
    let body = application::in_form(body, |error| {
        let error: BoxError = error.into();
        tracing::debug!(%error, "the request's body");
        Error::new(ErrorKind::DownstreamGone)
    });
    Request::from_parts(head, body)
}

fn refused(open: InFlight) -> http::Response<ResponseBody> {
    let text = "https is not for the mesh's client: write http, and the mesh encrypts, or use the connector\n";
    let body = MeterBody::unmetered().replaced(Body::from(text));
    let mut response = http::Response::new(ResponseBody(Counted::new(body, open)));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}

/// The body of a response of [`Client`], trailers included.
pub struct ResponseBody(Counted<InFlight>);

impl std::fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResponseBody")
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
