//! The node: its first steps, and what `node_main` is given.

use std::io;
use std::io::Read;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;
use tokio::net::UnixListener;

use super::identity::Identity;
use super::netlink::{NODE_V4, NODE_V6, Socket};
use super::pod::{step, sysctl};
use super::runtime::{Explicit, Namespaces, Pods};
use super::sys::{self, Forked};
use super::zygote::Lifeline;
use super::{Config, Dialer, Mode, PodRuntime, Status, mounts, nftables, wire, zygote};

/// What the node process has before its runtime runs.
#[derive(Debug)]
pub struct Node {
    /// The configuration given to [`launch()`](super::launch()).
    pub config: Config,
    /// The user id of whoever started the mesh, who is the only one to control it.
    pub owner_uid: u32,
    /// Things that do not work on this machine but are no reason to stop, one line each.
    pub warnings: Vec<String>,
    control: StdUnixListener,
    dialer: OwnedFd,
    status: StatusPipe,
    zygote: OwnedFd,
    /// Tells the parent, by being closed, that nothing of the mesh runs any more.
    lifeline: Lifeline,
}

/// Everything the node works with, inside its tokio runtime.
pub struct Running {
    /// Makes pods.
    pub pods: Arc<dyn PodRuntime>,
    /// The host's network.
    pub dialer: Dialer,
    /// The control socket; check each peer with [`peer_uid`].
    pub control: UnixListener,
    /// Where progress and the final word go.
    pub status: StatusPipe,
}

impl Node {
    /// The pipe to whoever started the mesh, for errors before [`Node::start`].
    #[must_use]
    pub fn status(&self) -> StatusPipe {
        self.status.clone()
    }

    /// Turns the node's sockets into tokio's. Call it once, inside the runtime.
    ///
    /// # Errors
    /// The runtime has no I/O driver, or descriptors have run out.
    pub fn start(self) -> io::Result<Running> {
        self.control.set_nonblocking(true)?;
        let pods = Pods::start(self.zygote, self.dialer.try_clone()?, self.lifeline)?;
        let pods: Arc<dyn PodRuntime> = match self.config.mode {
            Mode::Namespaces => Arc::new(Namespaces::new(pods)),
            Mode::Explicit => Arc::new(Explicit::new(pods)),
        };
        Ok(Running {
            pods,
            dialer: Dialer::new(self.dialer),
            control: UnixListener::from_std(self.control)?,
            status: self.status,
        })
    }
}

/// Sends [`Status`] lines to whoever started the mesh. After [`Status::Ready`] of a detached mesh nobody listens.
#[derive(Clone, Debug)]
pub struct StatusPipe {
    pipe: Arc<OwnedFd>,
}

impl StatusPipe {
    /// Sends one line; a reader that is gone is not an error.
    pub fn send(&self, status: &Status) {
        write_status(&self.pipe, status);
    }
}

pub(super) fn write_status(pipe: impl AsFd, status: &Status) {
    let mut line = serde_json::to_vec(status).expect("invariant: a status is always JSON");
    line.push(b'\n');
    // One write: lines of several writers stay whole up to the size of a page.
    let _ = rustix::io::write(pipe, &line);
}

/// The user id of the process at the other end of a control connection, as the host sees it: compare it with
/// [`Node::owner_uid`].
///
/// # Errors
/// The parent is gone.
pub async fn peer_uid(dialer: &Dialer, connection: &tokio::net::UnixStream) -> io::Result<u32> {
    dialer.peer_uid(connection).await
}

/// The node right after it was made.
pub(super) struct First<'a> {
    pub(super) config: &'a Config,
    pub(super) identity: Identity,
    pub(super) owner_uid: u32,
    pub(super) control: StdUnixListener,
    pub(super) channel: OwnedFd,
    pub(super) status: OwnedFd,
    pub(super) lifeline: Lifeline,
}

impl First<'_> {
    /// Sets the node up and runs it to its end.
    pub(super) fn run(self, wait: OwnedFd, node_main: impl FnOnce(Node) -> u8) -> ! {
        let status = StatusPipe { pipe: Arc::new(self.status) };
        let result = self.config.mode.enter(self.identity, &self.channel, wait).and_then(|warnings| {
            let (ours, theirs) = wire::socket_pair()?;
            if let Forked::Child = sys::fork(0)? {
                zygote::run(theirs, self.lifeline.try_clone()?, self.config.mode)
            }
            Ok((warnings, ours))
        });
        let code = match result {
            Ok((warnings, zygote)) => node_main(Node {
                config: self.config.clone(),
                owner_uid: self.owner_uid,
                warnings,
                control: self.control,
                dialer: self.channel,
                status,
                zygote,
                lifeline: self.lifeline,
            }),
            Err(error) => {
                status.send(&Status::Failed(error.to_string()));
                1
            }
        };
        sys::exit_now(i32::from(code))
    }
}

impl Mode {
    /// From the parent's fork to a node in its place; gives warnings.
    fn enter(self, identity: Identity, channel: &OwnedFd, wait: OwnedFd) -> io::Result<Vec<String>> {
        let mut byte = [0];
        std::fs::File::from(wait)
            .read_exact(&mut byte)
            .map_err(|_| io::Error::other("the process that started the mesh is gone"))?;
        // Ctrl-C is the parent's, which then asks us to end in good order.
        rustix::process::setsid()?;
        if self == Self::Namespaces && !identity.maps_come_from_parent() {
            identity.map_self().map_err(|error| step("mapping the user", &error))?;
        }
        identity.assume(Identity::node_capabilities(self))?;
        // After the change of user, which clears it.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if is_closed(channel) {
            return Err(io::Error::other("the process that started the mesh is gone"));
        }
        let mut warnings = Vec::new();
        if self == Self::Namespaces {
            set_up_namespaces(&mut warnings)?;
        }
        Ok(warnings)
    }
}

fn is_closed(socket: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::empty())];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|count| count > 0)
}

fn set_up_namespaces(warnings: &mut Vec<String>) -> io::Result<()> {
    mounts::private(warnings)?;
    let socket = Socket::route()?;
    socket.link_up(1).map_err(|error| step("setting up the node's loopback device", &error))?;
    socket.add_bridge("mesh0").map_err(|error| step("making the node's bridge", &error))?;
    let bridge = socket.index_of("mesh0")?;
    socket.add_address(bridge, IpAddr::V4(NODE_V4), 16).map_err(|error| step("setting the node's address", &error))?;
    if let Err(error) = socket.add_address(bridge, IpAddr::V6(NODE_V6), 64) {
        warnings.push(format!("no IPv6 in the mesh: {error}"));
    }
    // Where br_netfilter is loaded, the node's rules would see what pods send each other over the bridge.
    sysctl("bridge/bridge-nf-call-iptables", "0", warnings);
    sysctl("bridge/bridge-nf-call-ip6tables", "0", warnings);
    // A node that forwards, and has no route, answers "unreachable" at once to what has no way out.
    sysctl("ipv4/ip_forward", "1", warnings);
    sysctl("ipv6/conf/all/forwarding", "1", warnings);
    nftables::load(nftables::node_rules(bridge)).map_err(|error| step("loading the node's rules", &error))
}

/// A terminal of its own for [`Stdio::Given`](super::Stdio::Given): `(our end, the process's end)`.
///
/// # Errors
/// No pseudo-terminals are left, or there is no `/dev/ptmx`.
pub fn open_terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::pty::OpenptFlags;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = rustix::pty::openpt(flags)?;
    rustix::pty::unlockpt(&ours)?;
    let theirs = rustix::pty::ioctl_tiocgptpeer(&ours, flags)?;
    Ok((ours, theirs))
}
