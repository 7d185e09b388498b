//! Which version of HTTP a connection speaks.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::detect::Prefixed;

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Protocol {
    Http1,
    Http2,
    /// The preface of HTTP/2, and then another frame than SETTINGS.
    Broken,
}

/// Type of a SETTINGS frame, and where in a connection's first bytes it is.
const SETTINGS: u8 = 4;
const FRAME_TYPE: usize = PREFACE.len() + 3;

/// The answer to [`Protocol::Broken`]: our own SETTINGS, which have to come first, and GOAWAY with PROTOCOL_ERROR.
pub(super) const SETTINGS_EXPECTED: &[u8] =
    b"\0\0\0\x04\0\0\0\0\0\0\0\x19\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01SETTINGS expected";

/// Reads as much as is needed to tell, and gives the stream back from its start.
pub(super) async fn detect<I: AsyncRead + Unpin>(mut io: I) -> io::Result<(Prefixed<I>, Protocol)> {
    // Most first reads hold a whole head; the rest of it goes into the codec's buffer without another system call.
    let mut bytes = Vec::with_capacity(1024);
    loop {
        let n = io.read_buf(&mut bytes).await?;
        let compared = bytes.len().min(PREFACE.len());
        let protocol = match bytes.get(FRAME_TYPE) {
            _ if bytes[..compared] != PREFACE[..compared] => Protocol::Http1,
            // What has ended is the codec's business.
            None if n == 0 => {
                if compared == PREFACE.len() {
                    Protocol::Http2
                } else {
                    Protocol::Http1
                }
            }
            None => continue,
            Some(&SETTINGS) => Protocol::Http2,
            Some(_) => Protocol::Broken,
        };
        return Ok((Prefixed::new(bytes.into(), io), protocol));
    }
}
