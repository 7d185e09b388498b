//! Codes of Istio for which there is no case in the corpus, or not for all that they cover.

use super::*;

/// What is said with a code of Istio, as `CODE Kind namespace/name field: message`.
fn said_by(analyzer: &str, text: &str) -> Vec<String> {
    let (resources, reports) = yaml::read("a.yaml", text);
    let input = AnalyzeInput { resources: &resources, reports: &reports, ..AnalyzeInput::default() };
    let found = analyze_with(&input, &[analyzer]);
    let own = found.iter().filter(|r| r.code.starts_with("IST"));
    own.map(|r| format!("{} {} {}: {}", r.code, r.object, r.field, r.message)).collect()
}

const PODS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Namespace
metadata: {name: plain}
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop, labels: {app: a}}
---
apiVersion: v1
kind: Pod
metadata: {name: out, namespace: shop, labels: {app: out, sidecar.istio.io/inject: 'false'}}
---
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: plain, labels: {app: p}}
---
apiVersion: v1
kind: Pod
metadata: {name: s, namespace: plain, labels: {app: s}}
spec: {containers: [{name: istio-proxy, image: proxyv2}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: w, namespace: unwritten}
spec: {template: {metadata: {labels: {app: w}}}}
---
";

fn policy(namespace: &str, spec: &str) -> String {
    format!(
        "{PODS}\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: x, namespace: {namespace}}}\nspec: {spec}"
    )
}

#[test]
fn policies_select_workloads_with_a_proxy() {
    let cases = [
        ("shop", "{}", None),
        ("shop", "{selector: {matchLabels: {app: a}}}", None),
        ("shop", "{selector: {matchLabels: {app: p}}}", Some("app=p")),
        ("shop", "{selector: {matchLabels: {app: out}}}", Some("app=out")),
        ("plain", "{selector: {matchLabels: {app: p}}}", Some("app=p")),
        ("plain", "{selector: {matchLabels: {app: s}}}", None),
        ("unwritten", "{selector: {matchLabels: {app: w}}}", None),
        ("nowhere", "{}", Some("")),
        ("istio-system", "{}", None),
        ("istio-system", "{selector: {matchLabels: {app: a}}}", None),
        ("istio-system", "{selector: {matchLabels: {app: p, b: c}}}", Some("app=p,b=c")),
        ("nowhere", "{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: g}]}", None),
    ];
    for (namespace, spec, missing) in cases {
        let field = if spec.contains("selector") { "spec.selector.matchLabels" } else { "" };
        let expected = missing.map(|labels| {
            format!(
                "IST0127 AuthorizationPolicy {namespace}/x {field}: No matching workloads for this resource with the following labels: {labels}"
            )
        });
        let found = said_by("auth.AuthorizationPoliciesAnalyzer", &policy(namespace, spec));
        assert_eq!(found, Vec::from_iter(expected), "{namespace} {spec}");
    }
}

#[test]
fn sources_are_in_namespaces_that_exist() {
    for (pattern, exists) in [
        ("shop", true),
        ("SHOP", true),
        ("sh*", true),
        ("*op", true),
        ("*", true),
        ("unwritten", true),
        ("shops", false),
    ] {
        for list in ["namespaces", "notNamespaces"] {
            let spec = format!("{{rules: [{{}}, {{from: [{{source: {{{list}: [shop, '{pattern}']}}}}]}}]}}");
            let expected = (!exists).then(|| {
                format!(
                    "IST0101 AuthorizationPolicy shop/x spec.rules[1].from[0].source.{list}[1]: Referenced namespace not found: {pattern:?}"
                )
            });
            let found = said_by("auth.AuthorizationPoliciesAnalyzer", &policy("shop", &spec));
            assert_eq!(found, Vec::from_iter(expected), "{pattern}");
        }
    }
}

#[test]
fn selectors_do_not_reach_gateways_of_the_gateway_api() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: g-1, namespace: shop, labels: {app: g, gateway.networking.k8s.io/gateway-name: g}}\n---\n";
    for (kind, api) in [
        ("AuthorizationPolicy", "security.istio.io/v1"),
        ("RequestAuthentication", "security.istio.io/v1"),
        ("Telemetry", "telemetry.istio.io/v1"),
        ("WasmPlugin", "extensions.istio.io/v1alpha1"),
    ] {
        for (spec, hit) in [
            ("{selector: {matchLabels: {app: g}}}", true),
            ("{selector: {matchLabels: {app: h}}}", false),
            ("{targetRef: {kind: Gateway, name: g}, selector: {matchLabels: {app: g}}}", false),
            ("{}", false),
        ] {
            let text =
                format!("{pod}apiVersion: {api}\nkind: {kind}\nmetadata: {{name: x, namespace: shop}}\nspec: {spec}");
            let expected = hit.then(|| {
                format!(
                    "IST0166 {kind} shop/x spec.selector: Ineffective selector on Kubernetes Gateway g. Use the TargetRef field instead."
                )
            });
            let found = said_by("k8sgateway.SelectorAnalyzer", &text);
            let found: Vec<_> = found.into_iter().filter(|l| l.starts_with("IST0166")).collect();
            assert_eq!(found, Vec::from_iter(expected), "{kind} {spec}");
        }
    }
}

#[test]
fn versions_of_the_gateway_api() {
    for (kind, version, old) in [
        ("tlsroutes", "v1.4.1", true),
        ("tlsroutes", "v1.5.0-rc.1", false),
        ("tlsroutes", "v1.5.0", false),
        ("grpcroutes", "v1.0.0", true),
        ("grpcroutes", "1.1.0", false),
        ("backendtlspolicies", "v1.3.9", true),
        ("httproutes", "v0.1.0", false),
        ("tlsroutes", "monthly", false),
    ] {
        let text = format!(
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: {kind}.gateway.networking.k8s.io, annotations: {{gateway.networking.k8s.io/bundle-version: {version}}}}}\n"
        );
        let found = said_by("k8sgateway.CRDVersionAnalyzer", &text);
        assert_eq!(found.len(), usize::from(old), "{kind} {version}: {found:?}");
    }
}

#[test]
fn conditions_that_say_no() {
    let object = |api: &str, kind: &str, status: &str| {
        format!("apiVersion: {api}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {{}}\nstatus: {status}")
    };
    let one = |kind: &str, status: &str, reason: &str| {
        format!("{{conditions: [{{type: {kind}, status: '{status}', reason: {reason}, message: m}}]}}")
    };
    let (core, security, gateway) = ("v1", "security.istio.io/v1", "gateway.networking.k8s.io/v1");
    let bound = "istio.io/WaypointBound";
    for (api, kind, status, said) in [
        (core, "Service", one(bound, "False", "R"), Some((bound, "R"))),
        (core, "Service", one(bound, "True", "R"), None),
        (core, "Service", one("Other", "False", "R"), None),
        ("networking.istio.io/v1", "ServiceEntry", one(bound, "False", "R"), Some((bound, "R"))),
        ("networking.istio.io/v1", "WorkloadEntry", one(bound, "False", "R"), Some((bound, "R"))),
        (security, "AuthorizationPolicy", one("ZtunnelAccepted", "False", "R"), Some(("ZtunnelAccepted", "R"))),
        (security, "AuthorizationPolicy", one("WaypointAccepted", "True", "R"), None),
        (
            security,
            "AuthorizationPolicy",
            one("WaypointAccepted", "True", "PartiallyInvalid"),
            Some(("WaypointAccepted", "PartiallyInvalid")),
        ),
        (gateway, "Gateway", one("Programmed", "False", "R"), Some(("Programmed", "R"))),
        ("networking.istio.io/v1", "Gateway", one("Programmed", "False", "R"), None),
        (
            gateway,
            "HTTPRoute",
            format!("{{parents: [{}]}}", one("ResolvedRefs", "False", "R")),
            Some(("ResolvedRefs", "R")),
        ),
    ] {
        let found = said_by("conditions.ConditionAnalyzer", &object(api, kind, &status));
        let found: Vec<_> = found
            .iter()
            .filter(|l| l.starts_with("IST0171"))
            .map(|l| l.split(": ").nth(1).unwrap().to_owned() + l.split(": ").nth(2).unwrap())
            .collect();
        let expected = said.map(|(kind, reason)| {
            format!("A condition with a negative status is presenttype={kind}, reason={reason}, message=m.")
        });
        assert_eq!(found, Vec::from_iter(expected), "{kind} {status}");
    }
}

#[test]
fn webhooks_of_a_control_plane_outside() {
    let hook = |kind: &str, name: &str, client: &str| {
        format!(
            "apiVersion: admissionregistration.k8s.io/v1\nkind: {kind}WebhookConfiguration\nmetadata: {{name: {name}}}\nwebhooks: [{{name: w, clientConfig: {client}}}]"
        )
    };
    for (kind, name, client, said) in [
        ("Mutating", "istio-sidecar-injector", "{url: 'https://x.example.com/inject'}", None),
        ("Mutating", "istio-sidecar-injector", "{url: 'https://[::1]:15017/inject'}", Some("IST0164")),
        ("Mutating", "istio-sidecar-injector-canary", "{}", Some("IST0163")),
        ("Mutating", "istio-sidecar-injector", "{service: {name: istiod, namespace: istio-system}}", None),
        ("Mutating", "others", "{}", None),
        ("Validating", "istio-validator-x", "{url: 'https://a b/'}", Some("IST0163")),
        ("Validating", "istiod-default-validator", "{url: 'https://10.0.0.1/'}", Some("IST0164")),
    ] {
        let found = said_by("externalcontrolplane.ExternalControlPlaneAnalyzer", &hook(kind, name, client));
        let codes: Vec<&str> = found.iter().map(|l| &l[..7]).collect();
        assert_eq!(codes, Vec::from_iter(said), "{name} {client}: {found:?}");
    }
}

#[test]
fn operations_of_envoy_filters() {
    let filter = |priority: u32, to: &str, operation: &str| {
        format!(
            "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{name: x}}\nspec: {{priority: {priority}, configPatches: [{{applyTo: {to}, patch: {{operation: {operation}}}}}]}}"
        )
    };
    for (priority, to, operation, said) in [
        (0, "HTTP_ROUTE", "ADD", Some("IST0153")),
        (0, "CLUSTER", "ADD", None),
        (0, "ROUTE_CONFIGURATION", "REMOVE", Some("IST0154")),
        (0, "CLUSTER", "REMOVE", Some("IST0151")),
        (5, "CLUSTER", "REMOVE", None),
        (5, "CLUSTER", "REPLACE", Some("IST0152")),
        (5, "VIRTUAL_HOST", "REPLACE", None),
        (0, "VIRTUAL_HOST", "REPLACE", Some("IST0151")),
        (0, "HTTP_FILTER", "INSERT_FIRST", None),
        (0, "HTTP_FILTER", "MERGE", None),
    ] {
        let found = said_by("envoyfilter.EnvoyPatchAnalyzer", &filter(priority, to, operation));
        let codes: Vec<&str> = found.iter().map(|l| &l[..7]).collect();
        assert_eq!(codes, Vec::from_iter(said), "{priority} {to} {operation}");
    }
}

#[test]
fn telemetry_without_a_provider() {
    let telemetry = |log: &str| {
        format!(
            "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: x}}\nspec: {{accessLogging: [{log}]}}"
        )
    };
    for (log, said) in [("{}", true), ("{disabled: true}", false), ("{providers: [{name: envoy}]}", false)] {
        let found = said_by("telemetry.ProviderAnalyzer", &telemetry(log));
        assert_eq!(found.len(), usize::from(said), "{log}: {found:?}");
    }
}

#[test]
fn kinds_and_providers_that_are_gone() {
    let kind = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: serviceroles.rbac.istio.io}\nspec: {group: rbac.istio.io, names: {kind: ServiceRole}}";
    let found = said_by("deprecation.DeprecationAnalyzer", kind);
    assert_eq!(
        found,
        [
            "IST0002 CustomResourceDefinition serviceroles.rbac.istio.io spec.names.kind: Deprecated: Custom resource type rbac.istio.io ServiceRole is removed"
        ]
    );
    let text = "
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: 'extensionProviders: [{name: old, lightstep: {service: x, port: 1}}]'}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: x}
spec: {tracing: [{providers: [{name: new}]}, {providers: [{name: old}]}]}
";
    let (resources, reports) = yaml::read("a.yaml", text);
    let made = crate::convert::inputs(&resources, &Default::default(), &mut Default::default());
    let input = AnalyzeInput { resources: &resources, reports: &reports, world: Some(&made.world), clusters: &[] };
    let found = analyze_with(&input, &["telemetry.LightstepAnalyzer"]);
    let fields: Vec<_> = found.iter().filter(|r| &*r.code == "IST0002").map(|r| &*r.field).collect();
    assert_eq!(fields, ["spec.tracing[1].providers"]);
}
