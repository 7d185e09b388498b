//! The mesh as `status` and `get` show it.

use mesh_core::api::Key;
use mesh_core::model::Health;
use serde_json::{Value, json};

use super::mesh::{Mesh, Phase, Pod, State};
use super::plan::ProxyRole;
use crate::control::status::{MeshStatus, Url, WorkloadStatus};

/// The whole mesh.
pub(super) fn of_mesh(mesh: &Mesh) -> MeshStatus {
    let state = mesh.state();
    MeshStatus {
        name: mesh.settings.name.clone(),
        mode: mesh.mode().to_string(),
        ready: settled(&state) && state.pods.values().all(|p| p.ready()),
        urls: urls(mesh, &state),
        workloads: state.pods.values().map(of_pod).collect(),
    }
}

/// Every workload is ready, or can't become so without the user.
pub(super) fn settled(state: &State) -> bool {
    let done = |p: &Pod| p.ready() || p.phase == Phase::NotStarted || p.ready_but_for_the_application();
    state.started && state.pods.values().all(done)
}

impl Pod {
    /// Its application is missing or keeps falling; everything of the mesh's own is there.
    fn ready_but_for_the_application(&self) -> bool {
        let missing = self.plan.containers.iter().any(|c| c.command.is_err());
        self.phase == Phase::Running && self.proxy_ready && (missing || self.restarts > 2)
    }
}

fn of_pod(pod: &Pod) -> WorkloadStatus {
    let proxy = pod.proxy.as_ref();
    let ready = pod.ready();
    let waiting = pod.ready_containers.len() < pod.plan.containers.len();
    let reason = match (ready, pod.reason.is_empty()) {
        (true, _) => String::new(),
        (false, false) => pod.reason.clone(),
        (false, true) if waiting => "the application is not ready yet".into(),
        (false, true) => "starting".into(),
    };
    WorkloadStatus {
        workload: pod.plan.owner.as_ref().unwrap_or(&pod.plan.key).name.to_string(),
        pod: pod.plan.key.name.to_string(),
        namespace: pod.plan.key.namespace.to_string(),
        ip: pod.ip.to_string(),
        phase: phase(pod.phase).into(),
        ready,
        reason,
        proxy: pod.plan.role.word().into(),
        proxy_ready: pod.proxy_ready && pod.plan.role != ProxyRole::None,
        config: proxy.filter(|p| p.config.0 != 0).map(|p| p.config.to_string()).unwrap_or_default(),
        synced: proxy.is_none_or(|p| p.connected && p.synced()),
        rejected: proxy
            .map(|p| &p.rejected[..])
            .unwrap_or_default()
            .iter()
            .map(|r| format!("{} {}: {}", r.name.kind, r.name.name, r.message))
            .collect(),
        restarts: pod.restarts,
        proxy_restarts: pod.proxy_restarts,
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "Starting",
        Phase::Running => "Running",
        Phase::NotStarted => "NotStarted",
        Phase::Terminating => "Terminating",
    }
}

fn urls(mesh: &Mesh, state: &State) -> Vec<Url> {
    let mut urls = Vec::new();
    let gateways = state.pods.values().filter(|p| p.plan.role == ProxyRole::Gateway);
    for pod in gateways.filter(|p| p.phase != Phase::Terminating) {
        let labels = &pod.plan.object.meta.labels;
        let world = &state.published.world;
        let bound = world.gateways().iter().filter(|g| mesh_core::world::covers(&g.spec.selector, labels));
        let mut ports: Vec<(u16, bool)> = bound
            .flat_map(|g| &g.spec.servers)
            .filter_map(|s| {
                let port = s.port.as_ref()?;
                Some((u16::try_from(port.number).ok()?, port.protocol.to_uppercase() == "HTTPS"))
            })
            .collect();
        ports.sort_unstable();
        ports.dedup_by_key(|p| p.0);
        for (port, tls) in ports {
            let own = if port < 1024 { port + 8000 } else { port };
            let at = mesh.gateway_ports.get(&port).copied().unwrap_or(([127, 0, 0, 1], own).into());
            let scheme = if tls { "https" } else { "http" };
            let name = super::workload::full_name(pod.plan.owner.as_ref().unwrap_or(&pod.plan.key));
            urls.push(Url { kind: "gateway".into(), name, port, url: format!("{scheme}://{at}") });
        }
    }
    for (at, open) in state.node_ports.iter().filter(|(_, n)| n.error.is_empty()) {
        let name = super::workload::full_name(&open.service);
        urls.push(Url { kind: "nodePort".into(), name, port: *at, url: format!("http://127.0.0.1:{at}") });
    }
    urls
}

/// A pod in Kubernetes' form.
pub(super) fn pod_value(pod: &Pod) -> Value {
    let object = &pod.plan.object;
    let mut value = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": object.meta,
        "spec": object.spec,
        "status": {
            "phase": phase(pod.phase),
            "podIP": pod.ip.to_string(),
            "reason": pod.reason,
            "conditions": [{"type": "Ready", "status": if pod.ready() { "True" } else { "False" }}],
            "containerStatuses": pod.plan.containers.iter().filter(|c| !c.init).map(|c| json!({
                "name": c.container.name,
                "image": c.container.image,
                "ready": pod.ready_containers.contains(&c.container.name),
                "restartCount": pod.restarts,
            })).collect::<Vec<_>>(),
        },
    });
    if pod.plan.role == ProxyRole::Sidecar {
        let proxy =
            json!({"name": super::pod::PROXY_CONTAINER, "ready": pod.proxy_ready, "restartCount": pod.proxy_restarts});
        if let Some(list) = value["status"]["containerStatuses"].as_array_mut() {
            list.push(proxy);
        }
    }
    if let Some(owner) = &pod.plan.owner {
        value["metadata"]["ownerReferences"] = json!([{"kind": owner.kind.kind, "name": owner.name}]);
    }
    value
}

/// Adds what the mesh knows about an object: replicas of a Deployment, endpoints of a Service.
pub(super) fn of_object(state: &State, key: &Key, value: &mut Value) {
    if &*key.kind.kind == "Deployment" {
        let own: Vec<&Pod> = state.pods.values().filter(|p| p.plan.owner.as_ref() == Some(key)).collect();
        let ready = own.iter().filter(|p| p.ready()).count();
        value["status"] = json!({"replicas": own.len(), "readyReplicas": ready});
    }
    if &*key.kind.kind == "Service" {
        let world = &state.published.world;
        if let Some(service) = world.services().iter().find(|s| s.key == *key) {
            let ready = world.selected_workloads(service).filter(|w| w.health == Health::Healthy);
            let addresses: Vec<String> = ready.flat_map(|w| w.addresses.first()).map(ToString::to_string).collect();
            value["status"] = json!({"endpoints": addresses});
        }
    }
}
