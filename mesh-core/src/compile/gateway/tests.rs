use crate::compile::tests::check;
use crate::snapshot::{Address, Bind, BindDoor, ListenerKey};

const GATEWAY: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: ns}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [HOSTS]}]
";

fn gateway(hosts: &str) -> String {
    GATEWAY.replace("HOSTS", hosts)
}

fn vs(name: &str, spec: &str) -> String {
    let head =
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {NAME, namespace: ns}\nspec:\n";
    format!("{}  gateways: [gw]\n{spec}\n", head.replace("NAME", name))
}

const TO_B: &str = "  http: [{route: [{destination: {host: b}}]}]";

#[test]
fn without_gateway_nothing_listens_and_without_route_it_is_404() {
    check("", "gw-1", &[("GET http://b:8080/", "refused")]);
    // The port that the gateway's Service targets is listened on.
    check(&gateway("'*'"), "gw-1", &[("GET http://b:8080/", "404"), ("GET http://b:80/", "refused")]); // A1
}

#[test]
fn hosts_of_server_and_route_intersect() {
    let table = [
        ("'*'", "www.example.com", "www.example.com", "8080||b.ns"),
        ("'*'", "www.example.com", "other.example.com", "404"),
        ("'*.example.com'", "'*'", "a.example.com", "8080||b.ns"),
        ("'*.example.com'", "'*'", "a.example.org", "404"),
        ("ns/www.example.com", "www.example.com", "www.example.com", "8080||b.ns"),
        ("other/www.example.com", "www.example.com", "www.example.com", "404"),
        ("./www.example.com", "www.example.com", "WWW.example.com", "8080||b.ns"),
        ("a.example.com", "b.example.com", "b.example.com", "404"),
        // A short name is completed; a request for the short name is for another host.
        ("'*'", "b", "b", "404"),
        ("'*'", "b", "b.ns.svc.cluster.local", "8080||b.ns"),
    ];
    for (server, route, host, want) in table {
        let yaml = gateway(server) + &vs("name: v", &format!("  hosts: [{route}]\n{TO_B}"));
        check(&yaml, "gw-1", &[(&format!("GET http://{host}:8080/"), want)]);
    }
}

#[test]
fn several_objects_for_one_host_are_merged_and_catch_all_goes_last() {
    let first = "  hosts: [x.com]\n  http: [{match: [{uri: {prefix: /a}}], route: [{destination: {host: a}}]}, {route: [{destination: {host: b}}]}]";
    let second = "  hosts: [x.com]\n  http: [{match: [{uri: {prefix: /c}}], route: [{destination: {host: c.other.svc.cluster.local}}]}]";
    let yaml = gateway("'*'")
        + &vs("name: z, creationTimestamp: '2020-01-01T00:00:00Z'", first)
        + &vs("name: a, creationTimestamp: '2021-01-01T00:00:00Z'", second);
    let table = [
        ("GET http://x.com:8080/a", "8080||a.ns"),
        ("GET http://x.com:8080/c", "80||c.other"), // several ports: the server's own number
        ("GET http://x.com:8080/d", "8080||b.ns"),
    ];
    check(&yaml, "gw-1", &table);
}

#[test]
fn https_redirect_comes_before_routes_and_needs_none() {
    let redirecting = gateway("x.com, y.com").replace("HTTP}", "HTTP}, tls: {httpsRedirect: true}");
    let yaml = redirecting + &vs("name: v", &format!("  hosts: [x.com]\n{TO_B}"));
    let table = [
        ("GET http://x.com:8080/a?b=c", "301 https://x.com:8080/a?b=c"), // J16
        ("GET http://y.com:8080/", "301 https://y.com:8080/"),
        ("GET http://z.com:8080/", "404"),
    ];
    check(&yaml, "gw-1", &table);
}

#[test]
fn a_tcp_server_leads_where_its_first_rule_says() {
    let gateway = gateway("'*'").replace("HTTP}", "TCP}").replace("number: 80", "number: 9000");
    let yaml = gateway.clone()
        + &vs("name: v", "  hosts: ['*']\n  tcp: [{match: [{port: 9000}], route: [{destination: {host: b}}]}]");
    check(&yaml, "gw-1", &[("GET http://x:9000/", "tcp 8080||b.ns")]);
    check(&gateway, "gw-1", &[("GET http://x:9000/", "refused")]);
}

/// A Gateway with servers at unix sockets: path, number, protocol, host.
fn at_sockets(name: &str, servers: &[(&str, u16, &str, &str)]) -> String {
    let one = |(i, (path, number, protocol, host)): (usize, &(&str, u16, &str, &str))| {
        format!(
            "  - {{port: {{number: {number}, name: s-{i}, protocol: {protocol}}}, bind: 'unix://{path}', hosts: [{host}]}}\n"
        )
    };
    let all: String = servers.iter().enumerate().map(one).collect();
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: ns}}\nspec:\n  \
         selector: {{istio: ingressgateway}}\n  servers:\n{all}"
    )
}

#[test]
fn servers_at_unix_sockets() {
    let yaml =
        at_sockets("gw", &[("/run/a", 0, "HTTP", "x.com"), ("@b", 80, "TCP", "'*'"), ("/run/c", 0, "TCP", "'*'")])
            + &at_sockets("more", &[("/run/a", 0, "HTTP", "y.com"), ("@b", 80, "HTTP", "y.com")])
            + &vs("name: x", &format!("  hosts: [x.com, y.com]\n{TO_B}")).replace("[gw]", "[gw, more]")
            + &vs("name: t", "  hosts: ['*']\n  tcp: [{match: [{port: 80}], route: [{destination: {host: b}}]}]");
    let sim = crate::compile::sim::Sim::of(&yaml);
    let compiled = sim.compile("gw-1");
    let snapshot = &compiled.snapshot;
    let bind = |path: &str, port| Bind {
        at: Address::Unix(path.into()),
        door: BindDoor::Gateway(ListenerKey::socket(path, port)),
    };
    // Nothing leads on from `/run/c`.
    assert_eq!(snapshot.binds, [bind("/run/a", 0), bind("@b", 80)]);
    let listener = |path: &str, port| &snapshot.listeners[&ListenerKey::socket(path, port)];
    let http = listener("/run/a", 0).http.as_ref().unwrap();
    for (host, want) in [("x.com", "8080||b.ns"), ("y.com", "8080||b.ns"), ("z.com", "404")] {
        let request = crate::compile::sim::Request::parse(&format!("GET http://{host}/"));
        assert_eq!(crate::compile::sim::route_outcome(&http.routes, &request), want, "{host}");
    }
    assert!(listener("@b", 80).fallback.is_some(), "bytes, by the number that the rule names");
    assert_eq!(snapshot.to_json()["listeners"][0]["socket"], "/run/a");
    assert!(snapshot.gateway(80).is_none() && snapshot.gateway(8080).is_none(), "no port is opened for them");
    let said: Vec<_> = compiled.reports().map(|r| r.message.clone()).collect();
    assert!(said.iter().any(|m| m.starts_with("socket @b is taken: another protocol is spoken by")), "{said:?}");
}

/// A server of its own for each host, on port 443.
fn https(servers: &[(&str, &str)]) -> String {
    let one = |(i, (hosts, tls)): (usize, &(&str, &str))| {
        format!("  - {{port: {{number: 443, name: https-{i}, protocol: HTTPS}}, hosts: [{hosts}], tls: {{{tls}}}}}\n")
    };
    let all: String = servers.iter().enumerate().map(one).collect();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw, namespace: ns}}\nspec:\n  \
         selector: {{istio: ingressgateway}}\n  servers:\n{all}"
    )
}

const SIMPLE: &str = "mode: SIMPLE, credentialName: c";

#[test]
fn the_server_name_chooses_the_server_and_the_host_a_route_of_it() {
    let yaml = https(&[("a.example.com", SIMPLE), ("'*.example.com'", SIMPLE), ("b.example.org", SIMPLE)])
        + &vs("name: v", &format!("  hosts: ['*.example.com', b.example.org]\n{TO_B}"));
    let table = [
        ("GET https://a.example.com:443/", "8080||b.ns"),
        ("GET https://A.EXAMPLE.com:443/", "8080||b.ns"),
        ("GET https://x.example.com:443/", "8080||b.ns"),
        ("GET https://b.example.org:443/", "8080||b.ns"),
        // No server has the name, there is none, or no TLS. S3
        ("GET https://c.example.org:443/", "closed filter_chain_not_found"),
        ("GET https://a.example.com:443/ [sni: -]", "closed filter_chain_not_found"),
        ("GET http://a.example.com:443/", "closed filter_chain_not_found"),
        // A request for another server's host on this one's connection.
        ("GET https://b.example.org:443/ [sni: a.example.com]", "421"),
        ("GET https://nobody.example.net:443/ [sni: a.example.com]", "404"),
    ];
    check(&yaml, "gw-1", &table);
}

/// Whoever has shown no certificate, or another one, is not let in by the server of a wider name.
#[test]
fn a_wider_name_is_no_way_around_the_certificate_of_a_narrower_one() {
    let mutual = |name: &str| format!("mode: MUTUAL, credentialName: {name}");
    let (c, d) = (mutual("c"), mutual("d"));
    let at = |wide: &str, narrow: &str| {
        let servers = [("'*.example.com'", wide), ("a.example.com", narrow), ("'*.b.example.com'", narrow)];
        https(&servers) + &vs("name: v", &format!("  hosts: ['*.example.com', a.example.com]\n{TO_B}"))
    };
    let narrow = ["a.example.com", "A.EXAMPLE.COM:443", "x.b.example.com"];
    for (wide, narrow_tls, passes) in [
        (SIMPLE, &*c, false),
        (SIMPLE, "mode: OPTIONAL_MUTUAL, credentialName: c", false),
        (SIMPLE, "mode: ISTIO_MUTUAL", false),
        (&*c, &*d, false),
        (&*c, "mode: MUTUAL, credentialName: c, subjectAltNames: [x]", false),
        (&*c, &*c, true),
        (&*c, SIMPLE, true),
        (SIMPLE, SIMPLE, true),
    ] {
        let yaml = at(wide, narrow_tls);
        for host in narrow {
            let other = if passes { "8080||b.ns" } else { "421" };
            let host = host.trim_end_matches(":443");
            let own = host.to_lowercase();
            let [asked, by_name] = ["w.example.com", &own].map(|sni| format!("GET https://{host}:443/ [sni: {sni}]"));
            check(&yaml, "gw-1", &[(&asked, other), (&by_name, "8080||b.ns")]);
        }
        check(&yaml, "gw-1", &[("GET https://w.example.com:443/", "8080||b.ns")]);
    }
}

#[test]
fn a_server_for_every_host_takes_clients_without_a_server_name() {
    let yaml = https(&[("'*'", SIMPLE)]) + &vs("name: v", &format!("  hosts: [x.com]\n{TO_B}"));
    let table = [("GET https://x.com:443/ [sni: -]", "8080||b.ns"), ("GET https://y.com:443/", "404")];
    check(&yaml, "gw-1", &table);
}

#[test]
fn a_host_that_is_served_already_refuses_the_later_server() {
    let yaml = https(&[("a.example.com", SIMPLE), ("'c.example.com', 'a.example.com'", SIMPLE)])
        + &vs("name: v", &format!("  hosts: ['*.example.com']\n{TO_B}"));
    let closed = "closed filter_chain_not_found";
    check(
        &yaml,
        "gw-1",
        &[("GET https://a.example.com:443/", "8080||b.ns"), ("GET https://c.example.com:443/", closed)],
    );
    let compiled = crate::compile::sim::Sim::of(&yaml).compile("gw-1");
    assert!(compiled.reports().any(|r| r.code.as_ref() == "MESH0114" && r.field.as_ref() == "spec.servers[1]"));
}

#[test]
fn tls_goes_on_by_server_name_where_it_is_not_ended() {
    let to = "route: [{destination: {host: b, port: {number: 8080}}}]";
    let rules = format!(
        "  hosts: [a.example.com, b.example.com]\n  tls:\n  - {{match: [{{port: 443, sniHosts: [a.example.com]}}], {to}}}\n  \
         - {{match: [{{port: 444, sniHosts: [b.example.com]}}], {to}}}\n"
    );
    let yaml = https(&[("a.example.com, b.example.com", "mode: PASSTHROUGH"), ("c.example.com", SIMPLE)])
        + &vs("name: v", &rules)
        + &vs("name: w", &format!("  hosts: [c.example.com]\n{TO_B}"));
    let table = [
        ("GET https://a.example.com:443/", "tcp 8080||b.ns"),
        ("GET https://b.example.com:443/", "closed filter_chain_not_found"),
        ("GET https://c.example.com:443/", "8080||b.ns"),
    ];
    check(&yaml, "gw-1", &table);
}

#[test]
fn a_tls_server_ends_tls_before_bytes() {
    let yaml = https(&[("a.example.com", SIMPLE)]).replace("HTTPS", "TLS")
        + &vs("name: v", "  hosts: [a.example.com]\n  tcp: [{route: [{destination: {host: b}}]}]");
    check(&yaml, "gw-1", &[("GET https://a.example.com:443/", "tls tcp 8080||b.ns")]);
}

#[test]
fn the_server_name_names_the_cluster_for_istios_clients_only() {
    let yaml = https(&[("'*.local'", "mode: AUTO_PASSTHROUGH")]).replace("HTTPS", "TLS");
    let compiled = crate::compile::sim::Sim::of(&yaml).compile("gw-1");
    let listener = compiled.snapshot.gateway(443).unwrap();
    let ask = |alpn: &str| {
        let sni = Some("outbound_.8080_._.b.ns.svc.cluster.local".into());
        let detected = Some(crate::decide::Detected::Tls { sni, alpn: vec![alpn.into()] });
        let facts = crate::decide::ConnFacts { detected, ..Default::default() };
        match crate::decide::decide_connection(listener, &facts) {
            crate::decide::ConnDecision::Tcp(plan) => plan.clusters[0].cluster.to_string(),
            other => format!("{other:?}"),
        }
    };
    assert_eq!(ask("istio"), "outbound_.8080_._.b.ns.svc.cluster.local");
    let cluster = |name: &str| compiled.snapshot.clusters[name].clone();
    let (plain, usual) =
        (cluster("outbound_.8080_._.b.ns.svc.cluster.local"), cluster("outbound|8080||b.ns.svc.cluster.local"));
    assert!(plain.tls.is_none() && plain.auto_tls.is_none(), "the client has begun it");
    assert!(usual.auto_tls.is_some() && plain.source == usual.source);
    assert!(ask("h2").contains("filter_chain_not_found"), "{}", ask("h2"));
}

#[test]
fn settings_of_a_server_are_references_and_limits() {
    use crate::snapshot::{ClientCertificate, SecretRef, TlsVersion};
    let tls = "mode: MUTUAL, credentialName: c, minProtocolVersion: TLSV1_3, subjectAltNames: [x], \
               cipherSuites: [AES128-SHA, ECDHE-RSA-AES128-GCM-SHA256]";
    let compiled = crate::compile::sim::Sim::of(&https(&[("a.example.com", tls)])).compile("gw-1");
    let plan = &compiled.snapshot.gateway(443).unwrap().tls[0].tls;
    let (namespace, name) = ("istio-system".into(), "c".into());
    assert_eq!(plan.certificates, [SecretRef::Credential { namespace, name }]);
    let (namespace, name) = ("istio-system".into(), "c".into());
    assert_eq!(plan.roots, Some(SecretRef::CredentialRoots { namespace, name }));
    assert_eq!((plan.client, plan.parameters.min), (ClientCertificate::Required, TlsVersion::V1_3));
    assert_eq!(&*plan.parameters.cipher_suites, ["ECDHE-RSA-AES128-GCM-SHA256".into()]);
    assert_eq!((&*plan.alpn, &*plan.names), (&["h2".into(), "http/1.1".into()][..], &["x".into()][..]));
}

#[test]
fn every_setting_of_a_tls_server_is_said() {
    let said = |tls: &str| {
        let compiled = crate::compile::sim::Sim::of(&https(&[("a.example.com", tls)])).compile("gw-1");
        compiled.snapshot.gateway(443).unwrap().tls[0].tls.to_string()
    };
    let table = [
        (
            "mode: SIMPLE, credentialNames: [c, d], maxProtocolVersion: TLSV1_2, ecdhCurves: [P-256], cipherSuites: \
             [ECDHE-RSA-AES128-GCM-SHA256, ECDHE-ECDSA-AES128-GCM-SHA256]",
            "TLS ends with Secret istio-system/c or Secret istio-system/d, TLS 1.2 only, cipher suites \
             ECDHE-RSA-AES128-GCM-SHA256 ECDHE-ECDSA-AES128-GCM-SHA256, key exchange by P-256",
        ),
        (
            "mode: MUTUAL, credentialName: c, caCertCredentialName: r, subjectAltNames: [x, z], verifyCertificateSpki: \
             [p], verifyCertificateHash: [q], minProtocolVersion: TLSV1_3",
            "TLS ends with Secret istio-system/c, TLS 1.3 only; clients must show a certificate, verified by \
             authorities of Secret istio-system/r, for x or z, pinned to p or q",
        ),
        (
            "mode: OPTIONAL_MUTUAL, credentialName: c, subjectAltNames: [x], insecureSkipVerify: true",
            "TLS ends with Secret istio-system/c; clients may show a certificate, which is not verified",
        ),
        (
            "mode: MUTUAL, credentialName: c, insecureSkipVerify: true",
            "TLS ends with Secret istio-system/c; clients may show a certificate, which is not verified",
        ),
        (
            "mode: OPTIONAL_MUTUAL, serverCertificate: c, privateKey: k, caCertificates: r, caCrl: l, \
             maxProtocolVersion: TLSV1_1",
            "TLS ends with files c and k, no version is left; clients may show a certificate, verified by r with l",
        ),
    ];
    for (tls, text) in table {
        assert_eq!(said(tls), text, "{tls}");
    }
}
