//! The kinds of `security.istio.io`.

use super::{refused, said, warned};

/// Accepted without a word.
fn accepted(kind: &str, specs: &[&str]) {
    for spec in specs {
        assert_eq!(said(kind, spec), [], "{spec}");
    }
}

#[test]
fn peer_authentication() {
    for spec in [
        "{}",
        "mtls: {mode: STRICT}",
        "selector: {}",
        "selector: {matchLabels: {a: b}}\nmtls: {mode: 1}\nportLevelMtls: {'80': {mode: UNSET}}",
    ] {
        assert_eq!(said("PeerAuthentication", spec), [], "{spec}");
    }
    let port = |p: &str| format!("selector: {{matchLabels: {{a: b}}}}\nportLevelMtls: {{{p}}}");
    refused(
        "PeerAuthentication",
        &[
            ("mtls: {mode: ON}", "spec.mtls.mode", "must be one of UNSET, DISABLE, PERMISSIVE, STRICT"),
            ("mtls: {mode: 'ON'}", "spec.mtls.mode", "Unsupported value: \"ON\""),
            ("portLevelMtls: {'80': {mode: STRICT}}", "spec.portLevelMtls", "portLevelMtls requires selector"),
            (&port(""), "spec.portLevelMtls", "should have at least 1 properties"),
            (&port("'0': {mode: STRICT}"), "spec.portLevelMtls.0", "port must be between 1-65535"),
            (&port("'65536': {mode: STRICT}"), "spec.portLevelMtls.65536", "port must be between 1-65535"),
            (&port("web: {mode: STRICT}"), "spec.portLevelMtls.web", "type conversion error from \"web\""),
            ("selector: {matchLabels: {'a*': b}}", "spec.selector.matchLabels.a*", "wildcard not allowed in label key"),
            (
                "selector: {matchLabels: {a: 'b*'}}",
                "spec.selector.matchLabels.a",
                "wildcard not allowed in label value",
            ),
        ],
    );
}

#[test]
fn targets() {
    for kind in ["AuthorizationPolicy", "RequestAuthentication"] {
        accepted(
            kind,
            &[
                "targetRefs: [{kind: Service, name: a}, {group: networking.istio.io, kind: ServiceEntry, name: b}]",
                "targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: a}",
                "selector: {matchLabels: {a: b}}",
            ],
        );
        let many = format!("targetRefs: [{}]", "{kind: Service, name: a}, ".repeat(17));
        refused(
            kind,
            &[
                ("selector: {}\ntargetRef: {kind: Service, name: a}", "spec", "only one of targetRefs or selector"),
                ("targetRef: {kind: Service}", "spec.targetRef.name", "Required value"),
                ("targetRef: {kind: Service, name: ''}", "spec.targetRef.name", "at least 1 chars long"),
                ("targetRefs: [{name: a}]", "spec.targetRefs[0].kind", "Required value"),
                ("targetRef: {kind: a_b, name: a}", "spec.targetRef.kind", "in body should match"),
                ("targetRef: {kind: 1b, name: a}", "spec.targetRef.kind", "in body should match"),
                ("targetRef: {group: A, kind: Service, name: a}", "spec.targetRef.group", "in body should match"),
                ("targetRef: {kind: Service, name: a, namespace: b}", "spec.targetRef.namespace", "cross namespace"),
                (&many, "spec.targetRefs", "at most 16"),
            ],
        );
        warned(kind, &[("targetRef: {kind: Pod, name: a}", "spec.targetRef", "can't be attached to \"Pod\"")]);
    }
}

fn rule(text: &str) -> String {
    format!("rules: [{{{text}}}]")
}

#[test]
fn authorization_policy_shape() {
    accepted("AuthorizationPolicy", &["{}", "rules: [{}]", "action: CUSTOM\nprovider: {name: p}\nrules: [{}]"]);
    let many = format!("rules: [{}]", "{}, ".repeat(513));
    refused(
        "AuthorizationPolicy",
        &[
            ("action: DENY", "spec.rules", "DENY action without `rules` is meaningless"),
            ("action: CUSTOM\nprovider: {name: p}", "spec.rules", "CUSTOM action without `rules`"),
            ("action: CUSTOM\nrules: [{}]", "spec.provider", "`provider.name` must not be empty"),
            ("action: CUSTOM\nprovider: {}\nrules: [{}]", "spec.provider.name", "`provider.name` must not be empty"),
            ("action: AUDIT\nprovider: {name: p}\nrules: [{}]", "spec.provider", "must not be set with AUDIT action"),
            ("action: LOG", "spec.action", "Unsupported value: \"LOG\""),
            ("rules: [~]", "spec.rules[0]", "in body must be of type object"),
            ("rules: [{from: []}]", "spec.rules[0].from", "`from` must not be an empty list"),
            ("rules: [{to: []}]", "spec.rules[0].to", "`to` must not be an empty list"),
            ("rules: [{from: [{}]}]", "spec.rules[0].from[0].source", "`from.source` must not be nil"),
            ("rules: [{from: [{source: {}}]}]", "spec.rules[0].from[0].source", "must have at least one field"),
            ("rules: [{to: [{}]}]", "spec.rules[0].to[0].operation", "`to.operation` must not be nil"),
            ("rules: [{to: [{operation: {}}]}]", "spec.rules[0].to[0].operation", "must have at least one field"),
            (&many, "spec.rules", "at most 512"),
        ],
    );
}

#[test]
fn authorization_policy_sources() {
    let source = |text: &str| rule(&format!("from: [{{source: {{{text}}}}}]"));
    let at = |field: &str| format!("spec.rules[0].from[0].source{field}");
    for (text, field, message) in [
        ("serviceAccounts: [a], namespaces: [b]", "", "Cannot set serviceAccounts with namespaces or principals"),
        ("notServiceAccounts: [a], notPrincipals: [b]", "", "Cannot set serviceAccounts"),
        ("serviceAccounts: ['a*']", ".serviceAccounts[0]", "can't have a wildcard"),
        ("serviceAccounts: [a/b/c]", ".serviceAccounts[0]", "must be name or namespace/name"),
        ("serviceAccounts: [/b]", ".serviceAccounts[0]", "must be name or namespace/name"),
        ("principals: ['']", ".principals[0]", "empty value not allowed"),
        ("ipBlocks: [1.2.3]", ".ipBlocks[0]", "not a valid IP address or CIDR block"),
        ("notRemoteIpBlocks: [1.2.3.4/33]", ".notRemoteIpBlocks[0]", "not a valid IP address or CIDR block"),
        ("trustDomains: [a/b]", ".trustDomains[0]", "can't have a slash"),
        ("trustDomains: ['a*b']", ".trustDomains[0]", "can have one *"),
        ("notTrustDomains: ['*a*']", ".notTrustDomains[0]", "can have one *"),
    ] {
        refused("AuthorizationPolicy", &[(&source(text), &at(field), message)]);
    }
    let many = source(&format!("serviceAccounts: [{}]", "a, ".repeat(17)));
    refused("AuthorizationPolicy", &[(&many, &at(".serviceAccounts"), "at most 16")]);
    for (text, field) in [("namespaces: [a]", "namespaces"), ("requestPrincipals: ['*']", "requestPrincipals")] {
        let spec = format!("action: CUSTOM\nprovider: {{name: p}}\n{}", source(text));
        let message = format!("`from.source.{field}` is currently not supported with CUSTOM action");
        refused("AuthorizationPolicy", &[(&spec, &at(&format!(".{field}")), &message)]);
    }
}

#[test]
fn authorization_policy_operations_and_conditions() {
    let operation = |text: &str| rule(&format!("to: [{{operation: {{{text}}}}}]"));
    for (text, field, message) in [
        ("ports: ['65536']", "ports[0]", "invalid port 65536"),
        ("ports: ['+80']", "ports[0]", "invalid port +80"),
        ("notPorts: [web]", "notPorts[0]", "invalid port web"),
        ("methods: ['']", "methods[0]", "empty value not allowed"),
        ("paths: ['/{*}/x{**}']", "paths[0]", "invalid or unsupported path"),
        ("notPaths: ['/{**}/{*}']", "notPaths[0]", "must be the last operator"),
    ] {
        refused(
            "AuthorizationPolicy",
            &[(&operation(text), &format!("spec.rules[0].to[0].operation.{field}"), message)],
        );
    }
    let when = |text: &str| rule(&format!("when: [{{{text}}}]"));
    for (text, field, message) in [
        ("values: [a]", ".key", "Required value"),
        ("key: source.ip", "", "at least one of `values` or `notValues` must be set for key source.ip"),
        ("key: source.ip, values: [a]", ".values[0]", "not a valid IP address"),
        ("key: destination.port, notValues: [a]", ".notValues[0]", "invalid port a"),
        ("key: 'destination.labels[a]', values: [b]", ".key", "is not supported"),
        ("key: a, values: [b]", ".key", "unknown attribute: a"),
        ("key: 'request.headers[a', values: [b]", ".key", "must be of form"),
    ] {
        refused("AuthorizationPolicy", &[(&when(text), &format!("spec.rules[0].when[0]{field}"), message)]);
    }
    let custom =
        format!("action: CUSTOM\nprovider: {{name: p}}\n{}", when("key: 'request.auth.claims[a]', values: [b]"));
    refused("AuthorizationPolicy", &[(&custom, "spec.rules[0].when[0].key", "not supported with CUSTOM action")]);
    let metadata = when("key: 'experimental.envoy.filters.a[b]', values: [c]");
    warned("AuthorizationPolicy", &[(&metadata, "spec.rules[0].when[0].key", "values never match")]);
}

#[test]
fn a_denial_without_anything_that_tcp_knows() {
    let all = [
        "to: [{operation: {methods: [POST]}}]",
        "from: [{source: {requestPrincipals: [a]}}]",
        "when: [{key: 'request.headers[a]', values: [b]}]",
        "to: [{operation: {methods: [POST], ports: ['80']}}, {operation: {paths: [/]}}]",
    ];
    for text in all {
        let spec = format!("action: DENY\n{}", rule(text));
        warned("AuthorizationPolicy", &[(&spec, "spec.rules[0]", "on TCP ports this rule denies everything")]);
        accepted("AuthorizationPolicy", &[&rule(text)]);
    }
    for text in ["to: [{operation: {methods: [POST], ports: ['80']}}]", "from: [{source: {namespaces: [a]}}]"] {
        accepted("AuthorizationPolicy", &[&format!("action: DENY\n{}", rule(text))]);
    }
}

#[test]
fn request_authentication() {
    let jwt = |text: &str| format!("jwtRules: [{{{text}}}]");
    for text in [
        "issuer: a",
        "issuer: a, jwksUri: 'http://keys.example/k', timeout: 5s, fromHeaders: [{name: x, prefix: 'B '}], fromParams: [t]",
        "issuer: a, jwks: '{\"keys\": []}', outputClaimToHeaders: [{header: x-a, claim: a.b}], fromCookies: [c]",
        "jwksUri: 'https://keys.example/k'",
        "issuer: a, presence: REQUIRED, spaceDelimitedClaims: [roles], forwardOriginalToken: true",
    ] {
        accepted("RequestAuthentication", &[&jwt(text)]);
    }
    for (text, field, message) in [
        ("{}", "issuer", "issuer must be set"),
        ("issuer: a, jwksUri: 'ftp://a/b'", "jwksUri", "url must have scheme"),
        ("issuer: a, jwksUri: 'http://'", "jwksUri", "url must have scheme"),
        ("issuer: a, jwksUri: 'http://a/', jwks: '{\"keys\": []}'", "jwksUri", "only one of jwks or jwksUri"),
        ("issuer: a, jwks: '{}'", "jwks", "not a JSON Web Key Set"),
        ("issuer: a, jwks: 'x'", "jwks", "not a JSON Web Key Set"),
        ("issuer: a, audiences: ['']", "audiences[0]", "at least 1 chars long"),
        ("issuer: a, fromHeaders: [{prefix: x}]", "fromHeaders[0].name", "Required value"),
        ("issuer: a, fromHeaders: [{name: 'a b'}]", "fromHeaders[0].name", "not the name of a header"),
        ("issuer: a, outputPayloadToHeader: 'a b'", "outputPayloadToHeader", "not the name of a header"),
        (
            "issuer: a, outputClaimToHeaders: [{header: ':a', claim: b}]",
            "outputClaimToHeaders[0].header",
            "should match",
        ),
        (
            "issuer: a, outputClaimToHeaders: [{header: a, claim: b}, {header: A, claim: c}]",
            "outputClaimToHeaders[1].header",
            "gets two claims",
        ),
        ("issuer: a, timeout: 0s", "timeout", "must be a valid duration greater than"),
        ("issuer: a, presence: SOMETIMES", "presence", "Unsupported value: \"SOMETIMES\""),
    ] {
        let text = if text == "{}" { "" } else { text };
        refused("RequestAuthentication", &[(&jwt(text), &format!("spec.jwtRules[0].{field}"), message)]);
    }
    let secret = jwt("issuer: a, jwks: '{\"keys\": [{\"kty\": \"oct\", \"k\": \"YQ\"}]}'");
    warned("RequestAuthentication", &[(&secret, "spec.jwtRules[0].jwks", "can sign tokens")]);
}
