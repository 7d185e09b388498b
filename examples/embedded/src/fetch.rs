//! A client of hyper's that gets its connections from the mesh, for callers that bring their own HTTP.
//!
//! ```text
//! cargo run -p embedded -- stock examples/embedded/loopback.yaml &
//! cargo run -p embedded -- fetch examples/embedded/loopback.yaml
//! ```

use http::{StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_proxy::{Connect, Mesh, MeshStream};
use tower::ServiceExt;
use tower::util::MapResponse;

use crate::Error;

/// [`Mesh::connector`], with hyper's traits around the stream.
pub type Connector = MapResponse<Connect, fn(MeshStream) -> TokioIo<MeshStream>>;

/// A client with a pool of its own, for plain `http` and, with a TLS connector in between, for `https`.
#[must_use]
pub fn client(mesh: &Mesh) -> Client<Connector, Empty<bytes::Bytes>> {
    Client::builder(TokioExecutor::new()).build(connector(mesh))
}

/// What hyper-util's client and tonic's `connect_with_connector` take.
#[must_use]
pub fn connector(mesh: &Mesh) -> Connector {
    mesh.connector().map_response(TokioIo::new)
}

/// The body of an answer.
///
/// # Errors
/// There is none, or it says that something is wrong.
pub async fn get(client: &Client<Connector, Empty<bytes::Bytes>>, uri: &str) -> Result<String, Error> {
    let response = client.get(uri.parse::<Uri>()?).await?;
    if response.status() != StatusCode::OK {
        return Err(format!("{uri} says {}", response.status()).into());
    }
    let body = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(body.to_vec())?)
}
