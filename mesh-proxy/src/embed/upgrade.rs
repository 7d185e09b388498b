//! WebSocket for services of this process. An upgrade changes what a connection carries, and a service has none: it gets
//! one in memory, on which it is a server like any other, and finds hyper's [`OnUpgrade`](hyper::upgrade::OnUpgrade) in the request's extensions.

use std::sync::Arc;

use http::Version;
use hyper::body::Incoming;
use hyper::{client, server};
use hyper_util::rt::TokioIo;
use mesh_core::error::{Error, ErrorKind};
use mesh_core::layers::{BoxService, Request, Response};
use tower::ServiceExt;

use super::application::body;

/// Bytes of either direction that wait for their reader.
const BUFFER: usize = 16 * 1024;

/// Has one request answered over a connection of its own, which ends with the answer or with what was agreed on.
pub(super) async fn serve(service: BoxService, mut request: Request) -> Result<Response, Error> {
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    let extensions = Arc::new(std::mem::take(request.extensions_mut()));
    let answering = hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
        let mut known = http::Extensions::clone(&extensions);
        known.insert(hyper::upgrade::on(&mut request));
        *request.extensions_mut() = known;
        service.clone().oneshot(request.map(body))
    });
    let serving = server::conn::http1::Builder::new()
        .auto_date_header(false)
        .serve_connection(TokioIo::new(theirs), answering)
        .with_upgrades();
    tokio::spawn(async move { drop(serving.await) });

    *request.version_mut() = Version::HTTP_11;
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(ours)).await.map_err(ended)?;
    tokio::spawn(async move { drop(connection.with_upgrades().await) });
    let answer = sender.send_request(request).await.map_err(ended)?;
    Ok(answer.map(body))
}

fn ended(_: hyper::Error) -> Error {
    Error::new(ErrorKind::ConnectionTermination)
}
