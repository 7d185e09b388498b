//! An application that does nothing but call: each request that it gets in absolute form goes out through its own mesh, as
//! a sidecar sends on what it is asked as an HTTP proxy. Tests hold both side by side.
//!
//! ```text
//! MESH_PROXY_ID=… MESH_XDS=… cargo run --example member -- 127.0.0.1:15001
//! ```

use std::error::Error;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mesh_proxy::Mesh;
use tower::Service;

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::disallowed_methods, reason = "the application's socket is its own")]
async fn main() -> Result<(), Box<dyn Error>> {
    let at = std::env::args().nth(1).ok_or("usage: member ADDRESS:PORT")?;
    let mesh = Mesh::builder().access_log().start().await?;
    let listener = tokio::net::TcpListener::bind(&at).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let client = mesh.client();
        let service = service_fn(move |request| client.clone().call(request));
        // A client that breaks its connection knows it.
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
