//! Configuration from files: World and scope run in this process, and changes of the files are followed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_core::api::Resource;
use mesh_core::convert::{Addresses, Inject, Options, builtin_gateway, inputs, quarantined};
use mesh_core::model::Workload;
use mesh_core::report::{Level, Report};
use mesh_core::scope::scope_here;
use mesh_core::snapshot::{ProxyId, ProxyKind};
use mesh_core::validate::validate;
use mesh_core::wire::{Ack, ConfigSource, Delta, Versions};
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
    /// What was read already, to find out who it is for.
    read: Option<Box<Read>>,
    seen: Vec<Stamp>,
    sent: Option<Versions>,
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

/// What the files said when they were like this.
#[derive(Debug)]
struct Read {
    stamps: Vec<Stamp>,
    world: World,
    reports: Vec<Report>,
    manifests: Manifests,
}

impl FileSource {
    /// A source for this proxy; call it inside a tokio runtime. What is wrong in the files is logged.
    pub fn new(paths: Vec<PathBuf>, id: ProxyId) -> Self {
        Self::over(Input::Files(paths), id, None)
    }

    /// The source of a standalone gateway: it is the first pod in the files that one of their Gateways selects, else the
    /// ingress gateway that the mesh brings along.
    ///
    /// # Errors
    /// A file can't be read, or no Gateway in them selects a pod.
    pub fn of_gateway(paths: Vec<PathBuf>) -> io::Result<Self> {
        Self::read(Input::Files(paths), gateway)
    }

    /// The source of the proxy of a pod: `NAMESPACE/NAME`, or a name in namespace `default`. A Deployment stands for its
    /// first pod.
    ///
    /// # Errors
    /// A file can't be read, or there is no such pod.
    pub(crate) fn of_pod(input: Input, kind: ProxyKind, workload: &str) -> io::Result<Self> {
        Self::read(input, |world| pod(world, kind, workload))
    }

    /// A source that has been read once, so that what is in it can say who it is for.
    ///
    /// # Errors
    /// A file can't be read, or it does not say that.
    pub(crate) fn read(input: Input, who: impl FnOnce(&World) -> io::Result<ProxyId>) -> io::Result<Self> {
        let read = input.read(input.stamps()?)?;
        let id = who(&read.world)?;
        Ok(Self::over(input, id, Some(Box::new(read))))
    }

    fn over(input: Input, id: ProxyId, read: Option<Box<Read>>) -> Self {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            input,
            id,
            ticks,
            read,
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

    /// Who it is for.
    pub fn id(&self) -> &ProxyId {
        &self.id
    }

    /// What the files say, unless that was sent already.
    fn look(&mut self) -> io::Result<Option<Read>> {
        if let Some(read) = self.read.take() {
            return Ok(Some(*read));
        }
        let now = self.input.stamps()?;
        if self.sent.is_some() && now == self.seen { Ok(None) } else { self.input.read(now).map(Some) }
    }

    /// The change since what was sent, if the files changed. A file that can't be read leaves everything as it was.
    fn poll_files(&mut self) -> Option<Delta> {
        let read = self.look().unwrap_or_else(|error| {
            tracing::warn!(%error, "configuration can't be read; the last one stays in force");
            None
        });
        let Read { stamps, world, reports, manifests } = read?;
        (self.seen, self.manifests) = (stamps, manifests);
        for report in &reports {
            match report.level {
                Level::Error => tracing::error!("{report}"),
                Level::Warning => tracing::warn!("{report}"),
                Level::Info => tracing::info!("{report}"),
            }
        }
        let to = scope_here(&world, &self.id);
        let first = self.sent.is_none();
        let mut delta = Delta::since(&self.sent.take().unwrap_or_default(), &to);
        self.sent = Some(to.into_iter().map(|(name, resource)| (name, resource.version)).collect());
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

/// Who a standalone gateway is.
fn gateway(world: &World) -> io::Result<ProxyId> {
    let selected = |labels| world.gateways().iter().any(|g| covers(&g.spec.selector, labels));
    let found = world.workloads().iter().find(|w| selected(&w.labels)).or_else(|| {
        let is_ingress = |v: &String| v == "ingressgateway";
        world.workloads().iter().find(|w| w.labels.get("istio").is_some_and(is_ingress))
    });
    let workload = found.ok_or_else(|| io::Error::other("no Gateway in these files selects a pod"))?;
    Ok(ProxyId::of(ProxyKind::Gateway, workload))
}

/// Who the proxy of a pod is.
fn pod(world: &World, kind: ProxyKind, workload: &str) -> io::Result<ProxyId> {
    let (namespace, name) = workload.split_once('/').unwrap_or(("default", workload));
    let is_it = |w: &&Arc<Workload>| {
        *w.namespace == *namespace
            && (*w.name == *name || (*w.workload_name == *name && *w.workload_kind == *"deployment"))
    };
    let found = world.workloads().iter().find(is_it);
    let missing = || io::Error::other(format!("there is no pod {namespace}/{name} in the configuration"));
    found.map(|w| ProxyId::of(kind, w)).ok_or_else(missing)
}

impl Input {
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

    fn read(&self, stamps: Vec<Stamp>) -> io::Result<Read> {
        let (mut resources, mut reports) = (Vec::<Resource>::new(), Vec::new());
        for (name, text) in self.texts()? {
            let (found, said) = yaml::read(&name, &text);
            resources.extend(found);
            reports.extend(said);
        }
        resources.extend(builtin_gateway(&resources));
        let mut manifests = Manifests::default();
        for resource in &resources {
            reports.extend(validate(resource));
            manifests.add(resource);
        }
        // Whether a pod has a sidecar, labels say: nobody puts one beside it here.
        let options = Options { quarantined: quarantined(&reports), inject: Inject::Labels, ..Options::default() };
        let made = inputs(&resources, &options, &mut Addresses::default());
        reports.extend(made.reports);
        Ok(Read { stamps, world: made.world, reports, manifests })
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
