//! An HTTP/1.1 tunnel through an endpoint: CONNECT (or POST) to the far end, then bytes.

mod post;

use std::fmt;
use std::io;

use bytes::BytesMut;
use mesh_core::snapshot::TunnelPlan;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use self::post::Framing;
pub(super) use self::post::Post;
use crate::detect::Prefixed;

/// Longest head of the answer.
const MAX_HEAD: usize = 16 * 1024;

/// Why there is no tunnel.
#[derive(Debug)]
pub(super) enum TunnelError {
    /// The connection broke.
    Broken(io::Error),
    /// The other side refused, with this status; or it does not speak HTTP.
    Refused(Option<u16>),
}

impl fmt::Display for TunnelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(error) => write!(f, "tunnel: {error}"),
            Self::Refused(Some(status)) => write!(f, "tunnel refused with status {status}"),
            Self::Refused(None) => f.write_str("tunnel refused: no HTTP answer"),
        }
    }
}

impl std::error::Error for TunnelError {}

/// Opens a tunnel on a connection by CONNECT. What the far end sent with the answer comes first.
pub(super) async fn connect<S>(mut stream: S, plan: &TunnelPlan) -> Result<Prefixed<S>, TunnelError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let target = &plan.target;
    let request = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n");
    let (_, rest) = ask(&mut stream, &request).await?;
    Ok(Prefixed::new(rest.freeze(), stream))
}

/// The same by POST: the far end's bytes are the body of the answer.
pub(super) async fn post<S>(mut stream: S, plan: &TunnelPlan) -> Result<Post<S>, TunnelError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let target = &plan.target;
    let request = format!("POST / HTTP/1.1\r\nhost: {target}\r\ntransfer-encoding: chunked\r\n\r\n");
    let (framing, rest) = ask(&mut stream, &request).await?;
    Ok(Post::new(stream, framing, rest))
}

/// Sends the request's head. How the answer's body is framed if the far end agrees, and what came of it.
async fn ask<S>(stream: &mut S, request: &str) -> Result<(Framing, BytesMut), TunnelError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(request.as_bytes()).await.map_err(TunnelError::Broken)?;
    stream.flush().await.map_err(TunnelError::Broken)?;
    let mut answer = BytesMut::with_capacity(1024);
    loop {
        if let Some(end) = answer.windows(4).position(|w| w == b"\r\n\r\n") {
            let rest = answer.split_off(end + 4);
            return match head(&answer) {
                Some((200..=299, framing)) => Ok((framing, rest)),
                other => Err(TunnelError::Refused(other.map(|(status, _)| status))),
            };
        }
        if answer.len() > MAX_HEAD {
            return Err(TunnelError::Refused(None));
        }
        match stream.read_buf(&mut answer).await {
            Ok(0) => return Err(TunnelError::Broken(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => {}
            Err(error) => return Err(TunnelError::Broken(error)),
        }
    }
}

/// Status of an answer, and the framing of its body.
fn head(head: &[u8]) -> Option<(u16, Framing)> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    response.parse(head).ok()?;
    let find = |name: &str| response.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value);
    let length = || std::str::from_utf8(find("content-length")?).ok()?.trim().parse().ok();
    let framing = match find("transfer-encoding") {
        Some(_) => Framing::Chunks,
        None => length().map_or(Framing::Close, Framing::Length),
    };
    Some((response.code?, framing))
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    async fn answered(answer: &'static str) -> (String, Result<String, String>) {
        let (ours, mut theirs) = duplex(4096);
        let far = tokio::spawn(async move {
            let mut request = vec![0; 1024];
            let n = theirs.read(&mut request).await.unwrap();
            theirs.write_all(answer.as_bytes()).await.unwrap();
            drop(theirs);
            String::from_utf8(request[..n].to_vec()).unwrap()
        });
        let plan = TunnelPlan { post: false, target: "db.example.com:5432".into() };
        let opened = connect(ours, &plan).await;
        let result = match opened {
            Ok(mut stream) => {
                let mut text = String::new();
                stream.read_to_string(&mut text).await.unwrap();
                Ok(text)
            }
            Err(error) => Err(error.to_string()),
        };
        (far.await.unwrap(), result)
    }

    #[tokio::test]
    async fn what_comes_with_the_answer_is_the_far_ends() {
        let (request, got) = answered("HTTP/1.1 200 OK\r\nx: y\r\n\r\nhello").await;
        assert_eq!(request, "CONNECT db.example.com:5432 HTTP/1.1\r\nhost: db.example.com:5432\r\n\r\n");
        assert_eq!(got, Ok("hello".into()));
    }

    #[tokio::test]
    async fn refusals_say_why() {
        let refused = |answer| async move { answered(answer).await.1.unwrap_err() };
        assert_eq!(refused("HTTP/1.1 403 Forbidden\r\n\r\n").await, "tunnel refused with status 403");
        assert_eq!(refused("SSH-2.0-x\r\n\r\n").await, "tunnel refused: no HTTP answer");
        assert_eq!(refused("HTTP/1.1 200").await, "tunnel: unexpected end of file");
    }

    #[tokio::test]
    async fn by_post_both_directions_are_bodies() {
        for (answer, far, got) in [
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
                "lo\r\n3;x\r\nabc\r\n0\r\n\r\n",
                "helloabc",
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe", "llo", "hello"),
            ("HTTP/1.1 200 OK\r\n\r\nhe", "llo", "hello"),
        ] {
            let (ours, mut theirs) = duplex(64);
            let far = tokio::spawn(async move {
                let mut request = vec![0; 1024];
                let n = theirs.read(&mut request).await.unwrap();
                request.truncate(n);
                theirs.write_all(answer.as_bytes()).await.unwrap();
                while !request.ends_with(b"0\r\n\r\n") {
                    theirs.read_buf(&mut request).await.unwrap();
                }
                theirs.write_all(far.as_bytes()).await.unwrap();
                drop(theirs);
                String::from_utf8(request).unwrap()
            });
            let plan = TunnelPlan { post: true, target: "db.example.com:5432".into() };
            let mut stream = post(ours, &plan).await.unwrap();
            // More than fits at once.
            stream.write_all(&[b'x'; 100]).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, got);
            let head = "POST / HTTP/1.1\r\nhost: db.example.com:5432\r\ntransfer-encoding: chunked\r\n\r\n";
            assert_eq!(far.await.unwrap(), format!("{head}64\r\n{}\r\n0\r\n\r\n", "x".repeat(100)));
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_an_error() {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz",
        ] {
            let (ours, mut theirs) = duplex(4096);
            theirs.write_all(answer.as_bytes()).await.unwrap();
            let plan = TunnelPlan { post: true, target: "db.example.com:5432".into() };
            let mut stream = post(ours, &plan).await.unwrap();
            drop(theirs);
            assert!(stream.read_to_string(&mut String::new()).await.is_err(), "{answer}");
        }
    }
}
