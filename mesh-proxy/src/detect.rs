//! Sniffing: what protocol the first bytes of a connection are.
//!
//! [`sniff`] is pure and monotone: once it has an answer, more bytes do not change it. The request line has to be there in
//! full, because only its end tells HTTP/1.1 (served) from HTTP/1.0 (bytes, as Istio does by default).

mod hello;
mod prefixed;

use mesh_core::decide::Detected;

pub use prefixed::Prefixed;

/// Bytes that are looked at; what is undecided after them is [`Detected::Other`].
pub const MAX_BYTES: usize = 64 * 1024;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const VERSION: &[u8] = b"HTTP/1.1";
const OLD_VERSION: &[u8] = b"HTTP/1.0";

/// What these first bytes are; `None`: more are needed.
pub fn sniff(bytes: &[u8]) -> Option<Detected> {
    sniff_with(bytes, Looks { http: true, http10: false })
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Looks {
    /// HTTP, too; if not, whatever does not begin TLS is [`Detected::Other`].
    pub http: bool,
    /// HTTP/1.0 is HTTP, too.
    pub http10: bool,
}

/// As [`sniff`], for what makes a difference.
pub fn sniff_with(bytes: &[u8], looks: Looks) -> Option<Detected> {
    let full = bytes.len() >= MAX_BYTES;
    let bytes = &bytes[..bytes.len().min(MAX_BYTES)];
    let found = match bytes.first()? {
        // A TLS record of type handshake.
        0x16 => hello::parse(bytes),
        _ if !looks.http => Some(Detected::Other),
        _ => http(bytes, looks.http10),
    };
    found.or(full.then_some(Detected::Other))
}

fn http(bytes: &[u8], http10: bool) -> Option<Detected> {
    if bytes.starts_with(PREFACE) {
        return Some(Detected::Http2);
    }
    if PREFACE.starts_with(bytes) {
        return None;
    }
    let mut verdict = request_line(bytes, VERSION);
    if http10 && verdict == Some(false) {
        verdict = request_line(bytes, OLD_VERSION);
    }
    // `PRI * HTTP/2.0` that is not the preface is caught by the version.
    verdict.map(|is_http1| if is_http1 { Detected::Http1 } else { Detected::Other })
}

/// Whether the bytes begin with `METHOD SP TARGET SP VERSION [CR] LF`.
fn request_line(bytes: &[u8], wanted: &[u8]) -> Option<bool> {
    let method = bytes.iter().position(|b| !is_token(*b))?;
    if method == 0 || bytes[method] != b' ' {
        return Some(false);
    }
    let rest = &bytes[method + 1..];
    let target = rest.iter().position(|b| *b <= b' ' || *b == 0x7f)?;
    if target == 0 || rest[target] != b' ' {
        return Some(false);
    }
    let rest = &rest[target + 1..];
    let Some(version) = rest.get(..wanted.len()) else {
        return if wanted.starts_with(rest) { None } else { Some(false) };
    };
    match (version == wanted, &rest[wanted.len()..]) {
        (true, [b'\n', ..] | [b'\r', b'\n', ..]) => Some(true),
        (true, [] | [b'\r']) => None,
        _ => Some(false),
    }
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

#[cfg(test)]
mod tests;
