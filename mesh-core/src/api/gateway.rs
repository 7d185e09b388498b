//! `networking.istio.io` Gateway: ports that a gateway workload opens.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::values::is_default;

/// Spec of a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Gateway {
    /// Ports to open.
    #[serde(skip_serializing_if = "is_default")]
    pub servers: Vec<Server>,
    /// Labels of the gateway's pods, in any namespace; empty selects every gateway.
    #[serde(skip_serializing_if = "is_default")]
    pub selector: BTreeMap<String, String>,
}

/// One port of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Server {
    /// The port.
    #[serde(skip_serializing_if = "is_default")]
    pub port: Option<Port>,
    /// Address to listen on, or `unix://…`; empty means every address.
    #[serde(skip_serializing_if = "is_default")]
    pub bind: String,
    /// Hosts served here: `[namespace/]name`, also `*` and `*.suffix`.
    #[serde(skip_serializing_if = "is_default")]
    pub hosts: Vec<String>,
    /// TLS; needed for HTTPS and TLS.
    #[serde(skip_serializing_if = "is_default")]
    pub tls: Option<ServerTlsSettings>,
    /// Not implemented by Istio.
    #[serde(skip_serializing_if = "is_default")]
    pub default_endpoint: String,
    /// Prefix for statistics.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
}

/// A port with its protocol.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    /// Port number.
    #[serde(skip_serializing_if = "is_default")]
    pub number: u32,
    /// Protocol, any case: HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, TCP, TLS.
    #[serde(skip_serializing_if = "is_default")]
    pub protocol: String,
    /// Name, unique in the Gateway.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// Deprecated; refused.
    #[serde(skip_serializing_if = "is_default")]
    pub target_port: u32,
}

/// TLS of a server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ServerTlsSettings {
    /// Answer plain HTTP with a redirect to HTTPS.
    #[serde(skip_serializing_if = "is_default")]
    pub https_redirect: bool,
    /// Kind of TLS.
    #[serde(skip_serializing_if = "is_default")]
    pub mode: ServerTlsMode,
    /// File with the certificate.
    #[serde(skip_serializing_if = "is_default")]
    pub server_certificate: String,
    /// File with its key.
    #[serde(skip_serializing_if = "is_default")]
    pub private_key: String,
    /// File with the authorities for client certificates.
    #[serde(skip_serializing_if = "is_default")]
    pub ca_certificates: String,
    /// File with a revocation list.
    #[serde(skip_serializing_if = "is_default")]
    pub ca_crl: String,
    /// Secret with certificate, key and authorities.
    #[serde(skip_serializing_if = "is_default")]
    pub credential_name: String,
    /// Up to two secrets (RSA and ECDSA).
    #[serde(skip_serializing_if = "is_default")]
    pub credential_names: Vec<String>,
    /// Secret with the authorities for client certificates.
    #[serde(skip_serializing_if = "is_default")]
    pub ca_cert_credential_name: String,
    /// Up to two certificates as files.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_certificates: Vec<ServerTlsCertificate>,
    /// Names, one of which a client certificate must have.
    #[serde(skip_serializing_if = "is_default")]
    pub subject_alt_names: Vec<String>,
    /// Accepted base64 SHA-256 hashes of client keys.
    #[serde(skip_serializing_if = "is_default")]
    pub verify_certificate_spki: Vec<String>,
    /// Accepted hex SHA-256 hashes of client certificates.
    #[serde(skip_serializing_if = "is_default")]
    pub verify_certificate_hash: Vec<String>,
    /// Lowest TLS version; default 1.2.
    #[serde(skip_serializing_if = "is_default")]
    pub min_protocol_version: TlsProtocol,
    /// Highest TLS version; default 1.3.
    #[serde(skip_serializing_if = "is_default")]
    pub max_protocol_version: TlsProtocol,
    /// OpenSSL names of the accepted cipher suites.
    #[serde(skip_serializing_if = "is_default")]
    pub cipher_suites: Vec<String>,
    /// Accepted curves.
    #[serde(skip_serializing_if = "is_default")]
    pub ecdh_curves: Vec<String>,
    /// Ask for a client certificate, but accept any.
    #[serde(skip_serializing_if = "is_default")]
    pub insecure_skip_verify: Option<bool>,
}

/// A certificate as files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ServerTlsCertificate {
    /// File with the certificate.
    #[serde(skip_serializing_if = "is_default")]
    pub server_certificate: String,
    /// File with its key.
    #[serde(skip_serializing_if = "is_default")]
    pub private_key: String,
    /// File with the authorities for client certificates.
    #[serde(skip_serializing_if = "is_default")]
    pub ca_certificates: String,
}

/// Kind of TLS of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub enum ServerTlsMode {
    /// Not terminated; routed by SNI.
    #[default]
    #[serde(rename = "PASSTHROUGH")]
    Passthrough,
    /// Terminated.
    #[serde(rename = "SIMPLE")]
    Simple,
    /// Terminated; a client certificate is required.
    #[serde(rename = "MUTUAL")]
    Mutual,
    /// Not terminated; the SNI names the cluster.
    #[serde(rename = "AUTO_PASSTHROUGH")]
    AutoPassthrough,
    /// Terminated with the mesh's certificate; a client certificate of the mesh is required.
    #[serde(rename = "ISTIO_MUTUAL")]
    IstioMutual,
    /// Terminated; a client certificate is verified if there is one.
    #[serde(rename = "OPTIONAL_MUTUAL")]
    OptionalMutual,
}

/// A TLS version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub enum TlsProtocol {
    /// The default.
    #[default]
    #[serde(rename = "TLS_AUTO")]
    TlsAuto,
    /// TLS 1.0.
    #[serde(rename = "TLSV1_0")]
    Tlsv1_0,
    /// TLS 1.1.
    #[serde(rename = "TLSV1_1")]
    Tlsv1_1,
    /// TLS 1.2.
    #[serde(rename = "TLSV1_2")]
    Tlsv1_2,
    /// TLS 1.3.
    #[serde(rename = "TLSV1_3")]
    Tlsv1_3,
}
