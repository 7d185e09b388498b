//! docs/fields.md: every field of the traffic kinds, since when it is in force, and the test that shows it, or why it
//! has no effect. Made of the schemas and the account; this test fails when the page is stale.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::accounted::{Sample, flip, populate, samples};
use super::shown;
use crate::api::{
    AuthorizationPolicy, Object, PeerAuthentication, ProxyConfig, RequestAuthentication, Resource, ServiceEntry,
    WorkloadEntry, WorkloadGroup,
};
use crate::compile::compile;
use crate::compile::sim::Sim;
use crate::endpoints::endpoints;
use crate::report::Outcome;
use crate::world::Change;

/// The version in which fields came into force; all of them in this one so far.
const SINCE: &str = "0.1.0";

/// What is known about a field, the most telling first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Shown {
    /// Another value makes another plan, endpoint or name.
    ByMutation,
    /// It is consumed.
    ByAccount,
    /// Not in force yet, overridden or inert.
    Fate(String),
    /// Of every object that was tried, as a whole, nothing is in force.
    Object(String),
    /// Read only.
    Nothing,
}

type Fields = BTreeMap<String, Shown>;

/// What was planned for an object: the plan as text, the outcome of each leaf, and why the object as a whole is not in
/// force for some proxy.
type Planned = (String, Vec<(String, Outcome)>, BTreeSet<Arc<str>>);

fn say(fields: &mut Fields, field: &str, shown: Shown) {
    if let Some(old) = fields.get_mut(field).filter(|old| shown < **old) {
        *old = shown;
    }
}

/// Leaves of a schema with the values that an enumeration allows: `spec.http[].match[].uri.exact`.
fn leaves(schema: &Value, defs: &Value, path: &str, out: &mut BTreeMap<String, Vec<Value>>) {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        return leaves(&defs[name.rsplit('/').next().unwrap()], defs, path, out);
    }
    for list in ["anyOf", "oneOf"] {
        let Some(options) = schema.get(list).and_then(Value::as_array) else { continue };
        let consts: Vec<Value> = options.iter().filter_map(|o| o.get("const")).cloned().collect();
        if !consts.is_empty() {
            out.insert(path.into(), consts);
            return;
        }
        for o in options.iter().filter(|o| o.get("type") != Some(&json!("null"))) {
            leaves(o, defs, path, out);
        }
        return;
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        out.insert(path.into(), values.iter().filter(|v| !v.is_null()).cloned().collect());
        return;
    }
    let properties = schema.get("properties").and_then(Value::as_object).filter(|p| !p.is_empty());
    if let Some(properties) = properties {
        for (name, inner) in properties {
            leaves(inner, defs, &format!("{path}.{name}"), out);
        }
    } else if let Some(inner) = schema.get("additionalProperties").filter(|a| a.is_object()) {
        leaves(inner, defs, &format!("{path}.*"), out);
    } else if let Some(items) = schema.get("items") {
        leaves(items, defs, &format!("{path}[]"), out);
    } else {
        out.entry(path.into()).or_default();
    }
}

/// The schema with the `pick`-th option of every choice only.
fn choose(schema: &mut Value, pick: usize) {
    match schema {
        Value::Object(map) => {
            for list in ["anyOf", "oneOf"] {
                let Some(Value::Array(options)) = map.get_mut(list) else { continue };
                options.retain(|o| o.get("type") != Some(&json!("null")));
                let n = options.len().max(1);
                options.rotate_left(pick % n);
                options.truncate(1);
            }
            map.values_mut().for_each(|v| choose(v, pick));
        }
        Value::Array(list) => list.iter_mut().for_each(|v| choose(v, pick)),
        _ => {}
    }
}

fn populated(schema: &Value, pick: usize) -> Value {
    let mut schema = schema.clone();
    choose(&mut schema, pick);
    populate(&schema, &schema["$defs"], "")
}

/// `spec.http[0].headers.request.set.x-key` as in the schema.
fn general(field: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in field.chars() {
        match c {
            '[' => inside = true,
            ']' => {
                inside = false;
                out.push_str("[]");
            }
            c if !inside => out.push(c),
            _ => {}
        }
    }
    // A port as the key of a map.
    out.replace(".x-key", ".*")
        .replace("portLevelMtls[]", "portLevelMtls.*")
        .replace("portLevelMtls.8080", "portLevelMtls.*")
}

/// The field of the table that a field of an object is: itself, an entry of a map, or inside of something opaque.
fn name_of(fields: &Fields, field: &str) -> String {
    let mut name = general(field);
    loop {
        if fields.contains_key(&name) {
            return name;
        }
        let Some((parent, _)) = name.rsplit_once('.') else { return general(field) };
        let entry = format!("{parent}.*");
        if fields.contains_key(&entry) {
            return entry;
        }
        name = parent.to_owned();
    }
}

/// One kind: how its objects get into a world, and where.
struct Subject<'a, S> {
    kind: &'static str,
    namespace: &'static str,
    /// Objects beside it, without which it has nothing to decide.
    beside: &'a str,
    make: fn(Arc<Object<S>>) -> Vec<Change>,
}

impl<S: Serialize + DeserializeOwned> Subject<'_, S> {
    fn object(&self, spec: &Value) -> Option<Arc<Object<S>>> {
        serde_json::from_value::<S>(spec.clone()).ok()?;
        let group = if self.kind == "MeshConfig" { "mesh" } else { "networking.istio.io" };
        Some(Arc::new(crate::fixtures::object(group, self.kind, self.namespace, "all", spec.clone())))
    }

    /// What proxies have in force with this object; the account of its fields besides.
    fn plan(&self, sim: &Sim, proxies: &[&str], spec: &Value) -> Option<Planned> {
        let o = self.object(spec)?;
        let world = sim.world.with((self.make)(o.clone()));
        let (mut plan, mut fates, mut whole) = (String::new(), Vec::new(), BTreeSet::new());
        for proxy in proxies {
            let compiled = compile(&world, &sim.id(proxy), None);
            let _ = write!(plan, "{} ", compiled.snapshot.hash);
            let mut clusters: Vec<_> = compiled.snapshot.clusters.values().collect();
            clusters.sort_by(|a, b| a.name.cmp(&b.name));
            for c in clusters {
                for e in endpoints(&world, c) {
                    let w = &e.workload;
                    let _ = write!(plan, "{} {} {:?} {:?} {:?} ", e.address, e.weight, w.labels, w.network, w.locality);
                }
            }
            whole.extend(compiled.account.fates().filter(|f| f.object == o.key && &*f.field == "spec").filter_map(
                |f| match &f.outcome {
                    Outcome::Inert { because } => Some(because.clone()),
                    _ => None,
                },
            ));
            let leaves = compiled.account.leaves(&o);
            fates.extend(leaves.into_iter().filter_map(|l| Some((l.field, l.outcome?))));
        }
        Some((plan, fates, whole))
    }

    fn learn(&self, fields: &mut Fields, allowed: &BTreeMap<String, Vec<Value>>, spec: &Value) {
        self.learn_at(&Sim::of(self.beside), &["a-1", "gw-1"], (fields, allowed), spec);
    }

    fn learn_at(
        &self,
        sim: &Sim,
        proxies: &[&str],
        (fields, allowed): (&mut Fields, &BTreeMap<String, Vec<Value>>),
        spec: &Value,
    ) {
        let Some((before, fates, whole)) = self.plan(sim, proxies, spec) else { return };
        for (field, outcome) in fates {
            let shown = match outcome {
                Outcome::Consumed => Shown::ByAccount,
                Outcome::NotInForceYet { belongs_to } => {
                    Shown::Fate(format!("not in force yet: belongs to {belongs_to}"))
                }
                Outcome::Overridden { by } => Shown::Fate(format!("overridden by {by}")),
                Outcome::Inert { because } if whole.contains(&because) => {
                    Shown::Object(format!("without effect: {because}"))
                }
                Outcome::Inert { because } => Shown::Fate(format!("without effect: {because}")),
            };
            say(fields, &name_of(fields, &field), shown);
        }
        for pointer in pointers(spec) {
            let field = format!("spec{}", pointer_field(&pointer));
            let name = name_of(fields, &field);
            // Fields that nothing acts on are left alone: they are many, and make no difference.
            if !matches!(fields.get(&name), Some(Shown::ByAccount | Shown::Nothing)) {
                continue;
            }
            let old = &spec.pointer(&pointer).unwrap();
            let mut others: Vec<Value> =
                allowed.get(&name).into_iter().flatten().filter(|v| v != old).cloned().collect();
            others.push(flip(&field, old));
            for other in others {
                let mut changed = spec.clone();
                *changed.pointer_mut(&pointer).unwrap() = other;
                if self.plan(sim, proxies, &changed).is_some_and(|(after, ..)| after != before) {
                    say(fields, &name, Shown::ByMutation);
                    break;
                }
            }
        }
    }
}

/// JSON pointers of the scalars.
fn pointers(value: &Value) -> Vec<String> {
    fn walk(value: &Value, at: String, out: &mut Vec<String>) {
        match value {
            Value::Object(map) => map.iter().for_each(|(k, v)| walk(v, format!("{at}/{k}"), out)),
            Value::Array(list) => list.iter().enumerate().for_each(|(i, v)| walk(v, format!("{at}/{i}"), out)),
            _ => out.push(at),
        }
    }
    let mut out = Vec::new();
    walk(value, String::new(), &mut out);
    out
}

fn pointer_field(pointer: &str) -> String {
    let parts = pointer.split('/').skip(1);
    parts.map(|p| if p.bytes().all(|b| b.is_ascii_digit()) { format!("[{p}]") } else { format!(".{p}") }).collect()
}

/// The object without some of its fields, each `a/b` below the spec.
fn without(spec: &Value, fields: &[&str]) -> Value {
    let mut spec = spec.clone();
    for field in fields {
        let (parent, name) = field.rsplit_once('/').unwrap_or(("", field));
        let parent = if parent.is_empty() { String::new() } else { format!("/{parent}") };
        if let Some(Value::Object(map)) = spec.pointer_mut(&parent) {
            map.remove(name);
        }
    }
    spec
}

fn with(spec: &Value, pointer: &str, value: Value) -> Value {
    let mut spec = spec.clone();
    if let Some(slot) = spec.pointer_mut(pointer) {
        *slot = value;
    }
    spec
}

fn kind<S>(subject: &Subject<'_, S>, variants: impl Fn(&Value) -> Vec<Value>) -> Fields
where
    S: Serialize + DeserializeOwned + schemars::JsonSchema,
{
    let schema = schemars::schema_for!(S).to_value();
    let mut allowed = BTreeMap::new();
    leaves(&schema, &schema["$defs"], "spec", &mut allowed);
    let mut fields: Fields = allowed.keys().map(|f| (f.clone(), Shown::Nothing)).collect();
    for pick in 0..4 {
        for spec in variants(&populated(&schema, pick)) {
            subject.learn(&mut fields, &allowed, &spec);
        }
    }
    for Sample { yaml, proxy, namespace, spec, .. } in samples().into_iter().filter(|s| s.kind == subject.kind) {
        let subject = Subject { kind: subject.kind, namespace, beside: "", make: subject.make };
        let sim = Sim::of(&yaml);
        for spec in everywhere(spec) {
            subject.learn_at(&sim, &[proxy], (&mut fields, &allowed), &spec);
        }
    }
    fields
}

/// The same policy at each place of a DestinationRule that has one; other objects as they are.
fn everywhere(spec: Value) -> Vec<Value> {
    let Some(policy) = spec.get("trafficPolicy").filter(|p| p.get("portLevelSettings").is_none()).cloned() else {
        return vec![spec];
    };
    let by_port = |policy: &Value| {
        let mut entry = without(policy, &["tunnel", "proxyProtocol", "retryBudget"]);
        entry["port"] = json!({"number": 8080});
        json!({"portLevelSettings": [entry]})
    };
    let top = with(&spec, "/trafficPolicy", by_port(&policy));
    let subset = |policy: Value| {
        let mut spec = without(&spec, &["trafficPolicy"]);
        spec["subsets"] = json!([{"name": "v1", "labels": {"version": "v1"}, "trafficPolicy": policy}]);
        spec
    };
    let subsets = [subset(policy.clone()), subset(by_port(&policy))];
    [spec.clone(), top].into_iter().chain(subsets).collect()
}

fn virtual_service() -> Fields {
    let subject =
        Subject { kind: "VirtualService", namespace: "ns", beside: "", make: |o| vec![Change::VirtualService(o)] };
    let actions = ["http/0/redirect", "http/0/directResponse", "http/0/delegate"];
    kind(&subject, |full| {
        let of = |keep: &str| {
            let drop: Vec<&str> = actions.iter().copied().filter(|a| !a.ends_with(keep)).collect();
            without(full, &drop)
        };
        let rules = ["route", "redirect", "directResponse", "delegate"].map(of);
        let open = without(&rules[0], &["http/0/match/0/gateways", "http/0/match/0/sourceLabels"]);
        let l4 = with(&rules[0], "/hosts", json!(["c.other.svc.cluster.local"]));
        rules.into_iter().chain([open, l4]).collect()
    })
}

fn destination_rule() -> Fields {
    let subject =
        Subject { kind: "DestinationRule", namespace: "ns", beside: "", make: |o| vec![Change::DestinationRule(o)] };
    kind(&subject, |full| {
        let open = without(full, &["workloadSelector"]);
        let top = without(&open, &["trafficPolicy/portLevelSettings", "subsets"]);
        let selected = with(&open, "/subsets/0/labels", json!({"version": "v1"}));
        let subset = without(&selected, &["subsets/0/trafficPolicy/portLevelSettings", "trafficPolicy"]);
        let mut mine = full.clone();
        mine["workloadSelector"] = json!({"matchLabels": {"app": "a"}});
        vec![open, top, subset, selected, mine]
    })
}

fn gateway() -> Fields {
    let route = super::vs("name: v, namespace: ns", "'*.svc.cluster.local'", "b")
        .replace("spec:\n", "spec:\n  gateways: [all]\n");
    let subject = Subject { kind: "Gateway", namespace: "ns", beside: &route, make: |o| vec![Change::Gateway(o)] };
    kind(&subject, |full| {
        let full = with(full, "/selector", json!({"istio": "ingressgateway"}));
        let of = |p: &str| with(&full, "/servers/0/port/protocol", json!(p));
        // A lower limit counts only where the upper one leaves room above it.
        let simple = with(&of("HTTPS"), "/servers/0/tls/mode", json!("SIMPLE"));
        let simple = with(&simple, "/servers/0/tls/maxProtocolVersion", json!("TLSV1_3"));
        ["HTTP", "TCP", "HTTPS", "TLS"].map(of).into_iter().chain([simple]).collect()
    })
}

fn sidecar() -> Fields {
    let subject = Subject { kind: "Sidecar", namespace: "ns", beside: "", make: |o| vec![Change::Sidecar(o)] };
    kind(&subject, |full| {
        let full = with(full, "/workloadSelector/labels", json!({"app": "a"}));
        let full = with(&full, "/egress/0/hosts", json!(["*/*"]));
        let open = without(&full, &["ingress"]);
        vec![full, open]
    })
}

fn mesh_config() -> Fields {
    let subject =
        Subject { kind: "MeshConfig", namespace: "istio-system", beside: "", make: |o| vec![Change::Mesh(Some(o))] };
    kind(&subject, |full| {
        let by_name = without(full, &["outboundTrafficPolicy/egressProxy"]);
        let by_name = with(&by_name, "/outboundTrafficPolicy/mode", json!("ALLOW_ANY_DYNAMIC_DNS"));
        let by_name = with(&by_name, "/outboundTrafficPolicy/tls/mode", json!("MUTUAL"));
        let tls = |drop: &[&str]| {
            let drop: Vec<_> = drop.iter().map(|f| format!("outboundTrafficPolicy/tls/{f}")).collect();
            without(&by_name, &drop.iter().map(String::as_str).collect::<Vec<_>>())
        };
        vec![
            full.clone(),
            tls(&["insecureSkipVerify"]),
            tls(&["insecureSkipVerify", "credentialName"]),
            by_name.clone(),
        ]
    })
}

fn service_entry() -> Fields {
    let make = |o: Arc<Object<ServiceEntry>>| {
        let made = crate::convert::service_entry(&o, &crate::convert::Settings::default(), |_| None);
        made.into_iter().map(|s| Change::Service(Arc::new(s))).collect()
    };
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d, namespace: ns}\n\
        spec: {host: x.example.com, trafficPolicy: {tls: {mode: SIMPLE}}}\n";
    let subject = Subject { kind: "ServiceEntry", namespace: "ns", beside: rule, make };
    kind(&subject, |full| {
        let full = with(full, "/hosts", json!(["x.example.com"]));
        let full = with(&full, "/ports/0/name", json!("x-key"));
        let full = with(&full, "/addresses", json!(["10.9.9.9"]));
        let full = with(&full, "/endpoints/0/address", json!("10.8.8.8"));
        let fixed = with(&without(&full, &["workloadSelector"]), "/resolution", json!("STATIC"));
        let dns = with(&fixed, "/resolution", json!("DNS"));
        let selected = with(&without(&full, &["endpoints"]), "/workloadSelector/labels", json!({"app": "b"}));
        vec![full, fixed, dns, with(&selected, "/resolution", json!("STATIC"))]
    })
}

fn workload_entry() -> Fields {
    const SERVICE: &str = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: s, namespace: ns}\n\
        spec: {hosts: [x.example.com], addresses: [10.9.9.9], resolution: STATIC, ports: [{number: 80, name: x-key, protocol: HTTP}], \
        workloadSelector: {labels: {x-key: x}}}\n";
    let make = |o: Arc<Object<WorkloadEntry>>| {
        let entry = crate::convert::entry(&o.spec, &o.key.name, &o.key, &crate::convert::Settings::default());
        vec![Change::Workload(Arc::new(entry))]
    };
    let subject = Subject { kind: "WorkloadEntry", namespace: "ns", beside: SERVICE, make };
    kind(&subject, |full| vec![with(full, "/address", json!("10.8.8.8"))])
}

fn authorization_policy() -> Fields {
    let make = |o: Arc<Object<AuthorizationPolicy>>| vec![Change::AuthorizationPolicy(o)];
    let subject = Subject { kind: "AuthorizationPolicy", namespace: "ns", beside: "", make };
    kind(&subject, |full| {
        let own = with(full, "/selector/matchLabels", json!({"app": "a"}));
        let own = without(&own, &["targetRef", "targetRefs"]);
        let allow = with(&without(&own, &["provider"]), "/action", json!("ALLOW"));
        vec![full.clone(), own, allow]
    })
}

fn request_authentication() -> Fields {
    let make = |o: Arc<Object<RequestAuthentication>>| vec![Change::RequestAuthentication(o)];
    let subject = Subject { kind: "RequestAuthentication", namespace: "ns", beside: "", make };
    kind(&subject, |full| {
        let own = with(full, "/selector/matchLabels", json!({"app": "a"}));
        let own = without(&own, &["targetRef", "targetRefs"]);
        vec![full.clone(), without(&own, &["jwtRules/0/jwks"]), own]
    })
}

fn peer_authentication() -> Fields {
    let make = |o: Arc<Object<PeerAuthentication>>| vec![Change::PeerAuthentication(o)];
    let subject = Subject { kind: "PeerAuthentication", namespace: "ns", beside: "", make };
    kind(&subject, |full| {
        let own = with(full, "/selector/matchLabels", json!({"app": "a"}));
        let mut ports = own.clone();
        ports["portLevelMtls"] = json!({"8080": own["portLevelMtls"]["x-key"]});
        let all = without(&own, &["selector", "portLevelMtls"]);
        vec![ports, own, all]
    })
}

/// An AuthorizationPolicy about the other direction; external authorizers and targets are refused.
fn egress_policy() -> Fields {
    let make = |o: Arc<Object<AuthorizationPolicy>>| vec![Change::EgressPolicy(o)];
    let subject = Subject { kind: "EgressPolicy", namespace: "ns", beside: "", make };
    kind(&subject, |full| {
        let own = with(full, "/selector/matchLabels", json!({"app": "a"}));
        let own = without(&own, &["targetRef", "targetRefs", "provider"]);
        ["DENY", "ALLOW"].map(|action| with(&own, "/action", json!(action))).to_vec()
    })
}

/// Groups are for machines that register themselves: what becomes of each field does not depend on anything else.
fn workload_group() -> Fields {
    let schema = schemars::schema_for!(WorkloadGroup).to_value();
    let mut all = BTreeMap::new();
    leaves(&schema, &schema["$defs"], "spec", &mut all);
    let object = crate::fixtures::object("networking.istio.io", "WorkloadGroup", "ns", "all", populated(&schema, 0));
    let fates = crate::convert::fates(&Resource::WorkloadGroup(Arc::new(object)));
    let fate = |field: &str| {
        let mut around =
            fates.iter().filter(|f| field.strip_prefix(&*f.field).is_some_and(|r| r.starts_with(['.', '['])));
        match around.next().map(|f| &f.outcome) {
            Some(Outcome::Inert { because }) => Shown::Fate(format!("without effect: {because}")),
            _ => Shown::Nothing,
        }
    };
    all.into_keys().map(|field| (field.clone(), fate(&field))).collect()
}

/// What is true of a whole group of fields that no sample can show.
fn remark(kind: &str, field: &str) -> Option<&'static str> {
    let starts = |prefix: &str| field.starts_with(prefix);
    Some(match kind {
        "WorkloadEntry" if starts("spec.serviceAccount") => "read and kept; names the instance's identity",
        "EgressPolicy" if starts("spec.provider") || starts("spec.targetRef") => "refused: it is for workloads alone",
        "MeshConfig" if starts("spec.defaultConfig") => "setting of the proxy's process",
        _ => "read and kept; no decision of the data plane depends on it",
    })
}

/// Fields that validation refuses, so that no object with one gets as far as having a fate.
fn refused(kind: &str, field: &str) -> bool {
    let inner = field.strip_prefix("ingress[].tls.").filter(|_| kind == "Sidecar");
    let names = ["httpsRedirect", "credentialName", "tlsCertificates", "subjectAltNames"];
    inner.is_some_and(|inner| names.iter().any(|name| inner.starts_with(name)))
}

/// The test that shows a field that is in force, as a link.
fn shown_by(kind: &str, field: &str, wrong: &mut Vec<String>) -> String {
    let Some(test) = shown::test_of(kind, field) else {
        wrong.push(format!("{kind} {field}: no test is named for it in compile::tests::shown"));
        return String::new();
    };
    format!("[`{}`](../{})", test.name, test.file)
}

fn page() -> String {
    let mut out = String::from(
        "# Fields\n\nEvery field of Istio's traffic and security kinds: since when it is in force, and a test that fails when it is taken away; or else\n\
         what became of it. Made of the schemas and the field accounting by `UPDATE_DOCS=1 cargo test -p mesh-core --lib fields`; a test\n\
         fails when this page is stale. That a field is in force is tried, not claimed: another value makes another plan, endpoint or\n\
         name (`compile::tests::fields`), or its account says that it is consumed. Tests are named in `compile::tests::shown`, and it\n\
         is checked that they exist and are about the field.\n",
    );
    let (mut wrong, mut files) = (Vec::new(), BTreeMap::new());
    let all = [
        ("VirtualService", virtual_service()),
        ("DestinationRule", destination_rule()),
        ("Gateway", gateway()),
        ("ServiceEntry", service_entry()),
        ("WorkloadEntry", workload_entry()),
        ("WorkloadGroup", workload_group()),
        ("Sidecar", sidecar()),
        ("PeerAuthentication", peer_authentication()),
        ("RequestAuthentication", request_authentication()),
        ("AuthorizationPolicy", authorization_policy()),
        ("EgressPolicy", egress_policy()),
        ("MeshConfig", mesh_config()),
        ("ProxyConfig", proxy_config()),
    ];
    for (kind, fields) in all {
        let _ = write!(out, "\n## {kind}\n\n| Field | In force since | Test that shows it, or fate |\n|---|---|---|\n");
        for (field, shown) in &fields {
            let name = field.trim_start_matches("spec.");
            let (since, text) = match shown {
                Shown::ByMutation | Shown::ByAccount => (SINCE, shown_by(kind, name, &mut wrong)),
                _ if refused(kind, name) => ("–", "refused by validation, as by Istio's".to_owned()),
                Shown::Fate(fate) | Shown::Object(fate) => ("–", fate.clone()),
                Shown::Nothing => ("–", remark(kind, field).unwrap_or_default().to_owned()),
            };
            if since == SINCE {
                wrong.extend(shown::test_of(kind, name).and_then(|t| shown::wrong(t, name, &mut files)));
            }
            assert!(!text.is_empty() || !wrong.is_empty(), "{kind} {field} has nothing to say");
            assert!(!text.contains("a later version"), "{kind} {field}: `compile::mesh::later` knows no part for it");
            let _ = writeln!(out, "| {name} | {since} | {text} |");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    out
}

/// `defaultConfig` of the mesh stands for all ways to set it.
fn proxy_config() -> Fields {
    let prefix = "spec.defaultConfig.";
    let schema = schemars::schema_for!(ProxyConfig).to_value();
    let mut all = BTreeMap::new();
    leaves(&schema, &schema["$defs"], "spec", &mut all);
    let known: BTreeSet<String> = all.into_keys().collect();
    let of_mesh = mesh_config().into_iter().filter_map(|(f, s)| Some((format!("spec.{}", f.strip_prefix(prefix)?), s)));
    of_mesh.filter(|(f, _)| known.contains(f)).collect()
}

#[test]
fn the_table_of_fields_is_up_to_date() {
    let page = page();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/fields.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    let stale = page.lines().zip(written.lines().chain(std::iter::repeat(""))).find(|(a, b)| a != b);
    assert!(
        page == written,
        "docs/fields.md is stale ({stale:?}); write it with UPDATE_DOCS=1 cargo test -p mesh-core --lib fields"
    );
}

#[test]
fn fields_in_general() {
    assert_eq!(general("spec.http[0].headers.request.set.x-key"), "spec.http[].headers.request.set.*");
    assert_eq!(pointer_field("/http/0/timeout"), ".http[0].timeout");
    let spec = Value::Object(Map::from_iter([("a".to_owned(), json!([{"b": 1}]))]));
    assert_eq!(pointers(&spec), ["/a/0/b"]);
    assert_eq!(without(&spec, &["a/0/b"]), json!({"a": [{}]}));
}
