//! VirtualService.

use super::{TO_B, accepted, refused, rule, rule_refused, warned};

#[test]
fn virtual_service_hosts_and_gateways() {
    let with = |hosts: &str, rest: &str| format!("hosts: {hosts}\nhttp: [{{{TO_B}}}]\n{rest}");
    for (hosts, rest) in [
        ("[a]", ""),
        ("[10.0.0.1, a.b.c.]", ""),
        ("['*']", "gateways: [gw]"),
        ("['*.a.com', 'a.com', '*-x.b.com']", "gateways: [ns/gw, ./gw]"),
        ("[a]", "exportTo: ['.', other]"),
    ] {
        accepted("VirtualService", &[&with(hosts, rest)]);
    }
    refused(
        "VirtualService",
        &[
            (
                &with("['*']", ""),
                "spec.hosts[0]",
                "wildcard host * is not allowed for virtual services bound to the mesh",
            ),
            (&with("['*']", "gateways: [gw, mesh]"), "spec.hosts[0]", "wildcard host * is not allowed"),
            (&with("['*.com', a.com]", ""), "spec.hosts[1]", "duplicate hosts in virtual service: *.com & a.com"),
            (&with("[a_b]", ""), "spec.hosts[0]", "label \"a_b\" invalid"),
            (&with("[a.1234]", ""), "spec.hosts[0]", "top level domain \"1234\" cannot be all-numeric"),
            (&with("[a]", "gateways: [a/b/c]"), "spec.gateways[0]", "gateway name cannot be empty or invalid"),
            (&with("[a]", "exportTo: ['*', b]"), "spec.exportTo", "cannot have both public (*) and non-public"),
            (&with("[a]", "exportTo: [b, b]"), "spec.exportTo[1]", "duplicate entries in exportTo for entry b"),
            (&with("[a]", "exportTo: [., default]"), "spec.exportTo", "duplicate entries in exportTo"),
            (&with("[a]", "exportTo: ['~']"), "spec.exportTo[0]", "must be *, ."),
            ("hosts: [a]", "spec", "http, tcp or tls must be provided in virtual service"),
            (&with("[]", "gateways: [gw]"), "spec.gateways", "delegate"),
        ],
    );
    warned("VirtualService", &[(&with("[a]", "gateways: [gw.ns.svc.cluster.local]"), "spec.gateways[0]", "legacy")]);
}

#[test]
fn http_actions() {
    rule_refused(&[
        ("name: x", "", "HTTP route, redirect or direct_response is required"),
        (&format!("redirect: {{uri: /}}\n{TO_B}"), "route", "cannot contain both route and redirect"),
        (&format!("directResponse: {{status: 200}}\n{TO_B}"), "route", "both route and direct_response"),
        ("redirect: {uri: /}\nrewrite: {uri: /}", "rewrite", "both rewrite and redirect"),
        (&format!("delegate: {{name: d}}\n{TO_B}"), "route", "root HTTP route 0 must not specify route"),
        ("redirect: {}", "redirect", "redirect must specify URI, authority, scheme, or port"),
        (
            "redirect: {uri: /, redirectCode: 200}",
            "redirect.redirectCode",
            "200 is not a valid redirect code, must be 3xx",
        ),
        ("redirect: {scheme: ftp}", "redirect.scheme", "http, https"),
        ("redirect: {port: 80, derivePort: FROM_REQUEST_PORT}", "redirect", "At most one of"),
        ("redirect: {prefixRewrite: /a}", "redirect.prefixRewrite", "uri prefix"),
        ("directResponse: {status: 100}", "directResponse.status", "HTTP status 100"),
        ("directResponse: {status: 200, body: {string: a, bytes: YQ==}}", "directResponse.body", "At most one of"),
        (&format!("rewrite: {{}}\n{TO_B}"), "rewrite", "rewrite must specify URI"),
        (
            &format!("rewrite: {{uri: /, uriRegexRewrite: {{match: a, rewrite: b}}}}\n{TO_B}"),
            "rewrite",
            "only contain one of",
        ),
        (
            &format!("rewrite: {{uriRegexRewrite: {{match: '(', rewrite: b}}}}\n{TO_B}"),
            "rewrite.uriRegexRewrite.match",
            "regular",
        ),
        (&format!("timeout: 0s\n{TO_B}"), "timeout", "duration must be greater than 1ms"),
        (&format!("timeout: 1.0005s\n{TO_B}"), "timeout", "only durations to ms precision are supported"),
    ]);
    let delegate = format!("http: [{{delegate: {{name: d}}}}, {{{TO_B}}}]");
    refused("VirtualService", &[(&delegate, "spec.http[0].delegate", "must not contain delegate")]);
    accepted("VirtualService", &[&rule("delegate: {name: d}"), &rule("directResponse: {status: 404}")]);
}

#[test]
fn http_matches() {
    let matches = |m: &str| format!("match: [{{{m}}}]\n{TO_B}");
    rule_refused(&[
        (&matches("uri: {regex: '('}"), "match[0].uri.regex", "not a regular expression"),
        (&matches("uri: {regex: '*'}"), "match[0].uri.regex", "not a regular expression"),
        (&matches("uri: {regex: ''}"), "match[0].uri.regex", "should not be empty"),
        (
            &matches(&format!("uri: {{regex: {}}}", "a".repeat(1025))),
            "match[0].uri.regex",
            "max length allowed is 1024",
        ),
        (&matches("method: {prefix: ''}"), "match[0].method.prefix", "prefix string match should not be empty"),
        (&matches("headers: {'a b': {exact: c}}"), "match[0].headers.a b", "not a valid header name"),
        (&matches("headers: {a: null}"), "match[0].headers.a", "cannot be null"),
        (
            &matches("headers: {'@request.auth.claims.x': {exact: c}}"),
            "match[0].headers[\"@request.auth.claims.x\"]",
            "only supported for gateway",
        ),
        (&matches("port: 70000"), "match[0].port", "must be in the range 1..65535"),
        (&matches("sourceNamespace: a_b"), "match[0].sourceNamespace", "is invalid"),
        (&matches("sourceLabels: {'a b': c}"), "match[0].sourceLabels.a b", "invalid tag key"),
        (&matches("gateways: [a/b/c]"), "match[0].gateways[0]", "gateway name"),
    ]);
    let all =
        "uri: {prefix: ''}, headers: {a: {regex: '*'}, b: {}, ':path': {exact: /}}, queryParams: {q: {prefix: p}}";
    accepted("VirtualService", &[&rule(&matches(all))]);
}

#[test]
fn tls_and_tcp_routes() {
    let tls = |m: &str| format!("hosts: ['*.a.com']\ntls: [{{match: [{m}], {TO_B}}}]");
    accepted(
        "VirtualService",
        &[&tls("{port: 443, sniHosts: [x.a.com, '*.b.a.com']}"), &format!("hosts: [a]\ntcp: [{{{TO_B}}}]")],
    );
    refused(
        "VirtualService",
        &[
            (&tls(""), "spec.tls[0]", "TLS route must have at least one match condition"),
            (&tls("{port: 443}"), "spec.tls[0].match[0]", "at least one SNI host"),
            (
                &tls("{sniHosts: [b.com]}"),
                "spec.tls[0].match[0].sniHosts[0]",
                "SNI host \"b.com\" is not a compatible subset",
            ),
            (
                &tls("{sniHosts: [x.a.com], destinationSubnets: [300.0.0.0/8]}"),
                "spec.tls[0].match[0].destinationSubnets[0]",
                "CIDR",
            ),
            ("hosts: [a]\ntcp: [{match: [{port: 1}]}]", "spec.tcp[0]", "at least one route destination"),
        ],
    );
}

#[test]
fn rules_that_no_request_reaches() {
    let rules = |list: &str| format!("hosts: [a]\nhttp:\n{list}");
    let m = |uri: &str| format!("- {{match: [{{uri: {{{uri}}}}}], {TO_B}}}\n");
    let any = format!("- {{{TO_B}}}\n");
    let one = |list: String, field: &str, text: &str| warned("VirtualService", &[(&rules(&list), field, text)]);
    one(any.clone() + &any, "spec.http[1]", "only the last rule can have no matches");
    one(any.clone() + &m("exact: /a"), "spec.http[1]", "route without matches defined before");
    one(m("exact: /a") + &m("exact: /a"), "spec.http[1]", "all matches used by prior rules");
    one(m("prefix: /a") + &m("prefix: /a/b"), "spec.http[1].match[0]", "virtualService rule #1 match #0 is not used");
    let partly = format!("- {{match: [{{uri: {{prefix: /a/c}}}}, {{uri: {{prefix: /z}}}}], {TO_B}}}\n");
    one(m("prefix: /a") + &partly, "spec.http[1].match[0]", "duplicate/overlapping match in rule #0");
    accepted("VirtualService", &[&rules(&(m("exact: /a/b") + &m("prefix: /a") + &any))]);
}
