//! A pod's proxy: started first, served its configuration, restarted at once when it ends.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mesh_core::api::{InboundInterceptionMode, ProxyConfig};
use mesh_core::proxy_config::{Asker, effective};
use mesh_core::world::World;
use mesh_proxy::discovery;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Life, PROXY_CONTAINER, probe};
use crate::localmesh::{CaptureRules, Child, MARK_TO_APP, Mode, PodId, ProcessSpec, Role};
use crate::node::mesh::app_ip;
use crate::node::plan::ProxyRole;
use crate::node::secrets::PodSecrets;

/// Port of the proxy's readiness.
const READY_PORT: u16 = 15021;
/// A proxy that ran for less than this before it ended waits before the next start.
const SHORT_LIFE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Port of the proxy's admin endpoints.
const ADMIN_PORT: u16 = 15000;
/// Nothing was in flight for this long: what other proxies had sent before they heard of the end has arrived.
const QUIET: Duration = Duration::from_millis(200);
/// Longest wait for that; streams may stay open as long as they like.
const LONGEST_DRAIN: Duration = Duration::from_secs(5);
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
    attach_channel(life, child);
}

/// Serves a process its configuration, its keys and its identity, if it is one that follows the mesh.
pub(super) fn attach_channel(life: &Life, child: &mut Child) {
    if let Some(config) = child.config.take() {
        let secrets = Arc::new(PodSecrets::new(&life.mesh, &life.plan.key.namespace));
        let ca = life.desk();
        tokio::spawn(discovery::serve_with(config, life.mesh.streams.clone(), secrets, ca));
    }
}

/// Waits until the configuration is in force and the readiness port says so.
pub(super) async fn become_ready(life: &Life, id: PodId) -> std::convert::Infallible {
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

/// Lets the proxy announce the end of inbound connections, and waits until nothing is in flight in that direction: the
/// application is told to end only when it has nothing to answer any more.
pub(super) async fn drained(life: &Life, id: PodId) {
    let idle = async {
        admin(life, id, "POST", "/drain_listeners?inboundonly&graceful").await?;
        let mut since = Instant::now();
        while since.elapsed() < QUIET {
            tokio::time::sleep(QUIET / 10).await;
            if !admin(life, id, "GET", "/stats").await?.contains("inbound.in_flight: 0\n") {
                since = Instant::now();
            }
        }
        Ok::<_, String>(())
    };
    match tokio::time::timeout(LONGEST_DRAIN, idle).await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => tracing::debug!(pod = %life.plan.key, %why, "the proxy was not drained"),
        Err(_) => tracing::info!(pod = %life.plan.key, "something stays in flight; ending it"),
    }
}

/// Asks the pod's proxy; its whole answer.
async fn admin(life: &Life, id: PodId, method: &str, path: &str) -> Result<String, String> {
    let ip = if life.mesh.mode() == Mode::Namespaces { Ipv4Addr::LOCALHOST } else { life.ip };
    let to = SocketAddr::new(ip.into(), ADMIN_PORT);
    let stream = life.mesh.runtime.connect_in_pod(id, to, Some(MARK_TO_APP)).await.map_err(|e| e.to_string())?;
    let mut stream = probe::IntoTokio::into_tokio(stream).map_err(|e| e.to_string())?;
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.map_err(|e| e.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(|e| e.to_string())?;
    Ok(answer)
}

impl Life {
    /// What the mesh's settings say about capture; they are read when a pod starts.
    pub(super) fn capture_settings(&self, rules: &mut CaptureRules) {
        let world = self.mesh.state().published.world.clone();
        let config = self.settings(&world);
        // TPROXY would keep the clients' addresses; here both are done by redirection.
        if config.interception_mode == InboundInterceptionMode::None {
            (rules.capture_outbound, rules.capture_inbound) = (false, false);
        }
        let mesh = &world.mesh().spec;
        let port = |wanted: i32, default| u16::try_from(wanted).ok().filter(|p| *p > 0).unwrap_or(default);
        rules.outbound_port = port(mesh.proxy_listen_port, rules.outbound_port);
        rules.inbound_port = port(mesh.proxy_inbound_listen_port, rules.inbound_port);
    }

    /// The ProxyConfig in force.
    fn settings(&self, world: &World) -> ProxyConfig {
        let meta = &self.plan.object.meta;
        let asker = Asker { namespace: &self.plan.key.namespace, labels: &meta.labels, annotations: &meta.annotations };
        let (config, wrong) = effective(world, asker);
        if let Some(why) = wrong {
            tracing::warn!(pod = %self.plan.key, "{why}");
        }
        config
    }

    /// The part of the ProxyConfig in force that is read when a proxy starts.
    fn start_settings(&self) -> Vec<(String, String)> {
        let world = self.mesh.state().published.world.clone();
        let config = self.settings(&world);
        let mut env: Vec<_> = config.proxy_metadata.into_iter().collect();
        env.extend(config.concurrency.map(|n| ("MESH_CONCURRENCY".to_owned(), n.to_string())));
        env.push(("MESH_ADMIN_PORT".to_owned(), config.proxy_admin_port.to_string()));
        env
    }

    /// What a member of the mesh is told when it starts: who it is, and what is read at the start only.
    pub(super) fn member_settings(&self) -> Vec<(String, String)> {
        let mut env = self.identity_settings();
        env.extend(self.start_settings());
        let id = self.mesh.pod(&self.plan.key, |p| p.proxy.as_ref().map(|x| serde_json::to_string(&x.id))).flatten();
        if let Some(Ok(id)) = id {
            env.push((discovery::ENV_PROXY.to_owned(), id));
        }
        env
    }

    fn proxy_process(&self) -> ProcessSpec {
        let program = if self.plan.role == ProxyRole::Gateway { "mesh-gateway" } else { "mesh-proxy" };
        let path = self.mesh.settings.programs.join(program);
        let mut process = ProcessSpec::new(Role::Sidecar, [path.to_string_lossy().into_owned()]);
        process.env.extend(self.member_settings());
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
