//! Explicit proxying: clients that were told of the proxy by `http_proxy` name their destination themselves, in the
//! request's absolute form or with CONNECT.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use mesh_core::record::ConnInfo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::detect::Prefixed;
use crate::dial::Link;
use crate::listener::{Engine, Route, Served, Shared, split_authority};
use crate::net::Net;

/// Longest head of a CONNECT request.
const MAX_HEAD: usize = 16 * 1024;

/// What is to serve one connection of such a client.
pub(crate) async fn decide<N, H>(shared: Arc<Shared<N, H>>, mut stream: N::Stream, mut conn: ConnInfo) -> Option<Served>
where
    N: Net,
    H: Engine<N::Stream>,
{
    let mut bytes = BytesMut::with_capacity(1024);
    let drain = shared.outbound.clone();
    let head = loop {
        match connect_head(&bytes) {
            Head::Partial if bytes.len() < MAX_HEAD => {}
            Head::Connect(authority, length) => break (authority, length),
            Head::Partial => {
                refuse(&mut stream, "431 Request Header Fields Too Large").await;
                return None;
            }
            Head::Other => {
                let stream = Link::Plain(Prefixed::new(bytes.freeze(), stream));
                return Some(shared.http.serve(stream, Arc::new(conn), Route::ByAuthority, drain));
            }
        }
        if !matches!(stream.read_buf(&mut bytes).await, Ok(n) if n > 0) {
            return None;
        }
    };
    let (authority, length) = head;
    let snapshot = shared.snapshot()?;
    let to = match Route::of_authority(&snapshot, &authority, 443) {
        Some(to) => Some(to),
        None => resolve(&shared.net, &authority).await,
    };
    let Some(to) = to else {
        refuse(&mut stream, "502 Bad Gateway").await;
        return None;
    };
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
    conn.local = to;
    let rest = bytes.split_off(length).freeze();
    // Boxed: hardly any client is of this kind.
    Box::pin(shared.route(snapshot, Prefixed::new(rest, stream), conn, Route::Outbound(to), drain)).await
}

/// A name that the mesh does not know.
async fn resolve<N: Net>(net: &N, authority: &str) -> Option<SocketAddr> {
    let (host, port) = split_authority(authority, 443)?;
    let found = net.resolve(host).await.ok()?;
    found.addresses.first().map(|ip| SocketAddr::new(*ip, port))
}

async fn refuse<S: AsyncWriteExt + Unpin>(stream: &mut S, status: &str) {
    let text = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    // The client may have gone; there is nobody else to tell.
    let _ = stream.write_all(&Bytes::from(text)).await;
}

/// What a connection begins with.
#[derive(PartialEq, Eq, Debug)]
enum Head {
    /// May still become CONNECT.
    Partial,
    /// CONNECT to this authority; the head has this many bytes.
    Connect(String, usize),
    /// Any other request.
    Other,
}

fn connect_head(bytes: &[u8]) -> Head {
    const METHOD: &[u8] = b"CONNECT ";
    if !bytes.starts_with(METHOD) {
        return if METHOD.starts_with(bytes) { Head::Partial } else { Head::Other };
    }
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { return Head::Partial };
    let line = bytes[METHOD.len()..end].split(|b| *b == b'\r').next().unwrap_or_default();
    let authority = line.split(|b| *b == b' ').next().unwrap_or_default();
    match (std::str::from_utf8(authority), line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0")) {
        (Ok(authority), true) => Head::Connect(authority.to_owned(), end + 4),
        _ => Head::Other,
    }
}

#[cfg(test)]
mod tests;
