//! From a codec's error to ours.

use std::error::Error as _;

use h2::Reason;
use mesh_core::error::{Error, ErrorKind};

/// What a failed exchange with an upstream means.
pub(super) fn error(error: &hyper::Error) -> Error {
    let mut source = error.source();
    while let Some(cause) = source {
        // The request's body failed on its way in: the client's doing, not the upstream's.
        if let Some(ours) = cause.downcast_ref::<Error>() {
            return ours.clone();
        }
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            return Error::new(of_h2(h2));
        }
        source = cause.source();
    }
    let protocol = error.is_parse() || error.is_parse_too_large() || error.is_parse_status();
    Error::new(if protocol { ErrorKind::UpstreamProtocol } else { ErrorKind::ConnectionTermination })
}

/// What broke a response's body over HTTP/1. One that is shorter than announced is Envoy's protocol error.
pub(super) fn body(error: &hyper::Error) -> ErrorKind {
    match self::error(error).kind() {
        ErrorKind::ConnectionTermination => ErrorKind::UpstreamProtocol,
        kind => kind,
    }
}

/// What a failed stream or connection of HTTP/2 means.
pub(super) fn h2(error: &h2::Error) -> Error {
    Error::new(of_h2(error))
}

fn of_h2(error: &h2::Error) -> ErrorKind {
    if error.is_io() || error.is_go_away() {
        return ErrorKind::ConnectionTermination;
    }
    match error.reason() {
        Some(Reason::REFUSED_STREAM) => ErrorKind::RefusedStream,
        Some(Reason::PROTOCOL_ERROR) => ErrorKind::UpstreamProtocol,
        Some(_) if error.is_remote() => ErrorKind::RemoteReset,
        Some(_) => ErrorKind::UpstreamProtocol,
        None => ErrorKind::ConnectionTermination,
    }
}
