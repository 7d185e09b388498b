//! How users name what runs: `NAME[.NAMESPACE]` of a Deployment or Pod, `deploy/NAME`, `pod/NAME`.

use mesh_core::api::Key;

use super::mesh::{Pod, State};

/// A workload's first ready pod (else its first), and the Deployment that owns it.
///
/// # Errors
/// Nothing of that name runs; the text lists what does.
pub(super) fn find(state: &State, text: &str) -> Result<(Key, Option<Key>), String> {
    let (kind, name) = match text.split_once('/') {
        Some(("deploy" | "deployment" | "deployments" | "deployment.apps", name)) => (Some("deployment"), name),
        Some(("pod" | "pods" | "po", name)) => (Some("pod"), name),
        Some((kind, _)) => {
            return Err(format!("{kind:?} is no kind of workload; write deploy/NAME, pod/NAME or NAME[.NAMESPACE]"));
        }
        None => (None, text),
    };
    let split = name.split_once('.');
    let spaces: &[Option<&str>] = if split.is_some() { &[] } else { &[Some("default"), None] };
    let named = |wanted: &str, namespace: Option<&str>| {
        let fits = move |p: &&Pod| {
            let here = namespace.is_none_or(|n| *p.plan.key.namespace == *n);
            let owner = p.plan.owner.as_ref().is_some_and(|o| *o.name == *wanted);
            here && match kind {
                Some("deployment") => owner,
                Some(_) => *p.plan.key.name == *wanted,
                None => owner || *p.plan.key.name == *wanted,
            }
        };
        let mut found: Vec<&Pod> = state.pods.values().filter(fits).collect();
        found.sort_by_key(|p| !p.ready());
        found.first().map(|p| (p.plan.key.clone(), p.plan.owner.clone()))
    };
    let found = match split {
        Some((name, namespace)) => named(name, Some(namespace)),
        None => spaces.iter().find_map(|s| named(name, *s)),
    };
    found.ok_or_else(|| {
        let mut names: Vec<String> =
            state.pods.values().map(|p| full_name(p.plan.owner.as_ref().unwrap_or(&p.plan.key))).collect();
        names.dedup();
        format!("no workload {text:?} runs; there are: {}", names.join(", "))
    })
}

/// `NAME` in namespace default, `NAME.NAMESPACE` elsewhere.
pub(super) fn full_name(key: &Key) -> String {
    if &*key.namespace == "default" { key.name.to_string() } else { format!("{}.{}", key.name, key.namespace) }
}
