use std::time::Duration;

use crate::compile::sim::{Sim, route};
use crate::compile::tests::check;

fn vs(http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v, namespace: ns}}\nspec:\n  \
         hosts: [b]\n  http:\n{http}\n"
    )
}

const TO: &str = "route: [{destination: {host: b}}]";

/// One match, and requests that hit it or go on to the next rule.
fn matches(m: &str, hits: &[&str], misses: &[&str]) {
    let yaml = vs(&format!("  - match: [{{{m}}}]\n    directResponse: {{status: 200}}\n  - {TO}"));
    let hits = hits.iter().map(|r| (*r, "200 \"\""));
    let all: Vec<_> = hits.chain(misses.iter().map(|r| (*r, "8080||b.ns"))).collect();
    check(&yaml, "a-1", &all);
}

#[test]
fn uri() {
    let at = |p: &str| format!("GET http://b:8080{p}");
    let paths = |l: &[&str]| l.iter().map(|p| at(p)).collect::<Vec<_>>();
    for (m, hits, misses) in [
        ("uri: {exact: /foo}", &["/foo", "/foo?x=1"][..], &["/foo/", "/FOO", "/foobar"][..]),
        ("uri: {prefix: /foo}", &["/foo", "/foobar", "/foo/bar"], &["/fo", "/Foo"]),
        ("uri: {prefix: /foo}, ignoreUriCase: true", &["/FOO", "/fOObar"], &["/fo"]),
        ("uri: {exact: /Foo}, ignoreUriCase: true", &["/foo"], &["/foo/"]),
        ("uri: {regex: '/f.o'}", &["/foo", "/fxo?x"], &["/foo/", "/x/foo", "/FOO"]),
        ("uri: {regex: '/F.O'}, ignoreUriCase: true", &["/FOO"], &["/foo"]),
        ("uri: {regex: '(?i)/f.o|/bar'}", &["/FOO", "/bar"], &["/bars", "/foox"]),
    ] {
        let (hits, misses) = (paths(hits), paths(misses));
        let refs = |l: &[String]| l.iter().map(String::as_str).map(str::to_owned).collect::<Vec<_>>();
        let (hits, misses) = (refs(&hits), refs(&misses));
        matches(
            m,
            &hits.iter().map(String::as_str).collect::<Vec<_>>(),
            &misses.iter().map(String::as_str).collect::<Vec<_>>(),
        );
    }
}

#[test]
fn headers_method_authority_and_query() {
    matches("method: {exact: POST}", &["POST http://b:8080/"], &["GET http://b:8080/"]);
    // K19: with the port, and by case.
    matches("authority: {exact: 'b:8080'}", &["GET http://b:8080/"], &["GET http://B:8080/", "GET http://b.ns:8080/"]);
    matches(
        "headers: {end-user: {exact: jason}}",
        &["GET http://b:8080/ [end-user: jason]"],
        &["GET http://b:8080/", "GET http://b:8080/ [end-user: Jason]"],
    );
    matches("headers: {x: {}}", &["GET http://b:8080/ [x:]", "GET http://b:8080/ [x: 1]"], &["GET http://b:8080/"]);
    matches("headers: {x: {regex: '*'}}", &["GET http://b:8080/ [x: 1]"], &["GET http://b:8080/"]);
    matches(
        "headers: {user-agent: {regex: '.*Mobile.*'}}",
        &["GET http://b:8080/ [user-agent: a Mobile b]"],
        &["GET http://b:8080/ [user-agent: x]"],
    );
    matches(
        "withoutHeaders: {x: {exact: a}}",
        &["GET http://b:8080/", "GET http://b:8080/ [x: b]"],
        &["GET http://b:8080/ [x: a]", "GET http://b:8080/ [x: b] [x: a]"],
    );
    matches("withoutHeaders: {x: {}}", &["GET http://b:8080/"], &["GET http://b:8080/ [x:]"]);
    matches(
        "queryParams: {k: {exact: 'a%20b'}}",
        &["GET http://b:8080/?k=a%20b&k=c"],
        &["GET http://b:8080/?k=a+b", "GET http://b:8080/?K=a%20b", "GET http://b:8080/?k=c&k=a%20b"],
    );
    matches("queryParams: {k: {}}", &["GET http://b:8080/?x&k"], &["GET http://b:8080/?kk=1", "GET http://b:8080/"]);
    // A claim is never there while tokens are not read.
    matches("headers: {'@request.auth.claims.a': {exact: b}}", &[], &["GET http://b:8080/"]);
    // AND inside a match.
    matches(
        "uri: {prefix: /a}, headers: {x: {exact: '1'}}",
        &["GET http://b:8080/a [x: 1]"],
        &["GET http://b:8080/a", "GET http://b:8080/ [x: 1]"],
    );
}

#[test]
fn rules_and_matches_are_tried_in_order() {
    let yaml = vs("  - match: [{uri: {prefix: /a}}, {uri: {prefix: /b}}]\n    directResponse: {status: 201}\n  \
                   - match: [{uri: {prefix: /ab}}]\n    directResponse: {status: 202}\n  - directResponse: {status: 203}\n  \
                   - match: [{uri: {prefix: /z}}]\n    directResponse: {status: 204}");
    let table = [
        ("GET http://b:8080/ab", "201 \"\""),
        ("GET http://b:8080/b", "201 \"\""),
        ("GET http://b:8080/z", "203 \"\""),
    ];
    check(&yaml, "a-1", &table);
}

#[test]
fn destinations() {
    for (route, want) in [
        ("[{destination: {host: b, subset: v1}}]", "8080|v1|b.ns"),
        ("[{destination: {host: b, port: {number: 9}}}]", "9||b.ns"),
        // No port: the only one of the service, else the listener's.
        ("[{destination: {host: c.other.svc.cluster.local}}]", "8080||c.other"),
        ("[{destination: {host: nowhere}}]", "8080||nowhere.ns"),
        ("[{destination: {host: b}, weight: 0}]", "8080||b.ns"),
        (
            "[{destination: {host: a}, weight: 1}, {destination: {host: b}, weight: 0}, {destination: {host: c}, weight: 3}]",
            "8080||a.ns*1,8080||c.ns*3",
        ),
    ] {
        check(&vs(&format!("  - route: {route}")), "a-1", &[("GET http://b:8080/", want)]);
    }
}

#[test]
fn rewrites() {
    for (m, rewrite, request, want) in [
        ("uri: {prefix: /foo}", "uri: /", "/foo/bar?q=1", "//bar?q=1"), // K7
        ("uri: {prefix: /foo}", "uri: /", "/foobar", "/bar"),
        ("uri: {prefix: /foo}", "uri: /", "/foo?q", "/?q"),
        ("uri: {prefix: /pre/}", "uri: /", "/pre/x", "/x"),
        ("uri: {exact: /foo}", "uri: /new", "/foo?q=1", "/new?q=1"), // K8
        ("uri: {regex: '/f.*'}", "uri: /new", "/foo/bar", "/new"),
        ("uri: {prefix: /CI}, ignoreUriCase: true", "uri: /low", "/ci/X", "/low/X"), // K17
        ("method: {exact: GET}", "uri: /new", "/foo", "/newfoo"),
        ("uri: {prefix: /}", "uriRegexRewrite: {match: 'o', rewrite: '0'}", "/foo?o=o", "/f00?o=o"), // K9
        ("uri: {prefix: /}", "uriRegexRewrite: {match: '^/gwapi(/?)(.*)', rewrite: '/\\2'}", "/gwapi/x/y", "/x/y"), // K12
        ("uri: {prefix: /}", "uriRegexRewrite: {match: '^/gwapi(/?)(.*)', rewrite: '/\\2'}", "/gwapi", "/"),
        ("uri: {prefix: /}", "uriRegexRewrite: {match: 'foo', rewrite: '$1\\0'}", "/foo", "/$1foo"),
    ] {
        let yaml = vs(&format!("  - match: [{{{m}}}]\n    rewrite: {{{rewrite}}}\n    {TO}"));
        check(&yaml, "a-1", &[(&format!("GET http://b:8080{request}"), &format!("8080||b.ns path {want}"))]);
    }
}

#[test]
fn redirects_and_direct_responses() {
    for (action, want) in [
        ("redirect: {uri: /n}", "301 http://b:8080/n?q=1"),       // J4
        ("redirect: {uri: '/n?z=1'}", "301 http://b:8080/n?z=1"), // J5
        ("redirect: {prefixRewrite: /n}", "301 http://b:8080/n/rest?q=1"), // J6
        ("redirect: {authority: h.example}", "301 http://h.example/r/rest?q=1"), // J7
        ("redirect: {authority: h.example, port: 8443}", "301 http://h.example:8443/r/rest?q=1"), // J8
        ("redirect: {scheme: https}", "301 https://b:8080/r/rest?q=1"), // J9
        ("redirect: {port: 80}", "301 http://b/r/rest?q=1"),      // J12
        ("redirect: {scheme: https, port: 443}", "301 https://b/r/rest?q=1"),
        ("redirect: {derivePort: FROM_REQUEST_PORT, authority: h}", "301 http://h:8080/r/rest?q=1"),
        ("redirect: {uri: /n, redirectCode: 307}", "307 http://b:8080/n?q=1"), // J13
        ("directResponse: {status: 503, body: {string: sorry}}", "503 \"sorry\""), // J1
        ("directResponse: {status: 200, body: {bytes: aGk=}}", "200 \"hi\""),
        ("directResponse: {status: 204}", "204 \"\""),
    ] {
        let yaml = vs(&format!("  - match: [{{uri: {{prefix: /r}}}}]\n    {action}"));
        check(&yaml, "a-1", &[("GET http://b:8080/r/rest?q=1", want)]);
    }
}

#[test]
fn timeouts_and_retries_and_where_they_come_from() {
    let mesh = "
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: 'defaultHttpRetryPolicy: {attempts: 7}'}
---
";
    for (mesh, rule, timeout, attempts) in [
        ("", "", None, Some(2)),
        ("", "timeout: 1.5s", Some(1500), Some(2)),
        ("", "timeout: 0s", None, Some(2)),
        ("", "retries: {attempts: 0}", None, None),
        ("", "retries: {perTryTimeout: 1s}", None, None),
        ("", "retries: {attempts: 4, perTryTimeout: 2s, retryOn: 'gateway-error,503'}", None, Some(4)),
        (mesh, "", None, Some(7)),
        (mesh, "retries: {attempts: 1}", None, Some(1)),
    ] {
        let rule = if rule.is_empty() { String::new() } else { format!(", {rule}") };
        let sim = Sim::of(&format!("{mesh}{}", vs(&format!("  - {{{TO}{rule}}}"))));
        let r = route(&sim.compile("a-1").snapshot, "GET http://b:8080/");
        assert_eq!(r.timeout, timeout.map(Duration::from_millis), "{rule}");
        assert_eq!(r.retry.as_ref().map(|r| r.attempts), attempts, "{mesh}{rule}");
        let object =
            |p: &crate::snapshot::Provenance| p.object.as_ref().map_or("-".into(), |k| k.kind.kind.to_string());
        assert_eq!(object(&r.timeout_origin) == "VirtualService", rule.contains("timeout: "), "{rule}");
        let from = if rule.contains("retries") {
            "VirtualService"
        } else if mesh.is_empty() {
            "-"
        } else {
            "MeshConfig"
        };
        assert_eq!(object(&r.retry_origin), from, "{rule}");
    }
    let sim = Sim::of(&vs(&format!(
        "  - {{{TO}, retries: {{attempts: 4, perTryTimeout: 2s, retryOn: 'gateway-error,503'}}}}"
    )));
    let r = route(&sim.compile("a-1").snapshot, "GET http://b:8080/");
    let retry = r.retry.as_ref().unwrap();
    assert!(retry.on.gateway_error && !retry.on.connect_failure && retry.status_codes.contains(&503));
    assert_eq!(retry.backoff, Duration::from_millis(25));
    let at = r.origin.location.as_deref().unwrap();
    assert!(at.starts_with("sim.yaml:") && at != "sim.yaml:1", "{at}");
}

#[test]
fn header_operations_of_one_and_of_several_destinations() {
    let headers = "headers: {request: {set: {x: route}, add: {w: route}, remove: [z]}}";
    let own = "headers: {request: {set: {x: dest, w: set}, add: {w: dest}}}";
    let one = vs(&format!("  - {{{headers}, route: [{{destination: {{host: b}}, {own}}}]}}"));
    let r = route(&Sim::of(&one).compile("a-1").snapshot, "GET http://b:8080/");
    let text = |ops: &[(http::HeaderName, crate::matching::HeaderValueTemplate)]| {
        ops.iter().map(|(n, v)| format!("{n}={:?}", v.render(|_, _| None).unwrap())).collect::<Vec<_>>()
    };
    let set = ["w=\"set\"", "x=\"dest\""];
    assert_eq!(text(&r.request_headers.set), set, "the later set replaces the earlier, but nothing that is added");
    assert_eq!(text(&r.request_headers.add), ["w=\"route\"", "w=\"dest\""]);
    assert_eq!(r.request_headers.remove, ["z"]);
    let empty = "headers: {request: {set: {x: '%REQ(nope)%'}}}";
    let maybe = vs(&format!("  - {{{headers}, route: [{{destination: {{host: b}}, {empty}}}]}}"));
    let r = route(&Sim::of(&maybe).compile("a-1").snapshot, "GET http://b:8080/");
    assert_eq!(r.request_headers.set.len(), 2, "of which the later counts if it has a value");
    let two = vs(&format!(
        "  - {{{headers}, route: [{{destination: {{host: b}}, weight: 1, {own}}}, {{destination: {{host: a}}, weight: 1}}]}}"
    ));
    let r = route(&Sim::of(&two).compile("a-1").snapshot, "GET http://b:8080/");
    assert_eq!(text(&r.request_headers.set), ["x=\"route\""], "several destinations keep a level of their own");
    let crate::snapshot::Action::Forward(clusters) = &r.action else { panic!("forwards") };
    assert_eq!(text(&clusters[0].request_headers.set), set);
}

#[test]
fn host_among_header_operations_is_an_authority_rewrite() {
    for rule in [
        "rewrite: {authority: h}",
        "headers: {request: {set: {Host: h}}}",
        "headers: {request: {add: {':authority': h}}}",
    ] {
        let sim = Sim::of(&vs(&format!("  - {{{TO}, {rule}}}")));
        let r = route(&sim.compile("a-1").snapshot, "GET http://b:8080/");
        let authority = r.rewrite.as_ref().and_then(|r| r.authority.clone()).unwrap();
        assert_eq!(authority.render(|_, _| None).unwrap(), "h");
        assert!(r.request_headers.is_empty());
    }
}

#[test]
fn delegates() {
    let leaf = |spec: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: leaf, namespace: other}}\nspec:\n{spec}\n"
        )
    };
    let root = vs(&format!(
        "  - {{match: [{{uri: {{prefix: /l}}}}], timeout: 9s, delegate: {{name: leaf, namespace: other}}}}\n  - {TO}"
    ));
    let rules = "  http:\n  - {match: [{uri: {prefix: /l/x}}], directResponse: {status: 201}}\n  \
                 - {match: [{uri: {prefix: /no}}], directResponse: {status: 202}}\n  - {route: [{destination: {host: c}}]}";
    let table = [
        ("GET http://b:8080/l/x", "201 \"\""),
        ("GET http://b:8080/l/y", "8080||c.other"),
        ("GET http://b:8080/no", "8080||b.ns"),
    ];
    check(&(root.clone() + &leaf(rules)), "a-1", &table);
    let sim = Sim::of(&(root.clone() + &leaf(rules)));
    assert_eq!(route(&sim.compile("a-1").snapshot, "GET http://b:8080/l/y").timeout, Some(Duration::from_secs(9)));
    // Missing, or not exported to the root: only that rule is gone.
    let gone = [("GET http://b:8080/l/x", "8080||b.ns")];
    check(&root, "a-1", &gone);
    check(&(root + &leaf(&format!("  exportTo: ['.']\n{rules}"))), "a-1", &gone);
}

#[test]
fn what_is_wrong_is_quarantined_with_its_line_and_the_rest_goes_on() {
    let sim = Sim::of(&vs(&format!("  - {TO}")));
    let mut object = (*sim.world.virtual_services()[0]).clone();
    object.spec.http[0].r#match = vec![crate::api::HttpMatchRequest {
        uri: Some(crate::api::StringMatch::Regex("(".into())),
        ..Default::default()
    }];
    object.hash = object.hash.with_str("wrong");
    let world = sim.world.with([crate::world::Change::VirtualService(std::sync::Arc::new(object.clone()))]);
    let compiled = crate::compile::compile(&world, &sim.id("a-1"), None);
    let report = compiled.reports().find(|r| r.object == object.key).expect("a report");
    assert_eq!(&*report.field, "spec.http[0].match[0].uri.regex");
    assert!(report.span.line > 0 && report.message.contains("not a regular expression"), "{report}");
    assert_eq!(&*route(&compiled.snapshot, "GET http://b:8080/").name, "default");
}

#[test]
fn shares_of_faults_and_mirrors() {
    let filters = |http: &str| {
        let sim = Sim::of(&vs(&format!("  - {http}\n    {TO}")));
        route(&sim.compile("a-1").snapshot, "GET http://b:8080/").filters.clone()
    };
    let shares = |http: &str| {
        let f = filters(http);
        let fault =
            f.fault.as_deref().map(|f| (f.delay.map(|d| d.share.as_percent()), f.abort.map(|a| a.share.as_percent())));
        (fault, f.mirrors.iter().map(|m| m.share.as_percent()).collect::<Vec<_>>())
    };
    for (http, fault, mirrors) in [
        // F8: without a percentage nothing happens.
        ("fault: {delay: {fixedDelay: 7s}}", None, &[] as &[f64]),
        ("fault: {abort: {httpStatus: 418}}", None, &[]),
        ("fault: {abort: {httpStatus: 418, percentage: {value: 0}}}", None, &[]),
        ("fault: {abort: {percentage: {value: 100}}}", None, &[]),
        ("fault: {delay: {fixedDelay: 7s, percent: 50}}", Some((Some(50.), None)), &[]),
        ("fault: {delay: {fixedDelay: 7s, percent: 50, percentage: {value: 0.5}}}", Some((Some(0.5), None)), &[]),
        ("fault: {abort: {grpcStatus: UNAVAILABLE, percentage: {value: 30}}}", Some((None, Some(30.))), &[]),
        ("mirror: {host: a}", None, &[100.]),
        ("mirror: {host: a}\n    mirrorPercentage: {value: 0}", None, &[]),
        ("mirror: {host: a}\n    mirrorPercent: 25", None, &[25.]),
        ("mirror: {host: a}\n    mirrorPercent: 25\n    mirrorPercentage: {value: 0.0001}", None, &[0.0001]),
        ("mirrors: [{destination: {host: a}}, {destination: {host: b}, percentage: {value: 1}}]", None, &[100., 1.]),
    ] {
        assert_eq!(shares(http), (fault, mirrors.to_vec()), "{http}");
    }
}

#[test]
fn claims_are_matched_and_headers_of_their_names_are_not() {
    use crate::matching::{Claims, RequestFacts};
    let yaml = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, namespace: ns}\nspec:\n  \
                hosts: [b]\n  gateways: [gw, mesh]\n  http:\n  - match: [{headers: {'@request.auth.claims.groups': {exact: admin}, x: \
                {exact: why}}, withoutHeaders: {'@request.auth.claims[iss]': {exact: evil}}}]\n    directResponse: {status: \
                200}\n  - directResponse: {status: 403}\n";
    let snapshot = Sim::of(yaml).compile("a-1").snapshot;
    let listener = snapshot.outbound(None, 8080);
    let table = &listener.http.as_ref().unwrap().routes;
    let status = |claims: Option<&str>, headers: &[(&'static str, &str)]| {
        let claims = claims.map(|c| Claims::new(serde_json::from_str(c).unwrap()));
        let mut request = crate::compile::sim::Request::parse("GET http://b:8080/ [x: why]");
        for (name, value) in headers {
            request.headers.insert(*name, value.parse().unwrap());
        }
        let facts = RequestFacts { claims: claims.as_ref(), ..request.facts() };
        let route = crate::decide::decide_route(table, &facts).route().unwrap();
        let crate::snapshot::Action::Direct(d) = &route.action else { panic!() };
        d.status.as_u16()
    };
    assert_eq!(status(Some(r#"{"groups": ["dev", "admin"]}"#), &[]), 200);
    assert_eq!(status(Some(r#"{"groups": "admin", "iss": "evil"}"#), &[]), 403);
    assert_eq!(status(Some(r#"{"groups": ["dev"]}"#), &[]), 403);
    assert_eq!(status(Some(r#"{"groups": ["admin"]}"#), &[("x", "z")]), 403, "all conditions of a match must hold");
    assert_eq!(status(None, &[("groups", "admin")]), 403);
}
