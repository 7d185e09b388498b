//! What Istio does not say about security policies.

use super::*;

/// A shop: `web` with HTTP on 8080 behind port 80, `db` with TCP on 9000, `old` without a proxy.
const SHOP: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec: {template: {metadata: {labels: {app: web, version: v1}}, spec: {serviceAccountName: web, containers: [{name: c, image: i}]}}}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {selector: {app: db}, ports: [{name: tcp, port: 9000}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: db, namespace: shop}
spec: {template: {metadata: {labels: {app: db}}, spec: {serviceAccountName: db, containers: [{name: c, image: i}]}}}
---
apiVersion: v1
kind: Service
metadata: {name: old, namespace: shop}
spec: {selector: {app: old}, ports: [{name: http, port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: old, namespace: shop}
spec: {template: {metadata: {labels: {app: old, sidecar.istio.io/inject: 'false'}}, spec: {containers: [{name: c, image: i}]}}}
";

fn document(kind: &str, namespace: &str, name: &str, spec: &str) -> String {
    let group = if kind == "DestinationRule" { "networking" } else { "security" };
    format!(
        "---\napiVersion: {group}.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )
}

fn policy(spec: &str) -> String {
    document("AuthorizationPolicy", "shop", "p", spec)
}

const TOKENS: &str = "{selector: {matchLabels: {app: web}}, jwtRules: [{issuer: me@x, jwks: '{\"keys\": []}'}]}";

fn tokens() -> String {
    document("RequestAuthentication", "shop", "t", TOKENS)
}

/// What is said by these analyzers with codes of ours: `CODE field: message (fix)`.
fn own(text: &str) -> Vec<String> {
    let (resources, reports) = yaml::read("a.yaml", text);
    assert!(reports.is_empty(), "{reports:?}");
    let wrong: Vec<_> =
        resources.iter().flat_map(crate::validate::validate).filter(|r| r.level == Level::Error).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let made = crate::convert::inputs(&resources, &Default::default(), &mut Default::default());
    let input = AnalyzeInput { resources: &resources, world: Some(&made.world), ..AnalyzeInput::default() };
    let found = analyze_with(&input, &["mesh.Security"]);
    assert!(found.iter().all(|r| r.span.line > 0 && r.fix.is_some()), "each has a line and a fix: {found:#?}");
    found
        .iter()
        .map(|r| format!("{} {}: {} ({})", r.code, r.field, r.message, r.fix.as_deref().unwrap_or_default()))
        .collect()
}

/// Exactly these are said about objects beside the shop; each expectation is a list of parts of a line.
fn says(objects: &[String], expected: &[&[&str]]) {
    let found = own(&format!("{SHOP}{}", objects.concat()));
    assert_eq!(found.len(), expected.len(), "{objects:#?}\n{found:#?}");
    for parts in expected {
        let hit = found.iter().any(|line| parts.iter().all(|p| line.contains(p)));
        assert!(hit, "{parts:?} is missing for {objects:#?}\n{found:#?}");
    }
}

#[test]
fn a_shop_without_policies_is_quiet() {
    says(&[], &[]);
}

#[test]
fn tokens_that_nothing_requires() {
    let not = &["MESH0201 spec.jwtRules: requests without a token pass at workload web:", "notRequestPrincipals"][..];
    says(&[tokens()], &[not]);
    // A policy that does not look at tokens, one for others, and one that is only tried change nothing.
    says(&[tokens(), policy("{rules: [{to: [{operation: {methods: [GET]}}]}]}")], &[not]);
    let by = |spec: &str| policy(spec);
    let deny = "{action: DENY, rules: [{from: [{source: {notRequestPrincipals: ['*']}}]}]}";
    let other = deny.replacen('{', "{selector: {matchLabels: {app: old}}, ", 1);
    says(&[tokens(), by(&other)], &[not]);
    let tried = by(deny).replace("namespace: shop}", "namespace: shop, annotations: {istio.io/dry-run: 'true'}}");
    says(&[tokens(), tried], &[not]);
    for spec in [
        deny,
        "{rules: [{from: [{source: {requestPrincipals: ['me@x/*']}}]}]}",
        "{rules: [{when: [{key: 'request.auth.claims[iss]', values: [me@x]}]}]}",
        "{action: DENY, rules: [{when: [{key: 'request.auth.claims[group]', notValues: [a]}]}]}",
        "{}",
        "{action: CUSTOM, provider: {name: x}, rules: [{}]}",
    ] {
        let spec = spec.replacen('{', "{selector: {matchLabels: {app: web}}, ", 1).replace(", }", "}");
        says(&[tokens(), by(&spec)], &[]);
    }
    let required = TOKENS.replace("issuer: me@x", "issuer: me@x, presence: REQUIRED");
    says(&[document("RequestAuthentication", "shop", "t", &required)], &[]);
}

#[test]
fn without_workloads_the_policys_labels_stand_for_them() {
    let found = own(&tokens());
    assert!(
        matches!(&found[..], [one] if one.contains("MESH0201") && one.contains("pass at its workloads")),
        "{found:#?}"
    );
    let with = own(&format!("{}{}", tokens(), policy("{rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}")));
    assert_eq!(with, Vec::<String>::new());
}

#[test]
fn the_tours_token_rule_is_enough() {
    let Some(seed) = ["../../shared/corpus/seed", "../../../shared/corpus/seed"]
        .map(|p| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(p))
        .into_iter()
        .find(|p| p.is_dir())
    else {
        println!("skipped: corpus not present");
        return;
    };
    let read = |name: &str| std::fs::read_to_string(seed.join(name)).unwrap();
    let first = read("22-requestauthentication-productpage-jwt.yaml");
    let second = read("23-authorizationpolicy-productpage-jwt.yaml");
    assert!(matches!(&own(&first)[..], [one] if one.starts_with("MESH0201")));
    assert_eq!(own(&format!("{first}\n---\n{second}")), Vec::<String>::new());
}

/// A token that nobody signed, with this payload.
fn token(payload: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let encode = |text: &str| {
        let mut out = String::new();
        for chunk in text.as_bytes().chunks(3) {
            let mut bits = [0; 3];
            bits[..chunk.len()].copy_from_slice(chunk);
            let n = u32::from_be_bytes([0, bits[0], bits[1], bits[2]]);
            for i in 0..=chunk.len() {
                out.push(char::from(ALPHABET[(n >> (18 - 6 * i)) as usize & 63]));
            }
        }
        out
    };
    format!("{}.{}.c2ln", encode("{\"alg\":\"RS256\"}"), encode(payload))
}

#[test]
fn times_in_milliseconds() {
    let late = "1735689600000";
    let header = |token: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v}}\nspec: {{hosts: [x.example.com], http: [{{headers: {{request: {{set: {{authorization: 'Bearer {token}'}}}}}}, redirect: {{uri: /}}}}]}}\n"
        )
    };
    let bad = token(&format!("{{\"iss\":\"me\",\"exp\":{late},\"iat\":1735689600}}"));
    let found = own(&header(&bad));
    let expected = "MESH0202 spec.http[0].headers.request.set.authorization: exp of the token here: 1735689600000 looks like milliseconds; in seconds, which tokens have, it is in the year 56971 (make the token with exp 1735689600)";
    assert_eq!(found, [expected]);
    assert_eq!(own(&header(&token("{\"exp\":1735689600}"))), Vec::<String>::new());
    assert_eq!(own(&header("eyJhbGciOiJub25lIn0.nothing.x")), Vec::<String>::new());
    let map = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\ndata: {{t: '{bad}'}}\n");
    assert!(matches!(&own(&map)[..], [one] if one.starts_with("MESH0202 data.t: exp of the token here")));
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{containers: [{{name: c, image: i, env: [{{name: T, value: '{bad}'}}]}}]}}\n"
    );
    assert!(matches!(&own(&pod)[..], [one] if one.starts_with("MESH0202 spec.containers[0].env[0].value")));
    let slow = TOKENS.replace("issuer: me@x", "issuer: me@x, timeout: 5000s, presence: REQUIRED");
    let said = &["MESH0202 spec.jwtRules[0].timeout: timeout 5000s for fetching keys", "(write 5000ms)"][..];
    says(&[document("RequestAuthentication", "shop", "t", &slow)], &[said]);
    let when = format!(
        "{{selector: {{matchLabels: {{app: web}}}}, rules: [{{when: [{{key: 'request.auth.claims[exp]', values: ['{late}']}}]}}]}}"
    );
    let never = "MESH0206 spec.rules[0].when[0].values[0]: never matches: the claim is a number";
    says(
        &[tokens(), policy(&when)],
        &[
            &[
                "MESH0202 spec.rules[0].when[0].values[0]: request.auth.claims[exp]: 1735689600000",
                "(write 1735689600)",
            ],
            &[never],
        ],
    );
}

#[test]
fn deny_rules_that_close_tcp_ports() {
    let deny = |rule: &str| policy(&format!("{{action: DENY, rules: [{rule}]}}"));
    let closes = |what: &'static str| {
        [
            "MESH0203 spec.rules[0]: DENY also closes TCP port 9000 (of Service shop/db): methods do not exist there, and",
            what,
            "write ports: [\"8080\"] in each to[].operation",
        ]
    };
    says(&[deny("{to: [{operation: {methods: [POST]}}]}")], &[&closes("every connection to it is refused")]);
    let some = "{from: [{source: {namespaces: [shop]}}], to: [{operation: {methods: [POST]}}]}";
    says(&[deny(some)], &[&closes("all connections that its other fields fit")]);
    for quiet in [
        "{to: [{operation: {methods: [POST], ports: ['8080']}}]}",
        "{to: [{operation: {methods: [POST], notPorts: ['9000']}}]}",
        "{to: [{operation: {methods: [POST]}}], when: [{key: destination.port, values: ['8080']}]}",
        "{to: [{operation: {ports: ['9000']}}]}",
    ] {
        says(&[deny(quiet)], &[]);
    }
    let web = "{selector: {matchLabels: {app: web}}, action: DENY, rules: [{to: [{operation: {methods: [POST]}}]}]}";
    says(&[policy(web)], &[]);
    let db = web.replace("app: web", "app: db");
    let text = &["MESH0203", "none of the ports of its workloads is HTTP"][..];
    says(&[policy(&db)], &[text]);
}

#[test]
fn identities_with_a_scheme() {
    let rule = |source: &str| policy(&format!("{{rules: [{{from: [{{source: {{{source}}}}}]}}]}}"));
    let never = &[
        "MESH0204 spec.rules[0].from[0].source.principals[0]:",
        "never matches",
        "(write cluster.local/ns/shop/sa/web)",
    ];
    says(&[rule("principals: ['spiffe://cluster.local/ns/shop/sa/web']")], &[never]);
    let nobody = &["MESH0204 spec.rules[0].from[0].source.notPrincipals[0]:", "excludes nobody"];
    says(&[rule("notPrincipals: ['spiffe://cluster.local/ns/shop/sa/web']")], &[nobody]);
    let when = "{rules: [{when: [{key: source.principal, values: ['spiffe://cluster.local/ns/shop/sa/web']}]}]}";
    says(&[policy(when)], &[&["MESH0204 spec.rules[0].when[0].values[0]"]]);
}

#[test]
fn policies_that_select_nothing() {
    let peer = |namespace: &str, spec: &str| document("PeerAuthentication", namespace, "x", spec);
    let strict = "mtls: {mode: STRICT}";
    says(&[peer("shop", &format!("{{{strict}}}"))], &[]);
    says(&[peer("istio-system", &format!("{{{strict}}}"))], &[]);
    says(&[peer("shop", &format!("{{selector: {{matchLabels: {{app: web}}}}, {strict}}}"))], &[]);
    for (namespace, spec, parts) in [
        (
            "shop",
            "{selector: {matchLabels: {app: wbe}}}",
            ["has the labels app=wbe", "labels that pods in namespace shop have"],
        ),
        ("shop", "{selector: {matchLabels: {app: old}}}", ["has the labels app=old", "has the labels, but no proxy"]),
        (
            "other",
            "{selector: {matchLabels: {app: web}}}",
            ["has the labels app=web", "has the labels, in namespace shop"],
        ),
        ("other", "{}", ["namespace other has none with a proxy", "write it in the namespace of the workloads"]),
        ("istio-system", "{selector: {matchLabels: {app: web}}}", ["for nobody", "in the namespace of the workload"]),
    ] {
        says(&[peer(namespace, spec)], &[&["MESH0205", parts[0], parts[1]]]);
    }
    let tokens = |namespace: &str, who: &str| {
        let spec = format!("{{{who}jwtRules: [{{issuer: me@x, presence: REQUIRED}}]}}");
        document("RequestAuthentication", namespace, "t", &spec)
    };
    says(&[tokens("istio-system", "")], &[]);
    says(&[tokens("other", "")], &[&["MESH0205 metadata.namespace"]]);
    says(&[tokens("shop", "selector: {matchLabels: {app: wbe}}, ")], &[&["MESH0205 spec.selector.matchLabels"]]);
    let gateway = "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: g}], ";
    says(
        &[tokens("shop", gateway)],
        &[&["MESH0205 spec.targetRefs: is attached to Gateway shop/g, which does not exist"]],
    );
    let service = |name: &str| policy(&format!("{{targetRefs: [{{group: '', kind: Service, name: {name}}}]}}"));
    says(&[service("web")], &[]);
    says(&[service("wbe")], &[&["MESH0205 spec.targetRefs: is attached to Service shop/wbe"]]);
}

#[test]
fn that_a_policy_is_for_nobody_is_said_once() {
    let peer = "{selector: {matchLabels: {app: wbe}}, mtls: {mode: STRICT}}";
    let rule = "{selector: {matchLabels: {app: wbe}}, rules: [{}]}";
    for (kind, spec, code) in [("PeerAuthentication", peer, "MESH0205"), ("AuthorizationPolicy", rule, "IST0127")] {
        let text = format!("{SHOP}{}", document(kind, "shop", "x", spec));
        let (resources, reports) = yaml::read("a.yaml", &text);
        let made = crate::convert::inputs(&resources, &Default::default(), &mut Default::default());
        let input = AnalyzeInput {
            resources: &resources,
            reports: &reports,
            world: Some(&made.world),
            ..AnalyzeInput::default()
        };
        let found = analyze(&input);
        let about = found.iter().filter(|r| &*r.object.kind.kind == kind);
        assert_eq!(about.map(|r| &*r.code).collect::<Vec<_>>(), [code], "{found:#?}");
    }
}

#[test]
fn values_and_rules_that_never_match() {
    let web = |rule: &str| policy(&format!("{{selector: {{matchLabels: {{app: web}}}}, rules: [{rule}]}}"));
    let source = |s: &str| web(&format!("{{from: [{{source: {{{s}}}}}]}}"));
    let operation = |o: &str| web(&format!("{{to: [{{operation: {{{o}}}}}]}}"));
    let nothing = "; nor does any other rule of the policy, so that it allows nothing";
    let cases = [
        (
            source("principals: [web]"),
            "principals[0]: never matches: an identity is TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT",
            "write cluster.local/ns/shop/sa/default",
        ),
        (
            source("principals: [other/ns/shop/sa/web]"),
            "no peer of trust domain other is accepted",
            "write cluster.local/ns/shop/sa/web",
        ),
        (source("principals: ['cluster.local/ns/*/sa/web']"), "any further one is a star", "write several values"),
        (
            source("principals: [cluster.local/ns/shop/sa/wbe]"),
            "no workload of namespace shop runs as service account wbe",
            "db, default, web",
        ),
        (
            source("serviceAccounts: [wbe]"),
            "no workload of namespace shop runs as service account wbe",
            "db, default, web",
        ),
        (source("trustDomains: [other]"), "no peer of trust domain other", "write cluster.local"),
        (
            source("namespaces: [a, b], notNamespaces: ['*']"),
            "notNamespaces: never matches: notNamespaces excludes each of namespaces",
            "take what is meant",
        ),
        (
            source("requestPrincipals: ['*']"),
            "no RequestAuthentication is for the policy's workloads",
            "write a RequestAuthentication",
        ),
        (
            web("{when: [{key: 'request.auth.claims[a]', values: [b]}]}"),
            "when[0].values[0]: never matches: no RequestAuthentication",
            "write a",
        ),
        (operation("methods: [get]"), "methods are compared with their letter case", "write GET"),
        (operation("hosts: ['https://x.example.com/a']"), "a host has no scheme", "write x.example.com"),
        (operation("hosts: [x.example.com/a]"), "a host has no path", "write x.example.com, and"),
        (operation("paths: [info]"), "every path begins with a slash", "write /info"),
        (operation("paths: ['/info?x=1']"), "without the query", "write /info"),
        (operation("paths: ['*info*']"), "any further one is a star", "one star"),
        (operation("paths: ['/a/b'], notPaths: ['/a/*']"), "notPaths excludes each of paths", "take what is meant"),
    ];
    for (object, why, fix) in cases {
        says(&[object], &[&["MESH0206 spec.rules[0]", why, nothing, fix]]);
    }
    for quiet in [
        source("principals: [cluster.local/ns/shop/sa/web, '*', 'cluster.local/ns/shop/*', '*/sa/db']"),
        source("principals: [cluster.local/ns/elsewhere/sa/anybody]"),
        source("serviceAccounts: [web, shop/db, elsewhere/x]"),
        source("trustDomains: [cluster.local, 'clu*']"),
        source("ipBlocks: [10.0.0.0/8], notIpBlocks: [10.1.0.0/16]"),
        operation("methods: [GET, 'P*', get-it]"),
        operation("hosts: ['*.example.com', 'x.example.com:*']"),
        operation("paths: ['/a', '/b*', '*/c', '/d/{*}', '*']"),
        operation("paths: ['/a*'], notPaths: ['/a/b']"),
        web("{when: [{key: 'request.headers[x]', values: [z]}]}"),
    ] {
        says(&[quiet], &[]);
    }
}

#[test]
fn what_becomes_of_the_rule_and_the_policy() {
    let one = |action: &str, rules: &str| {
        policy(&format!("{{selector: {{matchLabels: {{app: web}}}}, action: {action}, rules: [{rules}]}}"))
    };
    let bad = "{to: [{operation: {methods: [get]}}]}";
    let good = "{to: [{operation: {methods: [GET]}}]}";
    let at =
        "MESH0206 spec.rules[0].to[0].operation.methods[0]: never matches: methods are compared with their letter case";
    says(&[one("ALLOW", "{to: [{operation: {methods: [get, GET]}}]}")], &[&[at, "case ("]]);
    says(&[one("ALLOW", &format!("{bad}, {good}"))], &[&[at, "; so the rule never does"]]);
    says(&[one("DENY", bad)], &[&[at, "so that it denies nothing"]]);
    let either = "{to: [{operation: {methods: [get]}}, {operation: {methods: [GET]}}]}";
    says(&[one("ALLOW", either)], &[&[at, "case ("]]);
}

#[test]
fn rules_for_ports_without_requests() {
    let db = |rule: &str| policy(&format!("{{selector: {{matchLabels: {{app: db}}}}, rules: [{rule}]}}"));
    let never = [
        "MESH0206 spec.rules[0]: never matches: methods are not known at TCP port 9000 (of Service shop/db)",
        "so that it allows nothing",
    ];
    says(&[db("{to: [{operation: {methods: [GET]}}]}")], &[&never]);
    says(&[db("{to: [{operation: {ports: ['9000']}}]}")], &[]);
    // Elsewhere it does allow something.
    says(&[policy("{rules: [{to: [{operation: {methods: [GET]}}]}]}")], &[]);
    let there = "{rules: [{to: [{operation: {methods: [GET], ports: ['9000']}}]}]}";
    says(&[policy(there)], &[&[never[0]]]);
}

#[test]
fn tokens_and_identities_that_nobody_has() {
    let web = |rule: &str| policy(&format!("{{selector: {{matchLabels: {{app: web}}}}, rules: [{rule}]}}"));
    let by = |p: &str| web(&format!("{{from: [{{source: {{requestPrincipals: ['{p}']}}}}]}}"));
    says(&[tokens(), by("me@x/*")], &[]);
    says(&[tokens(), by("you@x/*")], &[&["MESH0206", "take no tokens of issuer you@x", "write one of theirs: me@x"]]);
    says(&[tokens(), by("me@x")], &[&["MESH0206", "this has no subject", "write me@x/*"]]);
    let iss = web("{when: [{key: 'request.auth.claims[iss]', values: [you@x]}]}");
    says(&[tokens(), iss], &[&["MESH0206 spec.rules[0].when[0].values[0]", "no tokens of issuer you@x"]]);
    let off = document("PeerAuthentication", "shop", "plain", "{mtls: {mode: DISABLE}}");
    let who = web("{from: [{source: {namespaces: [shop, other]}}]}");
    says(
        &[off.clone(), who],
        &[&[
            "MESH0206 spec.rules[0].from[0].source.namespaces[0]",
            "PeerAuthentication shop/plain turns mutual TLS off there",
        ]],
    );
    let port = "{selector: {matchLabels: {app: web}}, mtls: {mode: DISABLE}, portLevelMtls: {'8080': {mode: STRICT}}}";
    let partly = document("PeerAuthentication", "shop", "tls", port);
    says(&[off, partly, web("{from: [{source: {namespaces: [shop]}}]}")], &[]);
}

#[test]
fn clients_and_servers_that_disagree_about_tls() {
    let peer = |mode: &str| document("PeerAuthentication", "shop", "m", &format!("{{mtls: {{mode: {mode}}}}}"));
    let rule =
        |host: &str, policy: &str| document("DestinationRule", "shop", "d", &format!("{{host: {host}, {policy}}}"));
    let tls = |mode: &str| rule("web", &format!("trafficPolicy: {{tls: {{mode: {mode}}}}}"));
    let resets = "port 8080 of workload web takes";
    for (mode, sends) in [("DISABLE", "plaintext"), ("SIMPLE", "TLS without a certificate of the mesh")] {
        let text = format!("MESH0207 spec.trafficPolicy.tls.mode: {sends} to shop/web: {resets}");
        let parts = [&*text, "takes mutual TLS only (PeerAuthentication shop/m is STRICT)", "write mode: ISTIO_MUTUAL"];
        says(&[peer("STRICT"), tls(mode)], &[&parts]);
        says(&[peer("PERMISSIVE"), tls(mode)], &[]);
        says(&[peer("DISABLE"), tls(mode)], &[]);
        says(&[tls(mode)], &[]);
    }
    says(&[peer("STRICT"), tls("ISTIO_MUTUAL")], &[]);
    let other = [
        "MESH0207",
        "the mesh's mutual TLS to shop/web",
        "takes plaintext only (PeerAuthentication shop/m is DISABLE)",
    ];
    says(&[peer("DISABLE"), tls("ISTIO_MUTUAL")], &[&other]);
    let old = rule("old", "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}");
    says(&[old], &[&["MESH0207", "has no proxy that could end it"]]);
    // The port decides before the subset, the subset before the whole.
    let whole =
        "trafficPolicy: {tls: {mode: DISABLE}, portLevelSettings: [{port: {number: 80}, tls: {mode: ISTIO_MUTUAL}}]}";
    says(&[peer("STRICT"), rule("web", whole)], &[]);
    let ports =
        "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}, portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]}";
    says(&[peer("STRICT"), rule("web", ports)], &[&["MESH0207 spec.trafficPolicy.portLevelSettings[0].tls.mode"]]);
    let subset = "subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {tls: {mode: DISABLE}}}, {name: v9, labels: {version: v9}, trafficPolicy: {tls: {mode: DISABLE}}}]";
    says(&[peer("STRICT"), rule("web", subset)], &[&["MESH0207 spec.subsets[0].trafficPolicy.tls.mode"]]);
    let unrelated =
        document("PeerAuthentication", "shop", "m", "{selector: {matchLabels: {app: db}}, mtls: {mode: STRICT}}");
    says(&[unrelated, tls("DISABLE")], &[]);
}

#[test]
fn without_automatic_mutual_tls_rules_have_to_ask_for_it() {
    let settings = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: 'enableAutoMtls: false'}\n".to_owned();
    let strict =
        document("PeerAuthentication", "shop", "m", "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}}");
    let parts = [
        "MESH0207 spec: clients of Service shop/web send plaintext",
        "for web.shop.svc.cluster.local with trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}",
    ];
    says(&[settings.clone(), strict.clone()], &[&parts]);
    let rule = document(
        "DestinationRule",
        "shop",
        "d",
        "{host: '*.shop.svc.cluster.local', trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}",
    );
    says(&[settings, strict.clone(), rule], &[]);
    says(&[strict], &[]);
}

#[test]
fn ports_of_services_in_policies() {
    let wrong = |at: &str| {
        format!(
            "MESH0208 {at}: 80 is a port of Service shop/web; at the workload, which counts here, it is 8080 (write 8080)"
        )
    };
    let peer = "{selector: {matchLabels: {app: web}}, portLevelMtls: {'80': {mode: DISABLE}, '8080': {mode: DISABLE}, '7': {mode: STRICT}}}";
    says(&[document("PeerAuthentication", "shop", "x", peer)], &[&[&wrong("spec.portLevelMtls.80")]]);
    let web = |rule: &str| policy(&format!("{{selector: {{matchLabels: {{app: web}}}}, rules: [{rule}]}}"));
    let to = web("{to: [{operation: {ports: ['8080', '80']}}]}");
    says(&[to], &[&[&wrong("spec.rules[0].to[0].operation.ports[1]")]]);
    let when = web("{when: [{key: destination.port, values: ['80']}]}");
    says(&[when], &[&[&wrong("spec.rules[0].when[0].values[0]")]]);
    // Another workload of the policy has it.
    let all = "{rules: [{to: [{operation: {ports: ['80']}}]}]}";
    let own = SHOP.replace("sidecar.istio.io/inject: 'false'", "a: b");
    let found = own_of(&own, &policy(all));
    assert_eq!(found, Vec::<String>::new());
}

fn own_of(shop: &str, objects: &str) -> Vec<String> {
    own(&format!("{shop}{objects}"))
}
