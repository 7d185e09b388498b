use std::cell::Cell;

use http::{HeaderMap, Method};
use proptest::prelude::*;

use super::*;
use crate::matching::RequestFacts;

fn facts<'a>(path: &'a str, method: &'a Method, headers: &'a HeaderMap) -> RequestFacts<'a> {
    RequestFacts { method, scheme: "http", authority: "a.example", path, query: None, headers, claims: None }
}

fn route() -> impl Strategy<Value = RequestMatch> {
    let uri = prop_oneof![
        Just(None),
        "/[abA]{0,3}".prop_map(|p| Some(StringMatcher::Exact(p.into()))),
        "/?[abA/é]{0,3}".prop_map(|p| Some(StringMatcher::Prefix(p.into()))),
        Just(Some(StringMatcher::Present)),
    ];
    (uri, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(uri, ignore_uri_case, segment_prefix, post)| {
        let method = post.then(|| StringMatcher::Exact("POST".into()));
        RequestMatch { uri, ignore_uri_case, segment_prefix, method, ..RequestMatch::default() }
    })
}

proptest! {
    #[test]
    fn finds_what_a_search_one_by_one_finds(
        routes in prop::collection::vec(route(), 0..12),
        path in "/[abA/é]{0,4}",
    ) {
        let headers = HeaderMap::new();
        let facts = facts(&path, &Method::GET, &headers);
        let takes = |i: usize| routes[i].check(&facts).is_ok();
        let found = PathIndex::build(routes.iter()).first(&path, takes);
        prop_assert_eq!(found, (0..routes.len()).find(|i| takes(*i)));
    }
}

#[test]
fn a_thousand_prefixes_are_not_looked_at() {
    let prefix =
        |i| RequestMatch { uri: Some(StringMatcher::Prefix(format!("/api/r{i}/").into())), ..Default::default() };
    let routes: Vec<_> = (0..1000).map(prefix).collect();
    let looked = Cell::new(0);
    let found = PathIndex::of(routes.iter()).unwrap().first("/api/r999/x", |_| {
        looked.set(looked.get() + 1);
        true
    });
    assert_eq!((found, looked.get()), (Some(999), 1));
    assert_eq!(PathIndex::of(routes[..2].iter()), None, "two are faster one by one");
}
