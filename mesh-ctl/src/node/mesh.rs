//! The state of the node: objects, pods and proxies, and who waits for a change of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::api::{ContentHash, Key};
use mesh_core::convert::{Addresses, Options};
use mesh_core::snapshot::ProxyId;
use mesh_core::wire::{Encoded, Rejection, ResourceSet};
use mesh_core::world::{Change, World};
use mesh_proxy::discovery::ProxyStream;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, mpsc, watch};

use super::ca::Ca;
use super::images::ImageMap;
use super::inject::Inject;
use super::logs::Ring;
use super::plan::{PodPlan, ProxyRole};
use super::store::Store;
use crate::control::SourceFile;
use crate::localmesh::{Dialer, Mode, PodId, PodRuntime};

/// What `meshctl up` was told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the mesh.
    pub name: String,
    /// Manifests, in order.
    pub files: Vec<SourceFile>,
    /// Image maps of `--images`, which are asked before those among the manifests.
    pub images: Vec<SourceFile>,
    /// Which pods get a sidecar.
    pub inject: Inject,
    /// Host port of each gateway port; 0 picks a free one.
    pub gateway_ports: BTreeMap<u16, u16>,
    /// Folder of the `meshctl` program, where `mesh-proxy` and `mesh-gateway` are too.
    pub programs: PathBuf,
    /// `PATH` of the user.
    pub path: String,
    /// `HOME` of the user.
    pub home: String,
}

/// Everything the node knows.
pub(super) struct Mesh {
    /// What `up` was told.
    pub settings: Settings,
    /// Makes pods.
    pub runtime: Arc<dyn PodRuntime>,
    /// The host's network.
    pub dialer: Dialer,
    /// Where new proxies are announced.
    pub streams: mpsc::Sender<ProxyStream>,
    /// Host address of each gateway port.
    pub gateway_ports: BTreeMap<u16, SocketAddr>,
    /// Gives proxies their identities.
    pub ca: Arc<Ca>,
    /// Asks for [`super::reconcile`] to look again.
    pub work: Notify,
    /// Set when the mesh is to end.
    pub ending: watch::Sender<bool>,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

/// The part that changes.
#[derive(Default)]
pub(super) struct State {
    /// Objects.
    pub store: Store,
    /// Addresses given out.
    pub addresses: Addresses,
    /// Pods that are there or on their way.
    pub pods: BTreeMap<Key, Pod>,
    /// NodePorts in force: host port to the task that serves it.
    pub node_ports: BTreeMap<u16, NodePort>,
    /// What proxies are made of.
    pub published: Published,
    /// Every file of manifests was read and every workload made.
    pub started: bool,
}

/// Configuration as the proxies get it.
pub(super) struct Published {
    /// All of it.
    pub world: World,
    /// Encoded once for all proxies.
    pub encoded: Encoded,
    /// What each object put into the World.
    pub objects: Sources,
    /// What each pod put into the World.
    pub workloads: Sources,
    /// Hash of the settings with which objects were read, and of the namespaces.
    pub settings: ContentHash,
    /// Labels of the namespaces.
    pub namespaces: BTreeMap<Arc<str>, BTreeMap<String, String>>,
    /// Counts changes.
    pub revision: u64,
}

impl Default for Published {
    fn default() -> Self {
        let world = World::default();
        // The mesh's settings are there before anybody wrote any.
        let encoded = Encoded::of(&world, &Encoded::default());
        Self {
            world,
            encoded,
            objects: Sources::new(),
            workloads: Sources::new(),
            settings: ContentHash::default(),
            namespaces: BTreeMap::new(),
            revision: 0,
        }
    }
}

/// What sources put into the World, with the hash of what it was made from.
pub(super) type Sources = BTreeMap<Key, (ContentHash, Vec<Change>)>;

/// A NodePort in force.
pub(super) struct NodePort {
    /// Service.
    pub service: Key,
    /// Port of the service.
    pub port: u16,
    /// Ends with this.
    pub stop: watch::Sender<bool>,
    /// Why it does not serve; empty if it does.
    pub error: String,
}

/// How a pod is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stop {
    /// Not at all.
    No,
    /// Without losing requests.
    Gracefully,
}

/// Where a pod is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its namespaces are being made, or its proxy starts.
    Starting,
    /// Its containers were started.
    Running,
    /// It can't start; the reason says why.
    NotStarted,
    /// It is going.
    Terminating,
}

/// One pod.
pub(super) struct Pod {
    /// What it is made of.
    pub plan: Arc<PodPlan>,
    /// Address.
    pub ip: Ipv4Addr,
    /// Where it is in its life.
    pub phase: Phase,
    /// Why it is not ready.
    pub reason: String,
    /// Its runtime's name for it.
    pub id: Option<PodId>,
    /// Containers that are ready.
    pub ready_containers: BTreeSet<String>,
    /// The proxy answers, or there is none.
    pub proxy_ready: bool,
    /// Restarts of containers.
    pub restarts: u32,
    /// Restarts of the proxy.
    pub proxy_restarts: u32,
    /// Tells its tasks to end it.
    pub stop: watch::Sender<Stop>,
    /// Output by container.
    pub logs: BTreeMap<String, Arc<Ring>>,
    /// Its proxy's configuration.
    pub proxy: Option<ProxyState>,
    /// Environment of its first container, for `exec`.
    pub env: BTreeMap<String, String>,
}

impl Pod {
    /// Gets traffic.
    pub(super) fn ready(&self) -> bool {
        self.phase == Phase::Running && self.proxy_ready && self.ready_containers.len() == self.plan.containers.len()
    }
}

/// What a proxy is sent and has in force.
pub(super) struct ProxyState {
    /// Who it is.
    pub id: ProxyId,
    /// What it should have, and the revision that changed it last.
    pub target: watch::Sender<(u64, Arc<ResourceSet>)>,
    /// Revision that `target` was brought up to; none before the first.
    pub scoped: Option<u64>,
    /// A stream is open.
    pub connected: bool,
    /// Revision that it has acknowledged.
    pub acked: u64,
    /// Hash of its configuration.
    pub config: ContentHash,
    /// What it refused.
    pub rejected: Vec<Rejection>,
}

impl ProxyState {
    /// It has acknowledged everything.
    pub(super) fn synced(&self) -> bool {
        self.acked >= self.target.borrow().0
    }
}

impl Mesh {
    /// A mesh without objects.
    pub(super) fn new(
        settings: Settings,
        runtime: Arc<dyn PodRuntime>,
        dialer: Dialer,
        streams: mpsc::Sender<ProxyStream>,
        gateway_ports: BTreeMap<u16, SocketAddr>,
        ca: Ca,
    ) -> Self {
        Self {
            ca: Arc::new(ca),
            settings,
            runtime,
            dialer,
            streams,
            gateway_ports,
            work: Notify::new(),
            ending: watch::Sender::new(false),
            state: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    /// Looks at the state; nothing is awaited meanwhile.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Changes a pod if it is still there, and tells who waits.
    pub(super) fn pod<T>(&self, key: &Key, change: impl FnOnce(&mut Pod) -> T) -> Option<T> {
        let result = self.state().pods.get_mut(key).map(change);
        self.note();
        result
    }

    /// The same for something that endpoints depend on.
    pub(super) fn pod_endpoint(&self, key: &Key, change: impl FnOnce(&mut Pod)) {
        self.pod(key, change);
        self.work.notify_one();
    }

    /// Changes with every change of the state.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Says that something changed that somebody may wait for.
    pub(super) fn note(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    /// Waits until `ready` gives something, or for so long.
    pub(super) async fn wait_for<T>(&self, limit: Duration, mut ready: impl FnMut(&State) -> Option<T>) -> Option<T> {
        let mut changed = self.changed.subscribe();
        let wait = async {
            loop {
                changed.borrow_and_update();
                if let Some(value) = ready(&self.state()) {
                    return value;
                }
                if changed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::time::timeout(limit, wait).await.ok()
    }

    /// How pods are kept apart.
    pub(super) fn mode(&self) -> Mode {
        self.runtime.mode()
    }

    /// What conversion needs to know. DNS is always captured here, so every host can have an address.
    pub(super) fn convert_options(world: &World) -> Options<'static> {
        let mut options = Options { dns_capture: Some(true), ..Options::default() };
        options.follow(&world.mesh().spec);
        options
    }
}

/// Where the application of a pod listens: on the pod's address, except in explicit mode beside a sidecar, which has that.
pub(super) fn app_ip(mode: Mode, role: ProxyRole, ip: Ipv4Addr) -> IpAddr {
    let [_, _, c, d] = ip.octets();
    match (mode, role) {
        (Mode::Explicit, ProxyRole::Sidecar) => Ipv4Addr::new(127, 2, c, d).into(),
        _ => ip.into(),
    }
}

/// Image maps of `--images` and of ConfigMaps; problems are returned as lines.
pub(super) fn image_map(settings: &Settings, store: &Store) -> (ImageMap, Vec<String>) {
    let mut map = ImageMap::default();
    let mut problems = Vec::new();
    for (file, document) in
        settings.images.iter().flat_map(|f| crate::manifest::read(f, "default").into_iter().map(move |d| (f, d)))
    {
        if let Some(data) = document.config_map_data()
            && let Err(errors) = map.add(&data)
        {
            problems.extend(errors.into_iter().map(|e| format!("{}: {e}", file.path)));
        }
    }
    let maps = store.iter().filter(|s| &*s.document.key.kind.kind == "ConfigMap");
    for stored in maps.filter(|s| s.document.label(super::images::LABEL).is_some()) {
        if let Some(data) = stored.document.config_map_data()
            && let Err(errors) = map.add(&data)
        {
            problems.extend(errors.into_iter().map(|e| format!("{}: {e}", stored.document.key)));
        }
    }
    (map, problems)
}
