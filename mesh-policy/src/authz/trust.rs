//! Trust domains and their aliases in policies.

use std::borrow::Cow;

use mesh_core::identity::TrustDomains;

use super::values::Attribute;

/// What `cluster.local` in a policy stands for, whatever the trust domain is called.
const POINTER: &str = "cluster.local";

/// The values of a condition, with what they are called in the other domains of the mesh.
pub(super) fn expanded<'v>(trust: &TrustDomains, attribute: &Attribute, values: &'v [String]) -> Cow<'v, [String]> {
    match attribute {
        Attribute::Principal => values.iter().flat_map(|v| principals(trust, v)).collect(),
        Attribute::TrustDomain => values.iter().flat_map(|v| domains(trust, v)).collect(),
        _ => values.into(),
    }
}

/// The principals that a principal in a policy stands for.
fn principals(trust: &TrustDomains, written: &str) -> Vec<String> {
    let (domain, rest) = written.split_once('/').unwrap_or((written, ""));
    let five = written.split('/').count() == 5;
    if !five || domain == "*" || !(domain == POINTER || trust.domains().any(|d| overlap(domain, d))) {
        return vec![written.to_owned()];
    }
    let mut all = Vec::new();
    for own in trust.domains() {
        let keeps = domain.strip_prefix('*').is_some_and(|suffix| own.ends_with(suffix));
        let one = if keeps { written.to_owned() } else { format!("{own}/{rest}") };
        if !all.contains(&one) {
            all.push(one);
        }
    }
    all
}

/// The trust domains that one in a policy stands for.
fn domains(trust: &TrustDomains, written: &str) -> Vec<String> {
    match trust.domains().any(|d| d == written) {
        true => trust.domains().map(str::to_owned).collect(),
        false => vec![written.to_owned()],
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
