//! Pods and Deployments: the proxy's user id, images that injection fills in, images of old proxies; and the webhooks
//! that inject.

use std::collections::{BTreeMap, BTreeSet};

use super::index::{Index, SYSTEM, go_list, selects};
use super::messages::{AUTO_IMAGE, AUTO_IMAGE_POD, INVALID_WEBHOOK, OLD_PROXY, RESERVED_UID};
use crate::api::kube::{Container, PodSpec};
use crate::api::{Key, Origin, ProxySettings};
use crate::report::Report;
use crate::world::covers;

/// The user that the sidecar runs as.
const PROXY_UID: i64 = 1337;

/// A pod as written, or the template of a Deployment with the path of its spec.
struct Written<'a> {
    key: &'a Key,
    origin: &'a Origin,
    at: &'static str,
    labels: &'a BTreeMap<String, String>,
    spec: &'a PodSpec,
}

fn written<'a>(index: &Index<'a>) -> Vec<Written<'a>> {
    let deployments = index.deployments.iter().map(|o| Written {
        key: &o.key,
        origin: &o.origin,
        at: "spec.template.spec",
        labels: &o.spec.template.metadata.labels,
        spec: &o.spec.template.spec,
    });
    let pods = index.written_pods.iter().map(|o| Written {
        key: &o.key,
        origin: &o.origin,
        at: "spec",
        labels: &o.meta.labels,
        spec: &o.spec,
    });
    deployments.chain(pods).collect()
}

/// All containers with their paths.
fn containers<'a>(w: &Written<'a>) -> Vec<(String, &'a Container)> {
    let at = w.at;
    let init = w.spec.init_containers.iter().enumerate().map(|(i, c)| (format!("{at}.initContainers[{i}]"), c));
    w.spec.containers.iter().enumerate().map(|(i, c)| (format!("{at}.containers[{i}]"), c)).chain(init).collect()
}

/// An application with the user id by which capture knows the proxy: its traffic would go past it.
pub(super) fn user_ids(index: &Index<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    for w in written(index) {
        let system = &*w.key.namespace == SYSTEM
            && (w.labels.contains_key("istio") || w.labels.get("app").is_some_and(|a| a == "istiod"));
        if system {
            continue;
        }
        let is = |c: &Option<crate::api::kube::SecurityContext>| {
            c.as_ref().is_some_and(|c| c.run_as_user == Some(PROXY_UID))
        };
        let own = |c: &Container| c.name != "istio-proxy" && c.name != "istio-operator";
        let of_pod = is(&w.spec.security_context).then(|| w.at.to_owned());
        let of_container =
            containers(&w).into_iter().find(|(_, c)| own(c) && is(&c.security_context)).map(|(at, _)| at);
        if let Some(at) = of_pod.or(of_container) {
            let text = "User ID (UID) 1337 is reserved for the sidecar proxy.";
            let field = format!("{at}.securityContext.runAsUser");
            let report = RESERVED_UID.report((w.key, w.origin), &field, text);
            found.push(report.fix("write another user id; traffic of 1337 is not captured"));
        }
    }
    found
}

/// `image: auto` where no injection fills it in.
pub(super) fn auto_images(index: &Index<'_>) -> Vec<Report> {
    let hooks = hooks(index);
    let mut found = Vec::new();
    for w in written(index) {
        let Some((at, _)) = containers(&w).into_iter().find(|(_, c)| c.image == "auto") else { continue };
        let namespace = index.namespace_labels(&w.key.namespace).cloned().unwrap_or_default();
        let matched = match hooks.is_empty() {
            true => injected_by_default(&namespace, w.labels),
            false => hooks.iter().any(|h| h.matches(&namespace, w.labels)),
        };
        if matched {
            continue;
        }
        let kind = &w.key.kind.kind;
        let text = format!(
            "{kind} {} contains `image: auto` but does not match any Istio injection webhook selectors.",
            w.key.name
        );
        let code = if &**kind == "Pod" { AUTO_IMAGE_POD } else { AUTO_IMAGE };
        let report = code.report((w.key, w.origin), &format!("{at}.image"), text);
        found.push(
            report.fix("label the namespace istio-injection: enabled, or the pod sidecar.istio.io/inject: \"true\""),
        );
    }
    found
}

/// What Istio's own webhooks select.
fn injected_by_default(namespace: &BTreeMap<String, String>, pod: &BTreeMap<String, String>) -> bool {
    let pod = pod.get("sidecar.istio.io/inject").map(String::as_str);
    match namespace.get("istio-injection").map(String::as_str) {
        Some("enabled") => pod != Some("false"),
        Some(_) => false,
        None if namespace.contains_key("istio.io/rev") => pod != Some("false"),
        None => pod == Some("true"),
    }
}

/// One entry of a webhook configuration.
struct Hook<'a> {
    key: &'a Key,
    origin: &'a Origin,
    at: usize,
    value: &'a serde_json::Value,
}

impl Hook<'_> {
    fn matches(&self, namespace: &BTreeMap<String, String>, pod: &BTreeMap<String, String>) -> bool {
        selects(self.value.get("namespaceSelector"), namespace) && selects(self.value.get("objectSelector"), pod)
    }
}

/// The webhooks that inject sidecars.
fn hooks<'a>(index: &Index<'a>) -> Vec<Hook<'a>> {
    let mut found = Vec::new();
    for o in index.unread.iter().filter(|u| &*u.key.kind.kind == "MutatingWebhookConfiguration") {
        let all = o.spec.get("webhooks").and_then(|w| w.as_array()).into_iter().flatten();
        for (at, value) in all.enumerate() {
            let name = value.get("name").and_then(|n| n.as_str()).unwrap_or_default();
            if name.ends_with("sidecar-injector.istio.io") {
                found.push(Hook { key: &o.key, origin: &o.origin, at, value });
            }
        }
    }
    found
}

/// Webhooks that select the same pods, or call a Service that does not exist.
pub(super) fn webhooks(index: &Index<'_>) -> Vec<Report> {
    let hooks = hooks(index);
    let mut found = Vec::new();
    let name =
        |h: &Hook<'_>| format!("{}/{}", h.key.name, h.value.get("name").and_then(|n| n.as_str()).unwrap_or_default());
    let mut clashes: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for (namespace, pod) in combinations(&hooks) {
        let hit: Vec<usize> = (0..hooks.len()).filter(|i| hooks[*i].matches(&namespace, &pod)).collect();
        for i in hit.iter().filter(|_| hit.len() > 1) {
            clashes.entry(*i).or_default().extend(hit.iter().filter(|j| *j != i).map(|j| name(&hooks[*j])));
        }
    }
    for (i, others) in clashes {
        let h = &hooks[i];
        let text =
            format!("Webhook overlaps with others: {}. This may cause injection to occur twice.", go_list(others));
        found.push(INVALID_WEBHOOK.report((h.key, h.origin), &format!("webhooks[{}]", h.at), text));
    }
    for h in &hooks {
        let service = h.value.pointer("/clientConfig/service");
        let text = |f: &str| service.and_then(|s| s.get(f)).and_then(|v| v.as_str()).unwrap_or_default();
        let known = |s: &&crate::api::Object<crate::api::kube::ServiceSpec>| {
            *s.key.name == *text("name") && *s.key.namespace == *text("namespace")
        };
        if service.is_some() && !index.services.iter().any(known) {
            let message = format!(
                "Injector refers to a control plane service that does not exist: {}.{}.",
                text("name"),
                text("namespace")
            );
            let field = format!("webhooks[{}].clientConfig.service", h.at);
            found.push(INVALID_WEBHOOK.report((h.key, h.origin), &field, message));
        }
    }
    found
}

type Labels = BTreeMap<String, String>;

/// Labels of namespaces and pods that webhooks can tell apart: each absent, on, off, or a known revision.
fn combinations(hooks: &[Hook<'_>]) -> Vec<(Labels, Labels)> {
    let revision = |h: &Hook<'_>| {
        let own = h.key.name.strip_prefix("istio-sidecar-injector-")?;
        Some(own.to_owned())
    };
    let revisions: BTreeSet<String> = hooks.iter().filter_map(revision).collect();
    let set = |name: &str, value: &str| Labels::from([(name.to_owned(), value.to_owned())]);
    let mut pods = vec![Labels::new()];
    pods.extend(["true", "false"].map(|v| set("sidecar.istio.io/inject", v)));
    let of_revision = |r: &String| set("istio.io/rev", r);
    pods.extend(revisions.iter().map(of_revision));
    let mut namespaces = vec![Labels::new()];
    namespaces.extend(["enabled", "disabled"].map(|v| set("istio-injection", v)));
    namespaces.extend(revisions.iter().map(of_revision));
    namespaces.iter().flat_map(|n| pods.iter().map(move |p| (n.clone(), p.clone()))).collect()
}

/// Pods whose proxy is not of the version that injection puts in.
pub(super) fn proxy_images(index: &Index<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    for n in &index.namespaces {
        let revision = match (n.meta.labels.get("istio-injection"), n.meta.labels.get("istio.io/rev")) {
            (Some(v), _) if v == "enabled" => "",
            (None, Some(rev)) => rev.as_str(),
            _ => continue,
        };
        let Some(image) = injected_image(index, revision) else { continue };
        let old = |p: &&&crate::api::Object<PodSpec>| {
            let of = p.spec.containers.iter().chain(&p.spec.init_containers).find(|c| c.name == "istio-proxy");
            *p.key.namespace == *n.key.name
                && !p.meta.annotations.contains_key("sidecar.istio.io/proxyImage")
                && of.is_some_and(|c| c.image != image && c.image != with_type(&image, &image_type(index, p)))
        };
        let pods: Vec<_> = index.written_pods.iter().filter(old).map(|p| p.key.name.to_string()).collect();
        if !pods.is_empty() {
            let text = format!(
                "The Istio proxy images of the pods running in the namespace do not match the image defined in the injection configuration (pod names: {}). This often happens after upgrading the Istio control-plane and can be fixed by redeploying the pods.",
                go_list(pods)
            );
            found.push(OLD_PROXY.report((&n.key, &n.origin), "", text));
        }
    }
    found
}

/// `proxyv2:1.3.1-distroless`.
fn with_type(image: &str, kind: &str) -> String {
    if kind.is_empty() { image.to_owned() } else { format!("{image}-{kind}") }
}

/// The proxy's image as ConfigMap `istio-sidecar-injector[-revision]` says.
fn injected_image(index: &Index<'_>, revision: &str) -> Option<String> {
    let name = match revision {
        "" | "default" => "istio-sidecar-injector".to_owned(),
        r => format!("istio-sidecar-injector-{r}"),
    };
    let map = index.config_maps.iter().find(|m| *m.key.namespace == *SYSTEM && *m.key.name == *name)?;
    let values: serde_json::Value = serde_json::from_str(map.spec.data.get("values")?).ok()?;
    let text = |pointer: &str| values.pointer(pointer).and_then(|v| v.as_str());
    let image = text("/global/proxy/image")?;
    match image.contains('/') {
        true => Some(image.to_owned()),
        false => Some(format!("{}/{image}:{}", text("/global/hub")?, text("/global/tag")?)),
    }
}

/// `imageType` in force for a pod: annotation, ProxyConfig (of the workload, its namespace, the root), mesh.
fn image_type(index: &Index<'_>, pod: &crate::api::Object<PodSpec>) -> String {
    let annotation = pod.meta.annotations.get("proxy.istio.io/config").and_then(|text| {
        let (documents, _) = crate::yaml::documents(text);
        Some(documents.first()?.value.pointer("/image/imageType")?.as_str()?.to_owned())
    });
    let of = |namespace: &str, selected: bool| {
        index.proxy_configs.iter().find_map(|o| {
            let ProxySettings { selector, image, .. } = &o.spec;
            let labels = selector.as_ref().map(|s| &s.match_labels);
            let here = *o.key.namespace == *namespace && labels.is_some() == selected;
            let image = image.as_ref()?;
            (here && labels.is_none_or(|l| covers(l, &pod.meta.labels))).then(|| image.image_type.clone())
        })
    };
    let mesh = || index.mesh.default_config.as_ref()?.image.as_ref().map(|i| i.image_type.clone());
    annotation
        .or_else(|| of(&pod.key.namespace, true))
        .or_else(|| of(&pod.key.namespace, false))
        .or_else(|| of(SYSTEM, false))
        .or_else(mesh)
        .unwrap_or_default()
}
