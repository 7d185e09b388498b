//! The types that the rest of `meshctl` sees.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use tokio::net::unix::pipe;
use tokio::sync::watch;

use super::Usage;

/// How pods are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Each pod has its own network, mount, pid, uts and ipc namespaces; traffic is captured transparently.
    Namespaces,
    /// Pods are plain processes with an address 127.1.x.y each; applications reach the mesh through proxy variables.
    Explicit,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Namespaces => "namespaces",
            Self::Explicit => "explicit",
        })
    }
}

/// What [`launch()`](super::launch()) needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the mesh: letters, digits, `-`; one user can run several meshes with different names.
    pub name: String,
    /// How pods are kept apart; see [`probe()`](super::probe()).
    pub mode: Mode,
    /// Return as soon as the mesh is ready and leave it running in a session of its own.
    pub detach: bool,
    /// DNS server that is asked for names outside the mesh; `None`: as the host is configured.
    pub resolver: Option<std::net::SocketAddr>,
}

/// One line of the status pipe, from the node to whoever started the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Something to show while the mesh starts.
    Progress(String),
    /// The mesh is up; the text is what to print (URLs). A detached launch returns now.
    Ready(String),
    /// The mesh did not start; the text says why and what to do.
    Failed(String),
}

/// Names one pod of this mesh; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PodId(pub(crate) u32);

/// Names one process of a pod; never reused within the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChildId(pub(crate) u64);

/// What a pod is made of, apart from its processes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PodSpec {
    /// Host name inside the pod, as Kubernetes: the pod's name.
    pub name: String,
    /// Namespace of the pod, for the DNS search list.
    pub namespace: String,
    /// Address: in 10.244.0.0/16 with namespaces, in 127.1.0.0/16 in explicit mode.
    pub ip: Ipv4Addr,
    /// Rules of capture; `None` for gateways and for pods without a sidecar. Ignored in explicit mode.
    pub capture: Option<CaptureRules>,
    /// Address put into `/etc/resolv.conf`, by default 10.96.0.10 (any address does in a captured pod).
    pub dns: Ipv4Addr,
    /// Single files, laid over what the host has at that path. Not visible in explicit mode.
    pub files: Vec<PodFile>,
    /// Directories whose whole content is given here (ConfigMap, Secret, emptyDir). Not visible in explicit mode.
    pub volumes: Vec<PodVolume>,
}

impl PodSpec {
    /// A pod without capture, files and volumes.
    #[must_use]
    pub fn new(name: impl Into<String>, namespace: impl Into<String>, ip: Ipv4Addr) -> Self {
        Self {
            name: name.into(),
            namespace: namespace.into(),
            ip,
            capture: None,
            dns: Ipv4Addr::new(10, 96, 0, 10),
            files: Vec::new(),
            volumes: Vec::new(),
        }
    }

    /// The pod's IPv6 address in namespace mode: fd11:: with the IPv4 address in its last 32 bits.
    #[must_use]
    pub fn ip6(&self) -> Ipv6Addr {
        let [a, b, c, d] = self.ip.octets().map(u16::from);
        Ipv6Addr::new(0xfd11, 0, 0, 0, 0, 0, a << 8 | b, c << 8 | d)
    }
}

/// One file of a pod.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PodFile {
    /// Absolute path; inside a [`PodVolume`] relative to the volume.
    pub path: PathBuf,
    /// Content.
    pub content: Vec<u8>,
    /// Permission bits, for example 0o644.
    pub mode: u32,
}

/// One directory of a pod that hides what the host has there. It is memory: it goes with the pod.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PodVolume {
    /// Absolute path; made if it does not exist.
    pub path: PathBuf,
    /// Files in it.
    pub files: Vec<PodFile>,
    /// Whether the processes may write to it (emptyDir).
    pub writable: bool,
}

/// How the capture rules tell the sidecar's own traffic from the application's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selector {
    /// By the marks [`MARK_UPSTREAM`](super::MARK_UPSTREAM) and [`MARK_TO_APP`](super::MARK_TO_APP): the local mesh.
    Mark,
    /// By the user id of the process: Kubernetes, where the sidecar runs as 1337.
    Owner(u32),
}

/// What of a pod's traffic goes through its sidecar. Field meanings are those of the pod annotations
/// `traffic.sidecar.istio.io/*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureRules {
    /// How own traffic is recognised.
    pub selector: Selector,
    /// Redirect the application's connections to `outbound_port` and its DNS to 15053.
    pub capture_outbound: bool,
    /// Redirect connections to the pod to `inbound_port`.
    pub capture_inbound: bool,
    /// Port of the sidecar for outbound connections (`proxyListenPort`).
    pub outbound_port: u16,
    /// Port of the sidecar for inbound connections (`proxyInboundListenPort`).
    pub inbound_port: u16,
    /// Destination ports that are left alone.
    pub exclude_outbound_ports: Vec<u16>,
    /// Destination ranges `(address, prefix length)` that are left alone.
    pub exclude_outbound_cidrs: Vec<(IpAddr, u8)>,
    /// When given, only these ports are captured (besides those of `include_outbound_cidrs`).
    pub include_outbound_ports: Option<Vec<u16>>,
    /// When given, only these ranges are captured (besides the ports of `include_outbound_ports`).
    pub include_outbound_cidrs: Option<Vec<(IpAddr, u8)>>,
    /// Ports of the pod that are left alone, besides 15008, 15020, 15021 and 15090.
    pub exclude_inbound_ports: Vec<u16>,
    /// When given, only these ports of the pod are captured.
    pub include_inbound_ports: Option<Vec<u16>>,
}

impl Default for CaptureRules {
    fn default() -> Self {
        Self {
            selector: Selector::Mark,
            capture_outbound: true,
            capture_inbound: true,
            outbound_port: super::OUTBOUND_PORT,
            inbound_port: super::INBOUND_PORT,
            exclude_outbound_ports: Vec::new(),
            exclude_outbound_cidrs: Vec::new(),
            include_outbound_ports: None,
            include_outbound_cidrs: None,
            exclude_inbound_ports: Vec::new(),
            include_inbound_ports: None,
        }
    }
}

/// What a process is allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// A sidecar or gateway: CAP_NET_ADMIN over the pod's network, the dialer and a config channel.
    Sidecar,
    /// An application that embeds the mesh: the dialer and a config channel.
    Member,
    /// Everything else: no capability, no way to gain one.
    App,
}

impl Role {
    /// Whether it is given the dialer and a config channel.
    pub(super) fn follows_the_mesh(self) -> bool {
        match self {
            Self::Sidecar | Self::Member => true,
            Self::App => false,
        }
    }
}

/// Where a process's standard streams go.
#[derive(Debug)]
pub enum Stdio {
    /// Input is empty; output and errors arrive in [`Child::stdout`] and [`Child::stderr`].
    Captured,
    /// Input, output, errors as given. With `tty`, input must be a terminal that becomes the controlling one.
    Given {
        /// Input, output and errors, in this order.
        fds: [OwnedFd; 3],
        /// Make input the controlling terminal of a new session.
        tty: bool,
    },
}

/// A process to start in a pod.
#[derive(Debug)]
pub struct ProcessSpec {
    /// Program and arguments; a program without `/` is looked up in `PATH` of `env`.
    pub argv: Vec<String>,
    /// The whole environment; nothing is inherited. The runtime adds what the module's table lists.
    pub env: BTreeMap<String, String>,
    /// Working directory, by default `/`.
    pub cwd: Option<PathBuf>,
    /// What it may do.
    pub role: Role,
    /// Listening sockets with names, announced in `MESH_LISTEN_FDS`.
    pub listeners: Vec<(String, OwnedFd)>,
    /// Further descriptors and the number each gets; at least 64, so that they never meet the runtime's own.
    pub inherit_fds: Vec<(OwnedFd, i32)>,
    /// Standard streams.
    pub stdio: Stdio,
}

impl ProcessSpec {
    /// An application with captured output and an empty environment.
    pub fn new<S: Into<String>>(role: Role, argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: BTreeMap::new(),
            cwd: None,
            role,
            listeners: Vec::new(),
            inherit_fds: Vec::new(),
            stdio: Stdio::Captured,
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It went with its pod.
    PodGone,
}

impl Exit {
    /// The code a shell would report: 128 plus the number of the signal; 137 for a pod that was ended.
    #[must_use]
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
            Self::PodGone => 137,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::PodGone => f.write_str("pod ended"),
        }
    }
}

/// Read end of a captured stream.
pub type ChildOutput = pipe::Receiver;

/// A process of a pod. Dropping it does not end the process.
#[derive(Debug)]
pub struct Child {
    /// Its name towards [`PodRuntime::kill`].
    pub id: ChildId,
    /// Process id as the pod sees it.
    pub pid: i32,
    /// Captured output.
    pub stdout: Option<ChildOutput>,
    /// Captured errors.
    pub stderr: Option<ChildOutput>,
    /// Node's end of `MESH_CONFIG_FD`; only for [`Role::Sidecar`].
    pub config: Option<tokio::net::UnixStream>,
    pub(crate) exit: watch::Receiver<Option<Exit>>,
}

impl Child {
    /// Waits until the process has ended; may be called (and abandoned) any number of times.
    pub async fn wait(&mut self) -> Exit {
        match self.exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit::PodGone),
            Err(_) => Exit::PodGone,
        }
    }

    /// A second observer of the end of this process: `Some` once it has ended.
    #[must_use]
    pub fn exit(&self) -> watch::Receiver<Option<Exit>> {
        self.exit.clone()
    }
}

/// What the methods of [`PodRuntime`] return.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// Makes and ends pods and their processes. Two implementations: namespaces and explicit mode.
///
/// Errors are texts for the user: they name the pod, the step that failed and the reason.
pub trait PodRuntime: Send + Sync {
    /// How pods are kept apart.
    fn mode(&self) -> Mode;

    /// Makes a pod; when this returns its network, rules and files are in place and nothing runs in it yet.
    fn create_pod(&self, spec: PodSpec) -> Pending<'_, PodId>;

    /// Starts a process. An error means that nothing runs: program not found, not executable, or the pod is gone.
    fn spawn(&self, pod: PodId, process: ProcessSpec) -> Pending<'_, Child>;

    /// Sends a signal to a process; a process that has already ended is not an error.
    fn kill(&self, pod: PodId, child: ChildId, signal: i32) -> Pending<'_, ()>;

    /// Ends a pod with all its processes, at once; returns when they are gone. An unknown pod is not an error.
    fn destroy(&self, pod: PodId) -> Pending<'_, ()>;

    /// Connects from inside the pod's network, with this mark on the connection. Marks have no meaning in explicit mode.
    /// There is no timeout here: the caller sets one.
    fn connect_in_pod(&self, pod: PodId, to: SocketAddr, mark: Option<u32>) -> Pending<'_, TcpStream>;

    /// Listens inside the pod's network.
    fn listen_in_pod(&self, pod: PodId, at: SocketAddr) -> Pending<'_, TcpListener>;

    /// Resolves when the pod is gone, whoever ended it.
    fn pod_gone(&self, pod: PodId) -> Pending<'_, ()>;

    /// What the pod's processes use, without its sidecar or gateway.
    fn usage(&self, pod: PodId) -> Pending<'_, Usage>;
}
