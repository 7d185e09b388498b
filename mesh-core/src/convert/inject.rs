//! Which pods have a sidecar, and which of their ports it takes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::api::kube::PodSpec;

/// Label or annotation that decides for one pod.
const INJECT: &str = "sidecar.istio.io/inject";
/// Which templates make up what is put into a pod.
const TEMPLATES: &str = "inject.istio.io/templates";
/// Template of an application that embeds the mesh.
const EMBEDDED: &str = "embedded";
/// Label of a namespace.
const INJECTION: &str = "istio-injection";
/// Image of a pod that is a gateway: the injector puts the proxy there.
pub const GATEWAY_IMAGE: &str = "auto";

/// Which rule decides about sidecars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Inject {
    /// Every pod, unless the pod or its namespace says no.
    #[default]
    All,
    /// Istio's rule on Kubernetes: only where the pod or its namespace says yes.
    Labels,
}

type Labels = BTreeMap<String, String>;

/// Whether a pod gets a sidecar.
pub fn wants_sidecar(rule: Inject, pod: &Labels, annotations: &Labels, namespace: Option<&Labels>) -> bool {
    let own = pod.get(INJECT).or_else(|| annotations.get(INJECT)).map(String::as_str);
    let space = namespace.and_then(|n| n.get(INJECTION)).map(String::as_str);
    let revision = namespace.is_some_and(|n| n.contains_key("istio.io/rev"));
    match rule {
        Inject::All => own != Some("false") && (space != Some("disabled") || own == Some("true")),
        Inject::Labels => match (space, own) {
            (Some("disabled"), _) | (_, Some("false")) => false,
            (_, Some("true")) => true,
            (space, _) => space == Some("enabled") || revision || pod.contains_key("istio.io/rev"),
        },
    }
}

/// Whether a pod that would get a sidecar is a member of the mesh itself: its application embeds the library.
///
/// Named as Istio names templates for proxyless services (`inject.istio.io/templates: grpc-agent`); ours is `embedded`.
pub fn is_embedded(annotations: &Labels) -> bool {
    annotations.get(TEMPLATES).is_some_and(|list| list.split(',').any(|name| name.trim() == EMBEDDED))
}

/// Whether a pod is a gateway, which is no sidecar.
pub fn is_gateway(pod: &PodSpec) -> bool {
    pod.containers.iter().any(|c| c.image == GATEWAY_IMAGE)
}

/// Whether a sidecar takes the connections to a port of its pod (annotations `traffic.sidecar.istio.io/*InboundPorts`,
/// `sidecar.istio.io/interceptionMode`). What it does not take reaches the application as it is.
pub fn takes_port(annotations: &Labels, port: u16) -> bool {
    let get = |name: &str| annotations.get(&format!("traffic.sidecar.istio.io/{name}")).map(|v| v.trim());
    let lists = |list: &str| list.split(',').any(|p| p.trim().parse() == Ok(port));
    if annotations.get("sidecar.istio.io/interceptionMode").is_some_and(|m| m == "NONE") {
        return false;
    }
    let included = match get("includeInboundPorts") {
        None | Some("*") => true,
        Some(list) => lists(list),
    };
    included && !get("excludeInboundPorts").is_some_and(lists)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn an_application_may_be_the_proxy_itself() {
        for (list, embedded) in
            [("embedded", true), ("custom, embedded", true), ("sidecar", false), ("embeddedx", false)]
        {
            assert_eq!(is_embedded(&labels(&[(TEMPLATES, list)])), embedded, "{list}");
        }
        assert!(!is_embedded(&labels(&[])));
    }

    #[test]
    fn every_pod_unless_it_or_its_namespace_says_no() {
        let none = labels(&[]);
        let off = labels(&[(INJECTION, "disabled")]);
        let no = labels(&[(INJECT, "false")]);
        let yes = labels(&[(INJECT, "true")]);
        assert!(wants_sidecar(Inject::All, &none, &none, None));
        assert!(!wants_sidecar(Inject::All, &no, &none, None));
        assert!(!wants_sidecar(Inject::All, &none, &no, None));
        assert!(!wants_sidecar(Inject::All, &none, &none, Some(&off)));
        assert!(wants_sidecar(Inject::All, &yes, &none, Some(&off)));
    }

    #[test]
    fn with_labels_only_where_asked_for() {
        let none = labels(&[]);
        let on = labels(&[(INJECTION, "enabled")]);
        let off = labels(&[(INJECTION, "disabled")]);
        let rev = labels(&[("istio.io/rev", "x")]);
        let yes = labels(&[(INJECT, "true")]);
        let no = labels(&[(INJECT, "false")]);
        for (pod, namespace, expected) in [
            (&none, None, false),
            (&none, Some(&on), true),
            (&none, Some(&rev), true),
            (&no, Some(&on), false),
            (&yes, None, true),
            (&yes, Some(&off), false),
        ] {
            assert_eq!(wants_sidecar(Inject::Labels, pod, &none, namespace), expected, "{pod:?} {namespace:?}");
        }
    }

    #[test]
    fn ports_that_the_sidecar_does_not_take() {
        let one = |name: &str, value: &str| labels(&[(&format!("traffic.sidecar.istio.io/{name}"), value)]);
        for (annotations, expected) in [
            (labels(&[]), true),
            (one("excludeInboundPorts", "70, 80"), false),
            (one("excludeInboundPorts", "8080"), true),
            (one("includeInboundPorts", "*"), true),
            (one("includeInboundPorts", ""), false),
            (one("includeInboundPorts", "80,90"), true),
            (one("includeInboundPorts", "90"), false),
            (labels(&[("sidecar.istio.io/interceptionMode", "NONE")]), false),
            (labels(&[("sidecar.istio.io/interceptionMode", "TPROXY")]), true),
        ] {
            assert_eq!(takes_port(&annotations, 80), expected, "{annotations:?}");
        }
    }
}
