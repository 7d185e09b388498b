//! SPIFFE ids in Istio's form.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    trust_domain: Arc<str>,
    namespace: Arc<str>,
    service_account: Arc<str>,
}

impl SpiffeId {
    /// An id. `@` in a trust domain becomes `.`, as Istio does it.
    pub fn new(trust_domain: &str, namespace: &str, service_account: &str) -> Self {
        Self {
            trust_domain: trust_domain.replace('@', ".").into(),
            namespace: namespace.into(),
            service_account: service_account.into(),
        }
    }

    /// Trust domain.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// Namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Service account.
    pub fn service_account(&self) -> &str {
        &self.service_account
    }

    /// The form in which policies write it: without the scheme.
    pub fn principal(&self) -> String {
        format!("{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is not a workload identity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpiffeIdError(String);

impl fmt::Display for SpiffeIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not of the form spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT", self.0)
    }
}

impl std::error::Error for SpiffeIdError {}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        let parts: Vec<_> = text.strip_prefix("spiffe://").into_iter().flat_map(|rest| rest.split('/')).collect();
        match parts[..] {
            [td, "ns", ns, "sa", sa] if ![td, ns, sa].contains(&"") => Ok(Self::new(td, ns, sa)),
            _ => Err(SpiffeIdError(text.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let id: SpiffeId = "spiffe://cluster.local/ns/default/sa/bookinfo-reviews".parse().unwrap();
        assert_eq!(id.to_string(), "spiffe://cluster.local/ns/default/sa/bookinfo-reviews");
        assert_eq!(id.principal(), "cluster.local/ns/default/sa/bookinfo-reviews");
        assert_eq!(id, SpiffeId::new("cluster.local", "default", "bookinfo-reviews"));
    }

    #[test]
    fn refused() {
        for bad in [
            "",
            "cluster.local/ns/default/sa/a",
            "spiffe://cluster.local/ns/default/sa",
            "spiffe://cluster.local/ns/default/sa/",
            "spiffe://cluster.local/ns//sa/a",
            "spiffe:///ns/default/sa/a",
            "spiffe://cluster.local/sa/default/ns/a",
            "spiffe://cluster.local/ns/default/sa/a/b",
            "https://cluster.local/ns/default/sa/a",
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        /// What is read is what is written again, and never panics.
        #[test]
        fn any_text(text in "(spiffe://)?[a-z@./:%]{0,12}(/ns/)?[a-z/]{0,8}(/sa/)?.{0,12}") {
            if let Ok(id) = text.parse::<SpiffeId>() {
                proptest::prop_assert!(text.contains('@') || id.to_string() == text);
                proptest::prop_assert_eq!(id.to_string().parse::<SpiffeId>(), Ok(id));
            }
        }
    }

    #[test]
    fn at_sign_in_a_trust_domain() {
        assert_eq!(SpiffeId::new("me@example.com", "a", "b").to_string(), "spiffe://me.example.com/ns/a/sa/b");
    }
}
