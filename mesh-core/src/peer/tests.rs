use super::*;
use crate::api::Resource;
use crate::snapshot::MtlsMode::{self, Disable, Permissive, Strict};

fn policies(all: &[(&str, &str, &str)]) -> Vec<Arc<Object<PeerAuthentication>>> {
    let one = |(namespace, name, spec): &(&str, &str, &str)| {
        let head = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n";
        let text = format!("{head}metadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n");
        match crate::yaml::read("f.yaml", &text).0.remove(0) {
            Resource::PeerAuthentication(o) => o,
            other => panic!("{}", other.key()),
        }
    };
    all.iter().map(one).collect()
}

const STRICT: &str = "mtls: {mode: STRICT}";
const DISABLE: &str = "mtls: {mode: DISABLE}";
const PERMISSIVE: &str = "mtls: {mode: PERMISSIVE}";
const UNSET: &str = "mtls: {mode: UNSET}";

fn modes(all: &[(&str, &str, &str)], namespace: &str) -> PeerModes {
    let labels = [("app".to_owned(), "a".to_owned())].into();
    PeerModes::resolve("istio-system", (namespace, &labels), &policies(all))
}

/// Policies of the mesh, the namespace and the workload, if they are given; the modes of port 8080 and of others.
fn resolved(mesh: &str, namespace: &str, workload: &str) -> (MtlsMode, MtlsMode) {
    let narrow = format!("selector: {{matchLabels: {{app: a}}}}, {workload}");
    let all = [("istio-system", "mesh", mesh), ("ns", "all", namespace), ("ns", "one", narrow.as_str())];
    let given = [mesh, namespace, workload].map(|t| !t.is_empty());
    let all: Vec<_> = all.into_iter().zip(given).filter(|(_, given)| *given).map(|(p, _)| p).collect();
    let modes = modes(&all, "ns");
    (modes.port(8080).mode, modes.port(9090).mode)
}

#[test]
fn the_table_of_scopes() {
    let port = |mtls: &str, mode: &str| format!("{mtls}, portLevelMtls: {{'8080': {{mode: {mode}}}}}");
    for (mesh, namespace, workload, want) in [
        ("", "", "", (Permissive, Permissive)),
        (STRICT, "", "", (Strict, Strict)),
        (STRICT, DISABLE, "", (Disable, Disable)),
        (STRICT, UNSET, "", (Strict, Strict)),
        (UNSET, UNSET, UNSET, (Permissive, Permissive)),
        (STRICT, PERMISSIVE, &port(UNSET, "DISABLE"), (Disable, Permissive)),
        ("", STRICT, &port(DISABLE, "UNSET"), (Disable, Disable)),
        ("", "", &port(UNSET, "STRICT"), (Strict, Permissive)),
        ("", DISABLE, "portLevelMtls: {'8080': {mode: STRICT}}", (Strict, Disable)),
    ] {
        assert_eq!(resolved(mesh, namespace, workload), want, "{mesh} | {namespace} | {workload}");
    }
}

#[test]
fn who_counts() {
    // Selectors in the root namespace select nobody, not even there.
    let selects = "selector: {matchLabels: {app: a}}, mtls: {mode: STRICT}";
    for namespace in ["ns", "istio-system"] {
        assert_eq!(modes(&[("istio-system", "x", selects)], namespace).general().mode, Permissive);
    }
    assert_eq!(modes(&[("istio-system", "x", STRICT)], "istio-system").general().mode, Strict);
    assert_eq!(modes(&[("other", "x", STRICT)], "ns").general().mode, Permissive);
    assert_eq!(
        modes(&[("ns", "x", "selector: {matchLabels: {app: b}}, mtls: {mode: STRICT}")], "ns").general().mode,
        Permissive
    );
    assert_eq!(modes(&[("ns", "x", "selector: {}, mtls: {mode: STRICT}")], "ns").general().mode, Strict);
    // One policy of a scope counts as a whole, here the first by name.
    let two = [("ns", "b", STRICT), ("ns", "a", UNSET)];
    assert_eq!(modes(&two, "ns").general().mode, Permissive);
}

#[test]
fn who_says_so() {
    let modes =
        modes(&[("ns", "x", "selector: {matchLabels: {app: a}}, portLevelMtls: {'80': {mode: DISABLE}}")], "ns");
    assert_eq!(modes.general().origin.object, None);
    let (port, mode) = modes.ports().next().unwrap();
    let name = mode.origin.object.as_ref().map(ToString::to_string);
    assert_eq!(
        (port, name.as_deref(), mode.origin.location.as_deref()),
        (80, Some("PeerAuthentication ns/x"), Some("f.yaml:4"))
    );
}
