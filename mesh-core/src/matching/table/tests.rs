use std::sync::Arc;

use proptest::prelude::*;

use crate::api::ContentHash;
use crate::matching::{HostPattern, host_without_port};
use crate::snapshot::{Provenance, RouteTable, VirtualHostPlan};

fn table(domains: &[String]) -> RouteTable {
    let host = |d: &String| {
        Arc::new(VirtualHostPlan {
            name: d.as_str().into(),
            domains: [d.as_str().into()].into(),
            routes: Vec::new(),
            paths: None,
            origin: Provenance::default("test"),
            hash: ContentHash::default(),
        })
    };
    RouteTable::of("t", domains.iter().map(host).collect())
}

fn find(domains: &[&str], host: &str) -> String {
    let domains: Vec<String> = domains.iter().map(|d| (*d).to_owned()).collect();
    table(&domains).lookup(host).map_or("-".into(), |v| v.name.to_string())
}

#[test]
fn k15_virtual_hosts() {
    let all = &["a.x.com", "*.x.com", "*.b.x.com", "pre.*", "pre.fix.*", "*"];
    for (host, want) in [
        ("a.x.com", "a.x.com"),
        ("A.X.com:8080", "a.x.com"),
        ("c.x.com", "*.x.com"),
        ("c.b.x.com", "*.b.x.com"),
        ("b.x.com", "*.x.com"),
        ("x.com", "*"),
        ("pre.zzz", "pre.*"),
        ("pre.fix.zzz", "pre.fix.*"),
        ("pre.x.com", "*.x.com"),
        ("a.x.com.", "*"),
        ("[::1]:80", "*"),
    ] {
        assert_eq!(find(all, host), want, "{host}");
    }
    assert_eq!(find(&["*.x.com"], "x.com"), "-");
    assert_eq!(find(&["a.com"], "a.com."), "-");
}

/// The same rule, as a walk over all domains.
fn linear(domains: &[String], host: &str) -> Option<String> {
    let host = host_without_port(host).to_ascii_lowercase();
    let matching = domains.iter().filter(|d| HostPattern::parse(d).matches(&host));
    matching.min_by(|a, b| HostPattern::parse(a).more_specific(&HostPattern::parse(b))).cloned()
}

proptest! {
    #[test]
    fn look_up_equals_a_linear_search(
        domains in prop::collection::hash_set("(\\*|\\*\\.|)[ab]{0,2}(\\.[ab]{1,2}){0,3}", 0..20),
        host in "[abAB]{0,2}(\\.[ab]{1,2}){0,4}(:80)?",
    ) {
        let domains: Vec<String> = domains.into_iter().filter(|d| !d.is_empty()).collect();
        let found = table(&domains).lookup(&host).map(|v| v.name.to_string());
        prop_assert_eq!(found, linear(&domains, &host));
    }
}
