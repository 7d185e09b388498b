//! Why there is no TLS connection, in Envoy's words where it has some.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::{AlertDescription, CertificateError};

use crate::SecretError;

/// A failed handshake.
#[derive(Clone, Debug)]
pub enum TlsError {
    /// Key material is not there, so that no handshake was begun.
    Secret(SecretError),
    /// The peer's certificate holds but names somebody else; these are its names.
    Names(Arc<[String]>),
    /// The peer's certificate is none of the pinned ones.
    Pin,
    /// The configuration allows no handshake at all.
    Config(Arc<str>),
    /// The handshake failed.
    Handshake(Arc<io::Error>),
}

impl TlsError {
    pub(crate) fn handshake(error: io::Error) -> Self {
        Self::Handshake(Arc::new(error))
    }

    /// The TLS library's own error, if that is what it is.
    fn rustls(&self) -> Option<&rustls::Error> {
        match self {
            Self::Handshake(error) => error.get_ref()?.downcast_ref(),
            Self::Secret(_) | Self::Names(_) | Self::Pin | Self::Config(_) => None,
        }
    }

    /// The peer's certificate was not accepted.
    pub fn is_verification(&self) -> bool {
        match self {
            Self::Names(_) | Self::Pin => true,
            other => matches!(other.rustls(), Some(rustls::Error::InvalidCertificate(_))),
        }
    }
}

impl From<SecretError> for TlsError {
    fn from(error: SecretError) -> Self {
        Self::Secret(error)
    }
}

const VERIFY: &str =
    "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify cert failed: ";
const END: &str = ":TLS_error_end";

impl fmt::Display for TlsError {
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`: for what Envoy's TLS library says, too, in its words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(error) => write!(f, "TLS_error:|Secret is not supplied by SDS: {error}{END}"),
            Self::Names(names) => {
                write!(f, "{VERIFY}SAN matcher, certificate SANs are [{}]{END}", names.join(", "))
            }
            Self::Pin => write!(f, "{VERIFY}certificate is not pinned{END}"),
            Self::Config(why) => write!(f, "TLS_error:|{why}{END}"),
            Self::Handshake(error) => match self.rustls() {
                Some(rustls::Error::InvalidCertificate(why)) => {
                    write!(f, "{VERIFY}X509_verify_cert: {}{END}", verification(why))
                }
                Some(rustls::Error::AlertReceived(alert)) => f.write_str(&alert_words(*alert)),
                Some(other) => write!(f, "TLS_error:|{other}{END}"),
                None if error.kind() == io::ErrorKind::UnexpectedEof => {
                    f.write_str("TLS_error:|connection closed during the handshake:TLS_error_end")
                }
                None => write!(f, "TLS_error:|{error}{END}"),
            },
        }
    }
}

/// OpenSSL's sentences.
fn verification(why: &CertificateError) -> String {
    let text = match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "certificate verification error at depth 0: certificate has expired"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "certificate verification error at depth 0: certificate is not yet valid"
        }
        CertificateError::UnknownIssuer => {
            "certificate verification error at depth 0: unable to get local issuer certificate"
        }
        CertificateError::Revoked => "certificate verification error at depth 0: certificate revoked",
        CertificateError::BadSignature => "certificate verification error at depth 0: certificate signature failure",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "certificate verification error at depth 0: unsuitable certificate purpose"
        }
        other => return format!("certificate verification error at depth 0: {other}"),
    };
    text.to_owned()
}

/// `268436496:SSL routines:OPENSSL_internal:SSLV3_ALERT_HANDSHAKE_FAILURE`: BoringSSL's number is 16 << 24 | 1000 + alert.
fn alert_words(alert: AlertDescription) -> String {
    let name = match alert {
        AlertDescription::HandshakeFailure => "SSLV3_ALERT_HANDSHAKE_FAILURE",
        AlertDescription::BadCertificate => "SSLV3_ALERT_BAD_CERTIFICATE",
        AlertDescription::UnsupportedCertificate => "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        AlertDescription::CertificateRevoked => "SSLV3_ALERT_CERTIFICATE_REVOKED",
        AlertDescription::CertificateExpired => "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        AlertDescription::CertificateUnknown => "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        AlertDescription::IllegalParameter => "SSLV3_ALERT_ILLEGAL_PARAMETER",
        AlertDescription::UnknownCA => "TLSV1_ALERT_UNKNOWN_CA",
        AlertDescription::AccessDenied => "TLSV1_ALERT_ACCESS_DENIED",
        AlertDescription::DecodeError => "TLSV1_ALERT_DECODE_ERROR",
        AlertDescription::DecryptError => "TLSV1_ALERT_DECRYPT_ERROR",
        AlertDescription::ProtocolVersion => "TLSV1_ALERT_PROTOCOL_VERSION",
        AlertDescription::InternalError => "TLSV1_ALERT_INTERNAL_ERROR",
        AlertDescription::UnrecognisedName => "TLSV1_ALERT_UNRECOGNIZED_NAME",
        AlertDescription::CertificateRequired => "TLSV1_ALERT_CERTIFICATE_REQUIRED",
        AlertDescription::NoApplicationProtocol => "TLSV1_ALERT_NO_APPLICATION_PROTOCOL",
        other => return format!("TLS_error:|alert {other:?}{END}"),
    };
    let number = (16_u32 << 24) + 1000 + u32::from(u8::from(alert));
    format!("TLS_error:|{number}:SSL routines:OPENSSL_internal:{name}{END}")
}

impl std::error::Error for TlsError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envoys_words() {
        let of = |e: rustls::Error| TlsError::handshake(io::Error::new(io::ErrorKind::InvalidData, e)).to_string();
        assert_eq!(
            of(rustls::Error::AlertReceived(AlertDescription::HandshakeFailure)),
            "TLS_error:|268436496:SSL routines:OPENSSL_internal:SSLV3_ALERT_HANDSHAKE_FAILURE:TLS_error_end"
        );
        assert_eq!(
            TlsError::Names(["spiffe://a".to_owned()].into()).to_string(),
            "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify cert failed: \
             SAN matcher, certificate SANs are [spiffe://a]:TLS_error_end"
        );
        assert!(of(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)).starts_with(VERIFY));
    }
}
