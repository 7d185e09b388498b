use crate::compile::tests::check;

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

#[test]
fn tls_servers_are_said_to_be_not_in_force() {
    let tls = gateway("'*'").replace("HTTP}", "HTTPS}, tls: {mode: SIMPLE, credentialName: c}");
    let compiled = crate::compile::sim::Sim::of(&tls).compile("gw-1");
    assert!(compiled.snapshot.listeners.is_empty());
    assert!(compiled.reports().any(|r| r.name.as_ref() == "NotInForceYet" && r.span.line > 0), "says so, with a line");
}
