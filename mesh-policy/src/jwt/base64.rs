//! Base64 of tokens and of claims in headers.

#[cfg(test)]
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn digit(byte: u8) -> Option<u32> {
    Some(u32::from(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    }))
}

/// Reads base64url without padding. Bits that stand for nothing have to be zero, so that a text has one spelling only.
pub(super) fn decode_url(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for chunk in text.as_bytes().chunks(4) {
        let mut bits = 0;
        for byte in chunk {
            bits = bits << 6 | digit(*byte)?;
        }
        let bytes = chunk.len() * 6 / 8;
        let unused = chunk.len() * 6 % 8;
        if bytes == 0 || bits & ((1 << unused) - 1) != 0 {
            return None;
        }
        let all = (bits >> unused).to_be_bytes();
        out.extend_from_slice(&all[4 - bytes..]);
    }
    Some(out)
}

/// Whether a text is base64url without padding.
pub(super) fn is_url(text: &str) -> bool {
    text.len() % 4 != 1 && text.bytes().all(|b| digit(b).is_some())
}

fn encode(bytes: &[u8], alphabet: &[u8; 64], pad: bool) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut block = [0; 4];
        block[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(block);
        for i in 0..4 {
            match (i <= chunk.len(), pad) {
                (true, _) => out.push(char::from(alphabet[(bits >> (18 - 6 * i) & 63) as usize])),
                (false, true) => out.push('='),
                (false, false) => {}
            }
        }
    }
    out
}

/// Standard base64, padded.
pub(super) fn encode_standard(bytes: &[u8]) -> String {
    encode(bytes, STANDARD, true)
}

/// base64url without padding.
#[cfg(test)]
pub(super) fn encode_url(bytes: &[u8]) -> String {
    encode(bytes, URL, false)
}
