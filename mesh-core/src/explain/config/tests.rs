use super::*;
use crate::compile::sim::Sim;

fn settings(text: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    {}\n",
        text.replace('\n', "\n    ")
    )
}

fn of(yaml: &str, proxy: From) -> EffectiveConfig {
    effective(&Sim::of(yaml).world, &proxy).unwrap()
}

fn a() -> From {
    From::Workload("a-1.ns".into())
}

/// The origin of a value, wherever it is first.
fn origin(config: &EffectiveConfig, what: &str) -> (String, Option<String>, String) {
    let all = || config.items.iter().flat_map(|i| &i.values);
    let found = all().find(|v| v.what == what).unwrap_or_else(|| panic!("no {what}"));
    let Decided { value, object, field, .. } = found.decided.clone();
    (value, object, field)
}

const RULES: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: ns}
spec:
  hosts: [b]
  http:
  - {match: [{uri: {prefix: /r}}], redirect: {uri: /}}
  - {match: [{uri: {prefix: /d}}], directResponse: {status: 418}}
  - fault: {abort: {httpStatus: 418, percentage: {value: 1}}}
    mirror: {host: a}
    corsPolicy: {allowMethods: [GET]}
    route: [{destination: {host: b}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: d, namespace: ns}
spec: {host: b, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 3}, loadBalancer: {consistentHash: {useSourceIp: true}}, tls: {mode: SIMPLE}}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g, namespace: ns}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}
";

#[test]
fn every_value_says_who_decided_it() {
    for (yaml, proxy) in [("", a()), (RULES, a()), (RULES, From::Gateway("gw-1.istio-system".into()))] {
        let config = of(yaml, proxy);
        let (mut values, mut by_objects) = (0, 0);
        for item in &config.items {
            assert!(!item.values.is_empty(), "{} {} has no values", item.section, item.name);
            for Policy { what, decided } in &item.values {
                values += 1;
                by_objects += usize::from(decided.object.is_some());
                // An object with the field, or a rule in words.
                assert!(!decided.field.is_empty(), "{} {}: {what} has no origin", item.section, item.name);
                assert!(!decided.value.is_empty(), "{} {}: {what} has no value", item.section, item.name);
                let words = decided.field.contains(' ');
                assert!(words != decided.object.is_some() || !words, "{what}: {decided:?}");
            }
        }
        assert!(values > 40 && by_objects > 1, "{values} values, {by_objects} by objects");
    }
}

#[test]
fn settings_are_those_of_who_wrote_them() {
    let none = of("", a());
    assert_eq!(
        origin(&none, "httpIdleTimeout"),
        ("3600s".into(), None, "connectionSettings.httpIdleTimeout is not set".into())
    );
    assert_eq!(origin(&none, "maxConnections").0, "unlimited");
    assert_eq!(origin(&none, "outlierDetection").0, "off");
    let mesh = settings(
        "defaultConfig: {drainDuration: 7s, connectionSettings: {httpIdleTimeout: 77s, http2MaxConcurrentStreams: 7}, proxyHeaders: {server: {value: x}, requestId: {disabled: true}, attemptCount: {disabled: true}}}\npathNormalization: {normalization: NONE}\naccessLogFile: /dev/stdout",
    );
    let config = of(&mesh, a());
    let by = |field: &str| Some(("MeshConfig istio-system/istio".to_owned(), format!("spec.{field}")));
    for (what, value, field) in [
        ("drainDuration", "7s", "defaultConfig.drainDuration"),
        ("httpIdleTimeout", "77s", "defaultConfig.connectionSettings.httpIdleTimeout"),
        ("http2MaxConcurrentStreams", "7", "defaultConfig.connectionSettings.http2MaxConcurrentStreams"),
        ("server", "Overwrite(\"x\")", "defaultConfig.proxyHeaders.server"),
        ("requestId", "false", "defaultConfig.proxyHeaders.requestId.disabled"),
        ("attemptCount", "false", "defaultConfig.proxyHeaders.attemptCount.disabled"),
        ("pathNormalization", "None", "pathNormalization.normalization"),
        ("accessLogFile", "/dev/stdout", "accessLogFile"),
    ] {
        let (found, object, at) = origin(&config, what);
        assert_eq!((found, object.map(|o| (o, at))), (value.to_owned(), by(field)), "{what}");
    }
}

#[test]
fn an_annotation_and_a_proxy_config_are_named() {
    let pod = "
apiVersion: v1
kind: Pod
metadata:
  name: z-1
  namespace: ns
  labels: {app: z}
  annotations: {proxy.istio.io/config: 'connectionSettings: {httpRequestTimeout: 7s}'}
spec: {containers: [{name: main, image: z}]}
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: p, namespace: ns}
spec: {selector: {matchLabels: {app: z}}, environmentVariables: {ISTIO_META_IDLE_TIMEOUT: 77s}}
---
apiVersion: v1
kind: Service
metadata: {name: z, namespace: ns}
spec: {selector: {app: z}, ports: [{name: http, port: 80}]}
";
    let config = of(pod, From::Workload("z-1.ns".into()));
    let (value, object, field) = origin(&config, "httpRequestTimeout");
    let expected = "metadata.annotations[\"proxy.istio.io/config\"].connectionSettings.httpRequestTimeout";
    assert_eq!((&*value, object.as_deref(), &*field), ("7s", Some("Pod ns/z-1"), expected));
    let (value, object, field) = origin(&config, "httpIdleTimeout");
    assert_eq!(
        (&*value, object.as_deref(), &*field),
        ("77s", Some("ProxyConfig ns/p"), "spec.environmentVariables.ISTIO_META_IDLE_TIMEOUT")
    );
}

#[test]
fn a_gateway_that_is_taken_for_a_sidecar_is_pointed_at() {
    let gateway = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: front, namespace: ns}\nspec:\n  \
        selector: {istio: ingressgateway}\n  servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: [x.com], \
        tls: {mode: SIMPLE, credentialName: c, minProtocolVersion: TLSV1_3}}]\n---\n\
        apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, namespace: ns}\nspec:\n  \
        hosts: [x.com]\n  gateways: [front]\n  http: [{route: [{destination: {host: b}}]}]\n";
    let wrong = of(gateway, From::Workload("gw-1.istio-system".into()));
    assert_eq!(
        wrong.note.as_deref(),
        Some("Gateway ns/front selects this workload: if it is a gateway, add --gateway")
    );
    assert!(wrong.to_string().lines().nth(1).unwrap().starts_with("(Gateway ns/front"));
    assert_eq!(of(gateway, a()).note, None);

    let right = of(gateway, From::Gateway("gw-1.istio-system".into()));
    assert_eq!((right.kind, &right.note), ("gateway", &None));
    let (value, _, field) = origin(&right, "tls");
    let want = "https.443.https.front.ns: TLS ends with Secret istio-system/c, TLS 1.3 only";
    assert_eq!((&*value, &*field), (want, "spec.servers[0].tls"));
    // What is inside TLS is part of it.
    assert!(right.items.iter().any(|i| i.section == "route" && i.name.ends_with("x.com:443")), "{right}");
}
