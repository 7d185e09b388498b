//! What a process is given: descriptors, their numbers, and the environment that names them.

use super::{AsFd, Ipv4Addr, Mode, OwnedFd, ProcessSpec, Start, Stdio, io, pipe};

const DIALER_FD: i32 = 3;
const CONFIG_FD: i32 = 4;
const FIRST_LISTENER_FD: i32 = 5;
/// From here on numbers belong to the caller.
const FIRST_FREE_FD: i32 = 64;

/// A process about to be started.
pub(super) struct Plan {
    pub(super) start: Start,
    /// In the order of the start's targets.
    pub(super) fds: Vec<OwnedFd>,
    pub(super) streams: Streams,
}

/// Our ends.
#[derive(Default)]
pub(super) struct Streams {
    pub(super) stdout: Option<pipe::Receiver>,
    pub(super) stderr: Option<pipe::Receiver>,
    pub(super) config: Option<tokio::net::UnixStream>,
}

impl Plan {
    pub(super) fn new(child: u64, spec: ProcessSpec, dialer: &OwnedFd, ip: Ipv4Addr, mode: Mode) -> io::Result<Self> {
        let ProcessSpec { argv, mut env, cwd, role, listeners, inherit_fds, stdio } = spec;
        let mut streams = Streams::default();
        let whole_group = matches!(stdio, Stdio::Captured);
        let (stdio, tty) = standard(stdio, &mut streams)?;
        let mut given: Vec<(OwnedFd, i32)> = stdio.into_iter().zip(0..).collect();
        env.insert("MESH_MODE".into(), mode.to_string());
        env.insert("MESH_POD_IP".into(), ip.to_string());
        if role.follows_the_mesh() {
            let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            streams.config = Some(tokio::net::UnixStream::from_std(ours)?);
            given.push((dialer.as_fd().try_clone_to_owned()?, DIALER_FD));
            given.push((theirs.into(), CONFIG_FD));
            env.insert("MESH_DIALER_FD".into(), DIALER_FD.to_string());
            env.insert("MESH_CONFIG_FD".into(), CONFIG_FD.to_string());
        }
        let mut names = Vec::new();
        for ((name, fd), number) in listeners.into_iter().zip(FIRST_LISTENER_FD..) {
            names.push(format!("{name}={number}"));
            given.push((fd, number));
        }
        if !names.is_empty() {
            env.insert("MESH_LISTEN_FDS".into(), names.join(","));
        }
        if given.len() > FIRST_FREE_FD as usize {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many listeners for one process"));
        }
        for (fd, number) in inherit_fds {
            if !(FIRST_FREE_FD..crate::localmesh::process::PARKING).contains(&number) {
                let text = format!("descriptor number {number} is not free for inheritance");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            given.push((fd, number));
        }
        let (fds, targets) = given.into_iter().unzip();
        let env = env.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let start = Start { child, argv, env, cwd, role, targets, tty, whole_group };
        Ok(Self { start, fds, streams })
    }
}

fn standard(stdio: Stdio, streams: &mut Streams) -> io::Result<([OwnedFd; 3], bool)> {
    match stdio {
        Stdio::Given { fds, tty } => Ok((fds, tty)),
        Stdio::Captured => {
            let (stdout, stdout_writer) = crate::localmesh::launch::pipe()?;
            let (stderr, stderr_writer) = crate::localmesh::launch::pipe()?;
            streams.stdout = Some(pipe::Receiver::from_owned_fd(stdout)?);
            streams.stderr = Some(pipe::Receiver::from_owned_fd(stderr)?);
            let nothing = std::fs::File::open("/dev/null")?;
            Ok(([nothing.into(), stdout_writer, stderr_writer], false))
        }
    }
}
