//! Arguments and environment of the binaries.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use mesh_core::snapshot::ProxyId;

use crate::discovery;

/// A proxy of the mesh. Under `meshctl up` everything comes from the environment.
#[derive(Parser, Clone, Debug)]
#[command(version, about)]
pub struct Args {
    /// Configuration from these YAML files and directories, which are followed while running, instead of a server.
    #[arg(long, num_args = 1.., value_name = "FILES")]
    pub config: Vec<PathBuf>,
    /// Unix socket of the configuration server; `@NAME` is abstract.
    #[arg(long, env = "MESH_XDS", value_name = "PATH")]
    pub xds: Option<PathBuf>,
    /// With --config: the pod that this proxy is for.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub workload: Option<String>,
    /// Worker threads; 0: as many as this process may use processors.
    #[arg(long, env = "MESH_CONCURRENCY", default_value_t = 1)]
    pub concurrency: usize,
    /// Sidecar: serve clients that use ADDRESS:15001 as their HTTP proxy, instead of captured traffic.
    #[arg(long, value_name = "ADDRESS")]
    pub explicit: Option<IpAddr>,
    /// Sidecar: traffic is redirected to ports 15001 and 15006 of this network namespace.
    #[arg(long)]
    pub capture: bool,
    /// Gateway: where the port of a Gateway server is opened; `80=8080`, `80=127.0.0.1:8080`, `80=0` picks a free one.
    #[arg(long = "gateway-port", alias = "port-map", value_name = "PORT=[ADDRESS:]PORT")]
    pub gateway_ports: Vec<PortMap>,
    /// Gateway: added to ports that --gateway-port does not name.
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    pub listen_offset: u16,
    /// Gateway: address on which ports are opened; all addresses by default.
    #[arg(long, value_name = "ADDRESS")]
    pub bind: Option<IpAddr>,
    /// DNS server that is asked for names outside the mesh, instead of the host's resolver.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub resolver: Option<SocketAddr>,
    /// Port of the admin endpoints on loopback; `off`: none; 0: a free one.
    #[arg(long, env = "MESH_ADMIN_PORT", default_value = "15000")]
    pub admin_port: OwnPort,
    /// Port of readiness.
    #[arg(long, default_value = "15021")]
    pub health_port: OwnPort,
    /// Port of the metrics.
    #[arg(long, default_value = "15090")]
    pub metrics_port: OwnPort,
    /// The admin port takes CPU and heap profiles of this process (`/debug/pprof/`).
    #[arg(long, env = "MESH_PROFILING")]
    pub profiling: bool,
    /// Mirrored requests have `-shadow` after their host, as with istiod's DISABLE_SHADOW_HOST_SUFFIX=false.
    #[arg(long, env = "MESH_SHADOW_HOST_SUFFIX")]
    pub shadow_host_suffix: bool,
    /// Seconds that inbound ports accept after SIGTERM, unless the mesh no longer sends traffic here; by default
    /// `terminationDrainDuration`.
    #[arg(long, env = "MESH_MINIMUM_DRAIN", value_name = "SECONDS")]
    pub minimum_drain: Option<f64>,
}

/// A port of the proxy itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnPort(Option<u16>);

impl OwnPort {
    /// The number, unless it is off.
    pub fn number(self) -> Option<u16> {
        self.0
    }
}

impl FromStr for OwnPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self(None)),
            number => number.parse().map(|n| Self(Some(n))).map_err(|_| "neither a port nor `off`".into()),
        }
    }
}

/// Where one port of the plan is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortMap {
    /// Port of the listener.
    pub port: u16,
    /// Address, if one is given.
    pub ip: Option<IpAddr>,
    /// Port to open.
    pub to: u16,
}

impl FromStr for PortMap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not PORT=PORT or PORT=ADDRESS:PORT");
        let (port, to) = text.split_once('=').ok_or_else(wrong)?;
        let port = port.trim().parse().map_err(|_| wrong())?;
        if let Ok(to) = to.trim().parse() {
            return Ok(Self { port, ip: None, to });
        }
        let to: SocketAddr = to.trim().parse().map_err(|_| wrong())?;
        Ok(Self { port, ip: Some(to.ip()), to: to.port() })
    }
}

impl Args {
    /// Number of worker threads.
    pub(super) fn workers(&self) -> usize {
        match self.concurrency {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        }
    }

    /// `--minimum-drain`.
    pub(super) fn minimum_drain(&self) -> Option<Duration> {
        self.minimum_drain.and_then(|s| Duration::try_from_secs_f64(s).ok())
    }

    /// Host addresses of gateway ports, by port of the listener.
    pub(super) fn host_ports(&self, dialer: bool) -> BTreeMap<u16, SocketAddr> {
        let mut all = BTreeMap::new();
        let told = std::env::var(discovery::ENV_HOST_PORTS).unwrap_or_default();
        let told = told.split(',').filter_map(|map| map.parse::<PortMap>().ok());
        let default = if dialer { Ipv4Addr::LOCALHOST.into() } else { self.any() };
        for map in told.chain(self.gateway_ports.iter().copied()) {
            all.insert(map.port, SocketAddr::new(map.ip.unwrap_or(default), map.to));
        }
        all
    }

    /// Where gateway ports are opened without the dialer.
    pub(super) fn any(&self) -> IpAddr {
        self.bind.unwrap_or(std::net::Ipv6Addr::UNSPECIFIED.into())
    }

    /// Who this proxy is, if whoever started it says so.
    pub(super) fn id(&self) -> io::Result<Option<ProxyId>> {
        let Ok(text) = std::env::var(discovery::ENV_PROXY) else { return Ok(None) };
        let wrong = |e| io::Error::other(format!("{}: {e}", discovery::ENV_PROXY));
        serde_json::from_str(&text).map(Some).map_err(wrong)
    }
}
