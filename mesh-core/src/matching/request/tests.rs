use http::{HeaderMap, HeaderValue, Method};

use super::*;

fn facts<'a>(path: &'a str, query: Option<&'a str>, headers: &'a HeaderMap) -> RequestFacts<'a> {
    RequestFacts { method: &Method::GET, scheme: "http", authority: "a:80", path, query, headers, claims: None }
}

fn headers(lines: &[&str]) -> HeaderMap {
    lines.iter().map(|l| (HeaderName::from_static("x"), HeaderValue::from_bytes(l.as_bytes()).unwrap())).collect()
}

fn uri(m: StringMatcher, segment: bool, ignore_case: bool) -> RequestMatch {
    RequestMatch { uri: Some(m), segment_prefix: segment, ignore_uri_case: ignore_case, ..RequestMatch::default() }
}

fn header(value: StringMatcher, invert: bool) -> RequestMatch {
    let h = HeaderMatch { name: Some(HeaderName::from_static("x")), pseudo: None, value, invert };
    RequestMatch { headers: vec![h], ..RequestMatch::default() }
}

#[test]
fn k16_segment_prefix_and_full_regex() {
    let none = HeaderMap::new();
    let segment = |p: &str, path: &str| {
        uri(StringMatcher::Prefix(p.into()), true, false).check(&facts(path, None, &none)).is_ok()
    };
    for (prefix, path, want) in [
        ("/p", "/p", true),
        ("/p", "/p/", true),
        ("/p", "/p/x", true),
        ("/p", "/px", false),
        ("/p/", "/p", true),
        ("/p/", "/px", false),
        ("/", "/x", true),
    ] {
        assert_eq!(segment(prefix, path), want, "{prefix} {path}");
    }
    let regex = uri(StringMatcher::Regex(Regex::full("a|/b").unwrap()), false, false);
    assert!(regex.check(&facts("/b", Some("x"), &none)).is_ok());
    assert_eq!(regex.check(&facts("/bb", None, &none)), Err(Miss::Uri));
}

#[test]
fn prefix_is_a_string_prefix_unless_it_is_a_segment_prefix() {
    let none = HeaderMap::new();
    let plain =
        |ci, path| uri(StringMatcher::Prefix("/Foo".into()), false, ci).check(&facts(path, None, &none)).is_ok();
    assert!(plain(false, "/Foobar") && !plain(false, "/foobar") && plain(true, "/fOObar") && !plain(true, "/fo"));
}

#[test]
fn k14_each_line_of_a_repeated_header_is_matched_on_its_own() {
    let two = headers(&["a", "b"]);
    assert!(header(StringMatcher::Exact("b".into()), false).check(&facts("/", None, &two)).is_ok());
    assert_eq!(header(StringMatcher::Exact("a,b".into()), false).check(&facts("/", None, &two)), Err(Miss::Header(0)));
}

#[test]
fn k18_inverted_matches() {
    let exact = || header(StringMatcher::Exact("a".into()), true);
    let present = |invert| header(StringMatcher::Present, invert);
    let any = |invert| header(StringMatcher::Regex(Regex::full(".*").unwrap()), invert);
    for (lines, m, want) in [
        (&[][..], exact(), true),
        (&[""][..], exact(), true),
        (&["b"][..], exact(), true),
        (&["b", "a"][..], exact(), false),
        (&[][..], present(true), true),
        (&[""][..], present(true), false),
        (&[""][..], present(false), true),
        (&[][..], present(false), false),
        // Missing counts as empty, which this expression matches.
        (&[][..], any(true), false),
        (&[][..], any(false), false),
    ] {
        let h = headers(lines);
        assert_eq!(m.check(&facts("/", None, &h)).is_ok(), want, "{lines:?} {m:?}");
    }
}

#[test]
fn k13_query_parameters_are_compared_as_sent() {
    let none = HeaderMap::new();
    let q = |value: StringMatcher| RequestMatch {
        query: vec![QueryMatch { name: "k".into(), value }],
        ..RequestMatch::default()
    };
    let exact = |v: &str| q(StringMatcher::Exact(v.into()));
    for (m, query, want) in [
        (exact("a%20b"), Some("k=a%20b"), true),
        (exact("a b"), Some("k=a%20b"), false),
        (exact("1"), Some("k=1&k=2"), true),
        (exact("2"), Some("k=1&k=2"), false),
        (exact(""), Some("k"), true),
        (exact(""), Some("k="), true),
        (exact(""), Some("j"), false),
        (exact(""), None, false),
        (exact("1"), Some("K=1"), false),
        (exact("1=2"), Some("k=1=2"), true),
        (q(StringMatcher::Present), Some("j&k"), true),
    ] {
        assert_eq!(m.check(&facts("/", query, &none)).is_ok(), want, "{m:?} {query:?}");
    }
}

#[test]
fn pseudo_headers_and_the_whole_list_of_misses() {
    let none = HeaderMap::new();
    let pseudo = |name: &str, value: &str| HeaderMatch {
        name: None,
        pseudo: Some(name.into()),
        value: StringMatcher::Exact(value.into()),
        invert: false,
    };
    let m = RequestMatch {
        method: Some(StringMatcher::Exact("POST".into())),
        headers: vec![pseudo(":path", "/p?q"), pseudo(":authority", "b"), pseudo(":method", "GET")],
        query: vec![QueryMatch { name: "z".into(), value: StringMatcher::Present }],
        ..RequestMatch::default()
    };
    let f = facts("/p", Some("q"), &none);
    assert_eq!(m.misses(&f), [Miss::Method, Miss::Header(1), Miss::Query(0)]);
    assert_eq!(m.check(&f), Err(Miss::Method));
}
