//! The node: what `node_main` is given.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::Arc;

use tokio::net::UnixListener;

use super::{Config, Dialer, PodRuntime, Status};

/// What the node process has before its runtime runs.
#[derive(Debug)]
pub struct Node {
    /// The configuration given to [`launch()`](super::launch()).
    pub config: Config,
    /// The user id of whoever started the mesh, who is the only one to control it.
    pub owner_uid: u32,
    pub(super) control: StdUnixListener,
    pub(super) dialer: Dialer,
    pub(super) status: StatusPipe,
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
    /// Turns the node's sockets into tokio's. Call it once, inside the runtime.
    ///
    /// # Errors
    /// The runtime has no I/O driver, or descriptors have run out.
    pub fn start(self) -> io::Result<Running> {
        let _ = (&self.control, &self.dialer, &self.status);
        Err(io::Error::new(io::ErrorKind::Unsupported, "the local mesh is not built in yet"))
    }
}

/// Sends [`Status`] lines to whoever started the mesh. After [`Status::Ready`] of a detached mesh nobody listens.
#[derive(Clone, Debug)]
pub struct StatusPipe {
    pub(super) pipe: Arc<std::os::fd::OwnedFd>,
}

impl StatusPipe {
    /// Sends one line; a reader that is gone is not an error.
    pub fn send(&self, status: &Status) {
        let _ = (status, self.pipe.as_fd());
    }
}

/// The user id of the process at the other end of a control connection, as the host sees it: compare it with
/// [`Node::owner_uid`].
///
/// # Errors
/// The parent is gone.
pub async fn peer_uid(dialer: &Dialer, connection: &tokio::net::UnixStream) -> io::Result<u32> {
    dialer.peer_uid(connection).await
}
