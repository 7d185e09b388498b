//! What is known about one request or connection: [`Cx`] is filled while it runs; when it ends, exactly once, it becomes a
//! [`RequestRecord`] that every sink reads (metrics, access log; later spans, denial records, tap and graph).

mod client_cert;
mod identity;
mod latest;
mod tls;

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use http::{HeaderValue, Method, StatusCode, Uri, Version};

pub use client_cert::ClientCert;
pub use identity::PeerIdentity;
pub use latest::Latest;
pub use tls::{PeerCertificate, TlsInfo};

use crate::api::ContentHash;
use crate::snapshot::{ClusterPlan, Direction, Endpoint, RoutePlan};

/// Facts of a downstream connection, gathered once per connection.
#[derive(Clone, Debug)]
pub struct ConnInfo {
    /// Direction of the listener.
    pub direction: Direction,
    /// The peer's address, as a PROXY header gives it if there is one.
    pub peer: SocketAddr,
    /// Address of the TCP peer, where that is another one; `None`: it is `peer`.
    pub direct: Option<SocketAddr>,
    /// The address that the client dialled (before any redirect).
    pub local: SocketAddr,
    /// SNI of a TLS connection; empty: none.
    pub sni: Arc<str>,
    /// TLS that this proxy terminated.
    pub tls: Option<Arc<TlsInfo>>,
    /// The peer's address as text, once a request has needed it.
    pub peer_text: AddressText,
}

/// An address as a header's value, made when it is needed for the first time.
#[derive(Clone, Debug, Default)]
pub struct AddressText(OnceLock<(IpAddr, HeaderValue)>);

impl AddressText {
    /// The text of this address. Of another one than the first it is made anew.
    pub fn of(&self, address: IpAddr, text: impl Fn(IpAddr) -> HeaderValue) -> HeaderValue {
        match self.0.get_or_init(|| (address, text(address))) {
            (known, text) if *known == address => text.clone(),
            _ => text(address),
        }
    }
}

/// Envoy's response flags, as a set of bits in [`Cx::flags`]. Printed in the order in which Envoy prints them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Flag {
    /// Retries used up (TCP: connect attempts).
    Urx = 1 << 0,
    /// No healthy upstream.
    Uh = 1 << 1,
    /// Upstream connection failure.
    Uf = 1 << 2,
    /// Upstream connection termination.
    Uc = 1 << 3,
    /// Upstream remote reset.
    Ur = 1 << 4,
    /// Upstream request timeout.
    Ut = 1 << 5,
    /// Upstream overflow.
    Uo = 1 << 6,
    /// Upstream protocol error.
    Upe = 1 << 7,
    /// No route.
    Nr = 1 << 8,
    /// No cluster.
    Nc = 1 << 9,
    /// Local reset.
    Lr = 1 << 10,
    /// Downstream closed.
    Dc = 1 << 11,
    /// Downstream reset the stream.
    Dr = 1 << 12,
    /// Downstream protocol error.
    Dpe = 1 << 13,
    /// Stream idle timeout.
    Si = 1 << 14,
    /// Duration timeout.
    Dt = 1 << 15,
    /// Delay injected.
    Di = 1 << 16,
    /// Fault injected.
    Fi = 1 << 17,
    /// Rate limited.
    Rl = 1 << 18,
    /// Denied by an external authorizer.
    Uaex = 1 << 19,
    /// A name did not resolve.
    Df = 1 << 20,
}

impl Flag {
    // Envoy prints them in the order in which they were set, and a delay comes before anything is sent.
    const ALL: [(Flag, &'static str); 21] = [
        (Flag::Di, "DI"),
        (Flag::Urx, "URX"),
        (Flag::Uh, "UH"),
        (Flag::Uf, "UF"),
        (Flag::Uc, "UC"),
        (Flag::Ur, "UR"),
        (Flag::Ut, "UT"),
        (Flag::Uo, "UO"),
        (Flag::Upe, "UPE"),
        (Flag::Nr, "NR"),
        (Flag::Nc, "NC"),
        (Flag::Lr, "LR"),
        (Flag::Dc, "DC"),
        (Flag::Dr, "DR"),
        (Flag::Dpe, "DPE"),
        (Flag::Df, "DF"),
        (Flag::Si, "SI"),
        (Flag::Dt, "DT"),
        (Flag::Fi, "FI"),
        (Flag::Rl, "RL"),
        (Flag::Uaex, "UAEX"),
    ];

    /// The flag of a short name of the error table.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, n)| *n == name).map(|(f, _)| *f)
    }

    /// Short names of the flags of a request, or of a stream of bytes, where `URX` comes last.
    pub fn names_of(set: u32, stream: bool) -> String {
        let rest = set & !(Flag::Urx as u32);
        if stream && rest != set && rest != 0 { Self::names(rest) + ",URX" } else { Self::names(set) }
    }

    /// Short names of a set in the order of a request's, comma-joined; `-` for none.
    pub fn names(set: u32) -> String {
        let names: Vec<_> = Self::ALL.iter().filter(|(f, _)| set & *f as u32 != 0).map(|(_, n)| *n).collect();
        if names.is_empty() { "-".into() } else { names.join(",") }
    }
}

/// Why a try could be repeated, as a set of bits in [`Cx::proofs`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Proof {
    /// Not a byte of the request was sent.
    NotSent = 1 << 0,
    /// The upstream said that it did not process the request.
    Refused = 1 << 1,
    /// It may have been processed: repeated because the policy says so, or because it is idempotent.
    Unknown = 1 << 2,
    /// There was an answer, and the policy names it.
    Answered = 1 << 3,
}

/// The context of a request, in its extensions as `Arc<Cx>`: what Layers learn on the way. The outermost Layer keeps a
/// clone, so that it finishes exactly once, also when the request's future is dropped. No field is behind a lock.
#[derive(Debug)]
pub struct Cx {
    /// The connection.
    pub conn: Arc<ConnInfo>,
    /// Configuration in force for this request.
    pub config: ContentHash,
    /// When the request began; set by who meters it.
    pub start: OnceLock<SystemTime>,
    /// The route that was chosen.
    pub route: OnceLock<Arc<RoutePlan>>,
    /// The cluster that was chosen.
    pub cluster: OnceLock<Arc<ClusterPlan>>,
    /// The endpoint of each try; the last one counts.
    pub endpoint: Latest<Arc<Endpoint>>,
    /// Local address of each upstream connection that was used; the last one counts.
    pub upstream_local: Latest<SocketAddr>,
    /// What the handshake of each of them said; the last one counts. `None`: plaintext.
    pub upstream_tls: Latest<Option<Arc<TlsInfo>>>,
    /// Tries made.
    pub attempts: AtomicU32,
    /// The try under way is given up because its time is over, not because nobody wants it any more.
    pub given_up: AtomicBool,
    /// A limit of the listener has cut the response: its end is not the client's going.
    pub cut: AtomicBool,
    /// Set of [`Flag`]s.
    pub flags: AtomicU32,
    /// Set of [`Proof`]s of the tries that were repeated.
    pub proofs: AtomicU32,
    /// Tries that met the close of an idle connection and were repeated, whatever the policy says.
    pub replays: AtomicU32,
    /// `response_code_details` of a local reply or reset; unset: `via_upstream` when there was a response.
    pub details: OnceLock<String>,
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`.
    pub failure_reason: OnceLock<String>,
    /// What security policies said, in words: why it was refused, or what those found that decide nothing.
    pub verdict: OnceLock<String>,
    /// Bytes of the request's body.
    pub request_bytes: AtomicU64,
    /// Bytes of the response's body.
    pub response_bytes: AtomicU64,
    /// `x-request-id` in force.
    pub request_id: OnceLock<HeaderValue>,
    /// `x-forwarded-for` as sent on, if there is one.
    pub forwarded_for: OnceLock<HeaderValue>,
    /// Authority sent on, if the route changes it.
    pub authority: OnceLock<HeaderValue>,
    /// Who a forwarding header says the client is; unset: the peer itself.
    pub remote: OnceLock<SocketAddr>,
    /// Path for the log, where it is not the one of the request line (normalized, or `x-envoy-original-path`).
    pub path: OnceLock<String>,
    /// `x-envoy-upstream-service-time` in milliseconds; [`u64::MAX`]: no upstream answered.
    pub service_time: AtomicU64,
}

impl Cx {
    /// A fresh context.
    pub fn new(conn: Arc<ConnInfo>, config: ContentHash) -> Self {
        Self {
            conn,
            config,
            start: OnceLock::new(),
            route: OnceLock::new(),
            cluster: OnceLock::new(),
            endpoint: Latest::default(),
            upstream_local: Latest::default(),
            upstream_tls: Latest::default(),
            attempts: AtomicU32::new(0),
            given_up: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            flags: AtomicU32::new(0),
            proofs: AtomicU32::new(0),
            replays: AtomicU32::new(0),
            details: OnceLock::new(),
            failure_reason: OnceLock::new(),
            verdict: OnceLock::new(),
            request_bytes: AtomicU64::new(0),
            response_bytes: AtomicU64::new(0),
            request_id: OnceLock::new(),
            forwarded_for: OnceLock::new(),
            authority: OnceLock::new(),
            remote: OnceLock::new(),
            path: OnceLock::new(),
            service_time: AtomicU64::new(u64::MAX),
        }
    }

    /// The client's address: the one that `x-forwarded-for` gives (port 0), else the peer's.
    pub fn remote(&self) -> SocketAddr {
        self.remote.get().copied().unwrap_or(self.conn.peer)
    }

    /// `response_code_details`: what a Layer has set, else `via_upstream`, with a word about repeated tries that nobody
    /// configured.
    pub fn response_details(&self) -> &str {
        match self.details.get() {
            Some(details) => details,
            None if self.replays.load(Ordering::Relaxed) > 0 => "via_upstream{replayed:idle_connection_closed}",
            None => "via_upstream",
        }
    }

    /// `x-envoy-upstream-service-time` in milliseconds, if an upstream answered.
    pub fn service_time(&self) -> Option<u64> {
        Some(self.service_time.load(Ordering::Relaxed)).filter(|ms| *ms != u64::MAX)
    }

    /// Adds a flag.
    pub fn flag(&self, flag: Flag) {
        self.flags.fetch_or(flag as u32, Ordering::Relaxed);
    }
}

/// What only a request has.
#[derive(Clone, Debug, Default)]
pub struct HttpRecord {
    /// Method.
    pub method: Method,
    /// Target as it came in; see [`RequestRecord::path`].
    pub target: Uri,
    /// Version.
    pub version: Version,
    /// `host` as it came in; see [`RequestRecord::authority`].
    pub host: Option<HeaderValue>,
    /// Status sent; `None`: the client was gone before.
    pub status: Option<StatusCode>,
    /// `grpc-status`, of a gRPC response.
    pub grpc_status: Option<u16>,
    /// The request is gRPC.
    pub grpc: bool,
    /// `user-agent`.
    pub user_agent: Option<HeaderValue>,
}

/// A finished request or TCP stream.
#[derive(Clone, Debug)]
pub struct RequestRecord {
    /// Wall clock at the start.
    pub start: SystemTime,
    /// From the first byte of the request to the last of the response.
    pub duration: Duration,
    /// What the Layers learned.
    pub cx: Arc<Cx>,
    /// `None` for a TCP stream; its byte counts are in [`Cx`].
    pub http: Option<HttpRecord>,
    /// `%CONNECTION_TERMINATION_DETAILS%`; empty: none.
    pub termination: Arc<str>,
}

impl RequestRecord {
    /// Path and query as the client sent it, normalized, before any rewrite; `-` for a request that could not be parsed
    /// and for a TCP stream.
    pub fn path(&self) -> &str {
        match (self.cx.path.get(), &self.http) {
            (Some(path), _) => path,
            // The stand-in for a request that could not be parsed.
            (None, Some(http)) if http.method.as_str() != "-" => {
                http.target.path_and_query().map_or("/", http::uri::PathAndQuery::as_str)
            }
            _ => "-",
        }
    }

    /// Authority after rewriting; empty: none.
    pub fn authority(&self) -> Cow<'_, str> {
        let http = self.http.as_ref();
        match self.cx.authority.get().or(http.and_then(|h| h.host.as_ref())) {
            Some(host) => String::from_utf8_lossy(host.as_bytes()),
            None => http.and_then(|h| h.target.authority()).map_or("", http::uri::Authority::as_str).into(),
        }
    }
}

/// What became of a mirrored copy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CopyOutcome {
    /// Sent; the mirror answered, no matter what.
    Sent,
    /// The mirror could not be reached, broke off, or took longer than the route's timeout.
    Failed,
    /// Given up here: the mirror was too slow, too many copies were under way, or the request itself broke off.
    Lost,
}

/// A reader of records. Called on the worker that served the request: it must not block.
pub trait Sink: Send + Sync + 'static {
    /// Takes one record.
    fn record(&self, record: &RequestRecord);

    /// Takes the end of a mirrored copy. Copies are no requests of the client and have no record.
    fn copied(&self, cluster: &str, outcome: CopyOutcome) {
        let _ = (cluster, outcome);
    }
}
