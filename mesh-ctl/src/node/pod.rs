//! The life of one pod: its namespaces, its proxy, its containers, its end.

mod container;
mod files;
mod identity;
mod probe;
mod proxy;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::api::ContentHash;
use mesh_core::snapshot::{ProxyId, ProxyKind};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::mesh::{Mesh, Phase, Pod, ProxyState, Stop};
use super::plan::{PodPlan, ProxyRole, release};
use crate::localmesh::{PodId, PodSpec};

/// Name of the proxy among a pod's containers, as Istio has it.
pub(crate) const PROXY_CONTAINER: &str = "istio-proxy";
/// How long a pod that goes waits for the proxies to have taken it off their lists.
const LEAVE: Duration = Duration::from_secs(3);
/// `terminationGracePeriodSeconds` where the pod says nothing.
const GRACE: u64 = 30;

/// Registers a pod and starts its life.
pub(super) fn start(mesh: &Arc<Mesh>, plan: Arc<PodPlan>, ip: Ipv4Addr) {
    let stop = watch::Sender::new(Stop::No);
    let key = plan.key.clone();
    let pod = fresh(plan.clone(), ip, stop.clone());
    mesh.state().pods.insert(key, pod);
    mesh.note();
    tokio::spawn(Life { mesh: mesh.clone(), plan, ip, stop }.run());
}

/// A pod that is about to start.
pub(super) fn fresh(plan: Arc<PodPlan>, ip: Ipv4Addr, stop: watch::Sender<Stop>) -> Pod {
    let names = plan.containers.iter().map(|c| c.container.name.clone());
    let proxy = plan.role.has_process().then(|| PROXY_CONTAINER.to_owned());
    Pod {
        ip,
        phase: Phase::Starting,
        reason: String::new(),
        id: None,
        ready_containers: plan.containers.iter().filter(|c| c.init).map(|c| c.container.name.clone()).collect(),
        proxy_ready: plan.role == ProxyRole::None,
        restarts: 0,
        proxy_restarts: 0,
        logs: names.chain(proxy).map(|n| (n, Arc::default())).collect(),
        proxy: proxy_id(&plan, ip).map(|id| ProxyState {
            id,
            target: watch::Sender::new((0, Arc::default())),
            scoped: None,
            connected: false,
            acked: 0,
            config: ContentHash::default(),
            rejected: Vec::new(),
        }),
        env: std::collections::BTreeMap::new(),
        stop,
        plan,
    }
}

fn proxy_id(plan: &PodPlan, ip: Ipv4Addr) -> Option<ProxyId> {
    let kind = match plan.role {
        ProxyRole::Sidecar | ProxyRole::Embedded => ProxyKind::Sidecar,
        ProxyRole::Gateway => ProxyKind::Gateway,
        ProxyRole::None => return None,
    };
    let settings = mesh_core::convert::Settings::default();
    Some(ProxyId {
        kind,
        workload: format!("{}//Pod/{}/{}", settings.cluster, plan.key.namespace, plan.key.name).into(),
        name: plan.key.name.clone(),
        namespace: plan.key.namespace.clone(),
        addresses: vec![ip.into()],
        domain: settings.domain,
    })
}

/// What the tasks of a pod share.
#[derive(Clone)]
struct Life {
    mesh: Arc<Mesh>,
    plan: Arc<PodPlan>,
    ip: Ipv4Addr,
    stop: watch::Sender<Stop>,
}

impl Life {
    async fn run(self) {
        let key = self.plan.key.clone();
        let startable = self.plan.role == ProxyRole::Gateway || self.plan.containers.iter().any(|c| c.command.is_ok());
        let refused = self.plan.containers.iter().find_map(|c| c.command.as_ref().err());
        match (&self.plan.error, startable) {
            (None, true) => self.live().await,
            (error, _) => {
                let why = error.as_ref().or(refused).cloned().unwrap_or_else(|| "the pod has no containers".into());
                self.not_started(why).await;
            }
        }
        self.mesh.ca.dismiss(&key.to_string());
        let mut state = self.mesh.state();
        state.pods.remove(&key);
        release(&mut state.addresses, &key);
        drop(state);
        self.mesh.note();
        self.mesh.work.notify_one();
    }

    async fn not_started(&self, why: String) {
        self.mesh.pod_endpoint(&self.plan.key, |p| {
            p.phase = Phase::NotStarted;
            p.reason = why;
        });
        self.stopped().await;
    }

    async fn stopped(&self) {
        // The sender is `self`, so waiting can't fail.
        let _ = self.stop.subscribe().wait_for(|s| *s != Stop::No).await;
    }

    async fn live(&self) {
        let key = &self.plan.key;
        let id = match self.create().await {
            Ok(id) => id,
            Err(e) => return self.not_started(e).await,
        };
        self.mesh.pod(key, |p| p.id = Some(id));
        // Raised when processes are to end: after the other proxies have stopped sending; the proxy's own after the
        // application has gone, which may still want to reach others.
        let (end, end_of_proxy) = (watch::Sender::new(false), watch::Sender::new(false));
        let mut proxy = JoinSet::new();
        let mut containers = JoinSet::new();
        if self.plan.role.has_process() {
            proxy.spawn(proxy::supervise(self.clone(), id, end_of_proxy.subscribe()));
        }
        tokio::select! {
            () = self.bring_up(id, &end, &mut containers) => self.stopped().await,
            () = self.stopped() => {}
        }
        self.leave().await;
        if self.plan.role.has_process() && !*self.mesh.ending.borrow() {
            proxy::drained(self, id).await;
        }
        end.send_replace(true);
        let grace = self.plan.object.spec.termination_grace_period_seconds.unwrap_or(GRACE);
        let gone = async {
            while containers.join_next().await.is_some() {}
            end_of_proxy.send_replace(true);
            while proxy.join_next().await.is_some() {}
        };
        let _ = tokio::time::timeout(Duration::from_secs(grace), gone).await;
        if let Err(e) = self.mesh.runtime.destroy(id).await {
            tracing::warn!(pod = %key, error = %e, "the pod could not be ended");
        }
    }

    async fn create(&self) -> Result<PodId, String> {
        let key = &self.plan.key;
        let mut spec = PodSpec::new(&*key.name, &*key.namespace, self.ip);
        spec.capture.clone_from(&self.plan.capture);
        if let Some(rules) = &mut spec.capture {
            self.capture_settings(rules);
        }
        (spec.files, spec.volumes) = files::of(&self.mesh, &self.plan)?;
        spec.files.extend(self.token()?);
        self.mesh.runtime.create_pod(spec).await.map_err(|e| e.to_string())
    }

    /// Proxy first, then init containers one after the other, then the rest at once.
    async fn bring_up(&self, id: PodId, end: &watch::Sender<bool>, containers: &mut JoinSet<()>) {
        let key = &self.plan.key;
        let ready = |s: &super::mesh::State| s.pods.get(key).is_none_or(|p| p.proxy_ready).then_some(());
        // Where the application is the proxy, it has to be started first.
        while self.plan.role.has_process() && self.mesh.wait_for(Duration::from_secs(3600), ready).await.is_none() {}
        for c in self.plan.containers.iter().filter(|c| c.init) {
            container::run_to_end(self, id, c, end.subscribe()).await;
        }
        for c in self.plan.containers.iter().filter(|c| !c.init) {
            containers.spawn(container::supervise(self.clone(), id, c.clone(), end.subscribe()));
        }
        self.mesh.pod_endpoint(key, |p| p.phase = Phase::Running);
    }

    /// Nobody gets here any more: endpoints without this pod are in force everywhere, or the time is over.
    async fn leave(&self) {
        let key = &self.plan.key;
        self.mesh.pod(key, |p| {
            p.phase = Phase::Terminating;
            p.reason = "terminating".into();
        });
        super::publish::publish(&self.mesh);
        self.mesh.wait_for(LEAVE, |s| super::publish::behind(s).is_empty().then_some(())).await;
    }
}

/// Waits until the pod's processes are to end.
async fn raised(end: &mut watch::Receiver<bool>) {
    // An error means that the pod's own task is gone, which is the end, too.
    let _ = end.wait_for(|e| *e).await;
}
