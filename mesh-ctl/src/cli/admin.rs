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
    serde_json::from_slice(&get(mesh, workload, path).await?).map_err(|e| wrong(workload, path, &e))
}

/// What a workload's proxy answers to a path.
pub(super) async fn get(mesh: &str, workload: &str, path: &str) -> Result<Bytes, String> {
    let wrong = |e: &dyn std::fmt::Display| wrong(workload, path, e);
    let stream = dial(mesh, workload, ADMIN).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| wrong(&e))?;
    tokio::spawn(connection);
    let request = Request::get(path).header("host", "localhost").body(Empty::<Bytes>::new());
    let answer = sender.send_request(request.map_err(|e| wrong(&e))?).await.map_err(|e| wrong(&e))?;
    Ok(answer.into_body().collect().await.map_err(|e| wrong(&e))?.to_bytes())
}

fn wrong(workload: &str, path: &str, e: &dyn std::fmt::Display) -> String {
    format!("{workload}'s proxy does not answer {path}: {e}; does it have one? see: meshctl status")
}
