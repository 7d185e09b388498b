use crate::compile::sim::Sim;

use super::*;

const YAML: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    defaultConfig: {concurrency: 1, drainDuration: 9s, proxyMetadata: {A: mesh, B: mesh}}
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: root, namespace: istio-system}
spec: {concurrency: 2, environmentVariables: {A: root}}
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: own, namespace: ns}
spec: {concurrency: 3}
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: picked, namespace: ns}
spec: {selector: {matchLabels: {app: x}}, concurrency: 4, environmentVariables: {C: picked}}
";

#[test]
fn the_annotation_goes_before_resources_and_those_before_the_mesh() {
    let sim = Sim::of(YAML);
    let ask = |namespace: &str, app: &str, annotation: Option<&str>| {
        let labels = BTreeMap::from([("app".to_owned(), app.to_owned())]);
        let annotations = annotation.map(|a| (ANNOTATION.to_owned(), a.to_owned())).into_iter().collect();
        let asker = Asker { namespace, labels: &labels, annotations: &annotations };
        let (config, wrong) = effective(&sim.world, asker);
        let metadata = config.proxy_metadata.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ");
        let drain = config.drain_duration.unwrap().0.as_secs();
        (config.concurrency.unwrap(), drain, metadata, wrong.is_some())
    };
    let table = [
        ("other", "x", None, (2, 9, "A=root B=mesh", false)),
        ("ns", "y", None, (3, 9, "A=root B=mesh", false)),
        ("ns", "x", None, (4, 9, "A=root B=mesh C=picked", false)),
        (
            "ns",
            "x",
            Some("concurrency: 5\nproxyMetadata: {B: pod}\ndrainDuration: 7s"),
            (5, 7, "A=root B=pod C=picked", false),
        ),
        ("ns", "x", Some("concurrency: [5]"), (4, 9, "A=root B=mesh C=picked", true)),
    ];
    for (namespace, app, annotation, (concurrency, drain, metadata, wrong)) in table {
        let expected = (concurrency, drain, metadata.to_owned(), wrong);
        assert_eq!(ask(namespace, app, annotation), expected, "{namespace} {app} {annotation:?}");
    }
}

/// Fields that are read where a proxy is started, out of the same merged settings.
#[test]
fn what_the_node_reads_is_merged_too() {
    use crate::api::InboundInterceptionMode;
    let sim = Sim::of(YAML);
    let labels = BTreeMap::new();
    let ask = |text: &str| {
        let annotations = BTreeMap::from([(ANNOTATION.to_owned(), text.to_owned())]);
        effective(&sim.world, Asker { namespace: "ns", labels: &labels, annotations: &annotations })
    };
    let (config, wrong) = ask("{proxyAdminPort: 15777, interceptionMode: NONE}");
    assert_eq!(
        (config.proxy_admin_port, config.interception_mode, wrong),
        (15777, InboundInterceptionMode::None, None)
    );
    let (config, _) = ask("{}");
    assert_eq!((config.proxy_admin_port, config.interception_mode), (15000, InboundInterceptionMode::Redirect));
    let (config, wrong) = ask("connectionSettings: {http2MaxConcurrentStreams: 0}");
    assert_eq!(config.connection_settings, None, "what is wrong has no effect at all");
    assert!(wrong.is_some_and(|w| w.contains("must be in the range 1..2147483647")));
}
