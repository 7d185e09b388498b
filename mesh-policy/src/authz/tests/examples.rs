//! Worked examples of how policies decide, by number, and rows of what Envoy was seen to do, by id.

use super::*;

/// The answers to requests under one policy of namespace foo called `p`, or several in full.
fn table(number: &str, policies: &str, cases: &[(Facts, bool)]) {
    let text = if policies.contains("kind:") { policies.to_owned() } else { policy("p", policies) };
    check(number, &compiled(&text, Protocol::Http), cases);
}

fn check(number: &str, policies: &Policies, cases: &[(Facts, bool)]) {
    for (facts, allowed) in cases {
        let got = decision(policies, facts);
        assert_eq!(got == "allow", *allowed, "{number}: {got}\n{facts:#?}\n{:#?}", facts.with(|i| policies.explain(i)));
    }
}

fn rules(text: &str) -> String {
    format!("rules: [{{{text}}}]")
}

fn source(text: &str) -> String {
    rules(&format!("from: [{{source: {{{text}}}}}]"))
}

fn operation(text: &str) -> String {
    rules(&format!("to: [{{operation: {{{text}}}}}]"))
}

fn when(key: &str, rest: &str) -> String {
    rules(&format!("when: [{{key: '{key}', {rest}}}]"))
}

fn deny(text: &str) -> String {
    format!("action: DENY, {text}")
}

#[test]
fn actions_and_scopes_1_to_6_50_60() {
    check("1", &Policies::default(), &[(Facts::default(), true)]);
    table("2", "", &[(Facts::default(), false), (from(A), false)]);
    table("3", "rules: [{}]", &[(Facts::default(), true), (from(A), true)]);
    table("4", &deny("rules: [{}]"), &[(Facts::default(), false), (from(A), false)]);
    let two = policy("p", "") + &policy("q", &operation("methods: [GET]"));
    table("6", &two, &[(to("GET", "/"), true), (to("POST", "/"), false)]);
    let both = source(&format!("principals: ['{A}']"));
    table("50", &(policy("d", &deny(&both)) + &policy("a", &both)), &[(from(A), false), (from(B), false)]);
    let root = policy("root", &operation("methods: [GET]")).replace("namespace: foo", "namespace: istio-system");
    let own = policy("own", &operation("paths: [/x]"));
    table("60", &(root + &own), &[(to("POST", "/x"), true), (to("GET", "/y"), true), (to("POST", "/y"), false)]);
}

#[test]
fn sources_7_to_18() {
    let all = |a, b, p| [(from(A), a), (from(B), b), (from(""), p)];
    table("7", &source(&format!("principals: ['{A}']")), &all(true, false, false));
    table("8", &source("principals: ['*']"), &all(true, true, false));
    table("9", &source("principals: ['*/sa/b']"), &all(false, true, false));
    table("10", &source("principals: ['cluster.local/ns/foo/*']"), &all(true, false, false));
    table("11", &source(&format!("principals: ['spiffe://{A}']")), &all(false, false, false));
    table("12", &source("namespaces: ['b*r']"), &all(false, true, false));
    table("13", &source("notNamespaces: [bar]"), &all(true, false, true));
    table("14", &deny(&source("notNamespaces: [foo]")), &all(true, false, false));
    table("15", &deny(&source("namespaces: [bar]")), &all(true, false, true));
    table("16", &source("serviceAccounts: [a, bar/b]"), &all(true, true, false));
    table("16", &source("serviceAccounts: [a, bar/b]"), &[(from("cluster.local/ns/foo/sa/a2"), false)]);
    table("17", &source(&format!("principals: ['{A}'], namespaces: [bar]")), &all(false, false, false));
    let either = rules(&format!("from: [{{source: {{principals: ['{A}']}}}}, {{source: {{namespaces: [bar]}}}}]"));
    table("18", &either, &all(true, true, false));
    table("trust domain", &source("trustDomains: ['cluster*']"), &all(true, true, false));
    table("trust domain", &source("notTrustDomains: ['*.local']"), &all(false, false, true));
}

#[test]
fn peers_without_a_spiffe_identity() {
    let facts = from("x");
    let decide = |text: &str| {
        let policies = compiled(&policy("p", text), Protocol::Http);
        facts.with(|input| {
            let input = PolicyInput { peer: Peer::Other(A), ..*input };
            policies.decide(&input) == Decision::Allow
        })
    };
    assert!(decide(&source("principals: ['*']")));
    assert!(decide(&source("notNamespaces: [foo]")));
    assert!(!decide(&source(&format!("principals: ['{A}']"))));
    assert!(!decide(&source("namespaces: [foo]")));
    assert!(!decide(&source("serviceAccounts: [a]")));
}

#[test]
fn operations_19_to_31_62() {
    let t19 =
        rules("to: [{operation: {methods: [GET], paths: ['/info*']}}, {operation: {methods: [POST], paths: [/data]}}]");
    table(
        "19",
        &t19,
        &[
            (to("GET", "/info"), true),
            (to("GET", "/info/x"), true),
            (to("POST", "/data"), true),
            (to("POST", "/info"), false),
            (to("GET", "/data"), false),
        ],
    );
    let path = |p: &str| to("GET", p);
    table(
        "20, G6",
        &operation("paths: [/admin]"),
        &[(path("/admin?x=1"), true), (path("/admin/"), false), (path("/ADMIN"), false), (path("//admin"), false)],
    );
    table("21", &operation("paths: ['*/edit']"), &[(path("/a/edit"), true), (path("/edit/a"), false)]);
    table(
        "22",
        &operation("paths: ['/foo/{*}']"),
        &[(path("/foo/x"), true), (path("/foo/x/y"), false), (path("/foo/"), false)],
    );
    table(
        "23",
        &operation("paths: ['/foo/{*}/bar/{**}']"),
        &[(path("/foo/q/bar/z/w"), true), (path("/foo/bar/z"), false)],
    );
    table("24", &deny(&operation("notPaths: ['/public*']")), &[(path("/public/x"), true), (path("/private"), false)]);
    // 25 to 27: what the proxy makes of the path comes before.
    let public = operation("paths: ['/public*'], methods: [GET]");
    table("25", &public, &[(path("/private"), false), (path("/public/x"), true)]);
    table("26", &deny(&operation("paths: [/admin]")), &[(path("//admin"), true), (path("/admin"), false)]);
    table("27", &deny(&operation("paths: [/a/b]")), &[(path("/a%2fb"), true), (path("/a/b"), false)]);
    table("28", &operation("methods: [get]"), &[(path("/"), false)]);
    let host = |h: &str| Facts { authority: h.into(), ..Facts::default() };
    table(
        "29, G9",
        &operation("hosts: [Example.com]"),
        &[(host("example.COM"), true), (host("example.com:8080"), false)],
    );
    table(
        "29",
        &operation("hosts: ['example.com:*']"),
        &[(host("Example.com:8080"), true), (host("example.com"), false)],
    );
    table("30", &operation("hosts: ['*.example.com']"), &[(host("a.example.com"), true), (host("example.com"), false)]);
    // A name's last dot opens nothing, and lets nobody out of what is denied; nor does a user before it.
    let spellings = [
        "a.example",
        "A.EXAMPLE",
        "a.example.",
        "a.example..",
        "a.example:80",
        "a.example.:80",
        "u@a.example",
        "u:p@A.example.:80",
        "b.example@a.example",
        "a@b@a.example:80",
    ];
    let both = "hosts: [a.example, 'a.example:*']";
    let spelt = |passes: &dyn Fn(&str) -> bool| spellings.map(|h| (host(h), passes(h)));
    let plain = |h: &str| !h.contains("e.") && !h.contains('@');
    table("dots", &operation(both), &spelt(&plain));
    table("dots", &deny(&operation(both)), &spelt(&|_| false));
    table("dots", &operation("notHosts: [a.example, 'a.example:*']"), &spelt(&|_| false));
    table("dots", &deny(&operation("notHosts: [a.example, 'a.example:*']")), &spelt(&plain));
    let others = ["b.example.", "a.example.x", "a.example@b.example"].map(|h| (host(h), true));
    table("dots", &deny(&operation("hosts: [a.example]")), &others);
    // What servers with parameters in their paths make of one opens nothing.
    let to_each = |paths: &[(&str, bool)]| paths.iter().map(|(p, passes)| (path(p), *passes)).collect::<Vec<_>>();
    for (spec, cases) in [
        (
            deny(&operation("paths: [/admin, '/admin/*']")),
            &[
                ("/admin;x", false),
                ("/x/..;/admin", false),
                ("/;a/admin/;b", false),
                ("/admin;/y", false),
                ("/x;", true),
            ][..],
        ),
        (
            operation("paths: ['/public/*']"),
            &[("/public/x;y", true), ("/public/..;/admin", false), ("/public/x/..;z/..;/admin", false)],
        ),
        (operation("paths: ['/public/{**}']"), &[("/public/x;y/z", true), ("/public/..;/admin", false)]),
        (operation("notPaths: [/admin]"), &[("/admin;x", false), ("/y;admin", true)]),
        (deny(&operation("notPaths: ['/public/*']")), &[("/public/..;/admin", false), ("/public/x;y", true)]),
        // Who names them means them.
        (operation("paths: ['/a;v=1']"), &[("/a;v=1", true), ("/a;v=2", false), ("/a", false)]),
        (deny(&operation("paths: ['/a;v=1']")), &[("/a;v=1", false), ("/a", true)]),
    ] {
        table("parameters", &spec, &to_each(cases));
    }
    let port = |port| Facts { port, ..Facts::default() };
    table("31", &operation("ports: ['8080']"), &[(port(8080), true), (port(9090), false)]);
    table(
        "62",
        &operation("paths: [/pkg.Svc/Get]"),
        &[(to("POST", "/pkg.Svc/Get"), true), (to("POST", "/pkg.Svc/Put"), false)],
    );
    let long = "A".repeat(2000);
    table("long", &operation(&format!("hosts: [{}]", "a".repeat(2000))), &[(host(&long), true)]);
}

#[test]
fn tcp_32_to_36() {
    let table = |number: &str, text: &str, cases: &[(Facts, bool)]| {
        check(number, &compiled(&policy("p", text), Protocol::Tcp), cases);
    };
    let b = |port| Facts { peer: Some(B.into()), ..Facts::tcp(port) };
    table("32", &operation("methods: [GET]"), &[(Facts::tcp(9000), false)]);
    let t33 = deny(&operation("methods: [POST], ports: ['9000']"));
    table("33", &t33, &[(Facts::tcp(9000), false), (Facts::tcp(9001), true)]);
    table("34", &deny(&operation("methods: [POST]")), &[(Facts::tcp(1), false)]);
    let t35 = rules("from: [{source: {requestPrincipals: [x]}}], to: [{operation: {ports: ['80']}}]");
    table("35", &deny(&t35), &[(Facts::tcp(80), false), (Facts::tcp(81), true)]);
    let t36 = "rules: [{from: [{source: {namespaces: [bar]}}], to: [{operation: {methods: [GET], ports: ['9000']}}]}, \
               {from: [{source: {namespaces: [bar]}}], to: [{operation: {ports: ['9001']}}]}]";
    table("36", t36, &[(b(9000), false), (b(9001), true)]);
}

#[test]
fn addresses_37_38_g10() {
    let facts = Facts { source_ip: "10.1.1.1".into(), remote_ip: "203.0.113.9".into(), ..Facts::default() };
    let peer = Facts { source_ip: "198.51.100.7".into(), remote_ip: "198.51.100.7".into(), ..Facts::default() };
    table("37", &source("ipBlocks: [10.0.0.0/8]"), &[(facts.clone(), true), (peer.clone(), false)]);
    table("38, 39", &source("remoteIpBlocks: [203.0.113.0/24]"), &[(facts.clone(), true), (peer.clone(), false)]);
    table("g10", &when("remote.ip", "values: [203.0.113.9]"), &[(facts.clone(), true), (peer.clone(), false)]);
    table("g10", &when("source.ip", "notValues: [10.1.1.1]"), &[(facts.clone(), false), (peer, true)]);
    let six = Facts { source_ip: "::ffff:10.1.1.1".into(), ..facts.clone() };
    table("mapped", &source("ipBlocks: ['10.1.1.1']"), &[(six, true)]);
    table("mapped", &source("ipBlocks: ['::ffff:10.1.0.0/112']"), &[(facts.clone(), true)]);
    table("all", &source("ipBlocks: [0.0.0.0/0]"), &[(facts.clone(), true)]);
    table("all", &source("ipBlocks: ['::/0']"), &[(facts.clone(), false)]);
    table("destination", &when("destination.ip", "values: [10.0.0.2]"), &[(facts, true)]);
}

#[test]
fn tokens_41_42_44_to_48_g11() {
    let token = |json: &str| Facts::default().claims(json);
    let user = || token(r#"{"iss": "i", "sub": "s"}"#);
    table(
        "41",
        &source("requestPrincipals: ['*']"),
        &[(Facts::default(), false), (user(), true), (token(r#"{"iss": "i"}"#), false)],
    );
    table("42", &deny(&source("notRequestPrincipals: ['*']")), &[(Facts::default(), false), (user(), true)]);
    let iss = |iss: &str| token(&format!(r#"{{"iss": "{iss}", "sub": "u1"}}"#));
    table(
        "44",
        &source("requestPrincipals: ['https://iss/*']"),
        &[(iss("https://iss"), true), (iss("https://iss2"), false)],
    );
    for (written, issuer, subject, allowed) in [
        ("*/s", "any", "s", true),
        ("*/s", "any", "t", false),
        ("*x/s", "aax", "s", true),
        ("i/s*", "i", "st", true),
        ("*uffix", "i", "suffix", true),
        ("pre*", "prefix", "s", true),
        ("i", "i", "s", false),
        ("i/s", "i", "s", true),
        ("i/s", "i/s", "", false),
    ] {
        let facts = token(&format!(r#"{{"iss": "{issuer}", "sub": "{subject}"}}"#));
        table(written, &source(&format!("requestPrincipals: ['{written}']")), &[(facts.clone(), allowed)]);
        table(written, &when("request.auth.principal", &format!("values: ['{written}']")), &[(facts, allowed)]);
    }
    let claim = |json: &str| token(&format!(r#"{{"iss": "i", "sub": "s", {json}}}"#));
    table(
        "45",
        &when("request.auth.claims[groups]", "values: [g1]"),
        &[
            (claim(r#""groups": ["g0", "g1"]"#), true),
            (claim(r#""groups": "g1""#), true),
            (claim(r#""groups": "g0 g1""#), false),
            (claim(r#""groups": {"g1": "g1"}"#), false),
        ],
    );
    table("46", &when("request.auth.claims[scope]", "values: [read]"), &[(claim(r#""scope": "read write""#), true)]);
    table(
        "47",
        &when("request.auth.claims[a][b]", "values: ['x*']"),
        &[(claim(r#""a": {"b": ["xy"]}"#), true), (claim(r#""a.b": "xy""#), false)],
    );
    table("48, G11", &when("request.auth.claims[role]", "notValues: [admin]"), &[(Facts::default(), true)]);
    table(
        "G11",
        &when("request.auth.claims[n]", "values: ['1', 'true', '*']"),
        &[(claim(r#""n": 1"#), false), (claim(r#""n": true"#), false), (claim(r#""n": "1""#), true)],
    );
    table("audiences", &when("request.auth.audiences", "values: [x]"), &[(claim(r#""aud": ["y", "x"]"#), true)]);
    table("presenter", &when("request.auth.presenter", "values: [x]"), &[(claim(r#""azp": "x""#), true)]);
}

#[test]
fn headers_49_g7_g8() {
    let plain = Facts::default;
    table(
        "49",
        &when("request.headers[X-Env]", "values: ['prod*']"),
        &[(plain().header("x-env", "prod1"), true), (plain(), false)],
    );
    table(
        "49, G7",
        &when("request.headers[x-env]", "values: ['*']"),
        &[(plain().header("x-env", ""), true), (plain(), false)],
    );
    let twice = || plain().header("x-a", "1").header("x-a", "2");
    for (value, joined, lines) in [("1", false, true), ("2", false, true), ("1,2", true, false)] {
        table(
            "G8",
            &when("request.headers[x-a]", &format!("values: ['{value}']")),
            &[(twice(), lines), (plain().header("x-a", "1,2"), joined)],
        );
        table("G8 negated", &when("request.headers[x-a]", &format!("notValues: ['{value}']")), &[(twice(), !lines)]);
    }
    table(
        "pseudo",
        &when("request.headers[:method]", "values: [GET]"),
        &[(to("GET", "/"), true), (to("PUT", "/"), false)],
    );
    table(
        "pseudo",
        &when("request.headers[:path]", "values: ['/a?b=c']"),
        &[(to("GET", "/a?b=c"), true), (to("GET", "/a"), false)],
    );
    table("pseudo", &when("request.headers[host]", "values: [a.example]"), &[(to("GET", "/"), true)]);
    let metadata = "experimental.envoy.filters.a.b[c]";
    table("metadata", &when(metadata, "values: ['*']"), &[(plain(), false)]);
    table("metadata", &when(metadata, "notValues: ['*']"), &[(plain(), true)]);
}

#[test]
fn sni_61() {
    let sni = |sni: &str| Facts { sni: sni.into(), ..Facts::default() };
    table("61", &when("connection.sni", "values: ['*.ex.com']"), &[(sni("a.ex.com"), true), (sni(""), false)]);
}

#[test]
fn dry_run_51_g4() {
    let dry = |value: &str, spec: &str| {
        policy("p", spec)
            .replace("namespace: foo", &format!("namespace: foo, annotations: {{istio.io/dry-run: '{value}'}}"))
    };
    let spec = source(&format!("principals: ['{A}']"));
    let allow = compiled(&dry("true", &spec), Protocol::Http);
    check("51", &allow, &[(from(B), true)]);
    from(B).with(|i| assert_eq!(allow.dry_run(i), DryRun { denied_by: None, allowed_by: Some(None) }));
    from(A).with(|i| assert_eq!(&**allow.dry_run(i).allowed_by.unwrap().unwrap(), "ns[foo]-policy[p]-rule[0]"));
    let deny = compiled(&dry("T", &deny(&spec)), Protocol::Http);
    check("G4", &deny, &[(from(A), true)]);
    from(A).with(|i| assert_eq!(&**deny.dry_run(i).denied_by.unwrap(), "ns[foo]-policy[p]-rule[0]"));
    for enforced in ["false", "yes"] {
        check(enforced, &compiled(&dry(enforced, &spec), Protocol::Http), &[(from(B), false), (from(A), true)]);
    }
}

#[test]
fn audit_decides_nothing() {
    let audit = compiled(&policy("p", &format!("action: AUDIT, {}", source("namespaces: [foo]"))), Protocol::Http);
    check("audit", &audit, &[(from(A), true), (from(B), true)]);
    from(A).with(|i| assert_eq!(&**audit.audit(i).unwrap(), "ns[foo]-policy[p]-rule[0]"));
    from(B).with(|i| assert_eq!(audit.audit(i), None));
}

#[test]
fn trust_domains_52_53() {
    let allows = |td: &TrustDomains, written: &str, peer: &str| {
        let text = policy("p", &source(&format!("principals: ['{written}']")));
        let policies = compiled_in(&text, Protocol::Http, td, &[]);
        decision(&policies, &from(peer)) == "allow"
    };
    let td = TrustDomains::new("td2", ["td1"]);
    assert!(allows(&td, "td1/ns/foo/sa/a", "td2/ns/foo/sa/a"));
    assert!(allows(&td, "td1/ns/foo/sa/a", "td1/ns/foo/sa/a"));
    assert!(!allows(&td, "td1/ns/foo/sa/a", "td3/ns/foo/sa/a"));
    assert!(!allows(&td, "td3/ns/foo/sa/a", "td2/ns/foo/sa/a"));
    assert!(allows(&td, "td3/ns/foo/sa/a", "td3/ns/foo/sa/a"));
    let td = TrustDomains::new("td2", []);
    assert!(allows(&td, "cluster.local/ns/foo/sa/a", "td2/ns/foo/sa/a"));
    assert!(!allows(&td, "cluster.local/ns/foo/sa/a", "cluster.local/ns/foo/sa/a"));
    // A star keeps what it says for the domains that it fits.
    let td = TrustDomains::new("some-td", ["other"]);
    for peer in ["some-td/ns/foo/sa/a", "new-td/ns/foo/sa/a", "other/ns/foo/sa/a"] {
        assert!(allows(&td, "*-td/ns/foo/sa/a", peer), "{peer}");
    }
    assert!(!allows(&td, "*-td/ns/foo/sa/a", "another/ns/foo/sa/a"));
    let td = TrustDomains::new("td2", ["td1"]);
    let policies = compiled_in(&policy("p", &source("trustDomains: [td1]")), Protocol::Http, &td, &[]);
    check("domains", &policies, &[(from("td2/ns/x/sa/y"), true), (from("td3/ns/x/sa/y"), false)]);
}

#[test]
fn external_authorizers_54_55() {
    let custom = |name: &str, provider: &str| {
        policy(name, &format!("action: CUSTOM, provider: {{name: {provider}}}, {}", operation("paths: ['/admin*']")))
    };
    let has = [("ext", Provider::Http), ("grpc", Provider::Grpc)];
    let compiled = |text: &str, protocol| compiled_in(text, protocol, &TrustDomains::default(), &has);
    let unknown = compiled(&custom("p", "who"), Protocol::Http);
    to("GET", "/admin").with(|i| {
        let Some(Custom::Refuse { rule }) = unknown.custom(i) else { panic!("54") };
        assert_eq!(&**rule, "istio-ext-authz-who-ns[foo]-policy[p]-rule[0]-deny-due-to-bad-CUSTOM-action");
    });
    to("GET", "/x").with(|i| assert_eq!(unknown.custom(i), None));
    let both = compiled(&(custom("p", "ext") + &policy("d", &deny("rules: [{}]"))), Protocol::Http);
    to("GET", "/admin").with(|i| {
        let Some(Custom::Ask { provider, rule }) = both.custom(i) else { panic!("55") };
        assert_eq!((&**provider, &**rule), ("ext", "istio-ext-authz-ext-ns[foo]-policy[p]-rule[0]"));
        assert!(matches!(both.decide(i), Decision::Deny(_)));
    });
    let several = compiled(&(custom("p", "ext") + &custom("q", "grpc")), Protocol::Http);
    to("GET", "/admin").with(|i| assert!(matches!(several.custom(i), Some(Custom::Refuse { .. }))));
    // Over TCP there is no HTTP authorizer.
    Facts::tcp(1).with(|i| {
        assert_eq!(compiled(&custom("p", "ext"), Protocol::Tcp).custom(i), None);
        assert!(matches!(compiled(&custom("p", "grpc"), Protocol::Tcp).custom(i), Some(Custom::Ask { .. })));
        assert!(matches!(compiled(&custom("p", "who"), Protocol::Tcp).custom(i), Some(Custom::Refuse { .. })));
    });
}

#[test]
fn names_and_details_g1_g2() {
    let policies = compiled(&policy("p", &deny("rules: [{to: [{operation: {paths: [/x]}}]}, {}]")), Protocol::Http);
    assert_eq!(decision(&policies, &to("GET", "/y")), "ns[foo]-policy[p]-rule[1]");
    // Both match; Envoy tries them in the order of their names.
    assert_eq!(decision(&policies, &to("GET", "/x")), "ns[foo]-policy[p]-rule[0]");
    let denial = Denial { rule: "ns[foo]-policy[x y]-rule[0]".into() };
    assert_eq!(denial.details(), "rbac_access_denied_matched_policy[ns[foo]-policy[x_y]-rule[0]]");
    assert_eq!(denial.to_string().len(), 19);
    assert_eq!(decision(&compiled(&policy("p", ""), Protocol::Http), &to("GET", "/")), "none");
}

#[test]
fn values_that_slipped_through_validation() {
    // Nothing is allowed by what can't be read, and what is denied is denied more widely.
    let bad = source("ipBlocks: [nonsense], namespaces: [bar]");
    table("bad", &bad, &[(from(B), false)]);
    table("bad", &deny(&bad), &[(from(B), false), (from(A), true)]);
    table("bad", &deny(&source("ipBlocks: [nonsense]")), &[(from(A), false)]);
    table("empty", "rules: [{from: []}]", &[(from(A), false)]);
    table("empty", "rules: [{from: [{}]}]", &[(from(A), false)]);
    table("empty", &deny("rules: [{from: [{}]}]"), &[(from(A), false)]);
    table("unknown", &deny(&when("who.knows", "values: [x]")), &[(from(A), true)]);
}

#[test]
fn the_nearest_rule() {
    let text = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: foo}\nspec:\n  \
        rules:\n  - from:\n    - source: {principals: [cluster.local/ns/foo/sa/a]}\n    to:\n    - operation: {methods: [PUT], \
        paths: [/x]}\n  - to:\n    - operation: {methods: [POST], paths: [/a, /b, /c, /d, /e, /f, /g]}\n";
    let policies = compiled(text, Protocol::Http);
    let facts = Facts { peer: Some(B.into()), ..to("POST", "/y") };
    let explanation = facts.with(|i| policies.explain(i));
    let (tried, rule) = explanation.nearest().unwrap();
    assert_eq!(
        (tried.location.as_deref(), rule.index, &*rule.name),
        (Some("f.yaml:1"), 1, "ns[foo]-policy[p]-rule[1]")
    );
    let [missed] = &rule.missed[..] else { panic!("{rule:#?}") };
    assert_eq!(missed.field, "spec.rules[1].to[0].operation.paths");
    assert_eq!(
        rule.to_string(),
        "ns[foo]-policy[p]-rule[1] at f.yaml:10: path is /y, wanted one of /a, /b, /c, /d, /e and 2 more \
         (spec.rules[1].to[0].operation.paths, f.yaml:11)"
    );
    let facts = Facts { peer: Some(B.into()), ..to("PUT", "/x") };
    let explanation = facts.with(|i| policies.explain(i));
    let said = explanation.nearest().unwrap().1.to_string();
    assert!(
        said.contains("source.principal is cluster.local/ns/bar/sa/b, wanted one of cluster.local/ns/foo/sa/a"),
        "{said}"
    );
    // What matched is said, too; so is what can't match here.
    let allowed = Facts { peer: Some(A.into()), ..to("PUT", "/x") }.with(|i| policies.explain(i));
    assert_eq!(allowed.tried[0].matched.as_ref().map(|r| r.index), Some(0));
    let tcp = Facts::tcp(80).with(|i| compiled(text, Protocol::Tcp).explain(i));
    let said = tcp.nearest().unwrap().1.to_string();
    assert!(said.contains("can't match: methods is HTTP's"), "{said}");
}
