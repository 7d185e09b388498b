use serde_json::json;

use super::*;
use crate::fixtures::{istio, kube_service, workload};
use crate::world::Change;

fn world(policy: &str) -> World {
    let ports = json!([{"port": 80, "name": "http"}]);
    let text = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    \
         outboundTrafficPolicy: {{mode: {policy}}}\n"
    );
    let (resources, _) = crate::yaml::read("mesh.yaml", &text);
    let crate::api::Resource::ConfigMap(map) = &resources[0] else { panic!("a ConfigMap") };
    let mesh = crate::convert::mesh_config(map).unwrap().0;
    World::of([
        Change::Mesh(Some(Arc::new(mesh))),
        Change::Service(kube_service(
            "a",
            "one",
            json!({"clusterIP": "10.0.0.1", "selector": {"app": "one"}, "ports": ports}),
        )),
        Change::Service(kube_service(
            "a",
            "none",
            json!({"clusterIP": "10.0.0.2", "selector": {"app": "none"}, "ports": ports}),
        )),
        Change::Workload(workload("a", "one-1", [10, 1, 0, 1], &[("app", "one")])),
        Change::VirtualService(istio(
            "VirtualService",
            "a",
            "one",
            json!({"hosts": ["one"], "http": [{
                "name": "main",
                "timeout": "3s",
                "rewrite": {"uri": "/new"},
                "headers": {"request": {"set": {"x-a": "b"}}},
                "match": [{"uri": {"prefix": "/old"}, "headers": {"x-who": {"exact": "me"}}}],
                "route": [{"destination": {"host": "one"}}],
            }]}),
        )),
    ])
}

fn of(world: &World, url: &str, headers: &[(&'static str, &str)]) -> Explanation {
    let headers = headers.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect();
    let from = From::Workload("one-1.a".into());
    explain(
        world,
        &ExplainRequest {
            from,
            method: Method::GET,
            url: url.into(),
            headers,
            claims: None,
            caller: Caller::default(),
        },
    )
    .unwrap()
}

#[test]
fn a_rule_with_its_changes() {
    let e = of(&world("ALLOW_ANY"), "http://one/old/x?q=1", &[("x-who", "me")]);
    let hop = &e.hops[0];
    assert_eq!(hop.name.as_deref(), Some("one is one.a.svc.cluster.local at 10.0.0.1"));
    let route = hop.route.as_ref().unwrap();
    assert_eq!((&*route.value, route.location.as_deref()), ("main", Some("one.yaml:5")));
    assert_eq!(hop.changes, ["request header x-a is set to b", "path becomes /new/x?q=1"]);
    assert_eq!(hop.timeout.as_ref().unwrap().value, "3s");
    assert_eq!(hop.timeout.as_ref().unwrap().field, "spec.http[0].timeout");
    assert_eq!(hop.clusters[0].endpoints, ["10.1.0.1:80 one-1"]);
    let policy = |what: &str| hop.clusters[0].policies.iter().find(|p| p.what == what).map(|p| &*p.decided.value);
    assert_eq!((policy("protocol"), policy("connectTimeout")), (Some("Http1"), Some("10s")));
    assert!(hop.explain_config_hash.len() == 16 && e.hops.len() == 2);
    assert!(e.to_string().contains("timeout       3s  (VirtualService a/one spec.http[0].timeout, one.yaml:5)"), "{e}");
    assert!(serde_json::to_value(&e).unwrap()["hops"][0]["explainConfigHash"].is_string());
}

#[test]
fn the_server_is_asked_for_what_the_client_s_proxy_makes_of_the_request() {
    let rules = json!({"hosts": ["one"], "http": [
        {"match": [{"uri": {"exact": "/old"}}], "rewrite": {"uri": "/new/../here"}, "route": [
            {"destination": {"host": "one"}},
        ]},
        {"route": [{"destination": {"host": "one"}}]},
    ]});
    let world = world("ALLOW_ANY").with([Change::VirtualService(istio("VirtualService", "a", "one", rules))]);
    let server = |url: &str| of(&world, url, &[]).hops.remove(1).changes;
    assert_eq!(server("http://one/old?q=1"), ["path is normalized to /here?q=1"]);
    assert!(server("http://one/a/../b").is_empty(), "the client's proxy has normalized it");
}

#[test]
fn the_nearest_rule_of_a_miss() {
    let e = of(&world("ALLOW_ANY"), "http://one/old", &[]);
    let miss = e.hops[0].miss.as_ref().unwrap();
    assert_eq!(miss.why, ["header x-who is missing, wanted is exact \"me\""]);
    assert_eq!(e.outcome.status, Some(404));
}

#[test]
fn no_endpoints_and_unknown_hosts() {
    let e = of(&world("ALLOW_ANY"), "http://none/", &[]);
    assert_eq!((e.outcome.status, &*e.outcome.flag, &*e.outcome.body), (Some(503), "UH", "no healthy upstream"));
    let e = of(&world("REGISTRY_ONLY"), "http://example.com/", &[]);
    assert_eq!((e.outcome.status, e.outcome.text.contains("REGISTRY_ONLY")), (Some(502), true), "{e}");
    let e = of(&world("ALLOW_ANY"), "http://example.com/", &[]);
    assert!(e.outcome.status.is_none() && e.hops[0].clusters[0].cluster.value.contains("Passthrough"), "{e}");
}

#[test]
fn wrong_questions_say_what_to_write() {
    let ask = |url: &str| {
        let from = From::Workload("one-1".into());
        let request = ExplainRequest {
            from,
            method: Method::GET,
            url: url.into(),
            headers: HeaderMap::new(),
            claims: None,
            caller: Caller::default(),
        };
        explain(&world("ALLOW_ANY"), &request).unwrap_err()
    };
    assert!(ask("/x").contains("write for example http://"));
    assert!(ask("ftp://x/").contains("the scheme must be http or https"));
}

#[test]
fn a_sidecar_believes_the_scheme_and_the_path_is_normalized() {
    let mut world = world("ALLOW_ANY");
    let rules = json!({"hosts": ["one"], "http": [
        {"match": [{"scheme": {"exact": "https"}, "headers": {"host": {"exact": "one"}}}], "route": [
            {"destination": {"host": "one"}, "weight": 1, "headers": {"request": {"set": {
                "host": "other", "x-a": "%REQ(x-b):3% 100%%"}}}},
            {"destination": {"host": "none"}, "weight": 1},
        ]},
        {"name": "plain", "directResponse": {"status": 204}},
    ]});
    world = world.with([Change::VirtualService(istio("VirtualService", "a", "one", rules))]);
    let e = of(&world, "http://one/a/../b", &[("x-forwarded-proto", "https")]);
    let one = "outbound|80||one.a.svc.cluster.local";
    let changes = [
        "path is normalized to /b".to_owned(),
        format!("{one} request header x-a is set to %REQ(x-b):3% 100%%"),
        format!("{one} Host becomes other"),
    ];
    assert_eq!(e.hops[0].changes, changes);
    assert_eq!(of(&world, "http://one/", &[]).hops[0].route.as_ref().unwrap().value, "plain");
}

#[test]
fn a_preflight_is_answered_by_the_policy() {
    let world = world("ALLOW_ANY").with([Change::VirtualService(istio(
        "VirtualService",
        "a",
        "one",
        json!({"hosts": ["one"], "http": [{
            "headers": {"response": {"set": {"x-u": "v"}}},
            "corsPolicy": {"allowOrigins": [{"exact": "http://here"}], "allowMethods": ["GET"]},
            "route": [{"destination": {"host": "one"}}],
        }]}),
    ))]);
    let ask = |method: http::Method, origin: &'static str, preflight: bool| {
        let mut headers = http::HeaderMap::new();
        headers.insert("origin", http::HeaderValue::from_static(origin));
        if preflight {
            headers.insert("access-control-request-method", http::HeaderValue::from_static("GET"));
        }
        let from = From::Workload("one-1.a".into());
        let request = ExplainRequest {
            from,
            method,
            url: "http://one/".into(),
            headers,
            claims: None,
            caller: Caller::default(),
        };
        explain(&world, &request).unwrap().hops.remove(0)
    };
    let preflight = ask(http::Method::OPTIONS, "http://here", true);
    assert_eq!(preflight.reply.as_ref().and_then(|r| r.status), Some(200));
    let set = |name: &str, value: &str| format!("response header {name} is set to {value}");
    let allowed = set("access-control-allow-origin", "http://here");
    assert_eq!(preflight.changes, [allowed.clone(), set("access-control-allow-methods", "GET")]);
    let simple = ask(http::Method::GET, "http://here", false);
    assert_eq!((simple.reply.is_none(), simple.changes), (true, vec![set("x-u", "v"), allowed]));
    let foreign = ask(http::Method::OPTIONS, "http://there", true);
    assert_eq!((foreign.reply.is_none(), foreign.changes), (true, vec![set("x-u", "v")]), "it is forwarded");
}
