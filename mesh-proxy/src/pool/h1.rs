//! HTTP/1.1 towards an upstream.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use http::header::{CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Version};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use mesh_core::error::{Error, ErrorKind, Sent};
use mesh_core::layers::limits::Resource;
use mesh_core::layers::{Body, Request, Response};
use mesh_core::record::{Cx, Proof, TlsInfo};
use mesh_core::snapshot::ClusterPlan;
use mesh_tls::Carries;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::body::{Lease, Sending, SentBody, UpstreamBody};
use super::driver::{self, Driver};
use super::slot::{Held, Slot, Turn};
use super::{Destination, Peer, Shard, classify};
use crate::cluster::Member;
use crate::dial::{ConnKey, For};
use crate::net::{Net, Stream};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// A connection that can take a request.
pub(super) struct Connection {
    sender: SendRequest<Body>,
    /// `None`: a task of its own drives it.
    driver: Option<Driver>,
    local: SocketAddr,
    tls: Option<Arc<TlsInfo>>,
    plan: Arc<ClusterPlan>,
    /// What it may be used for.
    pub(super) key: ConnKey,
    /// Among the connections of its shard.
    pub(super) number: u64,
    made: Instant,
    pub(super) idle_since: Instant,
    served: u32,
    /// A byte has come since the last request was sent.
    heard: Arc<AtomicBool>,
}

impl Connection {
    /// Waits until the last exchange is wound up; `false`: it is closed.
    async fn is_usable(&mut self) -> bool {
        let Self { sender, driver, .. } = self;
        if sender.is_closed() {
            return false;
        }
        if sender.is_ready() && driver.as_ref().is_some_and(Driver::is_quiet) {
            return true;
        }
        poll_fn(|cx| driver::poll(driver, cx, |cx| sender.poll_ready(cx))).await.is_ok()
    }

    /// Sends a request. The response's head, or the request, if nothing of it was sent.
    fn exchange(
        &mut self,
        request: Request,
    ) -> impl Future<Output = Result<http::Response<Incoming>, TrySendError<Request>>> {
        let (answer, _) = driver::hushed(|| self.sender.try_send_request(request));
        Exchange { answer, driver: &mut self.driver }
    }

    /// Looks for more of a response's body.
    pub(super) fn poll<T>(&mut self, cx: &mut Context<'_>, look: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        driver::poll(&mut self.driver, cx, look)
    }

    /// Goes on by itself: its user can't be relied on to poll it.
    fn depart(&mut self, shard: &Arc<Shard>) {
        if let Some(driver) = self.driver.take() {
            let (shard, number) = (Arc::downgrade(shard), self.number);
            driver.depart(move || {
                if let Some(shard) = shard.upgrade() {
                    shard.ended(number);
                }
            });
        }
    }

    /// Nobody uses it now: who keeps it is woken when something comes.
    pub(super) fn wakes(&self, keeper: &Waker) {
        if let Some(driver) = &self.driver {
            driver.wakes(keeper);
        }
    }

    /// Whether it has ended while nobody used it. What departed says so itself.
    pub(super) fn has_ended(&mut self, keeper: &Waker) -> bool {
        let Some(driver) = &mut self.driver else { return false };
        if !driver.is_quiet() {
            driver.drive(&mut Context::from_waker(keeper));
        }
        driver.has_ended()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// It was made under the same limits.
    pub(super) fn fits(&self, plan: &Arc<ClusterPlan>) -> bool {
        Arc::ptr_eq(&self.plan, plan) || self.plan.pool == plan.pool
    }

    /// When it is to be closed if it stays idle.
    pub(super) fn ends(&self, peer: &Peer) -> Option<Instant> {
        let pool = &self.plan.pool;
        let idle = peer.idle_limit(pool.idle_timeout).and_then(|d| self.idle_since.checked_add(d));
        let old = pool.max_connection_duration.and_then(|d| self.made.checked_add(d));
        idle.into_iter().chain(old).min()
    }

    /// It has served as many requests as it may.
    pub(super) fn is_spent(&self) -> bool {
        self.plan.pool.max_requests_per_connection.is_some_and(|max| self.served >= max)
    }
}

pin_project! {
    /// A request that has been sent, and what drives its connection.
    struct Exchange<'a, F> {
        #[pin]
        answer: F,
        driver: &'a mut Option<Driver>,
    }
}

impl<F: Future> Future for Exchange<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        driver::poll(this.driver, cx, |cx| this.answer.as_mut().poll(cx))
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
        let sending = prepare(&mut request);
        loop {
            let whom = For { conn: &cx.conn, host: host.as_deref(), carries: Carries::Http1 };
            let mut connection = checkout(&to, active.member(), whom).await?;
            // Now, not before: a request that waits is not active.
            let Some(permit) = to.cluster.usage().take(Resource::Requests, to.plan.pool.max_requests) else {
                active.member().shard().put(connection);
                return Err(Error::new(ErrorKind::Overflow));
            };
            cx.upstream_local.set(connection.local);
            cx.upstream_tls.set(connection.tls.clone());
            let reused = connection.served > 0;
            connection.served += 1;
            connection.heard.store(false, Ordering::Relaxed);
            match connection.exchange(request).await {
                Ok(response) => {
                    // While the client does not read the response, nobody would send the rest of the request.
                    let unsent = sending.as_ref().is_some_and(|sending| !sending.is_done());
                    if unsent || response.extensions().get::<OnUpgrade>().is_some() {
                        connection.depart(active.member().shard());
                    }
                    // What it said for the first time holds for all that it serves.
                    if !reused && let Some(header) = response.headers().get(KEEP_ALIVE) {
                        active.member().shard().peer().announced(header.to_str().unwrap_or_default());
                    }
                    let lease = Lease::new(active, connection, sending, permit);
                    return Ok(response.map(|incoming| UpstreamBody::wrap(incoming.into(), lease, cx)));
                }
                Err(mut failed) => match failed.take_message() {
                    // Not a byte of it was sent: the connection closed while it lay in the pool.
                    Some(unsent) if reused => {
                        cx.replays.fetch_add(1, Ordering::Relaxed);
                        cx.proofs.fetch_or(Proof::NotSent as u32, Ordering::Relaxed);
                        request = unsent;
                    }
                    Some(_) => return Err(Error::new(ErrorKind::ConnectionTermination).sent(Sent::No)),
                    None => {
                        let silent = !connection.heard.load(Ordering::Relaxed);
                        return Err(classify::error(&failed.into_error()).on_reused(reused && silent));
                    }
                },
            }
        }
    }
}

/// Methods whose requests say that they have no body where they have none (RFC 9110, 8.6), the ones that Envoy knows.
fn is_meant_to_have_a_body(method: &Method) -> bool {
    ![Method::GET, Method::HEAD, Method::DELETE, Method::TRACE, Method::CONNECT].contains(method)
}

/// Gives the request the form that the codec expects, and says how its body is doing.
fn prepare(request: &mut Request) -> Option<Arc<Sending>> {
    *request.version_mut() = Version::HTTP_11;
    let has_length = request.headers().contains_key(CONTENT_LENGTH);
    match request.body() {
        Body::Empty => {
            if !has_length && is_meant_to_have_a_body(request.method()) {
                request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
            None
        }
        Body::Full(_) => None,
        Body::Stream(_) => {
            if !has_length {
                // The codec would take a GET without a length for one without a body.
                request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            let (body, sending) = SentBody::wrap(std::mem::take(request.body_mut()));
            *request.body_mut() = body;
            Some(sending)
        }
    }
}

/// A connection: an idle one, a new one, or the first that becomes free.
async fn checkout<N: Net>(to: &Destination<N>, member: &Arc<Member<N>>, whom: For<'_>) -> Result<Connection, Error> {
    let (shard, key) = (member.shard(), ConnKey::of(&to.plan, member.endpoint(), whom));
    if let Some(idle) = idle(to, shard, key).await {
        return Ok(idle);
    }
    // Boxed: most requests find an idle one, and each would have room for this in its future.
    Box::pin(connect(to, member, whom, key)).await
}

/// A new connection, or the first that becomes free.
async fn connect<N: Net>(
    to: &Destination<N>,
    member: &Arc<Member<N>>,
    whom: For<'_>,
    key: ConnKey,
) -> Result<Connection, Error> {
    let (shard, usage, pool) = (member.shard(), to.cluster.usage(), &to.plan.pool);
    let pending = usage.take(Resource::Pending, pool.max_pending);
    let Some(_pending) = pending else { return Err(Error::new(ErrorKind::Overflow)) };
    let mut again = false;
    loop {
        if let Some(slot) = Slot::take(shard, usage, pool) {
            return dial(to, member, slot, whom).await;
        }
        let told = shard.wait(again);
        // What became free on another thread before we were in the queue.
        if let Some(connection) = shard.take(&to.plan, key) {
            shard.offer(Turn::Take(connection));
        } else if let Some(slot) = Slot::take(shard, usage, pool) {
            shard.offer(Turn::Dial(slot));
        }
        match told.await {
            Ok(Turn::Take(mut connection)) => {
                // Of another key: it is closed, and its place is for a connection of ours.
                if connection.key == key && connection.is_usable().await {
                    return Ok(connection);
                }
            }
            Ok(Turn::Dial(slot)) => return dial(to, member, slot, whom).await,
            Ok(Turn::Look) | Err(_) => {}
        }
        if let Some(idle) = idle(to, shard, key).await {
            return Ok(idle);
        }
        again = true;
    }
}

async fn idle<N: Net>(to: &Destination<N>, shard: &Arc<Shard>, key: ConnKey) -> Option<Connection> {
    while let Some(mut idle) = shard.take(&to.plan, key) {
        if idle.is_usable().await {
            return Some(idle);
        }
    }
    None
}

async fn dial<N: Net>(
    to: &Destination<N>,
    member: &Arc<Member<N>>,
    slot: Slot,
    whom: For<'_>,
) -> Result<Connection, Error> {
    let stream = to.runtime.dial(&to.plan, member, whom).await?;
    let (local, tls) = (stream.local_addr().ok(), stream.tls().cloned());
    let key = ConnKey::of(&to.plan, member.endpoint(), whom);
    let made = Made { slot, plan: Arc::clone(&to.plan), key, local, tls };
    made.establish(member.shard(), stream, to.runtime.preserves_case()).await
}

/// What is known of a connection before HTTP is spoken on it.
pub(super) struct Made {
    pub(super) slot: Slot,
    pub(super) plan: Arc<ClusterPlan>,
    pub(super) key: ConnKey,
    pub(super) local: Option<SocketAddr>,
    pub(super) tls: Option<Arc<TlsInfo>>,
}

impl Made {
    /// Begins HTTP/1.1 on a byte stream.
    pub(super) async fn establish<S>(self, shard: &Shard, io: S, preserves_case: bool) -> Result<Connection, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { slot, plan, key, local, tls } = self;
        let heard = Arc::new(AtomicBool::new(false));
        let held = Held::new(io, slot, Arc::clone(&heard));
        let lost = |e: hyper::Error| classify::error(&e).sent(Sent::No);
        let mut builder = Builder::new();
        builder.preserve_header_case(preserves_case);
        let (sender, connection) = builder.handshake(TokioIo::new(held)).await.map_err(lost)?;
        let (number, driver) = (shard.number(), Some(Driver::new(connection.with_upgrades())));
        let local = local.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
        let now = Instant::now();
        let (made, idle_since, served) = (now, now, 0);
        Ok(Connection { sender, driver, local, tls, plan, key, number, made, idle_since, served, heard })
    }
}
