//! An HTTP/1.1 tunnel through an endpoint: CONNECT (or POST) to the far end, then bytes.

use std::fmt;
use std::io;

use bytes::BytesMut;
use mesh_core::snapshot::TunnelPlan;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

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
    /// `protocol: POST`, which is not in force yet.
    Post,
}

impl fmt::Display for TunnelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(error) => write!(f, "tunnel: {error}"),
            Self::Refused(Some(status)) => write!(f, "tunnel refused with status {status}"),
            Self::Post => f.write_str("tunnel: POST is not in force yet"),
            Self::Refused(None) => f.write_str("tunnel refused: no HTTP answer"),
        }
    }
}

impl std::error::Error for TunnelError {}

/// Opens a tunnel on a connection. What the far end sent with the answer comes first.
pub(super) async fn open<S>(mut stream: S, plan: &TunnelPlan) -> Result<Prefixed<S>, TunnelError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let TunnelPlan { post, target } = plan;
    if *post {
        return Err(TunnelError::Post);
    }
    let request = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(TunnelError::Broken)?;
    let mut answer = BytesMut::with_capacity(1024);
    loop {
        if let Some(end) = answer.windows(4).position(|w| w == b"\r\n\r\n") {
            let rest = answer.split_off(end + 4).freeze();
            return match status(&answer) {
                Some(200..=299) => Ok(Prefixed::new(rest, stream)),
                other => Err(TunnelError::Refused(other)),
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

fn status(head: &[u8]) -> Option<u16> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    response.parse(head).ok()?;
    response.code
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
        let opened = open(ours, &plan).await;
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
}
