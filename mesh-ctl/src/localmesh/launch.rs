//! From one `meshctl up` to parent and node.

use std::io;

use tokio::net::UnixStream;

use super::{Config, Node, Status};

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
/// `node_main` returns. In the foreground it returns when the node has ended; SIGINT and SIGTERM are passed on to the node
/// as SIGTERM, and a second one ends the mesh at once.
///
/// # Errors
/// The mesh did not start: another mesh of this name runs, a step failed, or [`Status::Failed`] was sent.
pub fn launch(config: &Config, show: impl FnMut(&Status), node_main: impl FnOnce(Node) -> u8) -> io::Result<Launched> {
    let _ = (config, show, node_main);
    Err(io::Error::new(io::ErrorKind::Unsupported, "the local mesh is not built in yet"))
}

/// The abstract unix name of a mesh's control socket, without the leading zero byte: `mesh-UID-NAME`.
#[must_use]
pub fn control_name(uid: u32, name: &str) -> String {
    format!("mesh-{uid}-{name}")
}

/// Connects to the control socket of this user's mesh of that name; call it inside a tokio runtime.
///
/// # Errors
/// No such mesh is running.
pub fn connect_control(name: &str) -> io::Result<UnixStream> {
    Err(io::Error::new(io::ErrorKind::NotFound, format!("no mesh named {name} is running")))
}
