//! Protocol sniffing.

use mesh_proxy::detect;

/// Gives the bytes in pieces, as a network may: once there is an answer, more bytes do not change it.
pub fn sniff(data: &[u8]) {
    let data = &data[..data.len().min(2048)];
    let mut answer = None;
    for end in 0..=data.len() {
        let now = detect::sniff(&data[..end]);
        assert!(answer.is_none() || now == answer, "{answer:?} became {now:?} after {end} bytes");
        answer = now;
    }
}
