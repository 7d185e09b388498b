//! Questions to a running proxy's own admin port.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use super::port_forward::dial;

/// The port of a proxy's admin endpoints.
const ADMIN: u16 = 15000;

/// What a workload's proxy answers to a path whose answer is JSON.
pub(super) async fn json(mesh: &str, workload: &str, path: &str) -> Result<Value, String> {
    let wrong = |e: &dyn std::fmt::Display| {
        format!("{workload}'s proxy does not answer {path}: {e}; does it have one? see: meshctl status")
    };
    let stream = dial(mesh, workload, ADMIN).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| wrong(&e))?;
    tokio::spawn(connection);
    let request = Request::get(path).header("host", "localhost").body(Empty::<Bytes>::new());
    let answer = sender.send_request(request.map_err(|e| wrong(&e))?).await.map_err(|e| wrong(&e))?;
    let body = answer.into_body().collect().await.map_err(|e| wrong(&e))?.to_bytes();
    serde_json::from_slice(&body).map_err(|e| wrong(&e))
}
