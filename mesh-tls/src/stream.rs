//! A TLS connection of either side.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use mesh_core::record::TlsInfo;
use rustls::CommonState;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::ahead::ReadAhead;
use crate::{TlsError, peer};

/// A byte stream inside TLS.
#[derive(Debug)]
pub struct TlsStream<IO> {
    inner: tokio_rustls::TlsStream<ReadAhead<IO>>,
    info: Arc<TlsInfo>,
}

impl<IO> TlsStream<IO> {
    /// After a handshake; `own` is the URI of the own certificate, and `check` looks at the peer.
    pub(crate) fn new(
        inner: tokio_rustls::TlsStream<ReadAhead<IO>>,
        own: Option<Arc<str>>,
        check: impl FnOnce(TlsInfo) -> Result<TlsInfo, TlsError>,
    ) -> Result<Self, TlsError> {
        let info = Arc::new(check(info(inner.get_ref().1, own))?);
        Ok(Self { inner, info })
    }

    /// What the handshake said.
    pub fn info(&self) -> &Arc<TlsInfo> {
        &self.info
    }

    /// Whether an earlier session was taken up again.
    #[cfg(test)]
    pub(crate) fn is_resumed(&self) -> bool {
        self.inner.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// The connection below. Reading or writing there would break the stream.
    pub fn get_ref(&self) -> &IO {
        self.inner.get_ref().0.get_ref()
    }
}

/// What a handshake said. Nothing in it is verified yet.
fn info(state: &CommonState, own: Option<Arc<str>>) -> TlsInfo {
    let chain = state.peer_certificates().unwrap_or_default();
    let suite = state.negotiated_cipher_suite();
    TlsInfo {
        version: match state.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLSv1.2",
        },
        cipher: suite.and_then(|s| s.suite().as_str()).unwrap_or_default().into(),
        alpn: String::from_utf8_lossy(state.alpn_protocol().unwrap_or_default()).into(),
        peer: peer::read(chain).map(Arc::new),
        is_verified: false,
        identity: None,
        own,
        client_cert: None,
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.inner).poll_read(cx, buf) {
            // The peer closed without TLS's own end. Envoy takes it for an end as well; HTTP has its own framing.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            other => other,
        }
    }
}

crate::write_through!([IO: AsyncRead + AsyncWrite + Unpin] TlsStream<IO> => inner);
