use super::*;
use crate::compile::sim::Sim;

const RULES: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: b, namespace: ns}
spec: {host: b, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: b, namespace: ns}
spec:
  hosts: [b]
  http:
  - name: old
    match: [{uri: {prefix: /old}}]
    redirect: {uri: /new}
  - name: special
    match: [{headers: {end-user: {exact: me}}}]
    timeout: 2s
    retries: {attempts: 3}
    rewrite: {uri: /x}
    headers: {request: {set: {x-a: b}, remove: [x-c]}}
    route: [{destination: {host: b, subset: v1}}]
  - name: rest
    route:
    - {destination: {host: b, subset: v1}, weight: 25}
    - {destination: {host: b, subset: v2}, weight: 75}
";

fn case(text: &str) -> Case {
    let (documents, errors) = crate::yaml::documents(text);
    assert!(errors.is_empty(), "{errors:?}");
    serde_json::from_value(documents[0].value.clone()).unwrap()
}

fn failures(request: &str, expect: &str) -> Vec<String> {
    let case = case(&format!("{{name: one, from: a-1, request: {request}, expect: {expect}}}"));
    case.run(&Explainer::new(&Sim::of(RULES).world)).failures
}

#[test]
fn what_holds_passes() {
    let me = "{url: 'http://b:8080/y', headers: {end-user: me}}";
    let all = "{route: special, virtualService: ns/b, host: b, subset: v1, timeout: 2s, retries: 3, path: /xy, \
               forwarded: true, headers: {x-a: b, x-c: null}, fault: none, mirror: none, \
               cluster: outbound|8080|v1|b.ns.svc.cluster.local, policies: {connectTimeout: 10s}}";
    assert_eq!(failures(me, all), [] as [&str; 0]);
    let rest =
        "{route: rest, timeout: none, destinations: [{subset: v1, share: 25}, {host: b, subset: v2, share: 75}]}";
    assert_eq!(failures("{host: 'b:8080', path: /}", rest), [] as [&str; 0]);
    let old = "{status: 301, forwarded: false, redirect: 'http://b:8080/new'}";
    assert_eq!(failures("{host: 'b:8080', path: /old}", old), [] as [&str; 0]);
}

#[test]
fn each_expectation_can_fail() {
    let me = "{url: 'http://b:8080/y', headers: {end-user: me}}";
    let wrong = [
        "{route: rest}",
        "{virtualService: ns/c}",
        "{host: c}",
        "{subset: v2}",
        "{cluster: x}",
        "{destinations: [{subset: v2}]}",
        "{status: 200}",
        "{flag: NR}",
        "{forwarded: false}",
        "{redirect: /}",
        "{path: /y}",
        "{authority: c}",
        "{headers: {x-a: c}}",
        "{headers: {x-a: null}}",
        "{responseHeaders: {x-a: b}}",
        "{timeout: 3s}",
        "{timeout: none}",
        "{retries: 2}",
        "{fault: delay}",
        "{mirror: c}",
        "{policies: {connectTimeout: 7s}}",
        "{}",
    ];
    for expect in wrong {
        assert!(!failures(me, expect).is_empty(), "{expect}");
    }
    assert_eq!(
        failures(me, "{subset: v2}"),
        ["subset: expected v2, got v1 (VirtualService ns/b spec.http[1].route[0], sim.yaml:76)"]
            .map(|s| s.replace("sim.yaml:76", &location()))
    );
    assert!(!failures("{url: 'http://b:8080/', path: /}", "{route: rest}").is_empty());
}

/// Where the destination of `special` is written.
fn location() -> String {
    let sim = Sim::of(RULES);
    let vs = &sim.world.virtual_services().iter().find(|v| &*v.key.name == "b").unwrap().origin;
    vs.location("spec.http[1].route[0]").unwrap()
}

#[test]
fn coverage_names_rules_that_nothing_reached() {
    let world = Sim::of(RULES).world;
    let ask = |request: &str| {
        case(&format!("{{name: one, from: a-1, request: {request}, expect: {{status: 1}}}}"))
            .run(&Explainer::new(&world))
            .reached
    };
    let mut reached: BTreeSet<_> = ask("{host: 'b:8080'}").into_iter().collect();
    let before = coverage(&world, &reached);
    assert_eq!((before.rules, before.reached), (3, 1));
    let fields: Vec<&str> = before.unreached.iter().map(|u| &*u.field).collect();
    assert_eq!(fields, ["spec.http[0]", "spec.http[1]"]);
    reached.extend(ask("{host: 'b:8080', path: /old}"));
    reached.extend(ask("{host: 'b:8080', headers: {end-user: me}}"));
    assert_eq!(coverage(&world, &reached).unreached, []);
}

#[test]
fn unknown_words_are_refused() {
    let value = serde_json::json!({"name": "n", "request": {"url": "http://b/"}, "expect": {"sutbset": "v1"}});
    assert!(serde_json::from_value::<Case>(value).unwrap_err().to_string().contains("sutbset"));
}
