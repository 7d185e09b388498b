//! The PROXY protocol: who a connection comes from, said in its first bytes. Versions 1 (text) and 2 (binary).

use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::BytesMut;
use mesh_core::snapshot::ProxyHeader;
use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longest header of version 1.
const MAX_V1: usize = 107;
/// Longest header of version 2 that is accepted: addresses and some extensions.
const MAX_V2: usize = 4096;

/// The header for a connection of this client to that address.
pub(crate) fn header(version: ProxyHeader, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    // Both addresses have to be of one family.
    let pair = match (from.ip().to_canonical(), to.ip().to_canonical()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (IpAddr::V4(a), IpAddr::V4(b)),
        (a, b) => {
            let six = |ip: IpAddr| match ip {
                IpAddr::V4(v4) => IpAddr::V6(v4.to_ipv6_mapped()),
                v6 => v6,
            };
            (six(a), six(b))
        }
    };
    let (from, to) = ((pair.0, from.port()), (pair.1, to.port()));
    match version {
        ProxyHeader::V1 => {
            let family = if from.0.is_ipv4() { "TCP4" } else { "TCP6" };
            format!("PROXY {family} {} {} {} {}\r\n", from.0, to.0, from.1, to.1).into_bytes()
        }
        ProxyHeader::V2 => {
            let mut out = SIGNATURE.to_vec();
            let (family, length) = if from.0.is_ipv4() { (0x11, 12_u16) } else { (0x21, 36) };
            out.extend([0x21, family]);
            out.extend(length.to_be_bytes());
            for ip in [from.0, to.0] {
                match ip {
                    IpAddr::V4(ip) => out.extend(ip.octets()),
                    IpAddr::V6(ip) => out.extend(ip.octets()),
                }
            }
            out.extend(from.1.to_be_bytes());
            out.extend(to.1.to_be_bytes());
            out
        }
    }
}

/// Source and destination as a header says; `None`: the sender speaks for itself (`LOCAL`, `UNKNOWN`).
pub(crate) type Said = Option<(SocketAddr, SocketAddr)>;

/// Reads a header; the bytes after it are returned, too.
pub(crate) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<(Said, BytesMut)> {
    let mut bytes = BytesMut::with_capacity(256);
    loop {
        match parse(&bytes) {
            Parsed::Whole(said, length) => {
                let rest = bytes.split_off(length);
                return Ok((said, rest));
            }
            Parsed::Invalid => return Err(io::Error::new(io::ErrorKind::InvalidData, "no PROXY header")),
            Parsed::Partial => {}
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// What the first bytes are.
#[derive(PartialEq, Eq, Debug)]
enum Parsed {
    Partial,
    Invalid,
    /// A header of this length.
    Whole(Said, usize),
}

fn parse(bytes: &[u8]) -> Parsed {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(a, b)| a == b);
    if begins(SIGNATURE) && (bytes.is_empty() || bytes[0] == b'\r') {
        return if bytes.is_empty() { Parsed::Partial } else { binary(bytes) };
    }
    if begins(b"PROXY ") { text(bytes) } else { Parsed::Invalid }
}

fn text(bytes: &[u8]) -> Parsed {
    let Some(end) = bytes.windows(2).position(|w| w == b"\r\n") else {
        return if bytes.len() > MAX_V1 { Parsed::Invalid } else { Parsed::Partial };
    };
    let Ok(line) = std::str::from_utf8(&bytes[..end]) else { return Parsed::Invalid };
    let parts: Vec<&str> = line.split(' ').collect();
    let said = match parts[..] {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", family @ ("TCP4" | "TCP6"), from, to, from_port, to_port] => {
            let address = |ip: &str, port: &str| {
                let ip: IpAddr = ip.parse().ok()?;
                (ip.is_ipv4() == (family == "TCP4")).then_some(())?;
                Some(SocketAddr::new(ip, port.parse().ok()?))
            };
            let Some(pair) = address(from, from_port).zip(address(to, to_port)) else { return Parsed::Invalid };
            Some(pair)
        }
        _ => return Parsed::Invalid,
    };
    Parsed::Whole(said, end + 2)
}

fn binary(bytes: &[u8]) -> Parsed {
    let Some(head) = bytes.get(..16) else { return Parsed::Partial };
    let length = 16 + usize::from(u16::from_be_bytes([head[14], head[15]]));
    if head[12] >> 4 != 2 || length > MAX_V2 {
        return Parsed::Invalid;
    }
    let Some(body) = bytes.get(16..length) else { return Parsed::Partial };
    let said = match (head[12] & 0xf, head[13] >> 4) {
        (0, _) | (1, 0) => None,
        (1, 1) => match addresses::<4>(body) {
            Some(pair) => Some(pair),
            None => return Parsed::Invalid,
        },
        (1, 2) => match addresses::<16>(body) {
            Some(pair) => Some(pair),
            None => return Parsed::Invalid,
        },
        // Addresses of other families say nothing to us.
        (1, _) => None,
        _ => return Parsed::Invalid,
    };
    Parsed::Whole(said, length)
}

fn addresses<const N: usize>(body: &[u8]) -> Option<(SocketAddr, SocketAddr)>
where
    IpAddr: From<[u8; N]>,
{
    let ip = |at: usize| Some(IpAddr::from(<[u8; N]>::try_from(body.get(at..at + N)?).ok()?).to_canonical());
    let port = |at: usize| Some(u16::from_be_bytes(body.get(at..at + 2)?.try_into().ok()?));
    let (from, to) = (ip(0)?, ip(N)?);
    Some((SocketAddr::new(from, port(2 * N)?), SocketAddr::new(to, port(2 * N + 2)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let four = ("192.0.2.1:1000".parse().unwrap(), "198.51.100.2:443".parse().unwrap());
        let six = ("[2001:db8::1]:1000".parse().unwrap(), "[2001:db8::2]:443".parse().unwrap());
        for (from, to) in [four, six] {
            for version in [ProxyHeader::V1, ProxyHeader::V2] {
                let bytes = header(version, from, to);
                assert_eq!(parse(&bytes), Parsed::Whole(Some((from, to)), bytes.len()));
                for n in 0..bytes.len() {
                    assert_eq!(parse(&bytes[..n]), Parsed::Partial, "{n} of {bytes:?}");
                }
            }
        }
        let mixed = header(ProxyHeader::V1, four.0, six.1);
        assert_eq!(mixed, b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1000 443\r\n");
    }

    #[test]
    fn the_table() {
        let whole = |n| Parsed::Whole(None, n);
        for (bytes, expected) in [
            (&b"PROXY UNKNOWN\r\nGET"[..], whole(15)),
            (b"PROXY UNKNOWN ff:: ff:: 1 2\r\n", whole(29)),
            (b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", Parsed::Invalid),
            (b"PROXY TCP4 ::1 ::1 1 2\r\n", Parsed::Invalid),
            (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 99999\r\n", Parsed::Invalid),
            (b"GET / HTTP/1.1\r\n", Parsed::Invalid),
            (b"\x16\x03\x01", Parsed::Invalid),
            (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", whole(16)),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\x02xx", whole(18)),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04xxxx", Parsed::Invalid),
            (b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c", Parsed::Invalid),
        ] {
            assert_eq!(parse(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
