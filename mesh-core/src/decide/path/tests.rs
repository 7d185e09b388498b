use super::*;

fn normal(path: &str, mode: PathNormalization) -> String {
    normalize_target(path, mode).map_or_else(|e| e.to_string(), Cow::into_owned)
}

#[test]
fn k1_base() {
    for (sent, want) in [
        ("/a/b", "/a/b"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/%2e%2e/b", "/b"),
        ("/a/%2E/b", "/a/b"),
        ("/a\\b", "/a/b"),
        ("/%41b%7e", "/Ab~"),
        ("/a//b", "/a//b"),
        ("/a%2fb%5Cc", "/a%2fb%5Cc"),
        ("/a;x=1/b", "/a;x=1/b"),
        ("/..", "/"),
        ("/%zz", "/%zz"),
        ("/%", "/%"),
        ("/a/.", "/a/"),
        ("/a/..", "/"),
        ("/a/b/..", "/a/"),
        ("/.hidden", "/.hidden"),
        ("/a?x=/../%41", "/a?x=/../%41"),
        ("/a/../b?x=/../%41", "/b?x=/../%41"),
        ("*", "*"),
        ("/%+5/%+0", "/%+5/%+0"),
        ("/a{b}|c\"^?x={y}", "/a%7Bb%7D%7Cc%22%5E?x={y}"),
    ] {
        assert_eq!(normal(sent, PathNormalization::Base), want, "{sent}");
    }
}

/// Decoding once must not prepare what somebody behind decodes a second time. Each line was seen at Envoy.
#[test]
fn what_is_decoded_makes_no_new_escapes() {
    for (sent, want) in [
        ("/a/%%32%65%%32%65/b", "/a/%252e%252e/b"),
        ("/%%32e", "/%252e"),
        ("/%2%65", "/%252e"),
        ("/x%%%32%65", "/x%%252e"),
        ("/%%30%30", "/%2500"),
        ("/%25%32e", "/%252e"),
        ("/%\\41", "/%/41"),
        ("/%%2e", "/%."),
        ("/%2%2e", "/%2."),
        ("/%%66%66", "/%25ff"),
        ("/%%32f", "/%252f"),
        ("/a%%32/%%32%66", "/a%2/%252f"),
    ] {
        assert_eq!(normal(sent, PathNormalization::Base), want, "{sent}");
    }
}

#[test]
fn k2_zero_and_k3_fragment() {
    assert_eq!(normalize_target("/a%00b", PathNormalization::Base), Err(BadPath));
    assert_eq!(normal("/a?x=%00", PathNormalization::Base), "/a?x=%00");
    assert_eq!(normal("/a%00b", PathNormalization::None), "/a%00b");
    assert_eq!(normal("/a#b?c", PathNormalization::Base), "/a");
    assert_eq!(normal("/a?b#c", PathNormalization::None), "/a?b");
}

#[test]
fn k5_k6_slashes() {
    assert_eq!(normal("/a//b///c", PathNormalization::MergeSlashes), "/a/b/c");
    assert_eq!(normal("/a%2F%2fb", PathNormalization::MergeSlashes), "/a%2F%2fb");
    assert_eq!(normal("/a%2F..%2Fb", PathNormalization::DecodeAndMergeSlashes), "/b");
    assert_eq!(normal("/a%5Cb", PathNormalization::DecodeAndMergeSlashes), "/a/b");
    assert_eq!(normal("/a/../b//c", PathNormalization::None), "/a/../b//c");
}

#[test]
fn a_normal_path_is_not_copied() {
    let sent = "/api/v1/products?q=1";
    assert!(matches!(normalize_target(sent, PathNormalization::MergeSlashes), Ok(Cow::Borrowed(s)) if s == sent));
}

#[test]
fn k9_the_text_of_a_rewrite_is_literal() {
    let regex = crate::matching::Regex::anywhere("b").unwrap();
    assert_eq!(rewrite_path(&RewritePath::Regex(regex, "x?y".into()), "/abb", Some("q")), "/ax?yx?y?q");
    assert_eq!(rewrite_path(&RewritePath::Full("/n?z".into()), "/a", Some("q")), "/n?z?q");
    assert_eq!(rewrite_path(&RewritePath::Prefix(4, "/".into()), "/foo/bar", None), "//bar");
}

#[test]
fn what_no_path_can_have_is_encoded_after_a_rewrite() {
    let regex = crate::matching::Regex::anywhere("[0-9]+").unwrap();
    assert_eq!(rewrite_path(&RewritePath::Regex(regex, "<${0}>".into()), "/v1", Some("q")), "/v%3C1%3E?q");
    assert_eq!(rewrite_path(&RewritePath::Full("/a b#c\u{e9}".into()), "/x", None), "/a%20b%23c%C3%A9");
    assert_eq!(rewrite_path(&RewritePath::Prefix(2, "new".into()), "/x/y", None), "/new/y");
    for kept in ["/a%20b;c=1,2|3~", "/?", "/a@b:c!d$e&f'g(h)i*j+k"] {
        assert_eq!(rewrite_path(&RewritePath::Full(kept.into()), "/x", None), kept);
        assert!(kept.parse::<http::Uri>().is_ok(), "{kept}");
    }
}
