//! Identities: of whatever is shown, nobody gets another name than his own.
//!
//! The input is a text: its first line a SPIFFE id, the second a value of `x-forwarded-client-cert`, the rest PEM: a
//! certificate or a signing request.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use mesh_core::env::Env;
use mesh_tls::{Authority, AuthorityConfig, CertificateInfo, SpiffeId, xfcc_read};

struct FixedEnv;

impl Env for FixedEnv {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn random(&self) -> u64 {
        7
    }
}

static CA: LazyLock<Authority> = LazyLock::new(|| {
    Authority::self_signed(AuthorityConfig::default(), Arc::new(FixedEnv)).expect("invariant: a key can be made")
});

/// Reads all of it, and asks the CA for a certificate.
pub fn identities(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.splitn(3, '\n');
    let (id, header, pem) =
        (lines.next().unwrap_or_default(), lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    if let Ok(id) = id.parse::<SpiffeId>() {
        assert_eq!(id.to_string().parse(), Ok(id.clone()), "what is written is what was read");
        assert!(
            ![id.trust_domain(), id.namespace(), id.service_account()].iter().any(|p| p.is_empty() || p.contains('/'))
        );
    }
    if let Some(elements) = xfcc_read(header) {
        assert!(!elements.is_empty() || header.trim().is_empty());
    }
    let _ = CertificateInfo::of_pem(pem);
    let caller = SpiffeId::new("cluster.local", "default", "caller");
    let Ok(answer) = CA.issue(&caller, pem.as_bytes(), Duration::ZERO) else { return };
    let leaf = CertificateInfo::of_pem(&answer[0]);
    let [leaf] = &leaf[..] else { panic!("{} certificates in the leaf's place", leaf.len()) };
    assert_eq!(leaf.uris, [caller.to_string().into()], "the caller's name and nothing that was asked for");
    assert!(leaf.dns.is_empty() && leaf.subject.is_empty());
}
