//! A plain HTTP/1.1 client over sockets.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::identities::Identities;
use super::secrets::{Certificates, Hello};

/// A response.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| &**v).collect()
    }

    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }
}

/// Where a connection leads.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct To {
    /// Address to connect to.
    pub(crate) door: SocketAddr,
    /// Say first where the connection comes from, by the PROXY protocol.
    pub(crate) proxy_header: bool,
    /// Then ask for a tunnel to here: what capture would note as the original destination.
    pub(crate) tunnel: Option<SocketAddr>,
    /// Then speak TLS.
    pub(crate) tls: Option<Hello>,
    /// The mesh's own TLS, as one of its workloads.
    pub(crate) identity: Option<&'static str>,
    /// Address to come from.
    pub(crate) from: Option<IpAddr>,
}

impl To {
    /// Straight to an address.
    pub(crate) fn door(door: SocketAddr) -> Self {
        Self { door, proxy_header: false, tunnel: None, tls: None, identity: None, from: None }
    }
}

/// A connection.
trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Io for S {}
type Stream = Box<dyn Io>;

/// What is known of a connection.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Known {
    /// Our end.
    pub(crate) own: Option<SocketAddr>,
    /// The certificate that the server showed.
    pub(crate) certificate: Option<&'static str>,
}

/// Connections that are kept for the next request.
#[derive(Default)]
pub(crate) struct Client {
    kept: HashMap<To, (Stream, Known)>,
    /// Of the connection that was used last.
    pub(crate) last: Known,
    certificates: Option<Arc<Certificates>>,
    identities: Option<Arc<Identities>>,
}

impl Client {
    /// One that can speak TLS.
    pub(crate) fn new(certificates: &Arc<Certificates>, identities: &Arc<Identities>) -> Self {
        Self { certificates: Some(certificates.clone()), identities: Some(identities.clone()), ..Self::default() }
    }

    /// Forgets all connections but those to the proxy itself (`absolute` requests).
    pub(crate) fn forget_tunnels(&mut self, keep: impl Fn(&To) -> bool) {
        self.kept.retain(|to, _| keep(to));
    }

    /// Sends a request and reads the response. `to_head`: the response has no body.
    pub(crate) async fn send(&mut self, to: &To, request: &str, to_head: bool) -> io::Result<Reply> {
        let mut stream = match self.kept.remove(to) {
            Some((stream, known)) => {
                self.last = known;
                stream
            }
            None => self.connect(to).await?,
        };
        let (reply, reusable) = exchange(&mut stream, request, to_head).await?;
        if reusable {
            self.kept.insert(to.clone(), (stream, self.last));
        }
        Ok(reply)
    }

    /// The same on a connection of its own, which ends then.
    pub(crate) async fn send_alone(&mut self, to: &To, request: &str, to_head: bool) -> io::Result<Reply> {
        let mut stream = self.connect(to).await?;
        exchange(&mut stream, request, to_head).await.map(|(reply, _)| reply)
    }

    async fn connect(&mut self, to: &To) -> io::Result<Stream> {
        self.last = Known::default();
        let mut stream = match to.from {
            None => TcpStream::connect(to.door).await?,
            Some(ip) => {
                let socket = TcpSocket::new_v4()?;
                socket.bind(SocketAddr::new(ip, 0))?;
                socket.connect(to.door).await?
            }
        };
        let own = stream.local_addr()?;
        self.last.own = Some(own);
        if to.proxy_header {
            let (ip, port, own) = (to.door.ip(), to.door.port(), own.port());
            stream.write_all(format!("PROXY TCP4 {CLIENT} {ip} {own} {port}\r\n").as_bytes()).await?;
        }
        if let Some(tunnel) = to.tunnel {
            stream.write_all(format!("CONNECT {tunnel} HTTP/1.1\r\nhost: {tunnel}\r\n\r\n").as_bytes()).await?;
            let mut got = Vec::new();
            read_head(&mut stream, &mut got).await?;
        }
        let Some(hello) = &to.tls else { return Ok(Box::new(stream)) };
        if let Some(name) = to.identity {
            let identities = self.identities.as_ref().expect("invariant: so has one of the mesh");
            return Ok(Box::new(identities.connect(stream, name, &hello.name).await?));
        }
        let certificates = self.certificates.as_ref().expect("invariant: a client that speaks TLS has certificates");
        let stream = certificates.connect(stream, hello).await?;
        self.last.certificate = certificates.called(stream.info());
        Ok(Box::new(stream))
    }
}

/// Who a client says it is by the PROXY protocol.
pub(crate) const CLIENT: &str = "198.51.100.7";

async fn read_head(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), got: &mut Vec<u8>) -> io::Result<String> {
    loop {
        if let Some(end) = got.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&got[..end]).into_owned();
            got.drain(..end + 4);
            return Ok(head);
        }
        if stream.read_buf(got).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &str,
    to_head: bool,
) -> io::Result<(Reply, bool)> {
    stream.write_all(request.as_bytes()).await?;
    let got = &mut Vec::new();
    let head = loop {
        let head = read_head(stream, got).await?;
        if !head.starts_with("HTTP/1.1 1") {
            break head;
        }
    };
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|l| l.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
    let pair = |l: &str| l.split_once(':').map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()));
    let mut reply = Reply { status, headers: lines.filter_map(pair).collect(), body: String::new() };
    let closes = reply.one("connection") == Some("close");
    if to_head || status == 204 || status == 304 {
        return Ok((reply, !closes));
    }
    let mut body = Vec::new();
    let mut ended = closes;
    if let Some(length) = reply.one("content-length").map(|l| l.parse::<usize>().unwrap()) {
        while got.len() < length {
            if stream.read_buf(got).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        body.extend(got.drain(..length));
    } else if reply.one("transfer-encoding") == Some("chunked") {
        chunks(stream, got, &mut body).await?;
    } else {
        while stream.read_buf(got).await? > 0 {}
        body.append(got);
        ended = true;
    }
    reply.body = String::from_utf8_lossy(&body).into_owned();
    Ok((reply, !ended))
}

async fn chunks(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    got: &mut Vec<u8>,
    body: &mut Vec<u8>,
) -> io::Result<()> {
    loop {
        let line = loop {
            if let Some(end) = got.windows(2).position(|w| w == b"\r\n") {
                break end;
            }
            if stream.read_buf(got).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let size = std::str::from_utf8(&got[..line]).ok().and_then(|s| usize::from_str_radix(s.trim(), 16).ok());
        let size = size.ok_or(io::ErrorKind::InvalidData)?;
        got.drain(..line + 2);
        while got.len() < size + 2 {
            if stream.read_buf(got).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        body.extend(got.drain(..size));
        got.drain(..2);
        if size == 0 {
            return Ok(());
        }
    }
}
