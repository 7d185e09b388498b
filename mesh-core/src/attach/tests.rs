use crate::api::Resource;
use crate::yaml;

use super::*;

fn policy(namespace: &str, spec: &str) -> Arc<Object<AuthorizationPolicy>> {
    let head = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n";
    let text = format!("{head}metadata: {{name: p, namespace: {namespace}}}\nspec: {{{spec}}}\n");
    match yaml::read("f", &text).0.remove(0) {
        Resource::AuthorizationPolicy(o) => o,
        other => panic!("{}", other.key()),
    }
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

const GATEWAY: &str = "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: gw}]";
const SERVICE: &str = "targetRef: {kind: Service, name: s}";
const CLASS: &str = "targetRefs: [{group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint}]";

#[test]
fn sidecars_5_57_58() {
    let labels = labels(&[("app", "x"), ("version", "v1")]);
    let workload = Workload::new("istio-system", "foo", &labels);
    for (namespace, spec, applies) in [
        ("foo", "", true),
        ("istio-system", "", true),
        ("bar", "", false),
        ("foo", "selector: {}", true),
        ("foo", "selector: {matchLabels: {app: x}}", true),
        ("istio-system", "selector: {matchLabels: {app: x}}", true),
        ("foo", "selector: {matchLabels: {app: z}}", false),
        ("foo", "selector: {matchLabels: {app: x, version: v2}}", false),
        ("foo", SERVICE, false),
        ("foo", GATEWAY, false),
    ] {
        assert_eq!(workload.applies(&policy(namespace, spec)), applies, "{namespace} {spec}");
    }
}

#[test]
fn gateways_of_the_gateway_api() {
    let labels = labels(&[(GATEWAY_NAME, "gw"), ("app", "x")]);
    let workload = Workload::new("istio-system", "foo", &labels);
    for (namespace, spec, applies) in [
        ("foo", GATEWAY, true),
        ("istio-system", GATEWAY, false),
        ("foo", "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: other}]", false),
        ("foo", "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: gw, namespace: foo}]", false),
        ("foo", "selector: {matchLabels: {app: x}}", true),
        ("foo", SERVICE, false),
    ] {
        assert_eq!(workload.applies(&policy(namespace, spec)), applies, "{namespace} {spec}");
    }
}

#[test]
fn waypoints() {
    let labels = labels(&[(GATEWAY_NAME, "gw"), ("app", "x")]);
    let served = [Target { kind: "Service", namespace: "bar", name: "s" }];
    let workload = Workload { waypoint: Some(&served), ..Workload::new("istio-system", "foo", &labels) };
    for (namespace, spec, applies) in [
        ("foo", GATEWAY, true),
        ("bar", SERVICE, true),
        ("foo", SERVICE, false),
        ("bar", "targetRef: {group: networking.istio.io, kind: ServiceEntry, name: s}", false),
        ("istio-system", CLASS, true),
        ("foo", CLASS, false),
        ("foo", "", false),
        ("foo", "selector: {matchLabels: {app: x}}", false),
    ] {
        assert_eq!(workload.applies(&policy(namespace, spec)), applies, "{namespace} {spec}");
    }
}

#[test]
fn the_order_is_by_age_then_name() {
    let labels = BTreeMap::new();
    let workload = Workload::new("istio-system", "foo", &labels);
    let aged = |name: &str, time: Option<&str>| {
        let mut object = Object::clone(&policy("foo", ""));
        object.key.name = name.into();
        object.meta.creation_timestamp = time.map(str::to_owned);
        Arc::new(object)
    };
    let all = [
        aged("d", None),
        aged("c", None),
        aged("b", Some("2026-01-02T00:00:00Z")),
        aged("a", Some("2026-01-03T00:00:00Z")),
    ];
    let names: Vec<_> = workload.policies(&all).iter().map(|o| o.key.name.to_string()).collect();
    assert_eq!(names, ["b", "a", "c", "d"]);
}
