//! One error type and one table: what went wrong, whose fault it is, what the client is told, whether to try again.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};

/// What went wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ErrorKind {
    /// No virtual host or no route (`NR`).
    NoRoute,
    /// The route names a cluster that does not exist (`NC`).
    NoCluster,
    /// The cluster has no healthy endpoint (`UH`).
    NoHealthyUpstream,
    /// The name that the request asks for does not resolve (`DF`).
    DnsFailure,
    /// The connection could not be made (`UF`).
    ConnectFailure,
    /// The connection was not made in time (`UF`).
    ConnectTimeout,
    /// The upstream closed before it answered (`UC`).
    ConnectionTermination,
    /// The upstream reset the stream (`UR`).
    RemoteReset,
    /// The upstream refused the stream: it was not processed (`UR`).
    RefusedStream,
    /// The upstream broke the protocol (`UPE`, 502).
    UpstreamProtocol,
    /// We reset the stream (`LR`).
    LocalReset,
    /// A limit of the cluster is reached (`UO`).
    Overflow,
    /// The route's timeout (`UT`).
    Timeout,
    /// One try's timeout (`UT`).
    PerTryTimeout,
    /// The stream was idle too long (`SI`).
    IdleTimeout,
    /// The request did not arrive in time (408).
    RequestTimeout,
    /// Request and response took too long altogether (504).
    StreamDuration,
    /// The client went away (`DC`).
    DownstreamGone,
    /// The client broke the protocol (`DPE`, 400).
    DownstreamProtocol,
    /// The request's body is larger than allowed (413).
    PayloadTooLarge,
}

/// Who has to look into it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fault {
    /// The client.
    Downstream,
    /// The destination.
    Upstream,
    /// This proxy or its configuration.
    Us,
}

/// What is known about whether the upstream saw the request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Sent {
    /// Certainly not a byte of it.
    No,
    /// The upstream said that it did not process it.
    Refused,
    /// It may have been processed.
    Unknown,
}

/// A row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// HTTP status of the local reply.
    pub status: StatusCode,
    /// Envoy's response flag; empty: none.
    pub flag: &'static str,
    /// Whose fault it is.
    pub fault: Fault,
    /// Reset reason, for the ones whose body is the long sentence.
    pub reset_reason: Option<&'static str>,
    /// Body of the local reply for the others.
    pub body: &'static str,
    /// `response_code_details`; reset reasons are put in braces after it.
    pub details: &'static str,
}

const RESET: &str = "upstream_reset_before_response_started";

impl ErrorKind {
    /// What this kind means for client, log and retry. Source: Envoy, as measured.
    pub fn row(self) -> Row {
        use Fault::{Downstream, Upstream, Us};
        let row = |status, flag, fault, body, details| Row { status, flag, fault, reset_reason: None, body, details };
        let reset = |status, flag, fault, reason| Row {
            status,
            flag,
            fault,
            reset_reason: Some(reason),
            body: "",
            details: RESET,
        };
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        match self {
            Self::NoRoute => row(StatusCode::NOT_FOUND, "NR", Us, "", "route_not_found"),
            Self::NoCluster => row(unavailable, "NC", Us, "", "cluster_not_found"),
            Self::NoHealthyUpstream => row(unavailable, "UH", Upstream, "no healthy upstream", "no_healthy_upstream"),
            Self::DnsFailure => row(unavailable, "DF", Upstream, "DNS resolution failure", "dns_resolution_failure"),
            Self::ConnectFailure => reset(unavailable, "UF", Upstream, "remote connection failure"),
            Self::ConnectTimeout => reset(unavailable, "UF", Upstream, "connection timeout"),
            Self::ConnectionTermination => reset(unavailable, "UC", Upstream, "connection termination"),
            Self::RemoteReset => reset(unavailable, "UR", Upstream, "remote reset"),
            Self::RefusedStream => reset(unavailable, "UR", Upstream, "remote refused stream reset"),
            Self::UpstreamProtocol => reset(StatusCode::BAD_GATEWAY, "UPE", Upstream, "protocol error"),
            Self::LocalReset => reset(unavailable, "LR", Us, "local reset"),
            Self::Overflow => reset(unavailable, "UO", Us, "overflow"),
            Self::Timeout => {
                row(StatusCode::GATEWAY_TIMEOUT, "UT", Upstream, "upstream request timeout", "response_timeout")
            }
            Self::PerTryTimeout => {
                row(StatusCode::GATEWAY_TIMEOUT, "UT", Upstream, "upstream request timeout", "upstream_per_try_timeout")
            }
            Self::IdleTimeout => {
                row(StatusCode::GATEWAY_TIMEOUT, "SI", Upstream, "stream timeout", "stream_idle_timeout")
            }
            Self::RequestTimeout => {
                row(StatusCode::REQUEST_TIMEOUT, "", Downstream, "request timeout", "request_overall_timeout")
            }
            Self::StreamDuration => {
                row(StatusCode::GATEWAY_TIMEOUT, "", Us, "downstream duration timeout", "max_duration_timeout")
            }
            Self::DownstreamGone => row(StatusCode::BAD_REQUEST, "DC", Downstream, "", "downstream_remote_disconnect"),
            Self::DownstreamProtocol => {
                row(StatusCode::BAD_REQUEST, "DPE", Downstream, "Bad Request", "http1.codec_error")
            }
            Self::PayloadTooLarge => {
                row(StatusCode::PAYLOAD_TOO_LARGE, "", Downstream, "Payload Too Large", "request_payload_too_large")
            }
        }
    }

    /// gRPC status of the local reply to a gRPC request.
    pub fn grpc_status(self) -> u8 {
        match self {
            // DEADLINE_EXCEEDED, although it is a 504 elsewhere.
            Self::StreamDuration => 4,
            _ => grpc_status_of_http(self.row().status),
        }
    }
}

/// Envoy's mapping from the HTTP status of a local reply to a gRPC status.
pub fn grpc_status_of_http(status: StatusCode) -> u8 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// What is done to the headers of a reply of this status.
type ReplyChange = Arc<dyn Fn(StatusCode, &mut HeaderMap) + Send + Sync>;

/// A failed request: what, what is known, and why in words. Only the `respond` Layer turns it into a reply.
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    sent: Sent,
    reused: bool,
    status: Option<StatusCode>,
    change: Option<ReplyChange>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of a kind whose request may have reached the upstream.
    pub fn new(kind: ErrorKind) -> Self {
        let sent = match kind {
            ErrorKind::NoRoute
            | ErrorKind::NoCluster
            | ErrorKind::NoHealthyUpstream
            | ErrorKind::DnsFailure
            | ErrorKind::ConnectFailure
            | ErrorKind::ConnectTimeout
            | ErrorKind::Overflow
            | ErrorKind::DownstreamProtocol
            | ErrorKind::PayloadTooLarge => Sent::No,
            ErrorKind::RefusedStream => Sent::Refused,
            ErrorKind::ConnectionTermination
            | ErrorKind::RemoteReset
            | ErrorKind::UpstreamProtocol
            | ErrorKind::LocalReset
            | ErrorKind::Timeout
            | ErrorKind::PerTryTimeout
            | ErrorKind::IdleTimeout
            | ErrorKind::RequestTimeout
            | ErrorKind::StreamDuration
            | ErrorKind::DownstreamGone => Sent::Unknown,
        };
        Self { kind, sent, reused: false, status: None, change: None, source: None }
    }

    /// The same with its cause.
    #[must_use]
    pub fn because(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The same, knowing whether the request was sent.
    #[must_use]
    pub fn sent(mut self, sent: Sent) -> Self {
        self.sent = sent;
        self
    }

    /// The same, on a connection that had served requests before.
    #[must_use]
    pub fn on_reused(mut self, reused: bool) -> Self {
        self.reused = reused;
        self
    }

    /// The same, answered with another status than its kind's.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// The same, whose reply has its headers changed, after what was to be changed before: a route's response headers
    /// are for replies, too.
    #[must_use]
    pub fn changing_reply(mut self, change: impl Fn(StatusCode, &mut HeaderMap) + Send + Sync + 'static) -> Self {
        self.change = Some(match self.change.take() {
            Some(before) => Arc::new(move |status, headers| {
                before(status, headers);
                change(status, headers);
            }),
            None => Arc::new(change),
        });
        self
    }

    /// Makes the changes of [`Error::changing_reply`].
    pub fn change_reply(&self, status: StatusCode, headers: &mut HeaderMap) {
        if let Some(change) = &self.change {
            change(status, headers);
        }
    }

    /// Status of the local reply.
    pub fn status(&self) -> StatusCode {
        self.status.unwrap_or_else(|| self.kind.row().status)
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the upstream can have seen the request.
    pub fn was_sent(&self) -> Sent {
        self.sent
    }

    /// Whether it happened on a pooled connection that had served before.
    pub fn was_reused(&self) -> bool {
        self.reused
    }

    /// The cause in words, in the form of `%UPSTREAM_TRANSPORT_FAILURE_REASON%`; empty if there is none.
    pub fn reason(&self) -> String {
        self.source.as_ref().map(|s| s.to_string()).unwrap_or_default()
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({:?})", self.kind, self.source.as_ref().map(ToString::to_string))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = self.kind.row();
        f.write_str(row.reset_reason.unwrap_or(if row.body.is_empty() { row.details } else { row.body }))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|s| &**s as &(dyn std::error::Error + 'static))
    }
}
