//! Configuration from files: World and scope run in this process, and changes of the files are followed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_core::api::Resource;
use mesh_core::convert::{Addresses, Inject, Options, builtin_gateway, inputs, quarantined};
use mesh_core::model::Workload;
use mesh_core::report::{Level, Report};
use mesh_core::scope::scope;
use mesh_core::snapshot::{ProxyId, ProxyKind};
use mesh_core::validate::validate;
use mesh_core::wire::{Ack, ConfigSource, Delta, ResourceSet};
use mesh_core::world::{World, covers};
use mesh_core::yaml;
use mesh_tls::Secrets;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::secrets::manifests::Manifests;

/// How often the files are looked at. What changes within less is one change.
const PERIOD: Duration = Duration::from_millis(250);

/// Where the YAML is.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// Files, and directories of them.
    Files(Vec<PathBuf>),
    /// In the program, under this name.
    Text(Arc<str>),
}

/// A [`ConfigSource`] of YAML files and directories of them.
#[derive(Debug)]
pub struct FileSource {
    input: Input,
    id: ProxyId,
    ticks: Interval,
    seen: Vec<Stamp>,
    sent: Option<ResourceSet>,
    nonce: u64,
    keys: Arc<Secrets>,
    manifests: Manifests,
}

/// What tells that a file has changed.
#[derive(PartialEq, Eq, Debug)]
struct Stamp {
    path: PathBuf,
    modified: Option<SystemTime>,
    length: u64,
}

impl FileSource {
    /// A source for this proxy; call it inside a tokio runtime. What is wrong in the files is logged.
    pub fn new(paths: Vec<PathBuf>, id: ProxyId) -> Self {
        Self::over(Input::Files(paths), id)
    }

    pub(crate) fn over(input: Input, id: ProxyId) -> Self {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            input,
            id,
            ticks,
            seen: Vec::new(),
            sent: None,
            nonce: 0,
            keys: Arc::default(),
            manifests: Manifests::default(),
        }
    }

    /// The same, which also delivers the Secrets among the files to those who follow these.
    #[must_use]
    pub fn with_secrets(mut self, keys: Arc<Secrets>) -> Self {
        self.keys = keys;
        self
    }

    /// Who a standalone gateway is: the first pod in the files that one of their Gateways selects, else the ingress
    /// gateway that the mesh brings along.
    ///
    /// # Errors
    /// A file can't be read, or no Gateway in them selects a pod.
    pub fn gateway_id(paths: &[PathBuf]) -> io::Result<ProxyId> {
        let (world, _) = Input::Files(paths.to_vec()).world()?;
        let selected = |labels| world.gateways().iter().any(|g| covers(&g.spec.selector, labels));
        let found = world.workloads().iter().find(|w| selected(&w.labels)).or_else(|| {
            let is_ingress = |v: &String| v == "ingressgateway";
            world.workloads().iter().find(|w| w.labels.get("istio").is_some_and(is_ingress))
        });
        let workload = found.ok_or_else(|| io::Error::other("no Gateway in these files selects a pod"))?;
        Ok(id_of(workload, ProxyKind::Gateway))
    }

    /// Who it is for.
    pub fn id(&self) -> &ProxyId {
        &self.id
    }

    /// The change since what was sent, if the files changed. A file that can't be read leaves everything as it was.
    fn poll_files(&mut self) -> Option<Delta> {
        let now = match self.input.stamps() {
            Ok(now) => now,
            Err(error) => {
                tracing::warn!(%error, "configuration can't be read; the last one stays in force");
                return None;
            }
        };
        if self.sent.is_some() && now == self.seen {
            return None;
        }
        let (world, reports) = match self.input.world() {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(%error, "configuration can't be read; the last one stays in force");
                return None;
            }
        };
        self.seen = now;
        self.manifests = self.input.manifests();
        for report in &reports {
            match report.level {
                Level::Error => tracing::error!("{report}"),
                Level::Warning => tracing::warn!("{report}"),
                Level::Info => tracing::info!("{report}"),
            }
        }
        let to = scope(&world, &self.id);
        let first = self.sent.is_none();
        let mut delta = Delta::between(&self.sent.take().unwrap_or_default(), &to);
        self.sent = Some(to);
        if delta.is_empty() && !first {
            return None;
        }
        self.nonce += 1;
        delta.nonce = self.nonce.to_string();
        Some(delta)
    }
}

impl ConfigSource for FileSource {
    async fn next(&mut self) -> Option<Delta> {
        loop {
            self.ticks.tick().await;
            let changed = self.poll_files();
            self.manifests.deliver(&self.keys);
            if let Some(delta) = changed {
                return Some(delta);
            }
        }
    }

    async fn ack(&mut self, ack: Ack) {
        tracing::info!(config = %ack.config, "configuration in force");
        for rejection in ack.rejected {
            tracing::error!(name = %rejection.name.name, kind = %rejection.name.kind, "{}", rejection.message);
        }
    }
}

fn id_of(workload: &Workload, kind: ProxyKind) -> ProxyId {
    ProxyId {
        kind,
        workload: workload.uid.clone(),
        name: workload.name.clone(),
        namespace: workload.namespace.clone(),
        addresses: workload.addresses.clone(),
        domain: "cluster.local".into(),
    }
}

impl Input {
    /// Who the proxy of a pod in it is.
    ///
    /// # Errors
    /// A file can't be read, or there is no such pod.
    pub(crate) fn pod_id(&self, kind: ProxyKind, namespace: &str, name: &str) -> io::Result<ProxyId> {
        let (world, _) = self.world()?;
        let is_it = |w: &&Arc<Workload>| {
            *w.namespace == *namespace
                && (*w.name == *name || (*w.workload_name == *name && *w.workload_kind == *"deployment"))
        };
        let found = world.workloads().iter().find(is_it);
        let missing = || io::Error::other(format!("there is no pod {namespace}/{name} in the configuration"));
        found.map(|w| id_of(w, kind)).ok_or_else(missing)
    }

    /// Name and text of each part.
    fn texts(&self) -> io::Result<Vec<(String, String)>> {
        let paths = match self {
            Self::Text(text) => return Ok(vec![("configuration".to_owned(), text.to_string())]),
            Self::Files(paths) => paths,
        };
        let read = |path: PathBuf| {
            let text = std::fs::read_to_string(&path).map_err(|e| named(&path, &e))?;
            Ok((path.to_string_lossy().into_owned(), text))
        };
        files(paths)?.into_iter().map(read).collect()
    }

    pub(crate) fn world(&self) -> io::Result<(World, Vec<Report>)> {
        let (mut resources, mut reports) = (Vec::<Resource>::new(), Vec::new());
        for (name, text) in self.texts()? {
            let (found, said) = yaml::read(&name, &text);
            resources.extend(found);
            reports.extend(said);
        }
        resources.extend(builtin_gateway(&resources));
        for resource in &resources {
            reports.extend(validate(resource));
        }
        // Whether a pod has a sidecar, labels say: nobody puts one beside it here.
        let options = Options { quarantined: quarantined(&reports), inject: Inject::Labels, ..Options::default() };
        let made = inputs(&resources, &options, &mut Addresses::default());
        reports.extend(made.reports);
        Ok((made.world, reports))
    }

    fn manifests(&self) -> Manifests {
        let mut manifests = Manifests::default();
        // Whoever could not read a file has said so when the World was made.
        for (_, text) in self.texts().unwrap_or_default() {
            manifests.add(&text);
        }
        manifests
    }

    fn stamps(&self) -> io::Result<Vec<Stamp>> {
        let Self::Files(paths) = self else { return Ok(Vec::new()) };
        let stamp = |path: PathBuf| {
            let about = std::fs::metadata(&path).map_err(|e| named(&path, &e))?;
            Ok(Stamp { modified: about.modified().ok(), length: about.len(), path })
        };
        files(paths)?.into_iter().map(stamp).collect()
    }
}

/// The files, and those in the directories, by name.
fn files(paths: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        if !path.is_dir() {
            found.push(path.clone());
            continue;
        }
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(path).map_err(|e| named(path, &e))? {
            let path = entry?.path();
            let extension = path.extension().and_then(|e| e.to_str());
            if matches!(extension, Some("yaml" | "yml" | "json")) {
                inside.push(path);
            }
        }
        inside.sort();
        found.extend(inside);
    }
    Ok(found)
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
