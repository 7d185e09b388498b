use crate::compile::Compiled;
use crate::compile::sim::Sim;
use crate::report::Outcome;
use crate::snapshot::{ClusterPlan, PeerNames, ProxyHeader, SecretRef, Sni};

fn compiled(spec: &str, proxy: &str) -> Compiled {
    let rule = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: r, namespace: ns}}\nspec: {{{spec}}}\n"
    );
    Sim::of(&rule).compile(proxy)
}

fn cluster(spec: &str, proxy: &str, name: &str) -> ClusterPlan {
    let snapshot = compiled(spec, proxy).snapshot;
    let found = snapshot.clusters.get(&format!("outbound|{name}.svc.cluster.local") as &str);
    ClusterPlan::clone(found.expect("the cluster"))
}

fn of_b(policy: &str) -> ClusterPlan {
    cluster(&format!("host: b, trafficPolicy: {{{policy}}}"), "a-1", "8080||b.ns")
}

#[test]
fn without_a_block_or_with_disable_there_is_plaintext() {
    assert_eq!(of_b("loadBalancer: {simple: RANDOM}").tls, None);
    assert_eq!(of_b("tls: {mode: DISABLE, sni: x}").tls, None);
}

#[test]
fn simple_verifies_the_host_by_the_systems_authorities() {
    let tls = of_b("tls: {mode: SIMPLE}").tls.unwrap();
    let host = || "b.ns.svc.cluster.local".into();
    assert_eq!((&tls.sni, &tls.names), (&Sni::Host(host()), &PeerNames::Host(host())));
    assert_eq!((tls.identity.as_ref(), &tls.roots, tls.verify), (None, &SecretRef::SYSTEM, true));
    assert_eq!(&*tls.origin.field, "spec.trafficPolicy.tls");
    let tls =
        of_b("tls: {mode: SIMPLE, sni: x, subjectAltNames: [u, z], caCertificates: /ca, caCrl: /crl}").tls.unwrap();
    assert_eq!((&tls.sni, &tls.names), (&Sni::Name("x".into()), &PeerNames::OneOf(vec!["u".into(), "z".into()])));
    assert_eq!(tls.roots, SecretRef::RootsFile { roots: Some("/ca".into()), crl: Some("/crl".into()) });
    assert!(!of_b("tls: {mode: SIMPLE, insecureSkipVerify: true}").tls.unwrap().verify);
}

#[test]
fn mutual_shows_files_or_a_secret_of_the_proxys_namespace() {
    let tls = of_b("tls: {mode: MUTUAL, clientCertificate: /c, privateKey: /k}").tls.unwrap();
    assert_eq!(tls.identity, Some(SecretRef::Files { certificate: "/c".into(), key: "/k".into() }));
    let spec =
        "host: b, workloadSelector: {matchLabels: {app: a}}, trafficPolicy: {tls: {mode: MUTUAL, credentialName: c}}";
    let tls = cluster(spec, "a-1", "8080||b.ns").tls.unwrap();
    assert_eq!(tls.identity, Some(SecretRef::Credential { namespace: "ns".into(), name: "c".into() }));
    assert_eq!(tls.roots, SecretRef::CredentialRoots { namespace: "ns".into(), name: "c".into() });
}

#[test]
fn a_sidecar_drops_tls_with_a_credential_that_is_not_its_own_and_says_so() {
    let compiled = compiled("host: b, trafficPolicy: {tls: {mode: SIMPLE, credentialName: c}}", "a-1");
    let plan = &compiled.snapshot.clusters["outbound|8080||b.ns.svc.cluster.local"];
    assert_eq!(plan.tls, None);
    assert!(compiled.reports().any(|r| r.code.as_ref() == "MESH0112"));
    let fate = compiled
        .account
        .fates()
        .find(|f| f.field.as_ref() == "spec.trafficPolicy.tls" && f.outcome != Outcome::Consumed);
    assert!(matches!(fate.unwrap().outcome, Outcome::Inert { .. }));
}

#[test]
fn the_meshs_own_tls_names_the_cluster() {
    let tls = of_b("tls: {mode: ISTIO_MUTUAL}").tls.unwrap();
    assert_eq!((tls.identity.as_ref(), &tls.roots), (Some(&SecretRef::Workload), &SecretRef::MeshRoots));
    assert_eq!(tls.sni, Sni::Name("outbound_.8080_._.b.ns.svc.cluster.local".into()));
    assert_eq!(tls.alpn, ["istio-peer-exchange".into(), "istio".into()]);
}

#[test]
fn the_block_of_a_port_or_subset_replaces_the_rules_own() {
    let spec = "host: c.other.svc.cluster.local, trafficPolicy: {tls: {mode: SIMPLE, sni: top}, tunnel: {targetHost: x, targetPort: 1}, \
                portLevelSettings: [{port: {number: 7000}, tls: {mode: SIMPLE, sni: port}}, \
                {port: {number: 8080}, loadBalancer: {simple: RANDOM}}]}, \
                subsets: [{name: v1}, {name: v2, trafficPolicy: {tls: {mode: SIMPLE, sni: subset}}}]";
    let sni = |name: &str| cluster(spec, "a-1", name).tls.as_ref().map(|t| t.sni.clone());
    for (name, expected) in [
        ("9000||c.other", Some("top")),
        ("9000|v1|c.other", Some("top")),
        ("9000|v2|c.other", Some("subset")),
        ("7000||c.other", Some("port")),
        ("7000|v2|c.other", Some("subset")),
        // An entry for the port without the block: there is none.
        ("8080||c.other", None),
    ] {
        assert_eq!(sni(name), expected.map(|e| Sni::Name(e.into())), "{name}");
    }
    // A tunnel is for bytes, and a port's entry leaves it out.
    assert_eq!(cluster(spec, "a-1", "9000|v1|c.other").tunnel.unwrap().target, "x:1".into());
    assert_eq!(cluster(spec, "a-1", "7000||c.other").tunnel, None);
    assert_eq!(of_b("proxyProtocol: {version: V2}").proxy_header, Some(ProxyHeader::V2));
}

#[test]
fn names_of_a_service_entry_stand_in_for_those_of_the_rule() {
    let yaml = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: e, namespace: ns}
spec: {hosts: [e.com], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS, subjectAltNames: [san.e.com]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: r, namespace: ns}
spec: {host: e.com, trafficPolicy: {tls: {mode: SIMPLE}}}";
    let snapshot = Sim::of(yaml).compile("a-1").snapshot;
    let tls = snapshot.clusters["outbound|443||e.com"].tls.clone().unwrap();
    assert_eq!(tls.names, PeerNames::OneOf(vec!["san.e.com".into()]));
}

fn auto(yaml: &str, name: &str) -> Option<std::sync::Arc<crate::snapshot::UpstreamTls>> {
    let snapshot = Sim::of(yaml).compile("a-1").snapshot;
    let cluster = &snapshot.clusters[&format!("outbound|{name}") as &str];
    assert!(cluster.auto_tls.is_none() || cluster.tls.is_none(), "one of them decides");
    cluster.auto_tls.clone()
}

const MESH: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: \"";

#[test]
fn services_of_the_mesh_have_mutual_tls_without_asking() {
    let b = "8080||b.ns.svc.cluster.local";
    let tls = auto("", b).unwrap();
    assert_eq!((tls.mode, tls.is_mesh(), tls.verify, tls.by_host()), ("ISTIO_MUTUAL", true, true, false));
    assert_eq!(tls.sni, Sni::Name("outbound_.8080_._.b.ns.svc.cluster.local".into()));
    assert_eq!(tls.names, PeerNames::Endpoint(vec![]));
    assert_eq!(auto(&format!("{MESH}enableAutoMtls: false\"}}"), b), None);
    let limits = auto(&format!("{MESH}meshMTLS: {{minProtocolVersion: TLSV1_3}}\"}}"), b).unwrap();
    assert_eq!(limits.parameters.min, crate::snapshot::TlsVersion::V1_3);
    assert_ne!(limits.hash, tls.hash);
    // What a rule says counts, also where it is DISABLE or an entry of the port without the block.
    let rule = |tls: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: r, namespace: ns}}\nspec: \
             {{host: b, trafficPolicy: {{{tls}}}, subsets: [{{name: v1, labels: {{version: v1}}}}]}}\n"
        )
    };
    for said in ["tls: {mode: DISABLE}", "tls: {mode: SIMPLE}", "tls: {mode: ISTIO_MUTUAL}"] {
        assert_eq!(auto(&rule(said), b), None, "{said}");
    }
    let subset = auto(&rule("loadBalancer: {simple: RANDOM}"), "8080|v1|b.ns.svc.cluster.local").unwrap();
    assert_eq!(subset.sni, Sni::Name("outbound_.8080_.v1_.b.ns.svc.cluster.local".into()));
}

/// A star is no part of a server name, so that nothing could be sent.
#[test]
fn the_name_for_a_wildcard_host_has_no_star() {
    let entry = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: s, namespace: ns}\nspec: {hosts: \
                 ['*.x.example'], location: MESH_INTERNAL, resolution: STATIC, endpoints: [{address: 10.8.8.8, \
                 serviceAccount: s}], ports: [{number: 80, name: http, protocol: HTTP}]}\n";
    let tls = auto(entry, "80||*.x.example").unwrap();
    assert_eq!(tls.sni, Sni::Name("outbound_.80_._.x.example".into()));
}

#[test]
fn whoever_is_outside_is_not_spoken_to_with_it() {
    let entry = |location: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: ns}}\nspec: {{hosts: \
             [e.com], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: STATIC, location: {location}, \
             subjectAltNames: ['spiffe://cluster.local/ns/x/sa/y'], endpoints: [{{address: 1.2.3.4, serviceAccount: e}}]}}\n"
        )
    };
    assert_eq!(auto(&entry("MESH_EXTERNAL"), "80||e.com"), None);
    let tls = auto(&entry("MESH_INTERNAL"), "80||e.com").unwrap();
    assert_eq!(tls.names, PeerNames::Endpoint(vec!["spiffe://cluster.local/ns/x/sa/y".into()]));
    let old = format!("{MESH}trustDomainAliases: [old]\"}}\n---\n{}", entry("MESH_INTERNAL"));
    let both = ["spiffe://cluster.local/ns/x/sa/y", "spiffe://old/ns/x/sa/y"].map(Into::into);
    assert_eq!(auto(&old, "80||e.com").unwrap().names, PeerNames::Endpoint(both.into()));
}

/// A rule that asks for it has the same names, unless it brings its own; nobody skips verification between workloads.
#[test]
fn istio_mutual_expects_the_endpoints_account() {
    let tls = of_b("tls: {mode: ISTIO_MUTUAL, insecureSkipVerify: true}").tls.unwrap();
    assert_eq!((&tls.names, tls.verify), (&PeerNames::Endpoint(vec![]), true));
    let tls = of_b("tls: {mode: ISTIO_MUTUAL, sni: x, subjectAltNames: [z]}").tls.unwrap();
    assert_eq!((&tls.sni, &tls.names), (&Sni::Name("x".into()), &PeerNames::OneOf(vec!["z".into()])));
    assert_eq!(tls.parameters, crate::snapshot::TlsParameters::mesh(false, []));
}
