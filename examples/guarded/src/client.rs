//! Who asks.

use std::net::SocketAddr;

use http::StatusCode;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mesh_tls::{MtlsConnectConfig, MtlsConnectLayer, Secrets};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::{Layer, Service, service_fn};

use crate::{Error, books};

#[allow(clippy::disallowed_methods, reason = "an application opens its sockets itself")]
async fn dial(at: SocketAddr) -> Result<TcpStream, Error> {
    Ok(TcpStream::connect(at).await?)
}

/// Asks the service, as the workload with these secrets.
pub(crate) async fn ask(
    at: SocketAddr,
    secrets: &Secrets,
    method: &str,
    token: Option<&str>,
) -> Result<(StatusCode, String), Error> {
    let mut connect = MtlsConnectLayer::new(MtlsConnectConfig::new(books()), secrets).layer(service_fn(dial));
    let (stream, _) = connect.call(at).await?;
    let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut request = http::Request::builder().method(method).uri("/books").header("host", "books");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let response = client.send_request(request.body(Empty::<bytes::Bytes>::new())?).await?;
    let status = response.status();
    let text = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&text).into_owned()))
}

/// What somebody gets who speaks no TLS.
pub(crate) async fn plaintext(at: SocketAddr) -> String {
    let asked = async {
        let mut stream = dial(at).await?;
        stream.write_all(b"GET /books HTTP/1.1\r\nhost: books\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, Error>(answer)
    };
    match asked.await {
        Ok(answer) if answer.starts_with(b"HTTP/") => "an answer".into(),
        Ok(_) | Err(_) => "no answer".into(),
    }
}
