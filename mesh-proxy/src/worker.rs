//! Workers: one thread with one single-threaded runtime each. A connection stays on the worker that accepted it.

use std::io;
use std::sync::Arc;

use mesh_core::snapshot::Address;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::listener::accept::accept;
use crate::listener::{Door, Engine, Shared};
use crate::net::{Listener, Net, Share};

/// The workers of a process. They end when this is dropped, with everything that runs on them.
pub(crate) struct Workers {
    runtimes: Vec<(Handle, oneshot::Sender<()>)>,
}

impl Workers {
    /// Starts this many threads, at least one.
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let runtimes = (0..count.max(1)).map(start).collect::<io::Result<_>>()?;
        Ok(Self { runtimes })
    }

    /// Their runtimes, for [`settle`].
    pub(crate) fn handles(&self) -> Vec<Handle> {
        self.runtimes.iter().map(|(handle, _)| handle.clone()).collect()
    }

    /// Opens a port on every worker: the kernel spreads connections over them.
    pub(crate) async fn open<N, H>(&self, shared: &Arc<Shared<N, H>>, what: &Opening) -> io::Result<Open>
    where
        N: Net,
        H: Engine<N::Stream>,
    {
        let mut open = Open { at: what.at.clone(), loops: Vec::new() };
        for (index, (runtime, _)) in self.runtimes.iter().enumerate() {
            let share = Share { index, of: self.runtimes.len() };
            let (shared, what, at) = (shared.clone(), what.clone(), open.at.clone());
            // A path can't be shared as a port can.
            if index > 0 && at.ip().is_none() {
                break;
            }
            // On the worker, because a listener belongs to the runtime on which it was made.
            let started = runtime.spawn(async move {
                let net = &shared.net;
                let (listener, at) = match &at {
                    Address::Unix(path) => (net.listen_unix(path).await?, at),
                    Address::Ip(ip) => {
                        let listener = match what.host {
                            true => net.listen_host(&what.name, *ip, share).await?,
                            false => net.listen(&what.name, *ip, share).await?,
                        };
                        let at = listener.local_addr()?.into();
                        (listener, at)
                    }
                };
                let (stop, stopped) = oneshot::channel();
                let accepting = tokio::spawn(accept(shared.clone(), listener, what.door, stopped));
                io::Result::Ok((at, stop, accepting))
            });
            let (at, stop, accepting) = started.await.map_err(io::Error::other)??;
            // Port 0 is picked by the first one.
            open.at = at;
            open.loops.push((stop, accepting));
        }
        Ok(open)
    }
}

/// A port, or a unix socket, to open.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    /// Name, under which a socket may be inherited.
    pub(crate) name: String,
    /// Where.
    pub(crate) at: Address,
    /// Whether users of the machine reach it.
    pub(crate) host: bool,
    /// What its connections are.
    pub(crate) door: Door,
}

/// An open port.
pub(crate) struct Open {
    /// Where it is.
    pub(crate) at: Address,
    loops: Vec<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Open {
    /// Closes it; when this returns, the port refuses (unless somebody else holds a copy of the socket). Connections
    /// that were accepted go on.
    pub(crate) async fn close(self) {
        for (stop, accepting) in self.loops {
            drop(stop);
            // It only fails if the worker is gone, and the socket with it.
            let _ = accepting.await;
        }
    }
}

/// Resolves when each worker has finished what it was doing: who has just given up being in flight has then written its
/// last bytes, too.
pub(crate) async fn settle(workers: &[Handle]) {
    for worker in workers {
        // It only fails if the worker is gone.
        let _ = worker.spawn(tokio::task::yield_now()).await;
    }
}

fn start(index: usize) -> io::Result<(Handle, oneshot::Sender<()>)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        crate::cluster::enter_worker(index);
        // Ends when the sender is dropped.
        let _ = runtime.block_on(stopped);
    })?;
    Ok((handle, stop))
}
