//! Protocol versions, cipher suites and key exchange groups by the names that users write.

use std::sync::Arc;

use mesh_core::snapshot::{TlsParameters, TlsVersion};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::{ProtocolVersion, SupportedCipherSuite, SupportedProtocolVersion};

use crate::TlsError;

/// The provider for these limits. TLS 1.3's suites are always there, as with OpenSSL's cipher lists.
pub(crate) fn provider(limits: &TlsParameters) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    if !limits.cipher_suites.is_empty() {
        let modern = |s: &SupportedCipherSuite| s.version().version == ProtocolVersion::TLSv1_3;
        let mut suites: Vec<_> = provider.cipher_suites.iter().filter(|s| modern(s)).copied().collect();
        suites.extend(limits.cipher_suites.iter().filter_map(|name| suite(name)));
        provider.cipher_suites = suites;
    }
    if !limits.curves.is_empty() {
        provider.kx_groups = limits.curves.iter().filter_map(|name| group(name)).collect();
    }
    provider
}

/// The versions that may be spoken.
pub(crate) fn versions(
    limits: &TlsParameters,
    provider: &CryptoProvider,
) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
    let all = [(TlsVersion::V1_3, &rustls::version::TLS13), (TlsVersion::V1_2, &rustls::version::TLS12)];
    let has_suite =
        |v: &SupportedProtocolVersion| provider.cipher_suites.iter().any(|s| s.version().version == v.version);
    let chosen: Vec<_> = all
        .into_iter()
        .filter(|(v, s)| (limits.min..=limits.max).contains(v) && has_suite(s))
        .map(|(_, s)| s)
        .collect();
    if chosen.is_empty() || provider.kx_groups.is_empty() {
        return Err(TlsError::Config(Arc::from("no TLS version, cipher suite or curve is left to speak")));
    }
    Ok(chosen)
}

fn suite(openssl: &str) -> Option<SupportedCipherSuite> {
    use aws_lc_rs::cipher_suite as s;
    Some(match openssl {
        "ECDHE-ECDSA-AES128-GCM-SHA256" => s::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-RSA-AES128-GCM-SHA256" => s::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-ECDSA-AES256-GCM-SHA384" => s::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-RSA-AES256-GCM-SHA384" => s::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-ECDSA-CHACHA20-POLY1305" => s::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-RSA-CHACHA20-POLY1305" => s::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        _ => return None,
    })
}

fn group(name: &str) -> Option<&'static dyn SupportedKxGroup> {
    use aws_lc_rs::kx_group as g;
    Some(match name {
        "X25519MLKEM768" => g::X25519MLKEM768,
        "X25519" => g::X25519,
        "P-256" => g::SECP256R1,
        "P-384" => g::SECP384R1,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use mesh_core::snapshot::{CIPHER_SUITES, ECDH_CURVES};

    use super::*;

    #[test]
    fn what_the_plan_may_name_is_known_here() {
        assert!(CIPHER_SUITES.iter().all(|s| suite(s).is_some()));
        assert!(ECDH_CURVES.iter().all(|c| group(c).is_some()));
    }

    #[test]
    fn the_first_key_exchange_is_hybrid() {
        let groups = provider(&TlsParameters::default()).kx_groups;
        assert_eq!(groups[0].name(), rustls::NamedGroup::X25519MLKEM768);
    }

    #[test]
    fn limits_that_leave_nothing() {
        let limits = TlsParameters { min: TlsVersion::V1_3, max: TlsVersion::V1_2, ..TlsParameters::default() };
        assert!(versions(&limits, &provider(&limits)).is_err());
    }
}
