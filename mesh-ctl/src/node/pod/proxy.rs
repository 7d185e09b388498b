//! A pod's proxy: started first, served its configuration, restarted at once when it ends.

use std::net::SocketAddr;
use std::time::Duration;

use mesh_proxy::discovery;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Life, PROXY_CONTAINER, probe};
use crate::localmesh::{Child, MARK_TO_APP, Mode, PodId, ProcessSpec, Role};
use crate::node::mesh::app_ip;
use crate::node::plan::ProxyRole;

/// Port of the proxy's readiness.
const READY_PORT: u16 = 15021;
/// A proxy that ran for less than this before it ended waits before the next start.
const SHORT_LIFE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const SIGTERM: i32 = 15;

/// Runs the proxy until the pod ends, and then until it has drained.
pub(super) async fn supervise(life: Life, id: PodId, mut end: watch::Receiver<bool>) {
    let key = life.plan.key.clone();
    let mut pause = Duration::from_millis(100);
    loop {
        let started = Instant::now();
        let why = match life.mesh.runtime.spawn(id, life.proxy_process()).await {
            Ok(mut child) => {
                attach(&life, &mut child);
                tokio::select! {
                    why = child.wait_or_end(&life, id, &mut end) => why,
                    never = become_ready(&life, id) => match never {},
                }
            }
            Err(e) => format!("the proxy can't be started: {e}"),
        };
        if *end.borrow() {
            return;
        }
        tracing::warn!(pod = %key, %why, "the proxy is started again");
        life.mesh.pod_endpoint(&key, |p| {
            p.proxy_ready = false;
            p.proxy_restarts += 1;
            p.reason.clone_from(&why);
            if let Some(log) = p.logs.get(PROXY_CONTAINER) {
                log.push(&format!("[mesh] {why}; it is started again"));
            }
        });
        if started.elapsed() < SHORT_LIFE {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = super::raised(&mut end) => return,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

impl Child {
    /// Waits for the end of the proxy; when the pod ends, asks it to drain first.
    async fn wait_or_end(&mut self, life: &Life, id: PodId, end: &mut watch::Receiver<bool>) -> String {
        tokio::select! {
            exit = self.wait() => return format!("the proxy ended with {exit}"),
            () = super::raised(end) => {}
        }
        let _ = life.mesh.runtime.kill(id, self.id, SIGTERM).await;
        self.wait().await.to_string()
    }
}

fn attach(life: &Life, child: &mut Child) {
    let log = life.mesh.pod(&life.plan.key, |p| p.logs.get(PROXY_CONTAINER).cloned()).flatten();
    if let Some(log) = log {
        for stream in child.stdout.take().into_iter().chain(child.stderr.take()) {
            tokio::spawn(log.clone().read(stream));
        }
    }
    if let Some(config) = child.config.take() {
        tokio::spawn(discovery::serve(config, life.mesh.streams.clone()));
    }
}

/// Waits until the configuration is in force and the readiness port says so.
async fn become_ready(life: &Life, id: PodId) -> std::convert::Infallible {
    let key = &life.plan.key;
    let to = SocketAddr::new(life.ip.into(), READY_PORT);
    let mut pause = Duration::from_millis(5);
    let mut why = "the proxy waits for its configuration".to_owned();
    loop {
        life.mesh.pod(key, |p| p.reason.clone_from(&why));
        let attempt = async {
            let stream =
                life.mesh.runtime.connect_in_pod(id, to, Some(MARK_TO_APP)).await.map_err(|e| e.to_string())?;
            probe::http_get(stream, "/healthz/ready", &to.to_string(), &[]).await
        };
        why = match tokio::time::timeout(Duration::from_secs(1), attempt).await {
            Ok(Ok(200)) => break,
            Ok(Ok(status)) => format!("the proxy is not ready (status {status})"),
            Ok(Err(e)) => format!("the proxy does not answer on port {READY_PORT}: {e}"),
            Err(_) => format!("the proxy does not answer on port {READY_PORT}"),
        };
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    life.mesh.pod_endpoint(key, |p| {
        p.proxy_ready = true;
        p.reason.clear();
    });
    std::future::pending().await
}

impl Life {
    fn proxy_process(&self) -> ProcessSpec {
        let program = if self.plan.role == ProxyRole::Gateway { "mesh-gateway" } else { "mesh-proxy" };
        let path = self.mesh.settings.programs.join(program);
        let mut process = ProcessSpec::new(Role::Sidecar, [path.to_string_lossy().into_owned()]);
        let id = self.mesh.pod(&self.plan.key, |p| p.proxy.as_ref().map(|x| serde_json::to_string(&x.id))).flatten();
        if let Some(Ok(id)) = id {
            process.env.insert(discovery::ENV_PROXY.into(), id);
        }
        if self.plan.role == ProxyRole::Gateway {
            let ports = self.mesh.gateway_ports.iter().map(|(port, host)| format!("{port}={host}"));
            process.env.insert(discovery::ENV_HOST_PORTS.into(), ports.collect::<Vec<_>>().join(","));
        } else if self.mesh.mode() == Mode::Explicit {
            let app = app_ip(Mode::Explicit, self.plan.role, self.ip);
            process.env.insert(discovery::ENV_APP_IP.into(), app.to_string());
            let ports =
                self.plan.containers.iter().flat_map(|c| &c.container.ports).map(|p| p.container_port.to_string());
            process.env.insert(discovery::ENV_APP_PORTS.into(), ports.collect::<Vec<_>>().join(","));
        }
        for name in ["RUST_LOG", "RUST_BACKTRACE"] {
            if let Ok(value) = std::env::var(name) {
                process.env.insert(name.into(), value);
            }
        }
        process
    }
}
