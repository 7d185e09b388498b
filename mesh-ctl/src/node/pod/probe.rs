//! Readiness: the container's own probe, or else whether its first port accepts.

use std::net::SocketAddr;
use std::time::Duration;

use mesh_core::api::IntOrString;
use mesh_core::api::kube::{Container, Probe};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Life;
use crate::localmesh::{MARK_TO_APP, PodId, ProcessSpec, Role};
use crate::node::mesh::app_ip;
use crate::node::plan::ContainerPlan;

/// Between two looks while a container without a probe starts.
const START_LOOK: Duration = Duration::from_millis(20);

/// Keeps the container's readiness up to date; returns only when there is nothing more to watch.
pub(super) async fn watch(life: &Life, id: PodId, plan: &ContainerPlan) {
    let container = &plan.container;
    match &container.readiness_probe {
        Some(probe) => by_probe(life, id, container, probe).await,
        None => {
            if let Some(port) = container.ports.first().filter(|p| p.protocol != "UDP") {
                while connect(life, id, port.container_port).await.is_err() {
                    tokio::time::sleep(START_LOOK).await;
                }
            }
            set(life, container, Ok(()));
            std::future::pending().await
        }
    }
}

async fn by_probe(life: &Life, id: PodId, container: &Container, probe: &Probe) {
    let or = |value: i32, default: u64| u64::try_from(value).ok().filter(|v| *v > 0).unwrap_or(default);
    let period = Duration::from_secs(or(probe.period_seconds, 10));
    let limit = Duration::from_secs(or(probe.timeout_seconds, 1));
    let (up, down) = (or(probe.success_threshold, 1), or(probe.failure_threshold, 3));
    tokio::time::sleep(Duration::from_secs(or(probe.initial_delay_seconds, 0))).await;
    let (mut good, mut bad, mut ready) = (0, 0, false);
    loop {
        let result = tokio::time::timeout(limit, check(life, id, container, probe)).await;
        match result.unwrap_or_else(|_| Err(format!("no answer within {} s", limit.as_secs()))) {
            Ok(()) => (good, bad) = (good + 1, 0),
            Err(why) => {
                (good, bad) = (0, bad + 1);
                if !ready || bad >= down {
                    ready = false;
                    set(life, container, Err(format!("container {}: readiness probe: {why}", container.name)));
                }
            }
        }
        if good >= up && !ready {
            ready = true;
            set(life, container, Ok(()));
        }
        // The first success is not waited for a whole period: a fresh container is looked at more often.
        tokio::time::sleep(if ready { period } else { period.min(Duration::from_millis(250)) }).await;
    }
}

fn set(life: &Life, container: &Container, state: Result<(), String>) {
    life.mesh.pod_endpoint(&life.plan.key, |p| match state {
        Ok(()) => {
            p.ready_containers.insert(container.name.clone());
            p.reason.clear();
        }
        Err(why) => {
            p.ready_containers.remove(&container.name);
            p.reason = why;
        }
    });
}

async fn check(life: &Life, id: PodId, container: &Container, probe: &Probe) -> Result<(), String> {
    if let Some(get) = &probe.http_get {
        if get.scheme.eq_ignore_ascii_case("https") {
            // Kubernetes does not check the certificate; that the port accepts says as much as we can without TLS.
            return connect(life, id, number(container, get.port.as_ref())?).await.map(drop);
        }
        let port = number(container, get.port.as_ref())?;
        let stream = connect(life, id, port).await?;
        let path = if get.path.is_empty() { "/" } else { &get.path };
        let headers: Vec<(&str, &str)> = get.http_headers.iter().map(|h| (&*h.name, &*h.value)).collect();
        let host = if get.host.is_empty() { format!("{}:{port}", life.ip) } else { get.host.clone() };
        return match http_get(stream, path, &host, &headers).await? {
            200..=399 => Ok(()),
            status => Err(format!("GET {path} answered {status}")),
        };
    }
    if let Some(tcp) = &probe.tcp_socket {
        return connect(life, id, number(container, tcp.port.as_ref())?).await.map(drop);
    }
    if let Some(exec) = &probe.exec {
        let mut process = ProcessSpec::new(Role::App, exec.command.clone());
        process.env = life.mesh.pod(&life.plan.key, |p| p.env.clone()).unwrap_or_default();
        let mut child = life.mesh.runtime.spawn(id, process).await.map_err(|e| e.to_string())?;
        return match child.wait().await.shell_code() {
            0 => Ok(()),
            code => Err(format!("{:?} ended with {code}", exec.command)),
        };
    }
    match &probe.grpc {
        Some(grpc) => connect(life, id, grpc.port).await.map(drop),
        None => Ok(()),
    }
}

/// A probe's port: a number, or the name of a container port.
fn number(container: &Container, port: Option<&IntOrString>) -> Result<u32, String> {
    let name = match port {
        Some(IntOrString::Int(n)) => return u32::try_from(*n).map_err(|_| format!("{n} is no port")),
        Some(IntOrString::String(name)) => name,
        None => return Err("the probe names no port".into()),
    };
    if let Ok(n) = name.parse() {
        return Ok(n);
    }
    let named = container.ports.iter().find(|p| p.name == *name);
    named.map(|p| p.container_port).ok_or_else(|| format!("the container has no port named {name}"))
}

async fn connect(life: &Life, id: PodId, port: u32) -> Result<tokio::net::TcpStream, String> {
    let port = u16::try_from(port).map_err(|_| format!("{port} is no port"))?;
    let to = SocketAddr::new(app_ip(life.mesh.mode(), life.plan.role, life.ip), port);
    let stream = life.mesh.runtime.connect_in_pod(id, to, Some(MARK_TO_APP)).await;
    adopt(stream.map_err(|e| format!("port {port}: {e}"))?)
}

fn adopt(stream: impl IntoTokio) -> Result<tokio::net::TcpStream, String> {
    stream.into_tokio().map_err(|e| e.to_string())
}

/// A socket from the pod runtime as tokio's.
pub(super) trait IntoTokio {
    /// Registers it.
    fn into_tokio(self) -> std::io::Result<tokio::net::TcpStream>;
}

impl IntoTokio for std::net::TcpStream {
    fn into_tokio(self) -> std::io::Result<tokio::net::TcpStream> {
        self.set_nonblocking(true)?;
        tokio::net::TcpStream::from_std(self)
    }
}

/// Sends one GET and returns the status.
pub(super) async fn http_get(
    stream: impl IntoTokio,
    path: &str,
    host: &str,
    headers: &[(&str, &str)],
) -> Result<u16, String> {
    let mut stream = adopt(stream)?;
    let mut request =
        format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: kube-probe/1.0\r\nconnection: close\r\n");
    for (name, value) in headers.iter().filter(|(n, _)| !n.eq_ignore_ascii_case("host")) {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
    let mut answer = Vec::new();
    let mut part = [0; 256];
    while !answer.contains(&b'\n') {
        match stream.read(&mut part).await.map_err(|e| e.to_string())? {
            0 => return Err("the connection was closed without an answer".into()),
            n => answer.extend_from_slice(&part[..n]),
        }
    }
    let line = String::from_utf8_lossy(&answer);
    let status = line.split_whitespace().nth(1).and_then(|s| s.parse().ok());
    status.ok_or_else(|| "the answer is not HTTP".to_owned())
}

impl IntoTokio for tokio::net::TcpStream {
    fn into_tokio(self) -> std::io::Result<tokio::net::TcpStream> {
        Ok(self)
    }
}
