//! A proxy process: configuration source -> World -> plan -> engine -> acknowledgement, and the ports around it.
//!
//! The main thread runs what is not a request: configuration, DNS, the admin ports, signals. Workers run connections, so
//! that compiling a large configuration never delays a request.

mod args;
mod control;
mod doors;
mod shutdown;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use mesh_core::env::Env;
use mesh_core::snapshot::{ProxyId, ProxyKind};
use mesh_core::wire::ConfigSource;
use mesh_tls::Secrets;
use tracing_subscriber::EnvFilter;

pub use args::Args;

use self::control::Control;
use self::doors::Doors;
use crate::admin::{self, Port, State};
use crate::cluster::Runtime;
use crate::discovery::{self, Target};
use crate::force::InForce;
use crate::http::Proxy;
use crate::listener::Shared;
use crate::net::{HostEnv, HostNet, Inherited, Resolver};
use crate::profile::Profiler;
use crate::secrets::Own;
use crate::source::{FileSource, Input};
use crate::telemetry::Sinks;
use crate::telemetry::access_log::{AccessLog, LineWriter};
use crate::telemetry::metrics::Metrics;
use crate::worker::{Workers, settle};

/// The whole of a binary's `main`: reads arguments, runs until a signal ends it.
pub fn main(kind: ProxyKind) -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).init();
    let profiler = args.profiling.then(Profiler::start);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match runtime.block_on(run(kind, args, profiler)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &io::Error) -> ExitCode {
    tracing::error!("{error}");
    ExitCode::FAILURE
}

/// The shared state of a process with Linux sockets.
pub(crate) type Process = Arc<Shared<HostNet, Proxy<HostNet>>>;

async fn run(kind: ProxyKind, args: Args, profiler: Option<Profiler>) -> io::Result<()> {
    let mut inherited = Inherited::from_env();
    let config = inherited.config.take();
    let place = Place::new(kind, &args, inherited.dialer.is_some());
    let workers = args.workers();
    let resolver = args.resolver.map_or_else(Resolver::system, Resolver::of_server);
    let net = HostNet::with_resolver(inherited, place.captured, resolver);
    let env: Arc<dyn Env> = Arc::new(HostEnv);
    let metrics = Arc::new(Metrics::new());
    let (writer, write) = LineWriter::new(io::stdout());
    std::thread::Builder::new().name("access-log".into()).spawn(write)?;
    let log = Arc::new(AccessLog::new(writer));
    let sinks = vec![log.clone() as _, metrics.clone() as _];
    let mut stack = Runtime::new(net.clone(), env.clone(), sinks.clone(), workers);
    stack.app = place.app();
    stack.shadow_suffix = args.shadow_host_suffix;
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    stack.variables = std::env::vars_os().filter_map(text).collect();
    let shared: Process = Arc::new(Shared::new(net, Proxy::new(Arc::new(stack)), env, Arc::new(Sinks::new(sinks))));
    let state = Arc::new(State::new(shared.clone(), metrics.clone(), Some(log.clone())));
    if let Some(profiler) = profiler {
        state.set_profiles(profiler);
    }
    open_admin(&shared, &state, &args, &place).await?;
    let keys = shared.http.runtime().tls.secrets().clone();
    let source = Source::open(kind, &args, config, keys.clone())?;
    let identity = match &source {
        Source::Stream(source, id) => {
            crate::identity::start(id, source.channel(), &shared.env, &shared.http.runtime().tls)?
        }
        Source::Files(_) => None,
    };
    let own = match &identity {
        Some(_) => Own::Issued,
        None => Own::of_variables(|name| std::env::var(name).ok()),
    };
    tokio::spawn(crate::secrets::deliver_files(keys, own));
    if let Some(identity) = identity {
        state.set_identity(identity);
    }
    let workers = Workers::start(workers)?;
    let handles = workers.handles();
    let doors = Doors::new(shared.clone(), workers, place, &args);
    if doors.serves_dns() {
        doors.open_dns().await;
    }
    let force = InForce::new(source.id(), shared.clone(), metrics, Some(log));
    let control = Control::new(force, doors, state.clone());
    let facts = control.facts();
    let serving = async move {
        match source {
            Source::Files(source) => control.run(*source).await,
            Source::Stream(source, _) => control.run(source).await,
        }
    };
    let finished = async {
        shutdown::finished(&shared, &state, facts, args.minimum_drain()).await;
        settle(&handles).await;
        state.flush_log().await;
    };
    tokio::select! {
        never = serving => match never {},
        () = finished => Ok(()),
    }
}

/// Where this proxy runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) kind: ProxyKind,
    /// Traffic of the network namespace is redirected to us.
    pub(crate) captured: bool,
    /// Address on which clients that know us as their proxy reach us.
    pub(crate) explicit: Option<IpAddr>,
    /// Address of the application where it is not the one that clients dial.
    pub(crate) app_ip: Option<IpAddr>,
    /// Ports of gateways are ports of the host, opened by the dialer.
    pub(crate) dialer: bool,
    /// A network namespace of our own.
    pub(crate) own_network: bool,
    /// Address of the admin endpoints' ports that others may reach.
    pub(crate) any: IpAddr,
    /// Address of those that only this pod may reach: its own of the loopback network where pods share that.
    pub(crate) loopback: IpAddr,
}

impl Place {
    fn new(kind: ProxyKind, args: &Args, dialer: bool) -> Self {
        let mode = std::env::var("MESH_MODE").unwrap_or_default();
        let pod_ip: Option<IpAddr> = std::env::var("MESH_POD_IP").ok().and_then(|ip| ip.parse().ok());
        let app_ip = std::env::var(discovery::ENV_APP_IP).ok().and_then(|ip| ip.parse().ok());
        let explicit_mode = mode == "explicit";
        let sidecar = kind == ProxyKind::Sidecar;
        let explicit = args.explicit.or(pod_ip.filter(|_| explicit_mode && sidecar));
        let any = pod_ip.filter(|_| explicit_mode).or(args.bind).unwrap_or(Ipv6Addr::UNSPECIFIED.into());
        Self {
            kind,
            captured: sidecar && explicit.is_none() && (mode == "namespaces" || args.capture),
            explicit,
            app_ip,
            dialer,
            own_network: mode == "namespaces",
            any,
            loopback: pod_ip.filter(|_| explicit_mode).unwrap_or(Ipv4Addr::LOCALHOST.into()),
        }
    }

    fn app(&self) -> crate::net::AppAddress {
        crate::net::AppAddress { ip: self.app_ip, captured: self.captured }
    }
}

/// Where configuration comes from.
enum Source {
    Files(Box<FileSource>),
    Stream(discovery::Discovery, ProxyId),
}

impl Source {
    fn open(kind: ProxyKind, args: &Args, inherited: Option<OwnedFd>, keys: Arc<Secrets>) -> io::Result<Self> {
        let id = args.id()?;
        if !args.config.is_empty() {
            let paths = args.config.clone();
            let source = match (id, &args.workload) {
                (Some(id), _) => FileSource::new(paths, id),
                (None, Some(workload)) => FileSource::of_pod(Input::Files(paths), kind, workload)?,
                (None, None) if kind == ProxyKind::Gateway => FileSource::of_gateway(paths)?,
                (None, None) => {
                    return Err(io::Error::other("with --config a sidecar also needs --workload NAMESPACE/NAME"));
                }
            };
            return Ok(Self::Files(Box::new(source.with_secrets(keys))));
        }
        let id = id.ok_or_else(|| {
            let name = discovery::ENV_PROXY;
            io::Error::other(format!(
                "no configuration: give --config FILES, or run under `meshctl up` ({name} is not set)"
            ))
        })?;
        let target = match (&args.xds, inherited) {
            (Some(path), _) => Target::Path(path.clone()),
            (None, Some(fd)) => Target::Fd(fd),
            (None, None) => {
                return Err(io::Error::other("no configuration server: give --xds PATH or set MESH_CONFIG_FD"));
            }
        };
        Ok(Self::Stream(discovery::connect(target, id.clone(), keys), id))
    }

    fn id(&self) -> ProxyId {
        match self {
            Self::Files(source) => source.id().clone(),
            Self::Stream(_, id) => id.clone(),
        }
    }
}

/// Opens the proxy's own HTTP ports on the main thread.
async fn open_admin(shared: &Process, state: &Arc<State<HostNet>>, args: &Args, place: &Place) -> io::Result<()> {
    let all = [
        (Port::Admin, place.loopback, args.admin_port),
        (Port::Health, place.any, args.health_port),
        (Port::Prometheus, place.any, args.metrics_port),
    ];
    for (port, ip, number) in all {
        let Some(number) = number.number() else { continue };
        let serving = admin::open(&shared.net, port, SocketAddr::new(ip, number), state.clone());
        tokio::spawn(serving.await.map_err(|error| {
            let text = format!("{error} (choose another with --{}-port, or off)", port.name());
            io::Error::new(error.kind(), text)
        })?);
    }
    Ok(())
}

/// A configuration source's end is not the proxy's: what is in force stays.
async fn follow<S: ConfigSource>(source: &mut S) -> mesh_core::wire::Delta {
    match source.next().await {
        Some(delta) => delta,
        None => std::future::pending().await,
    }
}
