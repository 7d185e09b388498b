//! TLS ClientHello: server name and application protocols, without any cryptography.

use std::sync::Arc;

use mesh_core::decide::Detected;

/// `None`: more bytes are needed; [`Detected::Other`]: not a ClientHello.
pub(super) fn parse(bytes: &[u8]) -> Option<Detected> {
    let message = match handshake(bytes) {
        Handshake::Partial => return None,
        Handshake::Invalid => return Some(Detected::Other),
        Handshake::Whole(message) => message,
    };
    Some(client_hello(&message).map_or(Detected::Other, |(sni, alpn)| Detected::Tls { sni, alpn }))
}

enum Handshake {
    Partial,
    Invalid,
    Whole(Vec<u8>),
}

/// The first handshake message, put together from its records.
fn handshake(bytes: &[u8]) -> Handshake {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        match rest {
            [] | [0x16] | [0x16, 0x03] | [0x16, 0x03, 0..=4] | [0x16, 0x03, 0..=4, _] => return Handshake::Partial,
            [0x16, 0x03, 0..=4, high, low, after @ ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                // A record holds at most 2^14 bytes, and an empty one is not allowed here.
                if length == 0 || length > 1 << 14 {
                    return Handshake::Invalid;
                }
                let there = &after[..length.min(after.len())];
                message.extend_from_slice(there);
                if !message.is_empty() && message[0] != 1 {
                    return Handshake::Invalid;
                }
                if let [1, a, b, c, ..] = message[..] {
                    let whole = 4 + usize::from(a) * 65536 + usize::from(b) * 256 + usize::from(c);
                    if whole > super::MAX_BYTES {
                        return Handshake::Invalid;
                    }
                    if message.len() >= whole {
                        message.truncate(whole);
                        return Handshake::Whole(message.split_off(4));
                    }
                }
                if there.len() < length {
                    return Handshake::Partial;
                }
                rest = &after[length..];
            }
            _ => return Handshake::Invalid,
        }
    }
}

type Names = (Option<Arc<str>>, Vec<Arc<str>>);

fn client_hello(body: &[u8]) -> Option<Names> {
    let mut body = Reader(body);
    body.take(2 + 32)?;
    let session = body.u8()?;
    body.take(session.into())?;
    body.vector()?;
    let compression = body.u8()?;
    body.take(compression.into())?;
    let (mut sni, mut alpn) = (None, Vec::new());
    if body.0.is_empty() {
        return Some((sni, alpn));
    }
    let mut extensions = Reader(body.vector()?);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let mut content = Reader(extensions.vector()?);
        match kind {
            0 => sni = server_name(&mut content)?,
            16 => alpn = protocols(&mut content)?,
            _ => {}
        }
    }
    Some((sni, alpn))
}

fn server_name(content: &mut Reader<'_>) -> Option<Option<Arc<str>>> {
    let mut list = Reader(content.vector()?);
    while !list.0.is_empty() {
        let kind = list.u8()?;
        let name = list.vector()?;
        if kind == 0 {
            // Names are ASCII and compared without case; Envoy logs them in lower case.
            return Some(std::str::from_utf8(name).ok().map(|n| n.to_ascii_lowercase().into()));
        }
    }
    Some(None)
}

fn protocols(content: &mut Reader<'_>) -> Option<Vec<Arc<str>>> {
    let mut list = Reader(content.vector()?);
    let mut found = Vec::new();
    while !list.0.is_empty() {
        let length = list.u8()?;
        found.push(String::from_utf8_lossy(list.take(length.into())?).into());
    }
    Some(found)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }

    /// Bytes with a length of two bytes before them.
    fn vector(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }
}
