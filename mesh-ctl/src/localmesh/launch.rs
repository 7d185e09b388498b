//! From one `meshctl up` to parent and node.

use std::io;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream as StdUnixStream};

use rustix::process::Pid;
use rustix::thread::CapabilitySet;
use tokio::net::UnixStream;

use super::identity::Identity;
use super::pod::step;
use super::sys::{self, Forked};
use super::{Config, Mode, Node, Status, dialer, node, wire};

/// The user and group id under which everything runs that was started by real root without sudo.
pub const POOL_UID: u32 = 65533;

/// How [`launch`] ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Launched {
    /// The mesh is ready and runs on by itself; the text of [`Status::Ready`].
    Detached(String),
    /// The mesh ran in the foreground and has ended with this exit code.
    Ended(u8),
}

/// Starts the mesh: makes parent and node, runs `node_main` in the node and shows each [`Status`] to `show`.
///
/// Must be called while the process has one thread. In the node it never returns: the process ends with the code that
/// `node_main` returns. In the foreground it returns when the node has ended and everything is gone; SIGINT and SIGTERM
/// are passed on to the node as SIGTERM (it is the first process of its pid namespace, so it must have a handler), and
/// a second one ends the mesh at once.
///
/// # Errors
/// The mesh did not start: another mesh of this name runs, a step failed, or [`Status::Failed`] was sent.
pub fn launch(
    config: &Config,
    mut show: impl FnMut(&Status),
    node_main: impl FnOnce(Node) -> u8,
) -> io::Result<Launched> {
    let control = bind_control(&config.name)?;
    let (status, status_writer) = pipe()?;
    if config.detach {
        match sys::fork(0)? {
            Forked::Parent(_) => {
                drop((control, status_writer));
                return follow(status, show);
            }
            Forked::Child => {
                drop(status);
                let failed = status_writer.try_clone()?;
                let result = leave_terminal()
                    .and_then(|()| parent(config, control, status_writer, node_main))
                    .and_then(|host| host.serve(None, &mut show));
                let code = result.unwrap_or_else(|error| {
                    node::write_status(&failed, &Status::Failed(error.to_string()));
                    1
                });
                sys::exit_now(i32::from(code))
            }
        }
    }
    let mut failure = None;
    let code = parent(config, control, status_writer, node_main)?.serve(Some(status), &mut |line: &Status| {
        if let Status::Failed(text) = line {
            failure = Some(text.clone());
        }
        show(line);
    })?;
    failure.map_or(Ok(Launched::Ended(code)), |text| Err(io::Error::other(text)))
}

/// Makes the node; returns in the parent only.
fn parent(
    config: &Config,
    control: UnixListener,
    status: OwnedFd,
    node_main: impl FnOnce(Node) -> u8,
) -> io::Result<dialer::Host> {
    let identity = Identity::choose();
    let owner_uid = rustix::process::getuid().as_raw();
    let (requests, channel) = wire::socket_pair()?;
    let (lifeline, lifeline_writer) = pipe()?;
    let (wait, go) = pipe()?;
    let namespaces = if config.mode == Mode::Namespaces { sys::MESH_NAMESPACES } else { 0 };
    match sys::fork(namespaces)? {
        Forked::Child => {
            drop((requests, lifeline, go));
            let first =
                node::First { config, identity, owner_uid, control, channel, status, lifeline: lifeline_writer };
            first.run(wait, node_main)
        }
        Forked::Parent(pid) => {
            drop((control, channel, status, lifeline_writer, wait));
            let ready = hand_over(config, identity, pid, &go);
            if let Err(error) = ready {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                return Err(error);
            }
            dialer::Host::new(requests, pid, lifeline, config.resolver)
        }
    }
}

fn hand_over(config: &Config, identity: Identity, node: Pid, go: &OwnedFd) -> io::Result<()> {
    if config.mode == Mode::Namespaces && identity.maps_come_from_parent() {
        Identity::map_all(node).map_err(|error| step("mapping users", &error))?;
    }
    identity.assume(CapabilitySet::empty())?;
    rustix::io::write(go, b"!")?;
    Ok(())
}

fn leave_terminal() -> io::Result<()> {
    rustix::process::setsid()?;
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())?;
    (0..3).try_for_each(|target| sys::place(&null, target))
}

/// What a detached launch does: shows progress until the mesh is ready, has failed, or is gone.
fn follow(status: OwnedFd, mut show: impl FnMut(&Status)) -> io::Result<Launched> {
    for line in BufReader::new(std::fs::File::from(status)).lines() {
        let line: Status = serde_json::from_str(&line?)?;
        show(&line);
        match line {
            Status::Progress(_) => {}
            Status::Ready(text) => return Ok(Launched::Detached(text)),
            Status::Failed(text) => return Err(io::Error::other(text)),
        }
    }
    Err(io::Error::other("the mesh ended while it started"))
}

pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

/// The abstract unix name of a mesh's control socket, without the leading zero byte: `mesh-UID-NAME`.
#[must_use]
pub fn control_name(uid: u32, name: &str) -> String {
    format!("mesh-{uid}-{name}")
}

fn control_address(name: &str) -> io::Result<SocketAddr> {
    const LONGEST: usize = 63;
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > LONGEST || !name.chars().all(good) {
        let text = format!("{name:?} cannot name a mesh: use up to {LONGEST} of a-z, 0-9 and -");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    SocketAddr::from_abstract_name(control_name(rustix::process::getuid().as_raw(), name))
}

/// Bound here, in the host's network namespace, where the other verbs look for it; the node inherits it.
fn bind_control(name: &str) -> io::Result<UnixListener> {
    UnixListener::bind_addr(&control_address(name)?).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => io::Error::new(
            error.kind(),
            format!("a mesh named {name} is running already: end it with `meshctl down --name {name}`, or choose another --name"),
        ),
        _ => error,
    })
}

/// Connects to the control socket of this user's mesh of that name; call it inside a tokio runtime.
///
/// # Errors
/// No such mesh is running, or somebody else has taken its name.
pub fn connect_control(name: &str) -> io::Result<UnixStream> {
    let stream = StdUnixStream::connect_addr(&control_address(name)?).map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => io::Error::new(
            io::ErrorKind::NotFound,
            format!("no mesh named {name} is running: start one with `meshctl up`"),
        ),
        _ => error,
    })?;
    // Abstract names belong to whoever comes first, so make sure that it is one of our own.
    let peer = rustix::net::sockopt::socket_peercred(&stream)?.uid;
    if peer != rustix::process::getuid() {
        let text = format!("the control socket of mesh {name} belongs to user {}, not to you", peer.as_raw());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}
