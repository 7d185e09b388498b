//! HTTP/2 with prior knowledge towards an upstream: one connection for each worker and endpoint, shared by all requests;
//! more only where `maxConcurrentStreams` says that one is full.

mod drive;
mod stream;

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::ext::Protocol;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};
use http_body::Body as _;
use mesh_core::error::{Error, ErrorKind, Sent};
use mesh_core::layers::limits::Resource;
use mesh_core::layers::{Body, Request, Response};
use mesh_core::record::{Cx, TlsInfo};
use mesh_core::snapshot::{ClusterPlan, PoolPlan};
use mesh_tls::Carries;
use tokio::time::Instant;

use self::drive::{Pings, drive};
pub(super) use self::stream::Download;
use self::stream::Exchange;
pub(crate) use self::stream::Switched;
use super::body::{Lease, UpstreamBody};
use super::slot::{Held, Slot, Turn};
use super::{Destination, Shard, classify};
use crate::cluster::Member;
use crate::dial::{ConnKey, For};
use crate::net::{Net, Stream as _};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Flow-control window of a stream, as Envoy's default.
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 24 << 20;
/// What a stream holds of a body that its window does not let through.
const SEND_BUFFER: usize = 1 << 20;
/// Streams before the peer has said how many it takes.
const FIRST_STREAMS: usize = 100;
/// Connections for each endpoint and worker before unused ones go.
const MAX_CONNECTIONS: usize = 64;

/// The connections of a shard.
#[derive(Default)]
pub(super) struct Connections {
    list: Vec<Connection>,
    /// Somebody is making one; the others wait for it instead of making one each.
    dialing: bool,
}

#[derive(Clone)]
struct Connection {
    sender: SendRequest<Bytes>,
    local: SocketAddr,
    tls: Option<Arc<TlsInfo>>,
    plan: Arc<ClusterPlan>,
    key: ConnKey,
    number: u64,
    life: Arc<Life>,
}

/// How much a connection is used.
struct Life {
    made: Instant,
    streams: AtomicU32,
    served: AtomicU32,
    /// When the last stream ended, in microseconds after `made`.
    quiet: AtomicU64,
    /// The connection has ended.
    over: AtomicBool,
}

impl Life {
    /// When it is to be closed as it is now; `None`: a stream is open, or never.
    fn ends(&self, pool: &PoolPlan) -> Option<Instant> {
        let quiet = self.made + Duration::from_micros(self.quiet.load(Ordering::Relaxed));
        let idle = pool.idle_timeout.and_then(|d| quiet.checked_add(d));
        let idle = idle.filter(|_| self.streams.load(Ordering::Relaxed) == 0);
        let old = pool.max_connection_duration.and_then(|d| self.made.checked_add(d));
        idle.into_iter().chain(old).min()
    }
}

impl Connection {
    /// It takes no more streams, and goes when the last one has ended.
    fn is_over(&self, plan: &Arc<ClusterPlan>, now: Instant) -> bool {
        let pool = &self.plan.pool;
        let spent = pool.max_requests_per_connection.is_some_and(|m| self.life.served.load(Ordering::Relaxed) >= m);
        let changed = !Arc::ptr_eq(&self.plan, plan) && *pool != plan.pool;
        spent || changed || self.life.over.load(Ordering::Acquire) || self.life.ends(pool).is_some_and(|end| end <= now)
    }
}

/// One stream of a connection, until its response has ended.
pub(super) struct Stream {
    life: Arc<Life>,
    shard: Weak<Shard>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        let age = u64::try_from(self.life.made.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.life.quiet.store(age, Ordering::Relaxed);
        self.life.streams.fetch_sub(1, Ordering::AcqRel);
        if let Some(shard) = self.shard.upgrade().filter(|s| s.has_waiting()) {
            shard.offer(Turn::Look);
        }
    }
}

#[expect(clippy::manual_async_fn, reason = "the future of an async fn has room for its arguments twice")]
pub(super) fn send<N: Net>(
    to: Arc<Destination<N>>,
    cx: Arc<Cx>,
    mut request: Request,
) -> impl Future<Output = Result<Response, Error>> + Send + 'static {
    async move {
        let active = super::pick(&to, &cx, request.extensions(), request.headers()).await?;
        let host = to.whom(&request);
        let switches = request.headers().contains_key(UPGRADE);
        // Inside the mesh the scheme is that of the request.
        let outwards = to.plan.tls.as_ref().is_some_and(|tls| !tls.is_mesh());
        prepare(&mut request, outwards)?;
        let whom = For { conn: &cx.conn, host: host.as_deref(), carries: Carries::Http2 };
        // One that takes streams: what comes between here and there is the peer's doing, and the retry policy's matter.
        let (mut connection, stream) = checkout(&to, active.member(), whom).await?;
        let Some(permit) = to.cluster.usage().take(Resource::Requests, to.plan.pool.max_requests) else {
            return Err(Error::new(ErrorKind::Overflow));
        };
        cx.upstream_local.set(connection.local);
        cx.upstream_tls.set(connection.tls.clone());
        connection.life.served.fetch_add(1, Ordering::Relaxed);
        let (response, up) = Exchange::begin(&mut connection.sender, request, switches)?.await?;
        let lease = Lease::shared(active, stream, permit);
        Ok(match up.filter(|_| response.status().is_success()) {
            Some(up) => switched(response.map(|down| Switched::new(up, down))),
            None => Download::of(response).map(|down| UpstreamBody::wrap(down.into(), lease, cx)),
        })
    }
}

/// How HTTP/1 says that the protocol is another from here on; HTTP/2 says 200 (RFC 8441).
fn switched(response: http::Response<Switched>) -> Response {
    let (head, switched) = response.into_parts();
    let mut response = Response::from_parts(head, Body::Empty);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.extensions_mut().insert(switched);
    response
}

/// Moves the authority from `host` to the pseudo header, and an upgrade to its own (only WebSocket is let through so far).
fn prepare(request: &mut Request, tls: bool) -> Result<(), Error> {
    if request.headers_mut().remove(UPGRADE).is_some() {
        request.headers_mut().remove(CONNECTION);
        request.headers_mut().remove(CONTENT_LENGTH);
        *request.method_mut() = Method::CONNECT;
        *request.body_mut() = Body::Empty;
        request.extensions_mut().insert(Protocol::from_static("websocket"));
    }
    *request.version_mut() = Version::HTTP_2;
    strip(request.headers_mut());
    if let Some(length) = request.body().size_hint().exact().filter(|length| *length > 0) {
        request.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    if let Some(id) = request.headers_mut().get_mut(REQUEST_ID) {
        // No other request has it: in the compression's tables, of both sides, it would only be in the way.
        id.set_sensitive(true);
    }
    let broken = |_| Error::new(ErrorKind::DownstreamProtocol);
    let host = request.headers_mut().remove(HOST);
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
    uri.path_and_query = Some(path);
    uri.authority = Some(match &host {
        Some(host) => Authority::try_from(host.as_bytes()).map_err(broken)?,
        None => Authority::from_static("localhost"),
    });
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_| Error::new(ErrorKind::DownstreamProtocol))?;
    Ok(())
}

/// Removes what HTTP/2 has no word for. It has been removed from what clients send; rules may have added it.
fn strip(headers: &mut HeaderMap) {
    let illegal = |(name, value): &(&HeaderName, &HeaderValue)| match name.as_str().len() {
        2 => **name == TE && *value != "trailers",
        7 => **name == UPGRADE,
        10 => **name == CONNECTION || name.as_str() == "keep-alive",
        16 => name.as_str() == "proxy-connection",
        17 => **name == TRANSFER_ENCODING,
        _ => false,
    };
    while let Some(name) = headers.iter().find(illegal).map(|(name, _)| name.clone()) {
        headers.remove(name);
    }
}

/// A stream: of a connection that has room, else of a new one.
async fn checkout<N: Net>(
    to: &Destination<N>,
    member: &Arc<Member<N>>,
    whom: For<'_>,
) -> Result<(Connection, Stream), Error> {
    let (shard, key) = (member.shard(), ConnKey::of(&to.plan, member.endpoint(), whom));
    if let Some(found) = open_stream(to, shard, key).await {
        return Ok(found);
    }
    // Boxed: most requests find one, and each would have room for this in its future.
    Box::pin(connect(to, member, whom, key)).await
}

/// A stream of a new connection, or of the first that has room.
async fn connect<N: Net>(
    to: &Destination<N>,
    member: &Arc<Member<N>>,
    whom: For<'_>,
    key: ConnKey,
) -> Result<(Connection, Stream), Error> {
    let (shard, usage, pool) = (member.shard(), to.cluster.usage(), &to.plan.pool);
    let pending = usage.take(Resource::Pending, pool.max_pending);
    let Some(_pending) = pending else { return Err(Error::new(ErrorKind::Overflow)) };
    let mut again = false;
    loop {
        let mut granted = None;
        if let Some(dialing) = Dialing::start(shard) {
            if let Some(slot) = Slot::take(shard, usage, pool) {
                return dial(to, member, (slot, dialing), whom).await;
            }
            drop(dialing);
        }
        let told = shard.wait(again);
        if shard.h2.lock().has_room(&to.plan, key) {
            shard.offer(Turn::Look);
        }
        match told.await {
            Ok(Turn::Dial(slot)) => granted = Some(slot),
            // Of the other version, which clusters that follow the client have, too.
            Ok(Turn::Take(connection)) => shard.put(connection),
            Ok(Turn::Look) | Err(_) => {}
        }
        if let Some(found) = open_stream(to, shard, key).await {
            return Ok(found);
        }
        if let Some(slot) = granted
            && let Some(dialing) = Dialing::start(shard)
        {
            return dial(to, member, (slot, dialing), whom).await;
        }
        again = true;
    }
}

impl Connections {
    /// Adds one; of too many the oldest that nobody uses goes (server names, clients named in a PROXY header).
    fn add(&mut self, connection: Connection) {
        if self.list.len() >= MAX_CONNECTIONS
            && let Some(unused) = self.list.iter().position(|c| c.life.streams.load(Ordering::Relaxed) == 0)
        {
            self.list.remove(unused);
        }
        self.list.push(connection);
    }

    fn has_room(&self, plan: &Arc<ClusterPlan>, key: ConnKey) -> bool {
        let (max, now) = (plan.pool.max_concurrent_streams, Instant::now());
        self.list.iter().any(|c| c.key == key && !c.is_over(plan, now) && c.life.streams.load(Ordering::Relaxed) < max)
    }
}

async fn open_stream<N: Net>(to: &Destination<N>, shard: &Arc<Shard>, key: ConnKey) -> Option<(Connection, Stream)> {
    loop {
        let (mut connection, stream) = {
            let (max, now) = (to.plan.pool.max_concurrent_streams, Instant::now());
            let mut connections = shard.h2.lock();
            connections.list.retain(|c| !c.is_over(&to.plan, now));
            let room = |c: &&Connection| c.key == key && c.life.streams.load(Ordering::Relaxed) < max;
            let found = connections.list.iter().find(room)?.clone();
            let stream = take_stream(&found, shard);
            (found, stream)
        };
        if poll_fn(|cx| connection.sender.poll_ready(cx)).await.is_ok() {
            return Some((connection, stream));
        }
        forget(shard, connection.number);
    }
}

fn take_stream(connection: &Connection, shard: &Arc<Shard>) -> Stream {
    connection.life.streams.fetch_add(1, Ordering::AcqRel);
    Stream { life: Arc::clone(&connection.life), shard: Arc::downgrade(shard) }
}

fn forget(shard: &Shard, number: u64) {
    shard.h2.lock().list.retain(|c| c.number != number);
}

/// The one that makes a connection; when it is done or gives up, all who wait look again.
struct Dialing<'a>(&'a Arc<Shard>);

impl<'a> Dialing<'a> {
    fn start(shard: &'a Arc<Shard>) -> Option<Self> {
        let first = !std::mem::replace(&mut shard.h2.lock().dialing, true);
        first.then_some(Self(shard))
    }
}

impl Drop for Dialing<'_> {
    fn drop(&mut self) {
        self.0.h2.lock().dialing = false;
        self.0.offer_all();
    }
}

async fn dial<N: Net>(
    to: &Destination<N>,
    member: &Arc<Member<N>>,
    (slot, dialing): (Slot, Dialing<'_>),
    whom: For<'_>,
) -> Result<(Connection, Stream), Error> {
    let (shard, pool) = (member.shard(), &to.plan.pool);
    let stream = to.runtime.dial(&to.plan, member, whom).await?;
    let (local, tls) = (stream.local_addr().ok(), stream.tls().cloned());
    let heard = Arc::default();
    let held = Held::new(stream, slot, Arc::clone(&heard));
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(FIRST_STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(60 * 1024);
    let lost = |error: h2::Error| classify::h2(&error).sent(Sent::No);
    let (sender, mut connection) = builder.handshake(held).await.map_err(lost)?;
    let pings = pool.http2_keepalive.and_then(|plan| Some(Pings::new(connection.ping_pong()?, plan, heard)));
    let life = Life { made: Instant::now(), streams: 0.into(), served: 0.into(), quiet: 0.into(), over: false.into() };
    let (life, number, plan) = (Arc::new(life), shard.number(), Arc::clone(&to.plan));
    tokio::spawn(drive(connection, pings, Arc::clone(&life), Arc::clone(&plan), number, Arc::downgrade(shard)));
    let local = local.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
    let key = ConnKey::of(&to.plan, member.endpoint(), whom);
    let connection = Connection { sender, local, tls, plan, key, number, life };
    let stream = take_stream(&connection, shard);
    shard.h2.lock().add(connection.clone());
    drop(dialing);
    Ok((connection, stream))
}
