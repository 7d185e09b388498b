//! An application container: started, watched, restarted with back-off.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Life, probe};
use crate::localmesh::{Child, Exit, Mode, PodId, ProcessSpec, Role};
use crate::node::env::{environment, expand};
use crate::node::logs::Ring;
use crate::node::mesh::app_ip;
use crate::node::plan::{ContainerPlan, ProxyRole};

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A container that ran this long starts again without a pause.
const LONG_LIFE: Duration = Duration::from_secs(60);
const SIGTERM: i32 = 15;

/// Runs a container until the pod ends.
pub(super) async fn supervise(life: Life, id: PodId, plan: ContainerPlan, mut end: watch::Receiver<bool>) {
    let mut pause = FIRST_PAUSE;
    while !*end.borrow() {
        let started = Instant::now();
        let exit = once(&life, id, &plan, &mut end).await;
        if *end.borrow() {
            return;
        }
        life.fallen(&plan, &exit);
        let again = match life.plan.object.spec.restart_policy.as_str() {
            "Never" => false,
            "OnFailure" => exit != Ok(Exit::Code(0)),
            _ => true,
        };
        if !again {
            let _ = end.wait_for(|e| *e).await;
            return;
        }
        if started.elapsed() >= LONG_LIFE {
            pause = FIRST_PAUSE;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = super::raised(&mut end) => return,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
        life.mesh.pod(&life.plan.key, |p| p.restarts += 1);
    }
}

/// Runs an init container until it has succeeded once.
pub(super) async fn run_to_end(life: &Life, id: PodId, plan: &ContainerPlan, mut end: watch::Receiver<bool>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let exit = once(life, id, plan, &mut end).await;
        if exit == Ok(Exit::Code(0)) || *end.borrow() {
            return;
        }
        life.fallen(plan, &exit);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// One start of a container until its end. An error means that it did not start.
async fn once(life: &Life, id: PodId, plan: &ContainerPlan, end: &mut watch::Receiver<bool>) -> Result<Exit, String> {
    let process = life.container_process(plan)?;
    let mut child = life.mesh.runtime.spawn(id, process).await.map_err(|e| e.to_string())?;
    super::proxy::attach_channel(life, &mut child);
    let log = life.log(&plan.container.name);
    for stream in child.stdout.take().into_iter().chain(child.stderr.take()) {
        tokio::spawn(log.clone().read(stream));
    }
    life.mesh.pod(&life.plan.key, |p| p.reason.clear());
    let result = tokio::select! {
        exit = child.wait() => Ok(exit),
        () = probe::watch(life, id, plan) => Ok(child.wait().await),
        () = super::raised(end) => Ok(terminate(life, id, &mut child).await),
        never = super::proxy::become_ready(life, id), if life.is_member(plan) => match never {},
    };
    life.mesh.pod_endpoint(&life.plan.key, |p| {
        p.proxy_ready &= !life.is_member(plan);
        if !plan.init {
            p.ready_containers.remove(&plan.container.name);
        }
    });
    result
}

async fn terminate(life: &Life, id: PodId, child: &mut Child) -> Exit {
    // The pod's time limit ends it if this does not.
    let _ = life.mesh.runtime.kill(id, child.id, SIGTERM).await;
    child.wait().await
}

impl Life {
    fn log(&self, container: &str) -> Arc<Ring> {
        self.mesh.pod(&self.plan.key, |p| p.logs.get(container).cloned()).flatten().unwrap_or_default()
    }

    fn fallen(&self, plan: &ContainerPlan, exit: &Result<Exit, String>) {
        let name = &plan.container.name;
        let why = match exit {
            Ok(exit) => format!("container {name} ended with {exit}"),
            Err(e) => format!("container {name}: {e}"),
        };
        self.log(name).push(&format!("[mesh] {why}"));
        self.mesh.pod_endpoint(&self.plan.key, |p| p.reason = why);
    }

    /// Whether a container is a member of the mesh itself.
    fn is_member(&self, plan: &ContainerPlan) -> bool {
        self.plan.member().is_some_and(|c| c.container.name == plan.container.name)
    }

    fn container_process(&self, plan: &ContainerPlan) -> Result<ProcessSpec, String> {
        let command = plan.command.clone()?;
        let settings = &self.mesh.settings;
        let mut base =
            BTreeMap::from([("PATH".to_owned(), settings.path.clone()), ("HOME".to_owned(), settings.home.clone())]);
        base.extend(self.explicit_env());
        base.extend(command.env);
        let env =
            super::files::with_facts(&self.mesh, &self.plan, app_ip(self.mesh.mode(), self.plan.role, self.ip), |f| {
                environment(f, &plan.container, &base)
            })?;
        let argv: Vec<String> = command.argv.iter().map(|a| expand(a, &env)).collect();
        self.mesh.pod(&self.plan.key, |p| p.env.clone_from(&env));
        let mut process = ProcessSpec::new(Role::App, argv);
        process.cwd = command.cwd;
        process.env = env;
        if self.is_member(plan) {
            process.role = Role::Member;
            process.env.extend(self.member_settings());
        }
        Ok(process)
    }

    /// What tells an application about the mesh where nothing is captured.
    fn explicit_env(&self) -> Vec<(String, String)> {
        if self.mesh.mode() != Mode::Explicit {
            return Vec::new();
        }
        let bind = app_ip(Mode::Explicit, self.plan.role, self.ip);
        let mut env = vec![("BIND".to_owned(), bind.to_string())];
        if self.plan.role == ProxyRole::Sidecar {
            let proxy = format!("http://{}:15001", self.ip);
            for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"] {
                env.push((name.to_owned(), proxy.clone()));
            }
            env.push(("no_proxy".to_owned(), format!("localhost,127.0.0.1,{bind}")));
        }
        env
    }
}
