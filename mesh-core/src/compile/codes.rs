//! Codes of what compilation says beside the account.

use crate::api::codes::Code;
use crate::report::Level::Warning;

const fn code(code: &'static str, name: &'static str, level: crate::report::Level) -> Code {
    Code { code, name, level }
}

/// Services give one port of a workload different protocols.
pub(crate) const CONFLICTING_PORT: Code = code("MESH0109", "ConflictingInboundPort", Warning);
/// A `credentialName` that a sidecar may not use, so that there is no TLS.
pub(crate) const CREDENTIAL_NOT_USED: Code = code("MESH0112", "CredentialNotUsed", Warning);
/// A TLS version that the TLS library does not speak.
pub(crate) const VERSION_NOT_SPOKEN: Code = code("MESH0113", "TlsVersionNotSpoken", Warning);
/// A server of a Gateway that is not opened.
pub(crate) const NOT_OPENED: Code = code("MESH0114", "ServerNotOpened", Warning);
/// An annotation with settings of the proxy can't be read.
pub(crate) const ANNOTATION: Code = code("MESH0115", "ProxyConfigAnnotation", Warning);
