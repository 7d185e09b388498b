mod security;

use super::*;
use crate::report::Level;
use crate::yaml::read;

/// Reports about a spec of one of Istio's kinds, as (level, field, message).
fn said(kind: &str, spec: &str) -> Vec<(Level, String, String)> {
    let body: String = spec.lines().map(|l| format!("  {l}\n")).collect();
    let group = if kind.contains("Auth") { "security" } else { "networking" };
    let text = format!("apiVersion: {group}.istio.io/v1\nkind: {kind}\nmetadata: {{name: x}}\nspec:\n{body}");
    let (resources, mut reports) = read("f.yaml", &text);
    reports.extend(resources.iter().flat_map(validate));
    reports.into_iter().map(|r| (r.level, r.field.to_string(), r.message)).collect()
}

fn accepted(kind: &str, specs: &[&str]) {
    for spec in specs {
        assert_eq!(said(kind, spec), [], "{spec}");
    }
}

/// Each spec is refused at the field with a text that contains the message.
fn refused(kind: &str, cases: &[(&str, &str, &str)]) {
    for (spec, field, message) in cases {
        let said = said(kind, spec);
        let hit = said.iter().any(|(l, f, m)| *l == Level::Error && f == field && m.contains(message));
        assert!(hit, "{spec}\n{said:#?}");
    }
}

fn warned(kind: &str, cases: &[(&str, &str, &str)]) {
    for (spec, field, message) in cases {
        let said = said(kind, spec);
        assert!(said.iter().all(|(l, _, _)| *l != Level::Error), "{said:#?}");
        assert!(said.iter().any(|(_, f, m)| f == field && m.contains(message)), "{spec}\n{said:#?}");
    }
}

/// A VirtualService for sidecars with one HTTP rule.
fn rule(text: &str) -> String {
    format!("hosts: [a]\nhttp:\n- {}", text.replace('\n', "\n  "))
}

const TO_B: &str = "route: [{destination: {host: b}}]";

fn rule_refused(cases: &[(&str, &str, &str)]) {
    for (text, field, message) in cases {
        let field = if field.is_empty() { "spec.http[0]".to_owned() } else { format!("spec.http[0].{field}") };
        refused("VirtualService", &[(&rule(text), &field, message)]);
    }
}

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
fn destinations_weights_and_headers() {
    let to = |d: &str| format!("route: [{{destination: {{{d}}}}}]");
    rule_refused(&[
        (&to("host: ''"), "route[0].destination.host", "Required value"),
        ("route: [{weight: 1}]", "route[0].destination", "Required value"),
        (&to("host: '*'"), "route[0].destination.host", "invalid destination host *"),
        (&to("host: a, subset: a_b"), "route[0].destination.subset", "subset name is invalid"),
        (&to("host: a, port: {number: 0}"), "route[0].destination.port.number", "1..65535"),
        ("route: [{destination: {host: a}, weight: -1}]", "route[0].weight", "weight -1 < 0"),
        ("route: [{destination: {host: a}}, {destination: {host: b}}]", "route", "total destination weight = 0"),
        (&format!("{TO_B}\nheaders: {{request: {{set: {{':path': a}}}}}}"), "headers.request.set.:path", "':' prefix"),
        (
            &format!("{TO_B}\nheaders: {{request: {{remove: [host]}}}}"),
            "headers.request.remove[0]",
            "cannot set Host header",
        ),
        (
            &format!("{TO_B}\nheaders: {{response: {{add: {{Host: a}}}}}}"),
            "headers.response.add.Host",
            "cannot set Host header",
        ),
        (
            &format!("{TO_B}\nheaders: {{request: {{set: {{a: '5%'}}}}}}"),
            "headers.request.set.a",
            "header value configuration",
        ),
        (
            &format!("{TO_B}\nheaders: {{request: {{set: {{host: a}}}}}}\nrewrite: {{authority: b}}"),
            "",
            "authority header cannot be set multiple times",
        ),
    ]);
    let good = format!("{TO_B}\nheaders: {{request: {{set: {{host: a, x: '%REQ(a%b)% 5%%'}}, remove: [z]}}}}");
    accepted(
        "VirtualService",
        &[&rule(&good), &rule("route: [{destination: {host: a}, weight: 30}, {destination: {host: b}, weight: 0}]")],
    );
}

#[test]
fn retries_faults_mirrors_and_cors() {
    let with = |text: &str| format!("{TO_B}\n{text}");
    rule_refused(&[
        (&with("retries: {attempts: -1}"), "retries.attempts", "attempts cannot be negative"),
        (&with("retries: {perTryTimeout: 1s}"), "retries", "when attempts are set to 0"),
        (
            &with("retries: {attempts: 1, retryOn: '5xx,foo'}"),
            "retries.retryOn",
            "\"foo\" is not a valid retryOn policy",
        ),
        (&with("fault: {}"), "fault", "must have an abort and/or a delay"),
        (
            &with("fault: {delay: {fixedDelay: 1s, percentage: {value: 101}}}"),
            "fault.delay.percentage",
            "neither 0.0, nor in range",
        ),
        (&with("fault: {delay: {exponentialDelay: 1s}}"), "fault.delay.exponentialDelay", "not supported yet"),
        (&with("fault: {abort: {httpStatus: 100}}"), "fault.abort.httpStatus", "HTTP status 100"),
        (
            &with("fault: {abort: {grpcStatus: unavailable}}"),
            "fault.abort.grpcStatus",
            "gRPC status \"unavailable\" is not supported",
        ),
        (&with("fault: {abort: {http2Error: X}}"), "fault.abort.http2Error", "not supported"),
        (&with("fault: {abort: {httpStatus: 500, grpcStatus: OK}}"), "fault.abort", "At most one of"),
        (&with("mirror: {host: b}\nmirrors: [{destination: {host: c}}]"), "mirrors", "both mirror and mirrors"),
        (&with("mirror: {host: b}\nmirrorPercentage: {value: 101}"), "mirrorPercentage", "max value of 100"),
        (&with("mirror: {host: b}\nmirrorPercent: 101"), "mirrorPercent", "max value of 100"),
        (&with("corsPolicy: {allowOrigins: [{}]}"), "corsPolicy.allowOrigins[0]", "one of exact"),
        (
            &with("corsPolicy: {allowMethods: [FOO]}"),
            "corsPolicy.allowMethods[0]",
            "\"FOO\" is not a supported HTTP method",
        ),
        (&with("corsPolicy: {maxAge: 1.5s}"), "corsPolicy.maxAge", "accurate only to seconds precision"),
        (&with("corsPolicy: {allowHeaders: ['a b']}"), "corsPolicy.allowHeaders[0]", "not a valid header name"),
    ]);
    accepted(
        "VirtualService",
        &[
            &rule(&with("retries: {attempts: 0}")),
            &rule(&with("retries: {attempts: 3, perTryTimeout: 25ms, retryOn: 'gateway-error,503', backoff: 1s}")),
            &rule(&with(
                "fault: {delay: {fixedDelay: 5s, percentage: {value: 0.1}}, abort: {grpcStatus: UNAVAILABLE}}",
            )),
            &rule(&with("mirror: {host: b}\nmirrorPercentage: {value: 0}")),
            &rule(&with("corsPolicy: {allowOrigins: [{exact: '*'}], allowHeaders: ['*'], maxAge: 24h}")),
        ],
    );
    warned(
        "VirtualService",
        &[(&rule(&with("mirror: {host: b}\nmirror_percent: 5")), "spec.http[0].mirrorPercent", "deprecated")],
    );
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

#[test]
fn destination_rules() {
    let policy = |p: &str| format!("host: a\ntrafficPolicy: {{{p}}}");
    let lb = |p: &str| policy(&format!("loadBalancer: {{{p}}}"));
    accepted(
        "DestinationRule",
        &[
            "host: a",
            "host: '*.a.com'\nsubsets: [{name: v1}, {name: v2, labels: {version: v2}}]",
            &lb("simple: ROUND_ROBIN"),
            &lb("consistentHash: {httpCookie: {name: c, ttl: 0s}, maglev: {tableSize: 65537}}"),
            &lb("localityLbSetting: {distribute: [{from: a/b/*, to: {a/b/*: 80, a/c/*: 20}}]}"),
            &policy("connectionPool: {tcp: {idleTimeout: 0s}}, outlierDetection: {consecutive5xxErrors: 0}"),
            &policy("portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]"),
        ],
    );
    refused(
        "DestinationRule",
        &[
            ("subsets: []", "spec.host", "Required value"),
            (&policy(""), "spec.trafficPolicy", "traffic policy must have at least one field"),
            ("host: a\nsubsets: [{name: v}, {name: v}]", "spec.subsets[1].name", "duplicate subset names: v"),
            ("host: a\nsubsets: [{name: v_1}]", "spec.subsets[0].name", "subset name is invalid"),
            ("host: a\nworkloadSelector: {matchLabels: {a: b}}\nexportTo: ['*']", "spec.exportTo", "own namespace"),
            (
                &lb("simple: RANDOM, consistentHash: {useSourceIp: true}"),
                "spec.trafficPolicy.loadBalancer",
                "At most one of",
            ),
            (
                &lb("consistentHash: {httpCookie: {path: /}}"),
                "spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.name",
                "required",
            ),
            (
                &lb("consistentHash: {useSourceIp: true, maglev: {tableSize: 4}}"),
                "spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize",
                "prime",
            ),
            (
                &lb("localityLbSetting: {distribute: [{from: a, to: {b: 90}}]}"),
                "spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to",
                "total locality weight 90 != 100",
            ),
            (
                &lb("localityLbSetting: {distribute: [{from: a, to: {b: 100}}], failover: [{from: a, to: b}]}"),
                "spec.trafficPolicy.loadBalancer.localityLbSetting",
                "can not simultaneously specify",
            ),
            (
                &lb("localityLbSetting: {failover: [{from: a, to: a}]}"),
                "spec.trafficPolicy.loadBalancer.localityLbSetting.failover[0]",
                "different regions",
            ),
            (
                &lb("localityLbSetting: {}, zoneAwareLbSetting: {}"),
                "spec.trafficPolicy.loadBalancer",
                "only one of localityLbSetting and zoneAwareLbSetting",
            ),
            (
                &lb("warmup: {}"),
                "spec.trafficPolicy.loadBalancer.warmup.duration",
                "spec.trafficPolicy.loadBalancer.warmup.duration: Required value",
            ),
            (
                &policy("connectionPool: {}"),
                "spec.trafficPolicy.connectionPool",
                "connection pool must have at least one field",
            ),
            (
                &policy("connectionPool: {tcp: {maxConnections: -1}}"),
                "spec.trafficPolicy.connectionPool.tcp.maxConnections",
                "must be positive",
            ),
            (
                &policy("connectionPool: {http: {useClientProtocol: true, h2UpgradePolicy: UPGRADE}}"),
                "spec.trafficPolicy.connectionPool.http.useClientProtocol",
                "must not be true",
            ),
            (
                &policy("outlierDetection: {maxEjectionPercent: 101}"),
                "spec.trafficPolicy.outlierDetection.maxEjectionPercent",
                "not in range",
            ),
            (
                &policy("outlierDetection: {consecutiveLocalOriginFailures: 3}"),
                "spec.trafficPolicy.outlierDetection.consecutiveLocalOriginFailures",
                "split",
            ),
            (
                &policy("tls: {mode: MUTUAL}"),
                "spec.trafficPolicy.tls.clientCertificate",
                "client certificate required for mutual tls",
            ),
            (
                &policy("tls: {mode: SIMPLE, credentialName: c, caCertificates: f}"),
                "spec.trafficPolicy.tls.credentialName",
                "cannot specify",
            ),
            (
                &policy("portLevelSettings: [{tls: {}}]"),
                "spec.trafficPolicy.portLevelSettings[0].port",
                "must have valid port",
            ),
            (
                &policy("portLevelSettings: [{port: {number: 80}}]"),
                "spec.trafficPolicy.portLevelSettings[0]",
                "at least one field",
            ),
            (
                &policy("tunnel: {targetHost: a, targetPort: 80}, proxyProtocol: {version: V2}"),
                "spec.trafficPolicy",
                "must not be set together",
            ),
        ],
    );
    warned(
        "DestinationRule",
        &[
            (
                &policy("outlierDetection: {consecutiveErrors: 3}"),
                "spec.trafficPolicy.outlierDetection.consecutiveErrors",
                "deprecated",
            ),
            (
                &lb("localityLbSetting: {failover: [{from: a, to: b}]}"),
                "spec.trafficPolicy.loadBalancer.localityLbSetting",
                "outlier detection policy must be provided",
            ),
        ],
    );
}

#[test]
fn gateways() {
    let server = |s: &str| format!("servers: [{{{s}}}]");
    let http = "port: {number: 80, name: http, protocol: HTTP}";
    let https = "port: {number: 443, name: https, protocol: https}";
    let tls = |t: &str| server(&format!("{https}, hosts: ['*'], tls: {{{t}}}"));
    accepted(
        "Gateway",
        &[
            &server(&format!("{http}, hosts: ['*', ns/a.com, ./*.b.com], tls: {{httpsRedirect: true}}")),
            &tls("mode: SIMPLE, credentialName: c"),
            &tls("mode: MUTUAL, serverCertificate: a, privateKey: b, caCertificates: c"),
            &tls("{}").replace("tls: {{}}", "tls: {}"),
        ],
    );
    refused(
        "Gateway",
        &[
            ("selector: {a: b}", "spec.servers", "gateway must have at least one server"),
            (&server(http), "spec.servers[0].hosts", "at least one host"),
            (&server("hosts: ['*']"), "spec.servers[0].port", "Required value"),
            (
                &server(&format!("{http}, hosts: [short]")),
                "spec.servers[0].hosts[0]",
                "short names (non FQDN) are not allowed",
            ),
            (&server(&format!("{http}, hosts: ['*a.com']")), "spec.servers[0].hosts[0]", "partial wildcard"),
            (
                &server("port: {number: 0, name: a, protocol: HTTP}, hosts: ['*']"),
                "spec.servers[0].port.number",
                "1..65535",
            ),
            (
                &server("port: {number: 1, name: a, protocol: FOO}, hosts: ['*']"),
                "spec.servers[0].port.protocol",
                "invalid protocol \"FOO\", supported protocols are",
            ),
            (
                &server("port: {number: 1, protocol: HTTP}, hosts: ['*']"),
                "spec.servers[0].port.name",
                "port name must be set",
            ),
            (
                &server(&format!("{https}, hosts: ['*']")),
                "spec.servers[0].tls",
                "server must have TLS settings for HTTPS/TLS protocols",
            ),
            (
                &server(&format!("{http}, hosts: ['*'], tls: {{mode: SIMPLE}}")),
                "spec.servers[0].tls",
                "cannot have TLS settings for plain text HTTP ports",
            ),
            (&tls("mode: SIMPLE"), "spec.servers[0].tls.serverCertificate", "SIMPLE TLS requires a server certificate"),
            (
                &tls("mode: MUTUAL, serverCertificate: a, privateKey: b"),
                "spec.servers[0].tls.caCertificates",
                "MUTUAL TLS requires a client CA bundle",
            ),
            (
                &tls("mode: ISTIO_MUTUAL, privateKey: b"),
                "spec.servers[0].tls.privateKey",
                "ISTIO_MUTUAL TLS cannot have associated",
            ),
            (
                &tls("mode: SIMPLE, credentialName: a, credentialNames: [b]"),
                "spec.servers[0].tls",
                "only one of credentialName or credentialNames",
            ),
            (
                &format!("servers:\n- {{{http}, hosts: ['*']}}\n- {{{http}, hosts: [a.b]}}"),
                "spec.servers[1].port.name",
                "port names in servers must be unique: duplicate name http",
            ),
        ],
    );
}

#[test]
fn service_entries() {
    let entry = |rest: &str| format!("hosts: [a.com]\nports: [{{number: 80, name: http, protocol: HTTP}}]\n{rest}");
    accepted(
        "ServiceEntry",
        &[
            &entry("resolution: DNS"),
            &entry("resolution: STATIC\nendpoints: [{address: 1.1.1.1}, {address: 'unix:///a/b'}]"),
            &entry("addresses: [10.0.0.0/8]\nexportTo: ['~']"),
            "hosts: ['*.a.com']\nresolution: DYNAMIC_DNS\nports: [{number: 443, name: tls, protocol: TLS}]",
        ],
    );
    refused(
        "ServiceEntry",
        &[
            ("ports: []", "spec.hosts", "at least one host"),
            ("hosts: ['*']", "spec.hosts[0]", "invalid host *"),
            (
                &entry("addresses: [10.0.0.0/8]\nresolution: DNS"),
                "spec.addresses[0]",
                "CIDR addresses are allowed only for NONE/STATIC",
            ),
            (&entry("endpoints: [{address: 1.1.1.1}]"), "spec.endpoints", "NONE mode cannot set endpoints"),
            (
                &entry("resolution: STATIC\nendpoints: [{address: b.com}]"),
                "spec.endpoints[0].address",
                "STATIC needs an IP address",
            ),
            (
                &entry("resolution: STATIC\nendpoints: [{address: 1.1.1.1}]\nworkloadSelector: {labels: {a: b}}"),
                "spec.endpoints",
                "only one of",
            ),
            (
                &entry("resolution: DNS_ROUND_ROBIN\nendpoints: [{address: a.b}, {address: c.d}]"),
                "spec.endpoints",
                "cannot have multiple endpoints",
            ),
            (&entry("exportTo: ['~', a]"), "spec.exportTo", "cannot export service entry to no one (~) and someone"),
            ("hosts: ['*.a.com']\nresolution: DNS", "spec.hosts", "hosts must be FQDN"),
            (
                "hosts: [a.com, b.com]\nresolution: DNS\nports: [{number: 1, name: a, protocol: TCP}]",
                "spec.ports[0].protocol",
                "multiple hosts provided with non-HTTP, non-TLS ports",
            ),
            (
                "hosts: [a.com]\nports: [{number: 1, name: a}, {number: 1, name: b}]",
                "spec.ports[1].number",
                "service entry port 1 already defined",
            ),
            (
                "hosts: [a.com]\nports: [{number: 1, name: a}, {number: 2, name: a}]",
                "spec.ports[1].name",
                "service entry port name \"a\" already defined",
            ),
        ],
    );
}

#[test]
fn sidecars() {
    accepted(
        "Sidecar",
        &[
            "egress: [{hosts: ['./*', istio-system/*, '~/*', 'a/*.b.com', '~x/a.b']}]",
            "ingress: [{port: {number: 80, protocol: HTTP, name: a}, defaultEndpoint: '127.0.0.1:8080'}]",
            "outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a.b, port: {number: 80}}}",
        ],
    );
    let ingress = |rest: &str| format!("ingress: [{{port: {{number: 80, protocol: HTTP, name: a}}, {rest}}}]");
    refused(
        "Sidecar",
        &[
            ("{}", "spec", "sidecar: empty configuration provided"),
            ("egress: [{hosts: [a]}]", "spec.egress[0].hosts[0]", "namespace/dnsName"),
            ("egress: [{hosts: [a/b]}]", "spec.egress[0].hosts[0]", "short names"),
            ("egress: [{}]", "spec.egress[0].hosts", "at least one host"),
            ("egress: [{hosts: [a/*]}, {hosts: [b/*]}]", "spec.egress[0]", "should be the last listener in the list"),
            (
                "egress: [{port: {number: 1}, hosts: [a/*]}, {port: {number: 1}, hosts: [b/*]}]",
                "spec.egress[1].port.number",
                "unique",
            ),
            ("ingress: [{}]", "spec.ingress[0].port", "port is required"),
            (
                &ingress("defaultEndpoint: '1.2.3.4:80'"),
                "spec.ingress[0].defaultEndpoint",
                "defaultEndpoint must be of form 127.0.0.1:<port>",
            ),
            (
                &ingress("tls: {mode: SIMPLE, serverCertificate: a, privateKey: b}"),
                "spec.ingress[0].tls",
                "HTTPS or TLS",
            ),
            (
                "outboundTrafficPolicy: {egressProxy: {host: a.b, port: {number: 1}}}",
                "spec.outboundTrafficPolicy.egressProxy",
                "ALLOW_ANY",
            ),
        ],
    );
}

#[test]
fn mesh_settings() {
    let errors = |edit: fn(&mut crate::api::MeshConfig)| -> Vec<String> {
        let mut config = crate::api::MeshConfig::istio_default();
        edit(&mut config);
        let key = Key::new(crate::api::Kind::new("", "ConfigMap"), "istio-system", "istio");
        validate_mesh_config(&config, &key, &Origin::generated("test")).iter().map(|r| r.field.to_string()).collect()
    };
    assert_eq!(errors(|_| {}), [""; 0]);
    assert_eq!(
        errors(|c| c.connect_timeout = Some(crate::api::Duration::from_secs(3601))),
        ["data.mesh.connectTimeout"]
    );
    assert_eq!(errors(|c| c.proxy_listen_port = 0), ["data.mesh.proxyListenPort"]);
    assert_eq!(
        errors(|c| c.default_service_export_to = vec!["*".into(), "a".into()]),
        ["data.mesh.defaultServiceExportTo"]
    );
    assert_eq!(errors(|c| c.root_namespace = String::new()), ["data.mesh.rootNamespace"]);
}
