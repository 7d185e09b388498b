//! From an accepted connection to HTTP or TCP: the original destination, the plan's decision, sniffing where the decision
//! needs the first bytes.

pub(crate) mod accept;
mod drained;
mod live;
mod open;
mod peers;
mod sniffing;
mod terminate;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use mesh_core::api::ContentHash;
use mesh_core::decide::{ConnDecision, ConnFacts, Detected, decide_connection, waits_for_hello};
use mesh_core::env::Env;
use mesh_core::record::{ConnInfo, Sink};
use mesh_core::snapshot::{
    Direction, DownstreamTls, Endpoint, ListenerKey, ListenerPlan, Snapshot, TcpPlan, TlsServer,
};
use mesh_tls::Acceptor;

pub use self::live::Live;
pub use self::open::OpenConnections;
pub use self::peers::PeerSeen;
use self::sniffing::{Sniffed, sniffing};
pub(crate) use self::terminate::server_id;
use crate::admin::ClusterEndpoints;
use crate::detect::Prefixed;
use crate::dial::Link;
use crate::drain::Drain;
use crate::net::{Net, Stream};
use crate::tcp::{self, Connected, Finish, Gate, Tools, Upstreams};

/// What serves a connection from here on, until it ends. How that was decided takes no room in it.
pub type Served = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Ports of capture: a connection that was meant for one of them would come back to us for ever.
pub const CAPTURE_PORTS: [u16; 2] = [15001, 15006];

/// By which door a connection comes in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Door {
    /// 15001: from the own application.
    Outbound,
    /// From the own application, which dials the listener itself (a Sidecar's `captureMode: NONE`).
    OutboundDirect,
    /// From the own application, by a socket that stands for this destination.
    OutboundTo(SocketAddr),
    /// 15006: to the own application, captured.
    Inbound,
    /// To the own application, at the address that its clients dial (explicit mode).
    InboundDirect,
    /// A gateway's listener of this port of the plan.
    Gateway(u16),
    /// The same, of one address or unix socket only (`bind`).
    GatewayAt(ListenerKey),
    /// Explicit proxying: the client names where it wants to go.
    Explicit,
}

impl Door {
    /// Direction of its listeners.
    pub fn direction(self) -> Direction {
        match self {
            Self::Outbound | Self::OutboundDirect | Self::OutboundTo(_) | Self::Explicit => Direction::Outbound,
            Self::Inbound | Self::InboundDirect => Direction::Inbound,
            Self::Gateway(_) | Self::GatewayAt(..) => Direction::Gateway,
        }
    }
}

/// A server of a gateway, or of a Sidecar's `ingress`, that ended TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServerKey {
    name: ContentHash,
    /// Hosts and TLS.
    what: ContentHash,
    /// What it asks of clients.
    clients: ContentHash,
}

impl ServerKey {
    pub(crate) fn of(server: &TlsServer) -> Self {
        let TlsServer { name, sni, tls, then: _, origin: _ } = server;
        let what = format!("{sni:?} {}", tls.hash);
        let clients = live::clients(server);
        Self { name: server_id(name), what: ContentHash::of(what.as_bytes()), clients }
    }
}

/// Which listener of the plan serves the requests of a connection. Looked up again in the snapshot of each request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// Listener for this original destination.
    Outbound(SocketAddr),
    /// Listener of this port of the workload.
    Inbound(u16),
    /// Listener of this port of the gateway.
    Gateway(u16),
    /// The same, of one address or unix socket only.
    GatewayAt(ListenerKey),
    /// A server of a listener, which ended TLS, and which one.
    Terminated(ListenerKey, ServerKey),
    /// The one for the request's authority (explicit proxying).
    ByAuthority,
}

impl Route {
    /// The listener's plan. [`Route::ByAuthority`] has one only once the request is known: see [`Route::of_authority`].
    pub fn listener(self, snapshot: &Snapshot) -> Option<&Arc<ListenerPlan>> {
        match self {
            Self::Outbound(to) => Some(snapshot.outbound(Some(to.ip()), to.port())),
            Self::Inbound(port) => Some(snapshot.inbound(port)),
            Self::Gateway(port) => snapshot.gateway(port),
            Self::GatewayAt(key) | Self::Terminated(key, _) => snapshot.listeners.get(&key),
            Self::ByAuthority => None,
        }
    }

    /// Whether a change of what clients have to show may end its connections.
    fn may_be_revoked(self) -> bool {
        match self {
            Self::Inbound(_) | Self::Terminated(..) => true,
            Self::Outbound(_) | Self::Gateway(_) | Self::GatewayAt(..) | Self::ByAuthority => false,
        }
    }

    /// The server of the listener whose routes apply; 0 for the listener's own.
    pub(crate) fn server(self) -> ContentHash {
        match self {
            Self::Terminated(_, server) => server.name,
            Self::Outbound(_) | Self::Inbound(_) | Self::Gateway(_) | Self::GatewayAt(..) | Self::ByAuthority => {
                ContentHash::default()
            }
        }
    }

    /// The server of the listener when it is no longer found by its name: one of another name that ends the same TLS for
    /// the same hosts. A port that is renamed keeps its connections.
    pub(crate) fn renamed(self, listener: &ListenerPlan) -> Option<ContentHash> {
        let Self::Terminated(_, key) = self else { return None };
        listener.tls.iter().find(|s| ServerKey::of(s).what == key.what).map(|s| server_id(&s.name))
    }

    /// For an explicitly proxied request: where its authority leads, by the mesh's names. `default_port` is that of the
    /// request's scheme.
    pub fn of_authority(snapshot: &Snapshot, authority: &str, default_port: u16) -> Option<SocketAddr> {
        let (host, port) = split_authority(authority, default_port)?;
        if let Ok(ip) = host.parse() {
            return Some(SocketAddr::new(ip, port));
        }
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let entry = snapshot.names.get(host.as_str())?;
        entry.addresses.first().map(|ip| SocketAddr::new(*ip, port))
    }
}

/// Host (without brackets) and port.
pub(crate) fn split_authority(authority: &str, default_port: u16) -> Option<(&str, u16)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, port.parse().ok()?)),
            None => rest.is_empty().then_some((host, default_port)),
        };
    }
    match authority.rsplit_once(':') {
        Some((host, port)) => Some((host, port.parse().ok()?)),
        None => Some((authority, default_port)),
    }
}

/// The host of an authority, without port and brackets.
pub(crate) fn host_of(authority: &str) -> &str {
    split_authority(authority, 0).map_or(authority, |(host, _)| host)
}

/// Serves HTTP on connections that were decided to be HTTP: the stack.
pub trait HttpServer<S>: Send + Sync + 'static {
    /// Serves one connection until it ends. Each request loads the snapshot in force, counts itself in `drain`, and while
    /// that drains, answers with `connection: close` or GOAWAY.
    fn serve(&self, io: S, conn: Arc<ConnInfo>, route: Route, drain: Drain) -> Served;
}

/// The HTTP half of a proxy. It also keeps the endpoints and balances over them, for TCP streams too.
pub trait Engine<S>: HttpServer<Link<Prefixed<S>>> + Upstreams<S> {
    /// Brings a plan into force: builds services for what is new. When it returns, new requests of every worker use it.
    /// Clusters that are not in the plan are forgotten with their endpoints.
    fn activate(&self, snapshot: &Arc<Snapshot>);

    /// Replaces the endpoints of a cluster. For a new cluster it is called before [`Engine::activate`].
    fn set_endpoints(&self, cluster: &Arc<str>, endpoints: Vec<Arc<Endpoint>>);

    /// Who may open streams of bytes.
    fn gate(&self) -> Gate;

    /// What ends TLS by a plan.
    fn acceptor(&self, plan: &Arc<DownstreamTls>) -> Arc<Acceptor>;

    /// Endpoints of every cluster.
    fn endpoints(&self) -> Vec<ClusterEndpoints>;
}

/// What all connections of a proxy share.
pub struct Shared<N, H> {
    /// Sockets.
    pub net: N,
    /// The HTTP stack.
    pub http: H,
    /// Clock and randomness.
    pub env: Arc<dyn Env>,
    /// Readers of finished streams.
    pub sink: Arc<dyn Sink>,
    /// The plan in force.
    pub(crate) snapshot: ArcSwapOption<Snapshot>,
    /// Drain of inbound and gateway listeners.
    pub inbound: Drain,
    /// Drain of outbound listeners, which go on until the application has gone.
    pub outbound: Drain,
    /// Connections that are open and may have to end when the plan changes.
    pub live: Live,
    /// How many connections are open.
    pub open: OpenConnections,
}

impl<N: Net, H: Engine<N::Stream>> Shared<N, H> {
    /// Without a plan.
    pub fn new(net: N, http: H, env: Arc<dyn Env>, sink: Arc<dyn Sink>) -> Self {
        let (inbound, outbound, live, open) = Default::default();
        Self { net, http, env, sink, snapshot: ArcSwapOption::empty(), inbound, outbound, live, open }
    }

    fn tools(&self) -> Tools<'_, H> {
        let Self { http, env, sink, .. } = self;
        Tools { upstreams: http, env: &**env, sink }
    }

    /// What policies say about streams of bytes of a listener.
    pub(crate) fn gate(&self, key: ListenerKey) -> Gate {
        match key.direction {
            Direction::Outbound => self.http.gate().outwards(),
            Direction::Inbound => self.http.gate(),
            Direction::Gateway => self.http.gate().at(key.port),
        }
    }

    /// The plan in force, if there was one yet.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.load_full()
    }

    /// Brings a plan into force for new connections and requests, and closes the connections that it does not let in.
    pub fn activate(&self, snapshot: &Arc<Snapshot>) {
        self.http.activate(snapshot);
        self.snapshot.store(Some(Arc::clone(snapshot)));
        self.live.check(snapshot);
    }

    /// Serves a connection whose fate is decided, as long as it may be.
    async fn hold<F: Future<Output = ()>>(
        &self,
        (conn, route): (&Arc<ConnInfo>, Route),
        drain: Drain,
        serve: impl FnOnce(Drain) -> F,
    ) {
        if !route.may_be_revoked() {
            return serve(drain).await;
        }
        let (registered, close) = self.live.register(conn, route, &*self.env);
        // It may have been decided by a plan that is over.
        if self.snapshot.load().as_ref().is_some_and(|now| !live::is_allowed(now, conn, route)) {
            return;
        }
        live::serve((registered, close), &drain, serve).await;
    }

    pub(crate) fn drain_of(&self, door: Door) -> &Drain {
        match door.direction() {
            Direction::Outbound => &self.outbound,
            Direction::Inbound | Direction::Gateway => &self.inbound,
        }
    }

    /// Serves one accepted connection until it ends.
    pub async fn serve(self: Arc<Self>, stream: N::Stream, door: Door) {
        let _open = self.open.enter(door.direction());
        // The box is gone before the connection is served: that may take days, and the plan may be another one soon.
        let decided = Box::pin(self.decide(stream, door)).await;
        if let Some(served) = decided {
            served.await;
        }
    }

    /// What is to serve a connection; `None`: nothing, it is closed.
    async fn decide(self: Arc<Self>, stream: N::Stream, door: Door) -> Option<Served> {
        let snapshot = self.snapshot()?;
        let (Ok(peer), Ok(own)) = (stream.peer_addr(), stream.local_addr()) else { return None };
        let local = match door {
            Door::Gateway(_) | Door::GatewayAt(..) | Door::Explicit | Door::OutboundDirect | Door::InboundDirect => own,
            Door::OutboundTo(to) => to,
            Door::Outbound | Door::Inbound => match self.net.original_dst(&stream) {
                Ok(to) if to.port() != own.port() && !CAPTURE_PORTS.contains(&to.port()) => to,
                // The port of the door itself: nobody captured this connection, and following it would be a loop.
                _ => return None,
            },
        };
        let mut conn = ConnInfo {
            direction: door.direction(),
            peer,
            local,
            direct: None,
            sni: "".into(),
            tls: None,
            peer_text: Default::default(),
        };
        let route = match door {
            Door::Outbound | Door::OutboundDirect | Door::OutboundTo(_) => Route::Outbound(local),
            Door::Inbound | Door::InboundDirect => Route::Inbound(local.port()),
            Door::Gateway(port) => Route::Gateway(port),
            Door::GatewayAt(key) => Route::GatewayAt(key),
            Door::Explicit => return crate::explicit::decide(self, stream, conn).await,
        };
        let drain = self.drain_of(door).clone();
        let mut first = Bytes::new();
        let mut stream = stream;
        if door.direction() == Direction::Gateway && snapshot.proxy.accepts_proxy_header {
            match terminate::proxy_header(&mut stream, &mut conn).await {
                Some(rest) => first = rest,
                None => {
                    stream.abort_on_close();
                    return None;
                }
            }
        }
        self.route(snapshot, Prefixed::new(first, stream), conn, route, drain).await
    }

    /// What is to serve a connection whose destination is known.
    pub(crate) async fn route(
        self: Arc<Self>,
        snapshot: Arc<Snapshot>,
        stream: Prefixed<N::Stream>,
        mut conn: ConnInfo,
        route: Route,
        drain: Drain,
    ) -> Option<Served> {
        let listener = Arc::clone(route.listener(&snapshot)?);
        let mut facts = ConnFacts { original_dst: Some(conn.local), peer: Some(conn.peer.ip()), detected: None };
        let mut sniffed = Sniffed::nothing(stream);
        let gate = self.gate(listener.key);
        let needs_bytes = match decide_connection(&listener, &facts) {
            ConnDecision::NeedBytes => true,
            ConnDecision::Tcp(_) => gate.reads_server_names(),
            _ => false,
        };
        if needs_bytes {
            let tools = self.tools();
            // Nobody is dialled for a client that may not get there.
            let allowed = gate.is_open(&conn);
            let first = sniffing(&tools, &snapshot, (&listener, allowed), &conn, sniffed.stream);
            // Only a ClientHello can do anything here: it is the beginning of a handshake.
            sniffed = match waits_for_hello(&listener) {
                true => tokio::time::timeout(terminate::HANDSHAKE, first).await.ok()?,
                false => first.await,
            };
            if let Some(Detected::Tls { sni: Some(sni), .. }) = &sniffed.detected {
                conn.sni = sni.clone();
            }
            facts.detected = sniffed.detected.or(Some(Detected::Other));
        }
        let conn = Arc::new(conn);
        match decide_connection(&listener, &facts) {
            ConnDecision::Http(_) => Some(self.serve_http(Link::Plain(sniffed.stream), conn, route, drain)),
            ConnDecision::Terminate(server) => {
                self.terminate(snapshot, (listener.key, server), sniffed.stream, conn, drain).await
            }
            ConnDecision::Mutual(tls, inside) => {
                self.mutual(snapshot, (tls, inside), sniffed.stream, (conn, route), drain).await
            }
            ConnDecision::Tcp(plan) => {
                let early = sniffed.early.filter(|(made_for, _)| Arc::ptr_eq(made_for, plan)).map(|(_, c)| c);
                let plan = (snapshot, Arc::clone(plan));
                Some(self.serve_bytes(plan, (sniffed.stream, early), (conn, route), gate, drain))
            }
            ConnDecision::NeedBytes => None,
            ConnDecision::Close(why) => {
                if let Route::Inbound(_) = route {
                    self.live.refused(&conn, self.env.now());
                }
                sniffed.stream.abort_on_close();
                Finish::new(&conn, &snapshot, &*self.env, &self.sink).no_rule(why);
                None
            }
        }
    }

    fn serve_http(
        self: Arc<Self>,
        stream: Link<Prefixed<N::Stream>>,
        conn: Arc<ConnInfo>,
        route: Route,
        drain: Drain,
    ) -> Served {
        if !route.may_be_revoked() {
            return self.http.serve(stream, conn, route, drain);
        }
        Box::pin(async move {
            let serve = |drain| self.http.serve(stream, Arc::clone(&conn), route, drain);
            self.hold((&conn, route), drain, serve).await;
        })
    }

    fn serve_bytes<D: Stream>(
        self: Arc<Self>,
        (snapshot, plan): (Arc<Snapshot>, Arc<TcpPlan>),
        (stream, early): (D, Option<Connected<N::Stream>>),
        (conn, route): (Arc<ConnInfo>, Route),
        gate: Gate,
        drain: Drain,
    ) -> Served {
        let in_flight = drain.enter();
        Box::pin(async move {
            let _in_flight = in_flight;
            let tools = self.tools();
            let serve = |_| Box::pin(tcp::serve(&tools, &snapshot, &plan, &conn, (stream, early), gate));
            self.hold((&conn, route), drain, serve).await;
        })
    }
}

/// An upstream that was dialled while sniffing, and the plan that it was dialled for.
type Early<S> = Option<(Arc<TcpPlan>, Connected<S>)>;
