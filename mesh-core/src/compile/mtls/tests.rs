use crate::compile::sim::{Sim, inbound};
use crate::decide::Detected;
use crate::report::Outcome;
use crate::snapshot::{MtlsMode, TlsVersion, Workloads};

fn policy(namespace: &str, name: &str, spec: &str) -> String {
    let head = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n";
    format!("{head}metadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n---\n")
}

fn hello(alpn: &[&str]) -> Option<Detected> {
    Some(Detected::Tls { sni: None, alpn: alpn.iter().map(|p| (*p).into()).collect() })
}

/// What becomes of a plaintext request, a sidecar's, and the TLS of somebody else, at a port.
fn arrivals(sim: &Sim, port: u16) -> [String; 3] {
    let snapshot = sim.compile("c-1").snapshot;
    let all = [Some(Detected::Http1), hello(&["istio-http/1.1", "istio", "http/1.1"]), hello(&["h2"])];
    all.map(|first| inbound(&snapshot, port, first))
}

#[test]
fn without_a_policy_both_are_taken() {
    let sim = Sim::of("");
    let closed = "closed filter_chain_not_found";
    for (port, expected) in [
        (8080, ["http inbound|http|8080", "mtls http inbound|http|8080", closed]),
        (9000, ["inbound|9000||", "mtls inbound|9000||", "inbound|9000||"]),
        (7000, ["http inbound|http|7000", "mtls http inbound|http|7000", "inbound|7000||"]),
        (
            1234,
            [
                "http virtualInbound-catchall-http",
                "mtls http virtualInbound-catchall-http",
                "InboundPassthroughCluster",
            ],
        ),
    ] {
        assert_eq!(arrivals(&sim, port), expected, "{port}");
        assert_eq!(inbound(&sim.compile("c-1").snapshot, port, None), "need bytes", "{port}");
    }
}

#[test]
fn strict_refuses_what_is_not_mutual() {
    let sim = Sim::of(&policy("istio-system", "all", "mtls: {mode: STRICT}"));
    for port in [8080, 9000, 7000, 1234] {
        let [plain, mesh, foreign] = arrivals(&sim, port);
        assert_eq!(plain, "closed filter_chain_not_found", "{port}");
        assert!(mesh.starts_with("mtls ") && foreign.starts_with("mtls "), "{port}: {mesh}, {foreign}");
    }
}

#[test]
fn disabled_ports_take_what_comes() {
    let sim = Sim::of(&policy("other", "all", "mtls: {mode: DISABLE}"));
    assert_eq!(arrivals(&sim, 9000), ["inbound|9000||"; 3]);
    assert_eq!(inbound(&sim.compile("c-1").snapshot, 9000, None), "inbound|9000||", "nothing to wait for");
    assert_eq!(arrivals(&sim, 7000), ["http inbound|http|7000", "inbound|7000||", "inbound|7000||"]);
}

/// The port is the workload's, whether or not a Service declares it.
#[test]
fn ports_have_modes_of_their_own() {
    let spec = "selector: {matchLabels: {app: c}}, portLevelMtls: {'9000': {mode: STRICT}, '1234': {mode: DISABLE}}";
    let sim = Sim::of(&policy("other", "ports", spec));
    let snapshot = sim.compile("c-1").snapshot;
    let mode = |port: u16| snapshot.inbound(port).mesh.as_ref().unwrap().clone();
    assert_eq!(
        [8080, 9000, 1234, 4321].map(|p| mode(p).mode),
        [MtlsMode::Permissive, MtlsMode::Strict, MtlsMode::Disable, MtlsMode::Permissive,]
    );
    assert_eq!(&*mode(9000).origin.field, "spec.portLevelMtls.9000.mode");
    assert!(mode(9000).origin.location.as_ref().is_some_and(|l| l.starts_with("sim.yaml:")));
    assert_eq!(mode(8080).origin.object, None);
    // Of a Service's port 8080 with target port 8081, 8081 is the port that counts.
    let spec = "selector: {matchLabels: {app: b}}, portLevelMtls: {'8080': {mode: STRICT}}";
    let snapshot = Sim::of(&policy("ns", "service-port", spec)).compile("b-1").snapshot;
    assert_eq!(snapshot.inbound(8081).mesh.as_ref().unwrap().mode, MtlsMode::Permissive);
}

#[test]
fn what_ends_the_meshs_tls_is_the_meshs_business() {
    let mesh = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    \
                trustDomain: td\n    trustDomainAliases: [old]\n    meshMTLS: {minProtocolVersion: TLSV1_3}\n";
    let snapshot = Sim::of(mesh).compile("c-1").snapshot;
    let tls = snapshot.inbound(8080).mesh.as_ref().unwrap().tls.clone();
    assert_eq!(tls.parameters.min, TlsVersion::V1_3);
    assert!(tls.verify && matches!(&tls.workloads, Some(Workloads::Of(t)) if t.domains().eq(["td", "old"])));
    let default = Sim::of("").compile("c-1").snapshot;
    assert_ne!(default.inbound(8080).hash, snapshot.inbound(8080).hash);
    assert!(default.gateway(80).is_none_or(|l| l.mesh.is_none()));
    assert!(default.outbound(None, 8080).mesh.is_none());
}

#[test]
fn what_becomes_of_each_policy() {
    let all = [
        policy("istio-system", "mesh", "mtls: {mode: STRICT}"),
        policy("istio-system", "selects", "selector: {matchLabels: {app: c}}, mtls: {mode: DISABLE}"),
        policy("other", "all", "mtls: {mode: PERMISSIVE}"),
        policy("other", "second", "mtls: {mode: DISABLE}"),
        policy(
            "other",
            "one",
            "selector: {matchLabels: {app: c}}, mtls: {mode: UNSET}, portLevelMtls: {'9000': {mode: STRICT}, '7000': {}}",
        ),
        policy("other", "nobody", "selector: {matchLabels: {app: x}}, mtls: {mode: STRICT}"),
        policy("ns", "elsewhere", "mtls: {mode: STRICT}"),
    ];
    let sim = Sim::of(&all.concat());
    let fates = |proxy: &str| {
        let compiled = sim.compile(proxy);
        let mut said: Vec<(String, String)> = Vec::new();
        for policy in sim.world.peer_authentications().iter() {
            for leaf in compiled.account.leaves(policy) {
                let outcome = match leaf.outcome.unwrap_or_else(|| panic!("{} {} has no fate", policy.key, leaf.field))
                {
                    Outcome::Consumed => "consumed".to_owned(),
                    Outcome::Overridden { by } => format!("overridden by {by}"),
                    Outcome::Inert { because } => because.to_string(),
                    Outcome::NotInForceYet { .. } => panic!("not in force: {}", leaf.field),
                };
                said.push((format!("{}/{} {}", policy.key.namespace, policy.key.name, leaf.field), outcome));
            }
        }
        said.sort();
        said
    };
    let of_c = fates("c-1");
    let outcome =
        |field: &str| &*of_c.iter().find(|(f, _)| f == field).unwrap_or_else(|| panic!("{field}: {of_c:?}")).1;
    for (field, expected) in [
        ("other/all spec.mtls.mode", "consumed"),
        ("other/one spec.portLevelMtls.9000.mode", "consumed"),
        ("other/one spec.selector.matchLabels.app", "consumed"),
        (
            "other/second spec.mtls.mode",
            "overridden by PeerAuthentication other/all, which is older, for the same workloads",
        ),
        (
            "istio-system/mesh spec.mtls.mode",
            "overridden by PeerAuthentication other/all, which is for fewer workloads",
        ),
        ("other/nobody spec.mtls.mode", "its selector does not pick this workload"),
        ("istio-system/selects spec.mtls.mode", "in the root namespace a policy with a selector selects nobody"),
    ] {
        assert_eq!(outcome(field), expected, "{field}");
    }
    assert!(outcome("ns/elsewhere spec.mtls.mode").contains("another namespace"));
    assert!(fates("gw-1").iter().all(|(_, outcome)| outcome.contains("gateway")));
}

/// `caCertificates` and `caCertificatesPem`: who vouches for whom, and whose workloads may connect.
#[test]
fn others_vouch_for_their_own_workloads() {
    let pem = |name: &str| format!("-----BEGIN CERTIFICATE-----{name}");
    let mesh = format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    \
         caCertificates:\n    - {{pem: '{}', trustDomains: [td2, td3]}}\n    - {{pem: '{}'}}\n    \
         defaultConfig: {{caCertificatesPem: ['{}']}}\n",
        pem("a"),
        pem("b"),
        pem("c")
    );
    let plan = Sim::of(&mesh).compile("c-1").snapshot;
    let said: Vec<_> = plan.proxy.authorities.iter().map(|a| (&*a.pem, a.trust_domains.join(" "))).collect();
    let (a, b, c) = (pem("a"), pem("b"), pem("c"));
    assert_eq!(said, [(&*a, "td2 td3".to_owned()), (&*b, String::new()), (&*c, String::new())]);
    let workloads = plan.inbound(8080).mesh.as_ref().unwrap().tls.workloads.as_ref().unwrap();
    let Workloads::Of(trust) = workloads else { panic!("{workloads:?}") };
    assert!(trust.accepts("spiffe://td3/ns/a/sa/b") && !trust.accepts("spiffe://td4/ns/a/sa/b"));
    assert_eq!(plan.to_json()["proxy"]["caCertificates"][0]["trustDomains"][1], "td3");
    assert!(Sim::of("").compile("c-1").snapshot.proxy.authorities.is_empty());
}
