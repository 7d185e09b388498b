//! Trust domains and their aliases in policies.

/// What `cluster.local` in a policy stands for, whatever the trust domain is called.
const POINTER: &str = "cluster.local";

/// The mesh's trust domain and its aliases.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrustDomains(Vec<String>);

impl Default for TrustDomains {
    fn default() -> Self {
        Self::new(POINTER, &[])
    }
}

impl TrustDomains {
    /// `trustDomain` and `trustDomainAliases` of the mesh.
    pub fn new(own: &str, aliases: &[String]) -> Self {
        let mut all = vec![if own.is_empty() { POINTER.to_owned() } else { own.to_owned() }];
        for alias in aliases {
            if !all.contains(alias) {
                all.push(alias.clone());
            }
        }
        Self(all)
    }

    /// The principals that a principal in a policy stands for.
    pub(super) fn principals(&self, written: &str) -> Vec<String> {
        let (domain, rest) = written.split_once('/').unwrap_or((written, ""));
        let five = written.split('/').count() == 5;
        if !five || domain == "*" || !(domain == POINTER || self.0.iter().any(|d| overlap(domain, d))) {
            return vec![written.to_owned()];
        }
        let mut all = Vec::new();
        for own in &self.0 {
            let keeps = domain.strip_prefix('*').is_some_and(|suffix| own.ends_with(suffix));
            let one = if keeps { written.to_owned() } else { format!("{own}/{rest}") };
            if !all.contains(&one) {
                all.push(one);
            }
        }
        all
    }

    /// The trust domains that one in a policy stands for.
    pub(super) fn domains(&self, written: &str) -> Vec<String> {
        if self.0.iter().any(|d| d == written) { self.0.clone() } else { vec![written.to_owned()] }
    }
}

/// Equal, or one is a pattern with a star at an end that the other fits.
fn overlap(a: &str, b: &str) -> bool {
    let fits = |text: &str, pattern: &str| {
        pattern.strip_suffix('*').is_some_and(|p| text.starts_with(p))
            || pattern.strip_prefix('*').is_some_and(|s| text.ends_with(s))
    };
    a == b || fits(a, b) || fits(b, a)
}
