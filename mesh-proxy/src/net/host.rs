//! Linux sockets.

mod unix;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mesh_core::snapshot::Keepalive;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket, UnixStream};

use super::{
    ConnectOptions, Datagrams, Dialer, Inherited, Listener, MARK_TO_APP, MARK_UPSTREAM, Net, Purpose, Resolved,
    Resolver, Share, Stream,
};

const BACKLOG: i32 = 4096;

/// The host's network: own sockets, and the local mesh's dialer for what can't be reached from inside a pod.
#[derive(Clone, Debug)]
pub struct HostNet {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dialer: Option<Dialer>,
    listeners: BTreeMap<String, Vec<OwnedFd>>,
    marks: bool,
    resolver: Resolver,
}

impl HostNet {
    /// Own sockets, no marks.
    pub fn new() -> Self {
        Self::with(Inherited::default(), false)
    }

    /// The same with inherited descriptors. `marks`: traffic of this network namespace is captured, and own connections
    /// are told apart by `SO_MARK`.
    pub fn with(inherited: Inherited, marks: bool) -> Self {
        Self::with_resolver(inherited, marks, Resolver::system())
    }

    /// The same with another way to look names up; one inherited dialer goes before it.
    pub fn with_resolver(inherited: Inherited, marks: bool, resolver: Resolver) -> Self {
        let Inherited { dialer, config: _, listeners } = inherited;
        Self { inner: Arc::new(Inner { dialer: dialer.map(Dialer::new), listeners, marks, resolver }) }
    }

    async fn dial(&self, to: SocketAddr, options: ConnectOptions) -> io::Result<TcpStream> {
        if let (Some(dialer), false) = (&self.inner.dialer, is_direct(to.ip(), options.purpose)) {
            let stream = dialer.connect(to).await?;
            stream.set_nonblocking(true)?;
            return TcpStream::from_std(stream);
        }
        let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if self.inner.marks {
            let mark = match options.purpose {
                Purpose::Upstream | Purpose::Named => MARK_UPSTREAM,
                Purpose::App => MARK_TO_APP,
            };
            SockRef::from(&socket).set_mark(mark)?;
        }
        if let Some(source) = options.source.filter(|s| s.is_ipv4() == to.is_ipv4()) {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        socket.connect(to).await
    }
}

impl Default for HostNet {
    fn default() -> Self {
        Self::new()
    }
}

/// Addresses that a pod reaches by itself: pods and its own loopback. Everything else is the host's to reach.
fn is_direct(ip: IpAddr, purpose: Purpose) -> bool {
    purpose == Purpose::App
        || (ip.is_loopback() && purpose != Purpose::Named)
        || match ip {
            IpAddr::V4(ip) => ip.octets()[..2] == [10, 244],
            IpAddr::V6(ip) => ip.segments()[..4] == [0xfd11, 0, 0, 0],
        }
}

/// A connection by TCP or a unix socket.
#[derive(Debug)]
pub struct HostStream(Socketed);

#[derive(Debug)]
enum Socketed {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl From<UnixStream> for HostStream {
    fn from(stream: UnixStream) -> Self {
        Self(Socketed::Unix(stream))
    }
}

/// What a unix socket has instead of addresses.
const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

impl Stream for HostStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Socketed::Tcp(tcp) => tcp.peer_addr().map(canonical),
            Socketed::Unix(_) => Ok(HERE),
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Socketed::Tcp(tcp) => tcp.local_addr().map(canonical),
            Socketed::Unix(_) => Ok(HERE),
        }
    }

    fn abort_on_close(&self) {
        if let Socketed::Tcp(tcp) = &self.0 {
            let _ = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
        }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl AsyncRead for HostStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Socketed::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Socketed::Unix(unix) => Pin::new(unix).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for HostStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Socketed::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Socketed::Unix(unix) => Pin::new(unix).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Socketed::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Socketed::Unix(unix) => Pin::new(unix).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            Socketed::Tcp(tcp) => tcp.is_write_vectored(),
            Socketed::Unix(unix) => unix.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Socketed::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Socketed::Unix(unix) => Pin::new(unix).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Socketed::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Socketed::Unix(unix) => Pin::new(unix).poll_shutdown(cx),
        }
    }
}

/// A listener of TCP or a unix socket.
#[derive(Debug)]
pub struct HostListener(Listening);

#[derive(Debug)]
enum Listening {
    Tcp(TcpListener),
    Unix(unix::Listener),
}

impl HostListener {
    /// Options are set here once: Linux hands them on to what is accepted.
    pub(crate) fn from_std(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let socket = SockRef::from(&listener);
        socket.set_tcp_nodelay(true)?;
        socket.set_keepalive(true)?;
        Ok(Self(Listening::Tcp(TcpListener::from_std(listener)?)))
    }
}

impl Listener for HostListener {
    type Stream = HostStream;

    async fn accept(&mut self) -> io::Result<HostStream> {
        Ok(HostStream(match &self.0 {
            Listening::Tcp(tcp) => Socketed::Tcp(tcp.accept().await?.0),
            Listening::Unix(unix) => Socketed::Unix(unix.accept().await?),
        }))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Listening::Tcp(tcp) => tcp.local_addr(),
            Listening::Unix(_) => Ok(HERE),
        }
    }
}

/// A UDP socket.
#[derive(Debug)]
pub struct HostDatagrams(UdpSocket);

impl HostDatagrams {
    /// Bytes that wait for the reader, with what the system needs for them; less, where it does not allow so much. Its default
    /// is soon full: a hundred applications that look up two names each send 400 queries, and it has room for 256.
    const WAITING: usize = 1 << 20;

    /// Opens a socket at this address.
    ///
    /// # Errors
    /// The system's: the address is taken, or may not be used.
    pub async fn bind(at: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(at).await?;
        // It serves with less room, too.
        let _ = SockRef::from(&socket).set_recv_buffer_size(Self::WAITING);
        Ok(Self(socket))
    }
}

impl Datagrams for HostDatagrams {
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.0.recv_from(buffer).await
    }

    async fn send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.0.send_to(bytes, to).await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

fn times(keepalive: Keepalive) -> TcpKeepalive {
    let Keepalive { probes, time, interval } = keepalive;
    let mut out = TcpKeepalive::new();
    if let Some(time) = time {
        out = out.with_time(time);
    }
    if let Some(interval) = interval {
        out = out.with_interval(interval);
    }
    match probes {
        Some(probes) => out.with_retries(probes),
        None => out,
    }
}

impl Net for HostNet {
    type Stream = HostStream;
    type Listener = HostListener;
    type Datagrams = HostDatagrams;

    async fn connect(&self, to: SocketAddr, options: ConnectOptions) -> io::Result<HostStream> {
        let stream = self.dial(to, options).await?;
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        match options.keepalive {
            Some(keepalive) => socket.set_tcp_keepalive(&times(keepalive))?,
            None => socket.set_keepalive(true)?,
        }
        Ok(HostStream(Socketed::Tcp(stream)))
    }

    async fn connect_unix(&self, path: &str) -> io::Result<HostStream> {
        UnixStream::connect(unix::name(path)).await.map(|stream| HostStream(Socketed::Unix(stream)))
    }

    async fn listen_unix(&self, path: &str) -> io::Result<HostListener> {
        unix::Listener::bind(path).map(|listener| HostListener(Listening::Unix(listener)))
    }

    async fn listen(&self, name: &str, at: SocketAddr, share: Share) -> io::Result<HostListener> {
        if let Some(listener) = self.inherited(name, share)? {
            return Ok(listener);
        }
        HostListener::from_std(bind(at, share.of > 1)?)
    }

    async fn listen_host(&self, name: &str, at: SocketAddr, share: Share) -> io::Result<HostListener> {
        let inherited = self.inherited(name, share)?;
        match (&self.inner.dialer, inherited) {
            (_, Some(listener)) => Ok(listener),
            (None, None) => HostListener::from_std(bind(at, share.of > 1)?),
            (Some(dialer), None) => {
                let mut all = dialer.listen(at, share.of).await?;
                let index = share.index.min(all.len().saturating_sub(1));
                if all.is_empty() {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "the dialer's answer has no socket"));
                }
                HostListener::from_std(all.swap_remove(index))
            }
        }
    }

    async fn datagrams(&self, at: SocketAddr) -> io::Result<HostDatagrams> {
        HostDatagrams::bind(at).await
    }

    async fn unlisten_host(&self, at: SocketAddr) -> io::Result<()> {
        match &self.inner.dialer {
            Some(dialer) => dialer.unlisten(at).await,
            None => Ok(()),
        }
    }

    async fn resolve(&self, name: &str) -> io::Result<Resolved> {
        match &self.inner.dialer {
            Some(dialer) => dialer.resolve(name).await,
            None => self.inner.resolver.resolve(name).await,
        }
    }

    fn original_dst(&self, stream: &HostStream) -> io::Result<SocketAddr> {
        let local = stream.local_addr()?;
        let Socketed::Tcp(tcp) = &stream.0 else { return Ok(local) };
        let socket = SockRef::from(tcp);
        let found = if local.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
        // Without connection tracking in this namespace there is no entry: then nothing was redirected.
        Ok(found.ok().and_then(|address| address.as_socket()).map_or(local, canonical))
    }
}

impl HostNet {
    fn inherited(&self, name: &str, share: Share) -> io::Result<Option<HostListener>> {
        let Some(all) = self.inner.listeners.get(name).filter(|all| !all.is_empty()) else { return Ok(None) };
        // With fewer sockets than workers, workers share one: the kernel wakes one of them for each connection.
        let fd = all[share.index % all.len()].try_clone()?;
        HostListener::from_std(fd.into()).map(Some)
    }
}

fn bind(at: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    match bind_exactly(at, shared) {
        // No IPv6 on this machine.
        Err(error)
            if at.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
                && matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) =>
        {
            bind_exactly(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), at.port()), shared)
        }
        other => other,
    }
}

fn bind_exactly(at: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if at.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
