//! Where a member of the mesh gets configuration and identity from.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use mesh_core::env::Env;
use mesh_core::layers::{BoxService, HttpService};
use mesh_core::record::Sink;
use mesh_core::snapshot::{ProxyId, ProxyKind, SecretRef};
use mesh_core::wire::ConfigSource;
use mesh_tls::{Authorities, Identity, Material, PrivateKey, Roots, SecretSource, SecretState, Secrets};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::application::Applications;
use super::{Inner, Mesh};
use crate::admin::{self, Port, State};
use crate::cluster::Runtime;
use crate::discovery::{self, Target};
use crate::force::{Facts, InForce};
use crate::http::Proxy;
use crate::listener::Shared;
use crate::net::{AppAddress, HostEnv, HostNet, Inherited, Resolver};
use crate::secrets::Own;
use crate::source::{FileSource, Input};
use crate::telemetry::Sinks;
use crate::telemetry::access_log::{AccessLog, LineWriter};
use crate::telemetry::metrics::Metrics;

/// Builds a [`Mesh`]. Without more, everything is as the mesh's launcher says in the environment (`meshctl up` does for
/// pods with the annotation `inject.istio.io/templates: embedded`).
#[derive(Default)]
pub struct Builder {
    config: Config,
    workload: Option<String>,
    identity: Option<Pems>,
    resolver: Option<SocketAddr>,
    sinks: Vec<Arc<dyn Sink>>,
    access_log: bool,
    admin: Option<IpAddr>,
}

#[derive(Default)]
enum Config {
    #[default]
    Environment,
    Files(Vec<PathBuf>),
    Text(String),
}

struct Pems {
    chain: Vec<u8>,
    key: Vec<u8>,
    roots: Vec<u8>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("workload", &self.workload).finish_non_exhaustive()
    }
}

impl Builder {
    /// Configuration from YAML files and directories of them, which are followed while running.
    #[must_use]
    pub fn files<P: Into<PathBuf>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        self.config = Config::Files(paths.into_iter().map(Into::into).collect());
        self
    }

    /// Configuration from YAML text: for tests, and for values in code.
    #[must_use]
    pub fn yaml(mut self, text: impl Into<String>) -> Self {
        self.config = Config::Text(text.into());
        self
    }

    /// With [`Builder::files`] or [`Builder::yaml`]: who this is, `NAMESPACE/NAME` of a Pod or Deployment among the
    /// configuration. Default: a workload of namespace `default` that is not in it, which can call and can't be called by
    /// a service's name.
    #[must_use]
    pub fn workload(mut self, name: impl Into<String>) -> Self {
        self.workload = Some(name.into());
        self
    }

    /// The own certificate, instead of one from the mesh's CA: a chain, leaf first, its private key, and whom to trust (with
    /// revocation lists, if there are any), in PEM. The application renews it by starting anew.
    #[must_use]
    pub fn identity(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>, roots: impl Into<Vec<u8>>) -> Self {
        self.identity = Some(Pems { chain: chain.into(), key: key.into(), roots: roots.into() });
        self
    }

    /// A reader of finished requests, in both directions, beside the metrics of [`Mesh::metrics`]. It is called on the
    /// request's task and must not block.
    #[must_use]
    pub fn sink(mut self, sink: Arc<dyn Sink>) -> Self {
        self.sinks.push(sink);
        self
    }

    /// Writes the mesh's access log to standard output, where `accessLogFile` says so. Default: no.
    #[must_use]
    pub fn access_log(mut self) -> Self {
        self.access_log = true;
        self
    }

    /// Opens the ports of a sidecar on this address: readiness on 15021, metrics on 15090, and on 15000 what `meshctl`
    /// asks (`proxy-config`, `certs`), with the same paths; 15000 always on loopback where this is all addresses.
    /// Default: none, except in a pod that `meshctl up` has started.
    #[must_use]
    pub fn admin(mut self, address: IpAddr) -> Self {
        self.admin = Some(address);
        self
    }

    /// The DNS server for names outside the mesh, instead of the host's resolver.
    #[must_use]
    pub fn resolver(mut self, server: SocketAddr) -> Self {
        self.resolver = Some(server);
        self
    }

    /// Joins the mesh. Resolves when the first configuration is in force. Call it inside a tokio runtime; connections and
    /// configuration are served by it, however many threads it has.
    ///
    /// # Errors
    /// Configuration can't be read, the workload is not in it, the identity is not usable, or nothing in the environment
    /// says where configuration comes from.
    pub async fn start(self) -> io::Result<Mesh> {
        let mut inherited = match self.config {
            Config::Environment => Inherited::from_env(),
            Config::Files(_) | Config::Text(_) => Inherited::default(),
        };
        let channel = inherited.config.take();
        let resolver = self.resolver.map_or_else(Resolver::system, Resolver::of_server);
        let net = HostNet::with_resolver(inherited, false, resolver);
        let env: Arc<dyn Env> = Arc::new(HostEnv);
        let metrics = Arc::new(Metrics::new());
        let log = if self.access_log { Some(access_log()?) } else { None };
        let mut sinks = self.sinks;
        sinks.push(metrics.clone());
        sinks.extend(log.iter().map(|log| Arc::clone(log) as Arc<dyn Sink>));
        let applications = Applications::default();
        let mut runtime = Runtime::new(net.clone(), Arc::clone(&env), sinks.clone(), 1);
        runtime.application = Some(BoxService::from(Arc::new(applications.clone()) as Arc<dyn HttpService>));
        runtime.app = AppAddress::default();
        let shared = Arc::new(Shared::new(net, Proxy::new(Arc::new(runtime)), env, Arc::new(Sinks::new(sinks))));
        let keys = shared.http.runtime().tls.secrets().clone();
        let mut tasks = JoinSet::new();
        let issued = self.identity.is_some();
        if let Some(pems) = self.identity {
            let (identity, roots) = pems.read()?;
            let others = shared.http.runtime().tls.authorities();
            tasks.spawn(deliver_own(Arc::clone(&keys), identity, roots, others));
        }
        let source = match self.config {
            Config::Files(paths) => Source::Files(Box::new(files(Input::Files(paths), self.workload, &keys)?)),
            Config::Text(text) => Source::Files(Box::new(files(Input::Text(text.into()), self.workload, &keys)?)),
            Config::Environment => {
                let (target, id) = announced(channel)?;
                Source::Stream(discovery::connect(target, id.clone(), Arc::clone(&keys)), id)
            }
        };
        let mut issuer = None;
        if let (Source::Stream(stream, id), false) = (&source, issued) {
            issuer = crate::identity::start(id, stream.channel(), &shared.env, &shared.http.runtime().tls)?;
        }
        let own = if issued || issuer.is_some() { Own::Issued } else { Own::Nobody };
        tasks.spawn(crate::secrets::deliver_files(keys, own));
        let state = Arc::new(State::new(shared.clone(), metrics.clone(), log.clone()));
        if let Some(issuer) = issuer {
            state.set_identity(issuer);
        }
        if let Some(ip) = self.admin.or_else(|| matches!(source, Source::Stream(..)).then(announced_address)) {
            for (port, ip, number) in ports(ip) {
                let serving = admin::open(&shared.net, port, SocketAddr::new(ip, number), Arc::clone(&state));
                tasks.spawn(serving.await?);
            }
        }
        let id = source.id();
        let force = InForce::new(id.clone(), Arc::clone(&shared), Arc::clone(&metrics), log);
        let (facts, mut configured) = watch::channel(Facts::default());
        let (told, config) = watch::channel(String::new());
        match source {
            Source::Files(source) => tasks.spawn(follow(*source, force, facts, told)),
            Source::Stream(source, _) => tasks.spawn(follow(source, force, facts, told)),
        };
        if configured.wait_for(|f| f.configured).await.is_err() {
            return Err(io::Error::other("the configuration server is gone before it said anything"));
        }
        state.set_configured();
        let over = watch::Sender::new(false);
        let inner = Inner { id, shared, applications, state, facts: configured, config, over, _tasks: tasks };
        Ok(Mesh(Arc::new(inner)))
    }
}

fn access_log() -> io::Result<Arc<AccessLog>> {
    let (writer, write) = LineWriter::new(io::stdout());
    std::thread::Builder::new().name("access-log".into()).spawn(write)?;
    Ok(Arc::new(AccessLog::new(writer)))
}

/// What follows one of these.
enum Source {
    Files(Box<FileSource>),
    Stream(discovery::Discovery, ProxyId),
}

impl Source {
    fn id(&self) -> ProxyId {
        match self {
            Self::Files(source) => source.id().clone(),
            Self::Stream(_, id) => id.clone(),
        }
    }
}

fn files(input: Input, workload: Option<String>, keys: &Arc<Secrets>) -> io::Result<FileSource> {
    // What can't be read is an error now, not a log line later.
    let source = match &workload {
        Some(workload) => FileSource::of_pod(input, ProxyKind::Sidecar, workload)?,
        None => FileSource::read(input, |_| Ok(ProxyId::application()))?,
    };
    Ok(source.with_secrets(Arc::clone(keys)))
}

/// The ports of a sidecar.
fn ports(ip: IpAddr) -> [(Port, IpAddr, u16); 3] {
    let loopback = if ip.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { ip };
    [(Port::Admin, loopback, 15000), (Port::Health, ip, 15021), (Port::Prometheus, ip, 15090)]
}

/// All addresses of an own network; else the pod's among the others'.
fn announced_address() -> IpAddr {
    let explicit = std::env::var("MESH_MODE").is_ok_and(|mode| mode == "explicit");
    let pod = std::env::var("MESH_POD_IP").ok().and_then(|ip| ip.parse().ok());
    pod.filter(|_| explicit).unwrap_or(Ipv6Addr::UNSPECIFIED.into())
}

/// What the launcher has put into the environment.
fn announced(channel: Option<std::os::fd::OwnedFd>) -> io::Result<(Target, ProxyId)> {
    let nothing = || {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!(
                "no configuration: use Builder::files or Builder::yaml, or run under `meshctl up` in a pod with the \
                 annotation inject.istio.io/templates: embedded ({} is not set)",
                discovery::ENV_PROXY
            ),
        )
    };
    let text = std::env::var(discovery::ENV_PROXY).map_err(|_| nothing())?;
    let id = serde_json::from_str(&text).map_err(|e| io::Error::other(format!("{}: {e}", discovery::ENV_PROXY)))?;
    let target = match (std::env::var_os("MESH_XDS"), channel) {
        (Some(path), _) => Target::Path(path.into()),
        (None, Some(fd)) => Target::Fd(fd),
        (None, None) => return Err(nothing()),
    };
    Ok((target, id))
}

impl Pems {
    fn read(&self) -> io::Result<(Identity, Arc<Roots>)> {
        let wrong = |what: &str| {
            let what = what.to_owned();
            move |e: mesh_tls::SecretError| io::Error::new(io::ErrorKind::InvalidInput, format!("{what}: {e}"))
        };
        let key = PrivateKey::from_pem(&self.key);
        let identity = Identity::from_pem(&self.chain, &key).map_err(wrong("the own certificate"))?;
        let roots = Roots::bundle(&self.roots).map_err(wrong("the roots"))?;
        Ok((identity, Arc::new(roots)))
    }
}

/// Delivers what was given in code whenever somebody wants it; the roots together with the mesh's other authorities
/// (`caCertificates`).
async fn deliver_own(
    secrets: Arc<Secrets>,
    identity: Identity,
    roots: Arc<Roots>,
    mut others: watch::Receiver<Vec<Authorities>>,
) {
    // Held, so that what is said is not forgotten.
    let _wanted = [SecretRef::Workload, SecretRef::MeshRoots].map(|name| secrets.watch(&name));
    secrets.set(&SecretRef::Workload, SecretState::Ready(Material::Identity(identity)));
    loop {
        let all = Roots::beside(&roots, &others.borrow_and_update());
        secrets.set(&SecretRef::MeshRoots, SecretState::Ready(Material::Roots(all)));
        if others.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Brings what a source delivers into force until the source is gone for good; what is in force then stays.
async fn follow(
    mut source: impl ConfigSource,
    mut force: InForce<HostNet>,
    facts: watch::Sender<Facts>,
    told: watch::Sender<String>,
) {
    while let Some(delta) = source.next().await {
        let (ack, now) = force.apply(delta);
        told.send_if_modified(|before| {
            let config = ack.config.to_string();
            let other = *before != config;
            *before = config;
            other
        });
        facts.send_replace(now);
        source.ack(ack).await;
    }
}
