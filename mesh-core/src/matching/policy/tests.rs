use super::*;

#[test]
fn keys() {
    let claim = |names: &[&str]| PolicyAttribute::Claim(names.iter().map(|n| Arc::from(*n)).collect());
    for (key, want) in [
        ("source.ip", PolicyAttribute::SourceIp),
        ("request.headers[X-A]", PolicyAttribute::RequestHeader(HeaderKey::Name(HeaderName::from_static("x-a")))),
        ("request.headers[Host]", PolicyAttribute::RequestHeader(HeaderKey::Authority)),
        ("request.headers[:path]", PolicyAttribute::RequestHeader(HeaderKey::Path)),
        ("request.auth.claims[a]", claim(&["a"])),
        ("request.auth.claims[a][b.c]", claim(&["a", "b.c"])),
        ("request.auth.claims[a[b]", claim(&["a[b"])),
        ("experimental.envoy.filters.a.b[c]", PolicyAttribute::Metadata),
    ] {
        assert_eq!(PolicyAttribute::parse(key), Ok(want), "{key}");
    }
    for (key, want) in [
        ("destination.labels[a]", "not supported"),
        ("destination.name", "not supported"),
        ("source.user", "replaced by source.principal"),
        ("request.headers", "must be of form request.headers[name]"),
        ("request.headers[]", "must be of form request.headers[name]"),
        ("request.auth.claims", "must be of form"),
        ("experimental.envoy.filters.a", "must be of form"),
        ("source.port", "unknown attribute"),
    ] {
        let error = PolicyAttribute::parse(key).unwrap_err();
        assert!(error.contains(want), "{key}: {error}");
    }
}

#[test]
fn templates() {
    for (template, yes, no) in [
        ("/foo/{*}", &["/foo/bar", "/foo/%41-"][..], &["/foo/bar/baz", "/foo/", "/foo", "/fo/x", "/foo/a*"][..]),
        ("/foo/{**}/", &["/foo/bar/", "/foo//", "/foo/a/b/"], &["/foo/bar", "/foo/", "/foo"]),
        (
            "/foo/{*}/bar/{**}",
            &["/foo/buzz/bar/", "/foo/buzz/bar/baz", "/foo/q/bar/z/w"],
            &["/foo/bar/z", "/foo//bar/z"],
        ),
        (
            "/{**}/path/template",
            &["/a/path/template", "//path/template", "/a/b/path/template"],
            &["/path/template", "/a/path/templat"],
        ),
        ("/{**}", &["/", "/a", "/a/b"], &["", "a"]),
        ("/{*}/b", &["/a/b"], &["/a/c", "/a/b/"]),
    ] {
        let parsed = PathTemplate::parse(template).unwrap();
        for path in yes {
            assert!(parsed.matches(path), "{template} {path}");
            assert!(path.starts_with(&parsed.prefix()), "{template} {path} {}", parsed.prefix());
        }
        for path in no {
            assert!(!parsed.matches(path), "{template} {path}");
        }
    }
    for wrong in ["{*}", "/a{*}", "/{*}a", "/{**}/{*}", "/{**}/{**}", "/{*}/*", "/{*}/{a}", "/{*}/a b"] {
        assert!(PathTemplate::parse(wrong).is_err(), "{wrong}");
    }
    assert!(!PathTemplate::is_template("/a/*") && PathTemplate::is_template("/a/{**}"));
}
