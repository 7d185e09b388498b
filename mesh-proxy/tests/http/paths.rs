//! Section K: paths, rewriting, matching.

use crate::row::{GET, row};
use crate::upstream::Up;

/// First line that the upstream gets for a target.
async fn target(id: &'static str, routes: &'static str, sent: &str) -> String {
    let seen = row(id, Up::Echo).routes(routes).get(sent).run().await;
    let line = seen.answer.body.lines().next().unwrap();
    line.strip_prefix("GET ").and_then(|l| l.strip_suffix(" HTTP/1.1")).unwrap().to_owned()
}

#[tokio::test]
async fn normalization() {
    for (sent, wanted) in [
        ("/a/../b", "/b"),
        ("/a/%2e%2e/b", "/b"),
        ("/a\\b", "/a/b"),
        ("/%41b%7e", "/Ab~"),
        ("/a//b", "/a//b"),
        ("/a%2fb%5Cc", "/a%2fb%5Cc"),
        ("/a;p", "/a;p"),
        ("/..", "/"),
        ("/%zz", "/%zz"),
    ] {
        assert_eq!(target("K1", "[{route: [$up]}]", sent).await, wanted, "K1 {sent}");
    }
    assert_eq!(target("K3", "[{route: [$up]}]", "/a#b").await, "/a", "K3");
    let k2 = row("K2", Up::Echo).get("/a%00").local("400 Bad Request", "").closes();
    k2.log("-", "path_normalization_failed").tries(0).run().await;
    let k4 = row("K4", Up::Echo).raw(b"GET /\xe9 HTTP/1.1\r\nhost: up.example\r\n\r\n".to_vec());
    k4.local("400 Bad Request", "Bad Request").closes().log("DPE", "http1.codec_error").run().await;
}

#[tokio::test]
async fn rewriting() {
    const FOO: &str = "[{match: [{uri: {prefix: /foo}}], rewrite: {uri: /}, route: [$up]}]";
    const PRE: &str = "[{match: [{uri: {prefix: /pre/}}], rewrite: {uri: /}, route: [$up]}]";
    const EXACT: &str = "[{match: [{uri: {exact: /e}}, {uri: {regex: '/r.*'}}], rewrite: {uri: /new}, route: [$up]}]";
    const ALL: &str = "[{rewrite: {uriRegexRewrite: {match: 'a', rewrite: 'b'}}, route: [$up]}]";
    const ASKED: &str = "[{rewrite: {uriRegexRewrite: {match: '^/a$', rewrite: '/b?c'}}, route: [$up]}]";
    const GWAPI: &str = "[{rewrite: {uriRegexRewrite: {match: '^/gwapi(/?)(.*)', rewrite: '/\\2'}}, route: [$up]}]";
    const FOLDED: &str = "[{match: [{uri: {prefix: /ci/}, ignoreUriCase: true}], rewrite: {uri: /low/}, route: [$up]}]";
    for (id, routes, sent, wanted) in [
        ("K7", FOO, "/foo/bar", "//bar"),
        ("K7", FOO, "/foobar", "/bar"),
        ("K7", FOO, "/foo?q", "/?q"),
        ("K7", PRE, "/pre/x", "/x"),
        ("K8", EXACT, "/e?q=1", "/new?q=1"),
        ("K8", EXACT, "/rest?q=1", "/new?q=1"),
        ("K9", ALL, "/aaa?a", "/bbb?a"),
        ("K9", ASKED, "/a?d", "/b?c?d"),
        ("K12", GWAPI, "/gwapi", "/"),
        ("K12", GWAPI, "/gwapi/x/y", "/x/y"),
        ("K17", FOLDED, "/CI/X", "/low/X"),
    ] {
        assert_eq!(target(id, routes, sent).await, wanted, "{id} {sent}");
    }
}

#[tokio::test]
async fn traces_of_rewriting() {
    let k10 = row("K10 K11", Up::Echo)
        .routes("[{match: [{uri: {exact: /x}}], rewrite: {uri: /new, authority: other}, route: [$up]}]")
        .get("/x?q");
    let seen = k10
        .upstream_has(&[
            "GET /new?q HTTP/1.1",
            "host: other",
            "x-envoy-original-path: /x?q",
            "x-envoy-original-host: up.example",
        ])
        .run()
        .await;
    assert_eq!((seen.record.path(), &*seen.record.authority()), ("/x?q", "other"), "K11");
}

/// Whether a route with this match takes the request.
async fn matches(id: &'static str, matching: &str, raw: String) -> bool {
    let routes: &'static str =
        format!("[{{match: [{matching}], directResponse: {{status: 200}}}}, {{directResponse: {{status: 403}}}}]")
            .leak();
    let upstream = crate::mesh::Config { routes, ..crate::mesh::DEFAULT };
    crate::row::status(id, &upstream, &raw).await == "200 OK"
}

#[tokio::test]
async fn matching() {
    let get = |target: &str| GET.replace("/x", target);
    let with = |lines: &str| format!("GET /x HTTP/1.1\r\nhost: up.example\r\n{lines}\r\n");
    for (id, matching, raw, wanted) in [
        ("K13", "{queryParams: {k: {exact: 'a%20b'}}}", get("/x?k=a%20b"), true),
        ("K13", "{queryParams: {k: {exact: 'a b'}}}", get("/x?k=a%20b"), false),
        ("K13", "{queryParams: {k: {exact: '1'}}}", get("/x?k=1&k=2"), true),
        ("K13", "{queryParams: {k: {exact: '2'}}}", get("/x?k=1&k=2"), false),
        ("K13", "{queryParams: {K: {exact: '1'}}}", get("/x?k=1"), false),
        ("K13", "{queryParams: {k: {exact: ''}}}", get("/x?k"), true),
        ("K13", "{queryParams: {k: {exact: ''}}}", get("/x?k="), true),
        ("K14", "{headers: {x-a: {exact: one}}}", with("x-a: one\r\nx-a: two\r\n"), true),
        ("K14", "{headers: {x-a: {exact: two}}}", with("x-a: one\r\nx-a: two\r\n"), true),
        ("K14", "{headers: {x-a: {exact: 'one,two'}}}", with("x-a: one\r\nx-a: two\r\n"), false),
        ("K16", "{uri: {regex: '/a.c'}}", get("/abc?q"), true),
        ("K16", "{uri: {regex: '/a.c'}}", get("/abcd"), false),
        ("K18", "{withoutHeaders: {x-a: {exact: v}}}", with(""), true),
        ("K18", "{withoutHeaders: {x-a: {exact: v}}}", with("x-a:\r\n"), true),
        ("K18", "{withoutHeaders: {x-a: {exact: v}}}", with("x-a: w\r\n"), true),
        ("K18", "{withoutHeaders: {x-a: {exact: v}}}", with("x-a: w\r\nx-a: v\r\n"), false),
        ("K18", "{headers: {x-a: {}}}", with("x-a:\r\n"), true),
        ("K19", "{authority: {exact: up.example}}", get("/x"), true),
        ("K19", "{authority: {exact: UP.example}}", get("/x"), false),
        ("K19", "{authority: {exact: 'up.example:80'}}", get("/x").replace("up.example", "up.example:80"), true),
        ("K19", "{authority: {exact: up.example}}", get("/x").replace("up.example", "up.example:80"), false),
    ] {
        assert_eq!(matches(id, matching, raw.clone()).await, wanted, "{id}: {matching} {raw:?}");
    }
}

#[tokio::test]
async fn settings_of_normalization() {
    let settings = |kind: &str| -> &'static str {
        let mesh = format!("  mesh: '{{pathNormalization: {{normalization: {kind}}}}}'");
        let head = "\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n";
        format!("{head}{mesh}\n").leak()
    };
    for (id, kind, sent, wanted) in [
        ("K5", "MERGE_SLASHES", "/a//b", "GET /a/b HTTP/1.1"),
        ("K6", "DECODE_AND_MERGE_SLASHES", "/a%2F..%2Fb", "GET /b HTTP/1.1"),
        ("K6", "DECODE_AND_MERGE_SLASHES", "/a%5Cb", "GET /a/b HTTP/1.1"),
        ("K1", "NONE", "/a/../b", "GET /a/../b HTTP/1.1"),
    ] {
        let seen = row(id, Up::Echo).extra(settings(kind)).get(sent).run().await;
        assert_eq!(seen.answer.body.lines().next(), Some(wanted), "{id} {kind} {sent}");
    }
}

#[tokio::test]
async fn virtual_hosts() {
    // One object for each, so that they are virtual hosts of their own.
    let of = |name: &str, host: &str| {
        let head = "\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n";
        let answer = format!("[{{directResponse: {{status: 200, body: {{string: {name}}}}}}}]");
        format!(
            "{head}metadata: {{name: {name}, namespace: default}}\nspec: {{hosts: ['{host}'], gateways: [gw], http: {answer}}}"
        )
    };
    let hosts = [("long", "*.a.example"), ("short", "*.example"), ("exact", "x.a.example")];
    let extra: String = hosts.iter().map(|(name, host)| of(name, host)).collect();
    let extra: &'static str = extra.leak();
    for (host, wanted) in [
        ("x.a.example", "exact"),
        ("X.A.EXAMPLE", "exact"),
        ("x.a.example:8080", "exact"),
        ("y.a.example", "long"),
        ("z.y.a.example", "long"),
        ("a.example", "short"),
        ("example", ""),
        ("x.a.example.", ""),
    ] {
        let raw = GET.replace("up.example", host);
        let k15 = row("K15", Up::None).hosts("[other.test]").extra(extra).raw(raw);
        let k15 = if wanted.is_empty() {
            k15.local("404 Not Found", "").log("NR", "route_not_found")
        } else {
            k15.body(wanted).log("-", "direct_response")
        };
        k15.run().await;
    }
}
