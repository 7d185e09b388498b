use super::*;

const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: a, namespace: default}
spec: {ports: [{name: http, port: 80}, {name: tcp-db, port: 5432}]}
";

#[test]
fn ports_hosts_and_paths_lead_to_rules() {
    let rules = Rules::read(
        "a.yaml",
        &format!(
            "{SERVICE}---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: a, namespace: default}}
spec:
  hosts: [a]
  http:
  - {{name: b, match: [{{uri: {{prefix: /b}}}}], route: [{{destination: {{host: a}}}}]}}
  - {{name: c, match: [{{headers: {{x: {{exact: z}}}}}}], route: [{{destination: {{host: a}}}}]}}
"
        ),
    );
    let rules = rules.unwrap();
    let name = |url: &str| rules.route(&url.parse().unwrap()).map(|r| r.name.to_string());
    assert_eq!(name("http://a/b?q").as_deref(), Some("b"));
    assert_eq!(name("http://a.default.svc.cluster.local:80/b").as_deref(), Some("b"));
    assert_eq!(name("http://a/"), None, "no rule takes it");
    assert_eq!(name("http://a:81/b"), None, "no service has the port");
    assert_eq!(name("/b"), None, "no host");
    assert!(rules.http(80).is_some() && rules.http(5432).is_none());
    let cluster = |name| rules.cluster(name).map(|c| c.name.to_string());
    assert!(cluster("outbound|80||a.default.svc.cluster.local").is_some());
    assert_eq!(cluster("outbound|80|v1|a.default.svc.cluster.local"), None);
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let wrong = Rules::read(
        "a.yaml",
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: default}
spec:
  hosts: [a]
  http:
  - match: [{uri: {regex: '('}}]
    route: [{destination: {host: a}}]
",
    );
    let wrong = wrong.unwrap_err();
    assert_eq!(wrong.reports().len(), 1);
    assert!(wrong.to_string().starts_with("a.yaml:7:"), "{wrong}");
    assert!(Rules::read("b.yaml", "a: [").unwrap_err().to_string().starts_with("b.yaml:"));
}
