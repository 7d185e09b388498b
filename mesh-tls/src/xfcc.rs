//! `x-forwarded-client-cert`: who a client was, for the application behind the proxy. When an element is made, and which
//! requests keep, lose or get it, is `mesh-core`'s to say.

use std::fmt::Write as _;

use mesh_core::record::PeerCertificate;
use mesh_core::snapshot::XfccDetails;

use crate::pem;

/// The element for a client (observed: N1, N2, N3). `by` is the own URI; `None`: the own certificate has none.
///
/// Envoy writes URIs and DNS names as they are. In a value that could be taken for the end of it (`,`, `;`, `=`, `"`) they
/// are quoted here, so that a name in a certificate can't pass for another field.
pub fn xfcc_element(by: Option<&str>, peer: &PeerCertificate, details: XfccDetails) -> String {
    let mut out = String::new();
    let mut put = |key: &str, value: &str| {
        let _ = write!(out, "{}{key}={value}", if out.is_empty() { "" } else { ";" });
    };
    if let Some(by) = by {
        put("By", &plain(by));
    }
    put("Hash", &peer.hash);
    let quoted_pem = |chain: &[std::sync::Arc<[u8]>]| {
        let text: String = chain.iter().map(|c| pem::encode("CERTIFICATE", c)).collect();
        format!("\"{}\"", escaped(&text))
    };
    if details.cert {
        put("Cert", &quoted_pem(&peer.chain[..peer.chain.len().min(1)]));
    }
    if details.chain {
        put("Chain", &quoted_pem(&peer.chain));
    }
    if details.subject {
        // RFC 2253 has escaped the quotes in it already.
        put("Subject", &format!("\"{}\"", peer.subject));
    }
    if details.uri {
        put("URI", &peer.uris.first().map(|u| plain(u)).unwrap_or_default());
    }
    for name in peer.dns.iter().filter(|_| details.dns) {
        put("DNS", &plain(name));
    }
    out
}

/// As it is if nobody could take it for more.
fn plain(value: &str) -> String {
    let visible = |c: char| c.is_ascii_graphic() || c == ' ';
    if value.chars().all(|c| visible(c) && !matches!(c, ',' | ';' | '=' | '"')) {
        return value.to_owned();
    }
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if visible(c) => out.push(c),
            other => out.push_str(&escaped(other.encode_utf8(&mut [0; 4]))),
        }
    }
    out + "\""
}

/// As in an URL, unreserved characters alone.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 5 / 4);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            other => {
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
    out
}

/// One proxy's word about its client.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct XfccElement(Vec<(String, String)>);

impl XfccElement {
    /// First value of a key; keys are compared without case.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.all(key).next()
    }

    /// All of them: `DNS` comes once for each name.
    pub fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| v.as_str())
    }
}

/// Reads a header, the nearest proxy last. `None`: it is none.
pub fn xfcc_read(header: &str) -> Option<Vec<XfccElement>> {
    let mut elements = Vec::new();
    for element in split(header, ',')? {
        let mut pairs = Vec::new();
        for pair in split(element, ';')? {
            let (key, value) = pair.split_once('=')?;
            pairs.push((key.trim().to_owned(), unquoted(value.trim())?));
        }
        elements.push(XfccElement(pairs));
    }
    Some(elements)
}

/// Parts between separators that are outside quotes; `None`: a quote is left open.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut start, mut quoted, mut escape) = (Vec::new(), 0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escape => escape = false,
            '\\' if quoted => escape = true,
            '"' => quoted = !quoted,
            c if c == separator && !quoted => {
                parts.push(&text[start..at]);
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (!quoted).then_some(parts)
}

fn unquoted(value: &str) -> Option<String> {
    let Some(inner) = value.strip_prefix('"') else { return Some(value.to_owned()) };
    let inner = inner.strip_suffix('"')?;
    let (mut out, mut escape) = (String::new(), false);
    for c in inner.chars() {
        match c {
            '"' if escape => out.push('"'),
            c if escape => out.extend(['\\', c]),
            '\\' => {
                escape = true;
                continue;
            }
            c => out.push(c),
        }
        escape = false;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    const A: &str = "spiffe://cluster.local/ns/a/sa/a";
    const B: &str = "spiffe://cluster.local/ns/b/sa/b";

    fn peer(subject: &str, uri: &str, dns: &[&str]) -> PeerCertificate {
        PeerCertificate {
            uris: (!uri.is_empty()).then(|| uri.into()).into_iter().collect(),
            dns: dns.iter().map(|d| (*d).into()).collect(),
            ips: vec![],
            emails: vec![],
            subject: subject.into(),
            serial: "1".into(),
            hash: "ab12".into(),
            spki: "".into(),
            not_after: SystemTime::UNIX_EPOCH,
            chain: vec![[0xfb, 0xff].into(), [1].into()],
        }
    }

    #[test]
    fn n1_what_a_sidecar_says() {
        let said = xfcc_element(Some(B), &peer("", A, &[]), XfccDetails::default());
        assert_eq!(said, format!("By={B};Hash=ab12;Subject=\"\";URI={A}"));
        let nameless = xfcc_element(None, &peer("", "", &[]), XfccDetails::default());
        assert_eq!(nameless, "Hash=ab12;Subject=\"\";URI=");
    }

    #[test]
    fn n2_everything_in_envoys_order() {
        let all = XfccDetails { subject: true, cert: true, chain: true, uri: true, dns: true };
        let said = xfcc_element(Some(B), &peer("CN=x", A, &["a.example.com", "b.example.com"]), all);
        let one = "-----BEGIN%20CERTIFICATE-----%0A%2B%2F8%3D%0A-----END%20CERTIFICATE-----%0A";
        let two = "-----BEGIN%20CERTIFICATE-----%0AAQ%3D%3D%0A-----END%20CERTIFICATE-----%0A";
        let expected = format!(
            "By={B};Hash=ab12;Cert=\"{one}\";Chain=\"{one}{two}\";Subject=\"CN=x\";URI={A};DNS=a.example.com;DNS=b.example.com"
        );
        assert_eq!(said, expected);
        let gateway = xfcc_element(None, &peer("CN=x", "", &[]), XfccDetails::GATEWAY);
        assert_eq!(gateway, format!("Hash=ab12;Cert=\"{one}\";Subject=\"CN=x\";URI="));
    }

    #[test]
    fn n3_a_subject_is_read_back() {
        let subject = r#"CN=cli\"x,O=Acme\, Inc,C=US"#;
        let said = xfcc_element(None, &peer(subject, A, &[]), XfccDetails::default());
        assert_eq!(said, format!("Hash=ab12;Subject=\"{subject}\";URI={A}"));
        let read = xfcc_read(&said).unwrap();
        assert_eq!(read[0].get("Subject"), Some(r#"CN=cli"x,O=Acme\, Inc,C=US"#));
    }

    #[test]
    fn a_name_cannot_pass_for_another_field() {
        let evil = "spiffe://td/x;URI=spiffe://cluster.local/ns/a/sa/admin,By=z\r\nx: y\"";
        let said = xfcc_element(Some(B), &peer("", evil, &["a;b=c"]), XfccDetails::default());
        assert!(!said.contains(['\r', '\n']), "{said}");
        let read = xfcc_read(&said).unwrap();
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].all("URI").count(), 1);
        assert_eq!(read[0].all("By").collect::<Vec<_>>(), [B]);
        assert_eq!(read[0].get("dns"), Some("a;b=c"));
    }

    proptest::proptest! {
        /// Whatever an authority put into a certificate, the header is one element, with each key as often as it should be.
        #[test]
        fn any_names(uri in ".{0,40}", dns in proptest::collection::vec(".{0,20}", 0..3), broken in ".{0,60}") {
            let names: Vec<&str> = dns.iter().map(String::as_str).collect();
            let said = xfcc_element(Some(B), &peer("", &uri, &names), XfccDetails::default());
            proptest::prop_assert!(said.chars().all(|c| c.is_ascii_graphic() || c == ' '), "{}", said);
            let read = xfcc_read(&said).unwrap();
            proptest::prop_assert_eq!(read.len(), 1);
            proptest::prop_assert_eq!(read[0].get("By"), Some(B));
            for (key, times) in [("By", 1), ("Hash", 1), ("Subject", 1), ("URI", 1), ("DNS", dns.len())] {
                proptest::prop_assert_eq!(read[0].all(key).count(), times, "{} in {}", key, said);
            }
            let _ = xfcc_read(&broken);
        }
    }

    #[test]
    fn several_proxies() {
        let read = xfcc_read(&format!("By=x;URI=y, By={B};Hash=ab;Subject=\"a,b;c\";URI={A};DNS=p;DNS=q")).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!((read[1].get("URI"), read[1].get("subject")), (Some(A), Some("a,b;c")));
        assert_eq!(read[1].all("DNS").collect::<Vec<_>>(), ["p", "q"]);
        for broken in ["", "By", "By=x;", "Subject=\"open", "Subject=\"a\"b"] {
            assert_eq!(xfcc_read(broken), None, "{broken}");
        }
    }
}
