//! The node: what runs inside the local mesh's namespaces and does there what a Kubernetes cluster does elsewhere.
//!
//! ```text
//! control socket -> server -> ops -> store ---> reconcile -> pod (proxy, containers, probes)
//!                                      |             |
//!                                      +-> publish <-+--> proxies (one configuration stream each)
//! ```
//!
//! One thread, one state behind one lock that is never held over an await. What changes endpoints or objects asks for a
//! look; a look is cheap when nothing changed.

mod bare;
mod builtin;
pub mod ca;
mod env;
mod fill;
mod hostports;
pub mod images;
pub mod inject;
mod logs;
mod mesh;
mod ops;
mod plan;
mod pod;
mod proxies;
mod publish;
mod reconcile;
mod secrets;
mod server;
mod status;
mod store;
mod workload;

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

pub use builtin::GATEWAY_PORTS;
pub use mesh::Settings;
use mesh_proxy::net::HostEnv;
use mesh_tls::SecretData;
pub(crate) use pod::PROXY_CONTAINER;

use crate::localmesh::{Node, Running, Status, StatusPipe};
use crate::manifest;
use mesh::{Mesh, State};

/// Longest wait for the mesh to be ready before `up` says what is missing and goes on.
const READY: Duration = Duration::from_secs(60);

/// Runs the node until the mesh ends; the exit code.
pub fn main(node: Node, settings: Settings) -> u8 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(_) => return 1,
    };
    runtime.block_on(async {
        let owner = node.owner_uid;
        match node.start() {
            Ok(running) => run(running, owner, settings).await,
            Err(_) => 1,
        }
    })
}

async fn run(running: Running, owner: u32, settings: Settings) -> u8 {
    let Running { pods, dialer, control, status, .. } = running;
    let gateway_ports = match hostports::gateway_ports(&dialer, &settings.gateway_ports).await {
        Ok(ports) => ports,
        Err(e) => {
            status.send(&Status::Failed(format!("no host port for the gateway: {e}")));
            return 1;
        }
    };
    let (to_streams, streams) = mpsc::channel(16);
    let ca = match authority(&settings) {
        Ok(ca) => ca,
        Err(e) => {
            status.send(&Status::Failed(e.to_string()));
            return 1;
        }
    };
    let mesh = Arc::new(Mesh::new(settings, pods, dialer, to_streams, gateway_ports, ca));
    tokio::spawn(proxies::serve(mesh.clone(), streams));
    tokio::spawn(reconcile::run(mesh.clone()));
    tokio::spawn(bare::serve(mesh.clone()));
    tokio::spawn(server::serve(mesh.clone(), control, owner));
    let mut ending = mesh.ending.subscribe();
    let Ok(mut terminated) = signal(SignalKind::terminate()) else { return 1 };
    let life = async {
        bring_up(&mesh, &status).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = life => {}
        _ = ending.wait_for(|e| *e) => {}
        _ = terminated.recv() => {}
    }
    mesh.ending.send_replace(true);
    // The parent and the kernel end every process and take every namespace away.
    0
}

/// The CA: with the operator's root, if the manifests have it, or one of its own.
fn authority(settings: &Settings) -> Result<ca::Ca, mesh_tls::CaError> {
    let mut documents = settings.files.iter().flat_map(|f| manifest::read(f, "default"));
    match documents.rfind(|d| ca::is_cacerts(&d.key)) {
        Some(cacerts) => ca::Ca::plugged_in(&SecretData(cacerts.data_bytes()), Arc::new(HostEnv)),
        // The root is of the trust domain that Istio has by default; identities are of the one that the settings name.
        None => ca::Ca::new("cluster.local", Arc::new(HostEnv)),
    }
}

/// Reads the manifests, starts everything, and reports until it is ready.
async fn bring_up(mesh: &Arc<Mesh>, status: &StatusPipe) {
    let files = &mesh.settings.files;
    let mut documents: Vec<_> = files.iter().flat_map(|f| manifest::read(f, "default")).collect();
    documents.extend(builtin::objects(&documents));
    let changes = ops::put(mesh, documents);
    for change in &changes {
        for message in &change.messages {
            status.send(&Status::Progress(message.clone()));
        }
    }
    let (_, problems) = mesh::image_map(&mesh.settings, &mesh.state().store);
    for problem in problems {
        status.send(&Status::Progress(format!("image map: {problem}")));
    }
    mesh.state().started = true;
    mesh.note();
    progress(mesh, status).await;
    status.send(&Status::Ready(summary(mesh)));
}

/// Shows each workload as it becomes ready.
async fn progress(mesh: &Arc<Mesh>, status: &StatusPipe) {
    let mut shown = std::collections::BTreeSet::new();
    let step = |s: &State| {
        for pod in s.pods.values().filter(|p| p.ready() || p.phase == mesh::Phase::NotStarted) {
            if shown.insert(pod.plan.key.clone()) {
                let name = workload::full_name(&pod.plan.key);
                status.send(&Status::Progress(match pod.ready() {
                    true => format!("{name} is ready"),
                    false => format!("{name} is not started: {}", pod.reason),
                }));
            }
        }
        status::settled(s).then_some(())
    };
    if mesh.wait_for(READY, step).await.is_none() {
        let state = mesh.state();
        for pod in state.pods.values().filter(|p| !p.ready()) {
            let name = workload::full_name(&pod.plan.key);
            status.send(&Status::Progress(format!("{name} is not ready: {}", pod.reason)));
        }
    }
}

fn summary(mesh: &Mesh) -> String {
    let status = status::of_mesh(mesh);
    let ready = status.workloads.iter().filter(|w| w.ready).count();
    let mut text =
        format!("mesh {}: {ready} of {} workloads ready ({} mode)", status.name, status.workloads.len(), status.mode);
    for url in &status.urls {
        text.push_str(&format!("\n  {:<32} {}", format!("{} port {}", url.name, url.port), url.url));
    }
    if status.urls.is_empty() {
        text.push_str("\n  no Gateway yet: apply one, and its URL is shown by `meshctl status`");
    }
    text
}
