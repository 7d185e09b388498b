use serde_json::json;

use super::*;
use crate::yaml::read;

fn one(text: &str) -> (Resource, Vec<Report>) {
    let (mut resources, reports) = read("f.yaml", text);
    assert_eq!(resources.len(), 1, "{reports:?}");
    (resources.remove(0), reports)
}

fn refused(text: &str) -> Report {
    let (resources, mut reports) = read("f.yaml", text);
    assert_eq!(resources.len(), 0);
    reports.pop().unwrap()
}

const VS: &str = "apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata:
  name: reviews
spec:
  hosts: [reviews]
  http:
  - name: all
    match:
    - headers:
        x.y: {exact: a}
    route:
    - destination: {host: reviews}
      weigth: 5
";

#[test]
fn an_object_with_places_and_a_namespace() {
    let (resource, reports) = one(VS);
    assert_eq!(resource.key().to_string(), "VirtualService default/reviews");
    assert!(resource.meta().namespace_defaulted);
    let origin = resource.origin();
    assert_eq!(origin.at("spec.http[0].match[0].headers[\"x.y\"].exact"), crate::api::Span { line: 11, column: 15 });
    assert_eq!(origin.at("spec.http[0].match[0].headers[\"x.y\"].prefix").line, 11);
    assert_eq!(origin.at("spec.http[0].route[0].weight").line, 13);
    assert_eq!(reports.len(), 1);
    assert_eq!((&*reports[0].code, reports[0].span.line), ("MESH0004", 14));
    assert_eq!(reports[0].fix.as_deref(), Some("did you mean weight?"));
}

#[test]
fn written_back_in_kubernetes_form() {
    let (resource, _) = one(VS);
    let value = resource.to_value();
    assert_eq!(value["apiVersion"], "networking.istio.io/v1beta1");
    assert_eq!(value["metadata"], json!({"name": "reviews", "namespace": "default"}));
    assert_eq!(value["spec"]["http"][0]["route"], json!([{"destination": {"host": "reviews"}}]));
    let again = Resource::parse(value, Origin::generated("test")).unwrap().0;
    assert_eq!((again.hash(), again.key()), (resource.hash(), resource.key()));
}

#[test]
fn what_is_refused_and_why() {
    let type_error = refused(&VS.replace("[reviews]", "reviews"));
    assert_eq!((&*type_error.code, &*type_error.field, type_error.span.line), ("IST0106", "spec.hosts", 6));
    let version = refused(&VS.replace("v1beta1", "v2"));
    assert!(version.message.contains("v1, v1beta1, v1alpha3"), "{}", version.message);
    assert_eq!(&*refused(&VS.replace("  name: reviews", "  labels: {}")).field, "metadata.name");
    assert_eq!(&*refused("kind: Pod\nmetadata: {name: a}").field, "apiVersion");
    assert_eq!(&*refused("[1]").code, "MESH0002");
}

#[test]
fn kinds_that_nobody_reads_are_named() {
    let (resource, reports) = one("apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: a}\n");
    assert!(matches!(resource, Resource::Unread(_)));
    assert_eq!((&*reports[0].code, reports[0].level), ("MESH0003", crate::report::Level::Warning));
    let (_, reports) = one(&VS.replace("kind: VirtualService", "kind: VirtualServce"));
    assert!(reports[0].fix.as_ref().unwrap().contains("kind VirtualService"));
    let (_, reports) = one("apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: a}\n");
    assert_eq!(reports[0].fix, None);
}

#[test]
fn pod_fields_without_effect_are_inert() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  nodeName: x\n  containers:\n  - name: c\n    \
                securityContext: {runAsUser: 1, privileged: true}\n";
    let (resource, mut reports) = one(text);
    // This one is read, for the analysis of capture, and said by validation.
    reports.extend(crate::validate::validate(&resource));
    let fields: Vec<_> = reports.iter().map(|r| (&*r.code, &*r.field)).collect();
    let at = "spec.containers[0].securityContext";
    let expected = [&format!("{at}.privileged"), "spec.nodeName", &format!("{at}.runAsUser")];
    assert_eq!(fields, expected.map(|f| ("MESH0005", f)));
}

#[test]
fn lists_are_expanded() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: a}\n- apiVersion: v1\n  \
                kind: ConfigMap\n  metadata: {name: b}\n  data: {x: z}\n";
    let (resources, reports) = read("f.yaml", text);
    assert!(reports.is_empty());
    assert_eq!(resources[0].key().to_string(), "Namespace a");
    assert_eq!(resources[1].origin().at("data.x").line, 10);
}

#[test]
fn the_hash_is_of_the_content() {
    let (a, _) = one(VS);
    let (b, _) = one(&format!("# moved\n\n{VS}"));
    let (c, _) = one(&VS.replace("name: all", "name: some"));
    assert_eq!(a.hash(), b.hash());
    assert_ne!(a.hash(), c.hash());
}
