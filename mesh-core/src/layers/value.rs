//! Header values that are made for each request: one allocation at most, which copies of the value share.

use std::fmt::Write;
use std::net::IpAddr;

use bytes::Bytes;
use http::HeaderValue;

/// A number.
pub(super) fn number(n: u64) -> HeaderValue {
    const SMALL: &str = "0123456789";
    // Attempts and the milliseconds of a near upstream have one digit, most often.
    match usize::try_from(n).ok().and_then(|n| SMALL.get(n..n + 1)) {
        Some(digit) => HeaderValue::from_static(digit),
        None => HeaderValue::from(n),
    }
}

/// An address, without port.
pub(super) fn address(ip: IpAddr) -> HeaderValue {
    let mut text = Text { bytes: [0; 48], length: 0 };
    match ip {
        IpAddr::V4(ip) => ip.octets().iter().enumerate().for_each(|(i, octet)| {
            if i > 0 {
                text.push(b'.');
            }
            text.push_octet(*octet);
        }),
        IpAddr::V6(ip) => write!(text, "{ip}").expect("invariant: there is room for any address"),
    }
    shared(text)
}

/// A value of bytes that are visible ASCII. Unlike with [`HeaderValue::from_bytes`], the first clone allocates nothing.
pub(super) fn shared(bytes: impl AsRef<[u8]> + Send + 'static) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from_owner(bytes)).expect("invariant: visible ASCII")
}

/// Room for the longest address.
struct Text {
    bytes: [u8; 48],
    length: usize,
}

impl Text {
    fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    fn push_octet(&mut self, n: u8) {
        if n >= 100 {
            self.push(b'0' + n / 100);
        }
        if n >= 10 {
            self.push(b'0' + n / 10 % 10);
        }
        self.push(b'0' + n % 10);
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = self.bytes.get_mut(self.length..self.length + text.len()).ok_or(std::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.length += text.len();
        Ok(())
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for n in [0, 9, 10, 4294967296] {
            assert_eq!(number(n), n.to_string());
        }
        for text in
            ["0.9.10.255", "127.0.0.1", "::1", "1111:2222:3333:4444:5555:6666:7777:8888", "::ffff:255.255.255.255"]
        {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(address(ip), ip.to_string());
        }
    }
}
