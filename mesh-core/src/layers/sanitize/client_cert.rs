//! `x-forwarded-client-cert`: whether a request keeps it, loses it or gets it.

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use crate::api::ForwardClientCertDetails as Mode;
use crate::record::TlsInfo;
use crate::snapshot::HttpSettings;

const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Observed: N1, N4, N5, N6. Only what the client proved is believed: where it showed no certificate, or one that nobody has
/// verified (`insecureSkipVerify`), every mode but one removes what it sent. `present`: the request may have the header.
pub(crate) fn forward(settings: &HttpSettings, tls: Option<&TlsInfo>, headers: &mut HeaderMap, present: bool) {
    let shown = tls.filter(|tls| tls.verified().is_some());
    if !present && shown.is_none() {
        return;
    }
    let element = || shown.and_then(|tls| tls.client_cert(settings.client_cert_details));
    match (settings.client_cert, shown) {
        (Mode::AlwaysForwardOnly, _) | (Mode::ForwardOnly, Some(_)) => {}
        (Mode::AppendForward, Some(_)) => {
            if let Some(value) = element().and_then(|own| appended(headers, own)) {
                headers.insert(CLIENT_CERT, value);
            }
        }
        (Mode::SanitizeSet, Some(_)) => match element() {
            Some(own) => drop(headers.insert(CLIENT_CERT, own)),
            None => drop(headers.remove(CLIENT_CERT)),
        },
        (Mode::Undefined | Mode::Sanitize, _) | (_, None) => drop(headers.remove(CLIENT_CERT)),
    }
}

/// What the client was told before, then what is known of it. A line that leaves a quote open would swallow what follows,
/// so that the client's own words would be all that is left of the header: then they are not passed on at all.
fn appended(headers: &HeaderMap, own: HeaderValue) -> Option<HeaderValue> {
    let mut lines = headers.get_all(CLIENT_CERT).iter();
    if headers.get_all(CLIENT_CERT).iter().any(|line| !is_whole(line.as_bytes())) {
        return Some(own);
    }
    let Some(first) = lines.next() else { return Some(own) };
    let mut value = first.as_bytes().to_vec();
    for line in lines.chain([&own]) {
        value.push(b',');
        value.extend_from_slice(line.as_bytes());
    }
    HeaderValue::from_bytes(&value).ok()
}

/// Whether every quote in it has its end; inside of them a backslash takes its meaning from the next character.
fn is_whole(line: &[u8]) -> bool {
    let (mut quoted, mut escape) = (false, false);
    for byte in line {
        match byte {
            _ if escape => escape = false,
            b'\\' if quoted => escape = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
    }
    !quoted
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use super::*;
    use crate::record::{ClientCert, PeerCertificate};
    use crate::snapshot::XfccDetails;

    fn tls(shown: bool) -> TlsInfo {
        let peer = PeerCertificate {
            uris: vec!["spiffe://cluster.local/ns/a/sa/a".into()],
            dns: vec![],
            ips: vec![],
            emails: vec![],
            subject: "".into(),
            serial: "1".into(),
            hash: "ab".into(),
            spki: "".into(),
            not_after: SystemTime::UNIX_EPOCH,
            chain: vec![],
        };
        let client_cert = ClientCert::new(|_, peer, said| {
            format!("By=b;Hash={}{}", peer.hash, ["", ";Chain=c"][usize::from(said.chain)])
        });
        TlsInfo {
            version: "TLSv1.3",
            cipher: "".into(),
            alpn: "".into(),
            peer: shown.then(|| Arc::new(peer)),
            is_verified: shown,
            identity: None,
            own: None,
            client_cert: shown.then_some(client_cert),
        }
    }

    fn settings(mode: Mode) -> HttpSettings {
        HttpSettings { client_cert: mode, ..HttpSettings::default() }
    }

    /// N2: a connection that is open says what the configuration in force asks for.
    #[test]
    fn details_change_under_a_connection() {
        let tls = tls(true);
        for chain in [false, true, true, false] {
            let details = XfccDetails { chain, ..XfccDetails::default() };
            let settings = HttpSettings { client_cert_details: details, ..settings(Mode::SanitizeSet) };
            let mut headers = HeaderMap::new();
            forward(&settings, Some(&tls), &mut headers, false);
            let want = if chain { "By=b;Hash=ab;Chain=c" } else { "By=b;Hash=ab" };
            assert_eq!(headers[CLIENT_CERT], want);
        }
    }

    /// What is left of the header: sent with it (in one line, in two) and without.
    fn left(mode: Mode, tls: Option<&TlsInfo>) -> [Vec<String>; 3] {
        [&["By=x"][..], &["By=x", "By=y"], &[]].map(|sent| {
            let mut headers = HeaderMap::new();
            for line in sent {
                headers.append(CLIENT_CERT, HeaderValue::from_static(line));
            }
            forward(&settings(mode), tls, &mut headers, !sent.is_empty());
            headers.get_all(CLIENT_CERT).iter().map(|v| v.to_str().unwrap().to_owned()).collect()
        })
    }

    /// N1: what a client says can't take the place of what is known of it.
    #[test]
    fn open_quotes_swallow_nothing() {
        let own = "By=b;Hash=ab";
        for (lines, goes_on) in [
            (&["By=x;Subject=\"CN=a\\\"b\\\\\";URI=y"][..], true),
            (&["By=x;URI=spiffe://cluster.local/ns/a/sa/admin;Subject=\""], false),
            (&["Subject=\"a\\\""], false),
            (&["By=x;Subject=\"", "\";By=y"], false),
            (&["By=x", "By=\"y"], false),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(CLIENT_CERT, HeaderValue::from_static(line));
            }
            forward(&settings(Mode::AppendForward), Some(&tls(true)), &mut headers, true);
            let left: Vec<_> = headers.get_all(CLIENT_CERT).iter().map(|v| v.to_str().unwrap()).collect();
            let want = if goes_on { format!("{},{own}", lines.join(",")) } else { own.to_owned() };
            assert_eq!(left, [want], "{lines:?}");
        }
    }

    #[test]
    fn every_mode() {
        let (mutual, simple) = (tls(true), tls(false));
        let list = |lines: [&[&str]; 3]| lines.map(|l| l.iter().map(ToString::to_string).collect::<Vec<_>>());
        let (kept, gone) = (list([&["By=x"], &["By=x", "By=y"], &[]]), list([&[], &[], &[]]));
        let own = "By=b;Hash=ab";
        let appended = list([&["By=x,By=b;Hash=ab"], &["By=x,By=y,By=b;Hash=ab"], &[own]]);
        let replaced = list([&[own], &[own], &[own]]);
        for (id, mode, with, without) in [
            ("N1", Mode::AppendForward, &appended, &gone),
            ("N4", Mode::SanitizeSet, &replaced, &gone),
            ("N5", Mode::ForwardOnly, &kept, &gone),
            ("N5", Mode::AlwaysForwardOnly, &kept, &kept),
            ("N6", Mode::Undefined, &gone, &gone),
            ("N6", Mode::Sanitize, &gone, &gone),
        ] {
            assert_eq!(left(mode, Some(&mutual)), *with, "{id} {mode:?}, a certificate was shown");
            assert_eq!(left(mode, Some(&simple)), *without, "{id} {mode:?}, TLS without");
            assert_eq!(left(mode, None), *without, "{id} {mode:?}, plaintext");
            let unverified = TlsInfo { is_verified: false, identity: None, ..mutual.clone() };
            assert_eq!(
                left(mode, Some(&unverified)),
                *without,
                "{id} {mode:?}, a certificate that nobody has verified"
            );
        }
    }
}
