//! The node's side of pods: one implementation for both modes, which differ in what the zygote makes of a pod.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use serde::Serialize;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::sync::{oneshot, watch};

use super::sys;
use super::wire::{self, MakePod, Order, Packet, PodMade, Report, Start};
use super::zygote::Lifeline;
use super::{Child, ChildId, Exit, Mode, Pending, PodId, PodRuntime, PodSpec, ProcessSpec, Role, Stdio, Usage};

mod explicit;
mod start;

pub(super) use explicit::Explicit;

/// Pods with namespaces of their own.
pub(super) struct Namespaces(Pods);

impl Namespaces {
    pub(super) fn new(pods: Pods) -> Self {
        Self(pods)
    }
}

impl PodRuntime for Namespaces {
    fn mode(&self) -> Mode {
        Mode::Namespaces
    }

    fn create_pod(&self, spec: PodSpec) -> Pending<'_, PodId> {
        Box::pin(self.0.create(spec))
    }

    fn spawn(&self, pod: PodId, process: ProcessSpec) -> Pending<'_, Child> {
        Box::pin(self.0.spawn(pod, process, Mode::Namespaces))
    }

    fn kill(&self, pod: PodId, child: ChildId, signal: i32) -> Pending<'_, ()> {
        Box::pin(self.0.kill(pod, child, signal))
    }

    fn destroy(&self, pod: PodId) -> Pending<'_, ()> {
        Box::pin(self.0.destroy(pod))
    }

    fn connect_in_pod(&self, pod: PodId, to: SocketAddr, mark: Option<u32>) -> Pending<'_, TcpStream> {
        Box::pin(self.0.connect(pod, to, mark))
    }

    fn listen_in_pod(&self, pod: PodId, at: SocketAddr) -> Pending<'_, TcpListener> {
        Box::pin(self.0.listen(pod, at))
    }

    fn pod_gone(&self, pod: PodId) -> Pending<'_, ()> {
        Box::pin(self.0.gone(pod))
    }

    fn usage(&self, pod: PodId) -> Pending<'_, Usage> {
        Box::pin(self.0.usage(pod))
    }
}

/// All pods of the mesh.
#[derive(Clone)]
pub(super) struct Pods(Arc<Inner>);

struct Inner {
    zygote: Link,
    dialer: OwnedFd,
    making: Mutex<HashMap<u32, oneshot::Sender<io::Result<OwnedFd>>>>,
    pods: Mutex<HashMap<PodId, Arc<Pod>>>,
    next: AtomicU32,
    /// Held as long as the node may have pods.
    _lifeline: Lifeline,
}

/// One pod.
struct Pod {
    link: Link,
    /// `namespace/name`, for messages.
    name: String,
    ip: Ipv4Addr,
    waiting: Mutex<Waiting>,
    next: AtomicU64,
    gone: watch::Sender<bool>,
}

/// Who waits for which report of a holder.
#[derive(Default)]
struct Waiting {
    ready: Option<oneshot::Sender<io::Result<Vec<String>>>>,
    starts: HashMap<u64, oneshot::Sender<io::Result<i32>>>,
    exits: HashMap<u64, watch::Sender<Option<Exit>>>,
    sockets: HashMap<u64, oneshot::Sender<io::Result<OwnedFd>>>,
    usages: HashMap<u64, oneshot::Sender<Usage>>,
}

/// A channel to another process, within tokio.
struct Link(AsyncFd<OwnedFd>);

impl Link {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self(sys::watch(fd, Interest::READABLE | Interest::WRITABLE)?))
    }

    async fn tell(&self, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let (bytes, file) = wire::encode(message)?;
        let all: Vec<BorrowedFd<'_>> = file.iter().map(AsFd::as_fd).chain(fds.iter().copied()).collect();
        self.0.async_io(Interest::WRITABLE, |fd| wire::send(fd, &bytes, &all, SendFlags::DONTWAIT)).await
    }

    async fn receive(&self) -> io::Result<Option<Packet>> {
        self.0.async_io(Interest::READABLE, |fd| wire::receive(fd, RecvFlags::DONTWAIT)).await
    }
}

impl Pods {
    /// Takes over the channel to the zygote; must be called inside the runtime.
    pub(super) fn start(zygote: OwnedFd, dialer: OwnedFd, lifeline: Lifeline) -> io::Result<Self> {
        let pods = Self(Arc::new(Inner {
            zygote: Link::new(zygote)?,
            dialer,
            making: Mutex::default(),
            pods: Mutex::default(),
            next: AtomicU32::new(1),
            _lifeline: lifeline,
        }));
        tokio::spawn(pods.clone().hear_zygote());
        Ok(pods)
    }

    async fn hear_zygote(self) {
        while let Ok(Some(packet)) = self.0.zygote.receive().await {
            let Ok((made, fds)) = wire::decode::<PodMade>(packet) else { continue };
            let answer = match made.result {
                Ok(()) => fds.into_iter().next().ok_or_else(|| io::Error::other("a pod without a channel")),
                Err(text) => Err(io::Error::other(text)),
            };
            let waiting = self.0.making.lock().remove(&made.id);
            if let Some(waiting) = waiting {
                let _ = waiting.send(answer);
            }
        }
        // Every pod has gone with it, and none can be made: nothing is left to do here.
        eprintln!("mesh: the process that makes pods was ended, so the mesh ends");
        std::process::exit(1);
    }

    async fn create(&self, spec: PodSpec) -> io::Result<PodId> {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (sender, made) = oneshot::channel();
        self.0.making.lock().insert(id, sender);
        let (name, ip) = (format!("{}/{}", spec.namespace, spec.name), spec.ip);
        self.0.zygote.tell(&MakePod { id, spec }, &[]).await?;
        let channel = made.await.map_err(|_| io::Error::other("the mesh is ending"))??;
        let (sender, ready) = oneshot::channel();
        let pod = Arc::new(Pod {
            link: Link::new(channel)?,
            name,
            ip,
            waiting: Mutex::new(Waiting { ready: Some(sender), ..Waiting::default() }),
            next: AtomicU64::new(1),
            gone: watch::Sender::new(false),
        });
        self.0.pods.lock().insert(PodId(id), Arc::clone(&pod));
        tokio::spawn(self.clone().hear_pod(PodId(id), Arc::clone(&pod)));
        let warnings = ready.await.map_err(|_| pod.is_gone())??;
        for warning in warnings {
            tracing::warn!(pod = pod.name, "{warning}");
        }
        Ok(PodId(id))
    }

    async fn hear_pod(self, id: PodId, pod: Arc<Pod>) {
        while let Ok(Some(packet)) = pod.link.receive().await {
            if let Ok((report, fds)) = wire::decode(packet) {
                pod.hear(report, fds);
            }
        }
        self.0.pods.lock().remove(&id);
        let waiting = std::mem::take(&mut *pod.waiting.lock());
        for exit in waiting.exits.into_values() {
            exit.send_replace(Some(Exit::PodGone));
        }
        pod.gone.send_replace(true);
    }

    fn pod(&self, id: PodId) -> io::Result<Arc<Pod>> {
        let pod = self.0.pods.lock().get(&id).cloned();
        pod.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the pod is gone"))
    }

    async fn spawn(&self, id: PodId, process: ProcessSpec, mode: Mode) -> io::Result<Child> {
        let pod = self.pod(id)?;
        let child = pod.next.fetch_add(1, Ordering::Relaxed);
        let plan = start::Plan::new(child, process, &self.0.dialer, pod.ip, mode)?;
        let (sender, started) = oneshot::channel();
        let (exit_sender, exit) = watch::channel(None);
        {
            let mut waiting = pod.waiting.lock();
            waiting.starts.insert(child, sender);
            waiting.exits.insert(child, exit_sender);
        }
        let fds: Vec<BorrowedFd<'_>> = plan.fds.iter().map(AsFd::as_fd).collect();
        if let Err(error) = pod.link.tell(&Order::Start(plan.start), &fds).await {
            let mut waiting = pod.waiting.lock();
            waiting.starts.remove(&child);
            waiting.exits.remove(&child);
            return Err(error);
        }
        drop(plan.fds);
        let result = started.await.unwrap_or_else(|_| Err(pod.is_gone()));
        let pid = result.map_err(|error| {
            pod.waiting.lock().exits.remove(&child);
            io::Error::new(error.kind(), format!("pod {}: {error}", pod.name))
        })?;
        let streams = plan.streams;
        Ok(Child {
            id: ChildId(child),
            pid,
            stdout: streams.stdout,
            stderr: streams.stderr,
            config: streams.config,
            exit,
        })
    }

    async fn kill(&self, id: PodId, child: ChildId, signal: i32) -> io::Result<()> {
        let pod = self.pod(id)?;
        pod.link.tell(&Order::Kill { child: child.0, signal }, &[]).await
    }

    async fn destroy(&self, id: PodId) -> io::Result<()> {
        let Ok(pod) = self.pod(id) else { return Ok(()) };
        // The holder ends everything when its node has nothing more to say.
        rustix::net::shutdown(pod.link.0.get_ref(), Shutdown::Write)?;
        self.gone(id).await
    }

    async fn gone(&self, id: PodId) -> io::Result<()> {
        let Ok(pod) = self.pod(id) else { return Ok(()) };
        let _ = pod.gone.subscribe().wait_for(|gone| *gone).await;
        Ok(())
    }

    async fn usage(&self, id: PodId) -> io::Result<Usage> {
        let pod = self.pod(id)?;
        let request = pod.next.fetch_add(1, Ordering::Relaxed);
        let (sender, usage) = oneshot::channel();
        pod.waiting.lock().usages.insert(request, sender);
        pod.link.tell(&Order::Usage { request }, &[]).await?;
        usage.await.map_err(|_| pod.is_gone())
    }

    /// A socket in the pod's network. It stays there, whoever uses it.
    async fn socket(&self, id: PodId, at: SocketAddr) -> io::Result<OwnedFd> {
        let pod = self.pod(id)?;
        let request = pod.next.fetch_add(1, Ordering::Relaxed);
        let (sender, socket) = oneshot::channel();
        pod.waiting.lock().sockets.insert(request, sender);
        pod.link.tell(&Order::Socket { request, v6: at.is_ipv6() }, &[]).await?;
        socket.await.unwrap_or_else(|_| Err(pod.is_gone()))
    }

    async fn connect(&self, id: PodId, to: SocketAddr, mark: Option<u32>) -> io::Result<TcpStream> {
        let socket = self.socket(id, to).await?;
        if let Some(mark) = mark {
            socket2::SockRef::from(&socket).set_mark(mark)?;
        }
        match rustix::net::connect(&socket, &to) {
            Ok(()) => return Ok(socket.into()),
            Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(errno.into()),
        }
        let socket = sys::watch(socket, Interest::WRITABLE)?;
        socket.writable().await?.retain_ready();
        rustix::net::sockopt::socket_error(socket.get_ref())??;
        Ok(socket.into_inner().into())
    }

    async fn listen(&self, id: PodId, at: SocketAddr) -> io::Result<TcpListener> {
        let socket = self.socket(id, at).await?;
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
        rustix::net::bind(&socket, &at)?;
        rustix::net::listen(&socket, super::dialer::BACKLOG)?;
        Ok(socket.into())
    }
}

impl Pod {
    fn is_gone(&self) -> io::Error {
        io::Error::new(io::ErrorKind::BrokenPipe, format!("pod {} was ended", self.name))
    }

    fn hear(&self, report: Report, fds: Vec<OwnedFd>) {
        let mut waiting = self.waiting.lock();
        let text = io::Error::other::<String>;
        // A receiver that is gone has given up.
        match report {
            Report::Ready(warnings) => {
                let _ = waiting.ready.take().map(|ready| ready.send(Ok(warnings)));
            }
            Report::Failed(why) => {
                let _ = waiting.ready.take().map(|ready| ready.send(Err(text(why))));
            }
            Report::Started { child, result } => {
                let _ = waiting.starts.remove(&child).map(|start| start.send(result.map_err(text)));
            }
            Report::Exited { child, exit } => {
                let _ = waiting.exits.remove(&child).map(|watcher| watcher.send_replace(Some(exit)));
            }
            Report::Usage { request, usage } => {
                let _ = waiting.usages.remove(&request).map(|waiter| waiter.send(usage));
            }
            Report::Socket { request, result } => {
                let socket = result.map_err(text).and_then(|()| {
                    fds.into_iter().next().ok_or_else(|| io::Error::other("an answer without a socket"))
                });
                let _ = waiting.sockets.remove(&request).map(|waiter| waiter.send(socket));
            }
        }
    }
}
