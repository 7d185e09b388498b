use proptest::prelude::*;

use super::*;

/// A ClientHello with these extensions, as one record.
pub(crate) fn hello(sni: Option<&str>, alpn: &[&str]) -> Vec<u8> {
    let vector = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let mut extensions = Vec::new();
    // An unknown extension first, as browsers send.
    extensions.extend([0x1a, 0x1a, 0, 0]);
    if let Some(sni) = sni {
        extensions.extend([0, 0]);
        extensions.extend(vector(&vector(&[&[0][..], &vector(sni.as_bytes())].concat())));
    }
    if !alpn.is_empty() {
        let list: Vec<u8> = alpn.iter().flat_map(|p| [&[p.len() as u8][..], p.as_bytes()].concat()).collect();
        extensions.extend([0, 16]);
        extensions.extend(vector(&vector(&list)));
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend(vector(&[0x13, 0x01]));
    body.extend([1, 0]);
    body.extend(vector(&extensions));
    let message = [&[1, 0][..], &vector(&body)].concat();
    [&[0x16, 3, 1][..], &vector(&message)].concat()
}

fn tls(sni: Option<&str>, alpn: &[&str]) -> Option<Detected> {
    Some(Detected::Tls { sni: sni.map(Into::into), alpn: alpn.iter().map(|p| (*p).into()).collect() })
}

#[test]
fn the_table() {
    let table: &[(&[u8], Option<Detected>)] = &[
        (b"", None),
        (b"GE", None),
        (b"GET / HTTP/1.", None),
        (b"GET / HTTP/1.1", None),
        (b"GET / HTTP/1.1\r", None),
        (b"GET / HTTP/1.1\r\n", Some(Detected::Http1)),
        (b"GET /a?b=c HTTP/1.1\nHost: x\r\n\r\n", Some(Detected::Http1)),
        // S5: the server refuses it (O11).
        (b"FOO / HTTP/1.1\r\n", Some(Detected::Http1)),
        (b"M-SEARCH * HTTP/1.1\r\n", Some(Detected::Http1)),
        (b"GET http://a/ HTTP/1.1\r\n", Some(Detected::Http1)),
        (b"GET / HTTP/1.0\r\n", Some(Detected::Other)),
        (b"GET / HTTP/1.12", Some(Detected::Other)),
        (b"GET  / HTTP/1.1\r\n", Some(Detected::Other)),
        (b"GET /\r\n", Some(Detected::Other)),
        (b"\r\nGET / HTTP/1.1\r\n", Some(Detected::Other)),
        (b"PRI", None),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", None),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0", Some(Detected::Http2)),
        (b"PRI * HTTP/2.0\r\n\r\nXX", Some(Detected::Other)),
        (b"PRI /x HTTP/1.1\r\n", Some(Detected::Http1)),
        (b"\0\x01\x02", Some(Detected::Other)),
        (b"SSH-2.0-OpenSSH_9\r\n", Some(Detected::Other)),
        (b"*1\r\n$4\r\nPING\r\n", Some(Detected::Other)),
        (&[0x16], None),
        (&[0x16, 0x03], None),
        (&[0x16, 0x02], Some(Detected::Other)),
        (&[0x16, 0x03, 0x01, 0, 2, 2, 0], Some(Detected::Other)),
        (&[0x16, 0x03, 0x01, 0, 0], Some(Detected::Other)),
    ];
    for (bytes, expected) in table {
        assert_eq!(&sniff(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_client_hello_tells_name_and_protocols() {
    assert_eq!(sniff(&hello(Some("A.Example"), &["h2", "http/1.1"])), tls(Some("a.example"), &["h2", "http/1.1"]));
    assert_eq!(sniff(&hello(None, &[])), tls(None, &[]));
}

#[test]
fn a_client_hello_may_be_split_into_records() {
    let whole = hello(Some("a.example"), &["h2"]);
    let (first, second) = whole[5..].split_at(20);
    let record = |part: &[u8]| [&[0x16, 3, 1, 0, part.len() as u8][..], part].concat();
    let split = [record(first), record(second)].concat();
    assert_eq!(sniff(&split), tls(Some("a.example"), &["h2"]));
    assert_eq!(sniff(&split[..split.len() - 1]), None);
}

#[test]
fn what_stays_undecided_for_too_long_is_bytes() {
    let long = [b"GET /".to_vec(), vec![b'a'; MAX_BYTES]].concat();
    assert_eq!(sniff(&long[..MAX_BYTES - 1]), None);
    assert_eq!(sniff(&long), Some(Detected::Other));
}

/// Bytes that get far into the parsers.
fn nearly_valid() -> impl Strategy<Value = Vec<u8>> {
    let seeds = prop_oneof![
        Just(hello(Some("reviews.example"), &["istio", "h2"])),
        Just(b"POST /x?y HTTP/1.1\r\nhost: a\r\n\r\n".to_vec()),
        Just([PREFACE, b"\0\0\0"].concat()),
        proptest::collection::vec(any::<u8>(), 0..200),
    ];
    let edits = proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4);
    (seeds, edits).prop_map(|(mut bytes, edits)| {
        for (at, byte) in edits {
            if !bytes.is_empty() {
                let i = at.index(bytes.len());
                bytes[i] = byte;
            }
        }
        bytes
    })
}

proptest! {
    #[test]
    fn more_bytes_never_change_an_answer(bytes in nearly_valid()) {
        let mut answer = None;
        for n in 0..=bytes.len() {
            let now = sniff(&bytes[..n]);
            if answer.is_some() {
                prop_assert_eq!(&now, &answer, "at {}", n);
            }
            answer = now;
        }
    }
}
