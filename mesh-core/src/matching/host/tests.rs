use super::*;

fn p(s: &str) -> HostPattern {
    HostPattern::parse(s)
}

#[test]
fn wildcards_cover_any_depth_but_not_the_apex() {
    for (pattern, host, want) in [
        ("*", "a", true),
        ("*.foo.com", "a.foo.com", true),
        ("*.foo.com", "a.b.foo.com", true),
        ("*.foo.com", "foo.com", false),
        ("*.foo.com", ".foo.com", false),
        ("*foo.com", "xfoo.com", true),
        ("*foo.com", "foo.com", false),
        ("Foo.COM", "foo.com", true),
        ("foo.com", "foo.com.", false),
    ] {
        assert_eq!(p(pattern).matches(host), want, "{pattern} {host}");
    }
}

#[test]
fn subset_and_overlap() {
    for (a, b, subset, overlaps) in [
        ("a.foo.com", "*.foo.com", true, true),
        ("*.a.foo.com", "*.foo.com", true, true),
        ("*.foo.com", "*.a.foo.com", false, true),
        ("*", "*.foo.com", false, true),
        ("a.com", "b.com", false, false),
        ("*.com", "*.org", false, false),
    ] {
        assert_eq!(p(a).subset_of(&p(b)), subset, "{a} in {b}");
        assert_eq!(p(a).overlaps(&p(b)), overlaps, "{a} and {b}");
    }
}

#[test]
fn most_specific_sorts_first() {
    let mut v = [p("*"), p("*.com"), p("a.com"), p("*.a.com"), p("bb.com"), p("b.com")];
    v.sort_by(HostPattern::more_specific);
    let text: Vec<_> = v.iter().map(ToString::to_string).collect();
    assert_eq!(text, ["bb.com", "a.com", "b.com", "*.a.com", "*.com", "*"]);
}

#[test]
fn ports_are_cut_off() {
    for (authority, host) in [
        ("a.com:80", "a.com"),
        ("a.com", "a.com"),
        ("a.com:", "a.com"),
        ("[::1]:80", "[::1]"),
        ("[::1]", "[::1]"),
        ("::1", "::1"),
        ("a:b", "a:b"),
    ] {
        assert_eq!(host_without_port(authority), host);
    }
}

#[test]
fn networks() {
    let c = Cidr::parse("10.1.2.3/8").unwrap();
    assert_eq!(c.to_string(), "10.0.0.0/8");
    assert!(c.contains("10.255.0.1".parse().unwrap()) && c.contains("::ffff:10.0.0.1".parse().unwrap()));
    assert!(!c.contains("11.0.0.1".parse().unwrap()) && !c.contains("::1".parse().unwrap()));
    assert!(Cidr::parse("0.0.0.0/0").unwrap().contains("9.9.9.9".parse().unwrap()));
    assert!(Cidr::parse("10.0.0.1").unwrap().contains("10.0.0.1".parse().unwrap()));
    for wrong in ["10.0.0.0/33", "x", "10.0.0.0/", "::/129"] {
        assert!(Cidr::parse(wrong).is_err(), "{wrong}");
    }
}
