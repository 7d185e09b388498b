//! A subject as OpenSSL's RFC 2253 form has it: most specific first.

use std::fmt::Write as _;

use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::x509::X509Name;

/// Empty for an empty subject. Control characters and bytes beyond ASCII are written `\XX`, so that it fits into a header.
pub(crate) fn rfc2253(name: &X509Name<'_>) -> String {
    let sets: Vec<String> = name
        .iter_rdn()
        .map(|set| {
            let parts = set.iter().map(|part| {
                let kind = part.attr_type();
                let key = match oid2abbrev(kind, oid_registry()) {
                    // `emailAddress` has no short name in OpenSSL.
                    Ok("Email") => "emailAddress".to_owned(),
                    Ok(short) => short.to_owned(),
                    Err(_) => kind.to_id_string(),
                };
                format!("{key}={}", value(part.attr_value().data))
            });
            parts.collect::<Vec<_>>().join("+")
        })
        .collect();
    sets.into_iter().rev().collect::<Vec<_>>().join(",")
}

fn value(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    let last = bytes.len().saturating_sub(1);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => out.extend(['\\', char::from(*byte)]),
            b'#' if at == 0 => out.push_str("\\#"),
            b' ' if at == 0 || at == last => out.push_str("\\ "),
            b' '..=b'~' => out.push(char::from(*byte)),
            other => {
                let _ = write!(out, "\\{other:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;

    #[test]
    fn n3_most_specific_first_and_escaped() {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, text) in
            [(DnType::CountryName, "US"), (DnType::OrganizationName, "Acme, Inc"), (DnType::CommonName, "cli\"x")]
        {
            params.distinguished_name.push(kind, text);
        }
        let of = |params: &CertificateParams| {
            let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            rfc2253(X509Certificate::from_der(made.der()).unwrap().1.subject())
        };
        assert_eq!(of(&params), r#"CN=cli\"x,O=Acme\, Inc,C=US"#);
        params.distinguished_name = DistinguishedName::new();
        assert_eq!(of(&params), "");
        params.distinguished_name.push(DnType::CommonName, " #é\n ");
        assert_eq!(of(&params), r"CN=\ #\C3\A9\0A\ ");
    }
}
