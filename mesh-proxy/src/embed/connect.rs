//! Connections through the mesh for clients with protocols of their own: each is served by what serves a captured one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper_util::client::legacy::connect::{Connected, Connection};
use mesh_core::record::ConnInfo;
use mesh_core::snapshot::Direction;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::UnixStream;
use tower::Service;

use super::Mesh;
use crate::detect::Prefixed;
use crate::listener::Route;
use crate::net::{HostStream, Net};

/// Opens connections through the mesh, by URI: host and port count (443 for `https`, else 80). From [`Mesh::connector`].
///
/// What is sent on one is looked at as a sidecar looks at captured bytes: HTTP is routed request by request, TLS by its
/// server name, other protocols by address. It is what `hyper-util`'s client and tonic's `connect_with_connector` take, with
/// `hyper_util::rt::TokioIo` around the stream.
#[derive(Clone, Debug)]
pub struct Connect {
    mesh: Mesh,
}

impl Connect {
    pub(super) fn new(mesh: Mesh) -> Self {
        Self { mesh }
    }

    /// A connection to a host of the mesh, or outside it.
    ///
    /// # Errors
    /// Nobody knows the name.
    pub async fn connect(&self, host: &str, port: u16) -> io::Result<MeshStream> {
        let shared = &self.mesh.0.shared;
        let unknown =
            || io::Error::new(io::ErrorKind::NotFound, format!("the mesh has no configuration for {host} yet"));
        let snapshot = shared.snapshot().ok_or_else(unknown)?;
        let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let to = match Route::of_authority(&snapshot, &authority, port) {
            Some(to) => to,
            None => {
                let found = shared.net.resolve(host).await?;
                let ip = found.addresses.first().copied();
                (ip.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address")))?, port)
                    .into()
            }
        };
        let (ours, theirs) = UnixStream::pair()?;
        let conn = ConnInfo { local: to, ..self.mesh.own(Direction::Outbound, 0) };
        let stream = Prefixed::new(Bytes::new(), HostStream::from(theirs));
        let (shared, drain) = (shared.clone(), shared.outbound.clone());
        let deciding = Box::pin(shared.route(snapshot, stream, conn, Route::Outbound(to), drain));
        tokio::spawn(async move {
            let decided = deciding.await;
            if let Some(served) = decided {
                served.await;
            }
        });
        Ok(MeshStream(ours))
    }
}

impl Service<http::Uri> for Connect {
    type Response = MeshStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<MeshStream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: http::Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let host = uri.host().map(|h| h.trim_start_matches('[').trim_end_matches(']').to_owned());
            let host = host.ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidInput, format!("{uri} names no host; write http://HOST:PORT"))
            })?;
            let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
            this.connect(&host, port).await
        })
    }
}

/// A connection through the mesh. From [`Connect`].
#[derive(Debug)]
pub struct MeshStream(UnixStream);

impl AsyncRead for MeshStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

mesh_tls::write_through!([] MeshStream => 0);

impl Connection for MeshStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
