//! gRPC calls of one message each way: the standard health check, and fortio's ping. The messages are so small that
//! they are written here by hand.

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;

/// A method that is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrpcMethod {
    /// `grpc.health.v1.Health/Check` of this service; empty: of the server.
    Health(String),
    /// `fgrpc.PingServer/Ping`, which answers with what it got.
    Ping(String),
}

impl GrpcMethod {
    pub(super) fn path(&self) -> &'static str {
        match self {
            Self::Health(_) => "/grpc.health.v1.Health/Check",
            Self::Ping(_) => "/fgrpc.PingServer/Ping",
        }
    }

    /// The request: one uncompressed message with its length before it.
    pub(super) fn message(&self) -> Bytes {
        let (field, text) = match self {
            Self::Health(service) => (1, service),
            Self::Ping(payload) => (3, payload),
        };
        let mut message = BytesMut::new();
        if !text.is_empty() {
            message.put_u8(field << 3 | 2);
            varint(&mut message, text.len() as u64);
            message.put_slice(text.as_bytes());
        }
        let mut framed = BytesMut::with_capacity(message.len() + 5);
        framed.put_u8(0);
        framed.put_u32(u32::try_from(message.len()).expect("invariant: a command line is shorter than 4 GB"));
        framed.put_slice(&message);
        framed.freeze()
    }

    /// What an answer counts as: the health or `OK`, else the name of the status; `None`: it has no status, so it is
    /// not from a gRPC server.
    pub(super) fn code(&self, headers: &HeaderMap, trailers: Option<&HeaderMap>, body: &[u8]) -> Option<String> {
        let status = trailers.and_then(|t| t.get("grpc-status")).or_else(|| headers.get("grpc-status"))?;
        let number: usize = status.to_str().ok()?.parse().ok()?;
        Some(match (number, self) {
            (0, Self::Health(_)) => serving(body).to_owned(),
            (0, Self::Ping(_)) => "OK".to_owned(),
            (n, _) => STATUS.get(n).map_or_else(|| n.to_string(), |s| (*s).to_owned()),
        })
    }
}

fn varint(out: &mut BytesMut, mut n: u64) {
    while n >= 0x80 {
        out.put_u8(n as u8 | 0x80);
        n >>= 7;
    }
    out.put_u8(n as u8);
}

/// `HealthCheckResponse.status`; zero is not written.
fn serving(body: &[u8]) -> &'static str {
    match body.get(5..) {
        Some([0x08, 1, ..]) => "SERVING",
        Some([0x08, 2, ..]) => "NOT_SERVING",
        Some([0x08, 3, ..]) => "SERVICE_UNKNOWN",
        _ => "UNKNOWN",
    }
}

const STATUS: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
