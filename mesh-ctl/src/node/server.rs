//! The node's end of the control socket.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};

use super::mesh::{Mesh, State};
use super::plan::ProxyRole;
use super::pod::PROXY_CONTAINER;
use super::{hostports, ops, status, workload};
use crate::control::{PodUsage, Reply, Request, recv, send};
use crate::localmesh::{self, Dialer, MARK_TO_APP, Mode, PodId, ProcessSpec, Role, Stdio};

/// Answers until the mesh ends.
pub(super) async fn serve(mesh: Arc<Mesh>, listener: UnixListener, owner: u32) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(mesh.clone(), stream, owner));
            }
            Err(e) => {
                // Out of descriptors, most likely: others will close.
                tracing::warn!(error = %e, "control socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(mesh: Arc<Mesh>, stream: UnixStream, owner: u32) {
    match allowed(&mesh.dialer, &stream, owner).await {
        Ok(true) => {}
        Ok(false) | Err(_) => {
            let text = "this mesh belongs to another user".to_owned();
            let _ = send(&stream, &Reply::Error(text), &[]).await;
            return;
        }
    }
    let request = match recv::<Request>(&stream).await {
        Ok(Some((request, fds))) => (request, fds),
        Ok(None) => return,
        Err(e) => {
            let text = format!("the node can't read the request ({e}); is meshctl of another version than the mesh?");
            let _ = send(&stream, &Reply::Error(text), &[]).await;
            return;
        }
    };
    let down = request.0 == Request::Down;
    let (reply, fds) = match answer(&mesh, &stream, request.0, request.1).await {
        Ok((value, fds)) => (Reply::Done(value), fds),
        Err(e) => (Reply::Error(e), Vec::new()),
    };
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    // A client that has gone needs no answer.
    let _ = send(&stream, &reply, &borrowed).await;
    if down {
        mesh.ending.send_replace(true);
    }
}

async fn allowed(dialer: &Dialer, stream: &UnixStream, owner: u32) -> std::io::Result<bool> {
    let peer = localmesh::peer_uid(dialer, stream).await?;
    Ok(peer == owner || peer == 0)
}

type Answer = Result<(Value, Vec<OwnedFd>), String>;

fn done(value: impl serde::Serialize) -> Answer {
    serde_json::to_value(value).map(|v| (v, Vec::new())).map_err(|e| e.to_string())
}

async fn answer(mesh: &Arc<Mesh>, stream: &UnixStream, request: Request, fds: Vec<OwnedFd>) -> Answer {
    match request {
        Request::Status => done(status::of_mesh(mesh)),
        Request::Wait { timeout_ms } => {
            let settled = |s: &State| status::settled(s).then_some(());
            mesh.wait_for(Duration::from_millis(timeout_ms), settled).await;
            done(status::of_mesh(mesh))
        }
        Request::Down => {
            let parent = mesh.dialer.parent().map_err(|e| e.to_string())?;
            Ok((json!({"name": mesh.settings.name}), vec![parent]))
        }
        Request::Apply { files, namespace } => done(ops::apply(mesh, &files, &namespace).await),
        Request::Delete { what, namespace } => done(ops::delete(mesh, &what, &namespace).await?),
        Request::Get { kind, name, namespace } => done(ops::get(mesh, &kind, name.as_deref(), namespace.as_deref())?),
        Request::Patch { kind, name, namespace, kind_of_patch, patch } => {
            done(ops::patch(mesh, (&kind, &name, &namespace), kind_of_patch, &patch).await?)
        }
        Request::Exec { workload, command, env, tty } => {
            done(exec(mesh, stream, (&workload, command, env, tty), fds).await?)
        }
        Request::Logs { workload, container, follow, tail } => {
            logs(mesh, stream, &workload, container.as_deref(), follow, tail).await?;
            done(Value::Null)
        }
        Request::Restart { workload } => done(ops::restart(mesh, &workload).await?),
        Request::Dial { target, port } => {
            let socket = dial(mesh, &target, port).await?;
            Ok((Value::Null, vec![socket]))
        }
        Request::Dump => done(ops::dump(mesh)),
        Request::Usage => done(usage(mesh).await),
        Request::Certs { rotate_root } => {
            if rotate_root {
                mesh.ca.authority().rotate_root().map_err(|e| e.to_string())?;
            }
            done(mesh.ca.status())
        }
    }
}

async fn exec(
    mesh: &Mesh,
    stream: &UnixStream,
    (name, argv, terminal, tty): (&str, Vec<String>, Vec<(String, String)>, bool),
    fds: Vec<OwnedFd>,
) -> Result<i32, String> {
    let fds: [OwnedFd; 3] = fds.try_into().map_err(|_| "exec needs the three standard streams")?;
    let (id, mut env) = {
        let state = mesh.state();
        let (key, _) = workload::find(&state, name)?;
        let pod = state.pods.get(&key).ok_or("the pod is gone")?;
        (pod.id.ok_or_else(|| format!("pod {} does not run: {}", key.name, pod.reason))?, pod.env.clone())
    };
    env.entry("PATH".into()).or_insert_with(|| mesh.settings.path.clone());
    env.entry("HOME".into()).or_insert_with(|| mesh.settings.home.clone());
    env.extend(terminal);
    let mut process = ProcessSpec::new(Role::App, argv);
    process.env = env;
    process.stdio = Stdio::Given { fds, tty };
    let mut child = mesh.runtime.spawn(id, process).await.map_err(|e| e.to_string())?;
    tokio::select! {
        exit = child.wait() => Ok(exit.shell_code()),
        // The caller has gone: so does what it started.
        () = hung_up(stream) => {
            end(mesh, id, &child).await;
            Err("given up".into())
        }
    }
}

/// Waits until the client has closed its connection. It sends nothing more after its request.
async fn hung_up(stream: &UnixStream) {
    let mut byte = [0];
    loop {
        if stream.readable().await.is_err() {
            return;
        }
        match stream.try_read(&mut byte) {
            // Readiness is a hint: there was nothing.
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            _ => return,
        }
    }
}

async fn end(mesh: &Mesh, id: PodId, child: &localmesh::Child) {
    const SIGHUP: i32 = 1;
    let _ = mesh.runtime.kill(id, child.id, SIGHUP).await;
}

async fn logs(
    mesh: &Mesh,
    stream: &UnixStream,
    name: &str,
    container: Option<&str>,
    follow: bool,
    tail: Option<usize>,
) -> Result<(), String> {
    let ring = {
        let state = mesh.state();
        let (key, _) = workload::find(&state, name)?;
        let pod = state.pods.get(&key).ok_or("the pod is gone")?;
        let first = pod.plan.containers.iter().find(|c| !c.init).map_or(PROXY_CONTAINER, |c| &c.container.name);
        let wanted = match container {
            None => first,
            Some("proxy") => PROXY_CONTAINER,
            Some(name) => name,
        };
        let names = || pod.logs.keys().cloned().collect::<Vec<_>>().join(", ");
        pod.logs
            .get(wanted)
            .cloned()
            .ok_or_else(|| format!("pod {} has no container {wanted}; it has {}", key.name, names()))?
    };
    let mut count = ring.count();
    let mut next = tail.map_or(0, |n| ring.tail(n));
    loop {
        count.borrow_and_update();
        let (lines, then) = ring.since(next);
        next = then;
        for line in lines {
            send(stream, &Reply::Output(line.to_string()), &[]).await.map_err(|e| e.to_string())?;
        }
        if !follow {
            return Ok(());
        }
        tokio::select! {
            _ = count.changed() => {}
            () = hung_up(stream) => return Ok(()),
        }
    }
}

/// What the pods that run use. One that goes meanwhile is left out.
async fn usage(mesh: &Mesh) -> Vec<PodUsage> {
    let running: Vec<_> = mesh.state().pods.values().filter_map(|p| Some((p.plan.key.clone(), p.id?))).collect();
    let asked = running.into_iter().map(async |(key, id)| {
        let usage = mesh.runtime.usage(id).await.ok()?;
        Some(PodUsage { pod: key.name.to_string(), namespace: key.namespace.to_string(), usage })
    });
    futures_util::future::join_all(asked).await.into_iter().flatten().collect()
}

/// A connection to a Service's ready endpoint, or to a pod. It goes in from the pod's own network, so that no capture and
/// no policy is in between, as with `kubectl port-forward`.
async fn dial(mesh: &Mesh, target: &str, port: u16) -> Result<OwnedFd, String> {
    let (id, to) = match target.strip_prefix("svc/").or_else(|| target.strip_prefix("service/")) {
        Some(service) => service_pod(mesh, service, port)?,
        None => {
            let state = mesh.state();
            let (key, _) = workload::find(&state, target)?;
            (state.pods.get(&key).and_then(|p| p.id).ok_or("the pod does not run")?, port_in(mesh, &state, &key, port)?)
        }
    };
    let stream = mesh.runtime.connect_in_pod(id, to, Some(MARK_TO_APP)).await;
    Ok(stream.map_err(|e| format!("{to}: {e}"))?.into())
}

fn port_in(mesh: &Mesh, state: &State, key: &mesh_core::api::Key, port: u16) -> Result<SocketAddr, String> {
    let pod = state.pods.get(key).ok_or("the pod is gone")?;
    // The ports of the proxy itself are on the pod's own address in every mode.
    let role = if matches!(port, 15000 | 15021 | 15090) { ProxyRole::None } else { pod.plan.role };
    let ip = match (port, mesh.mode()) {
        (15000, Mode::Namespaces) => std::net::Ipv4Addr::LOCALHOST.into(),
        _ => super::mesh::app_ip(mesh.mode(), role, pod.ip),
    };
    Ok(SocketAddr::new(ip, port))
}

fn service_pod(mesh: &Mesh, text: &str, port: u16) -> Result<(PodId, SocketAddr), String> {
    let (name, namespace) = text.split_once('.').unwrap_or((text, "default"));
    let key = mesh_core::api::Key::new(mesh_core::api::Kind::new("", "Service"), namespace, name);
    if mesh.state().store.get(&key).is_none() {
        return Err(format!("there is no Service {name} in namespace {namespace}; see `meshctl get svc`"));
    }
    let at = hostports::endpoint(mesh, &key, port, 0)
        .ok_or_else(|| format!("Service {name} has no port {port} with a ready endpoint"))?;
    let state = mesh.state();
    let pod =
        state.pods.values().find(|p| IpAddr::from(p.ip) == at.ip()).ok_or("the endpoint is no pod of this mesh")?;
    let id = pod.id.ok_or("the pod does not run")?;
    Ok((id, port_in(mesh, &state, &pod.plan.key, at.port())?))
}
