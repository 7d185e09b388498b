//! How HTTP is spoken on a listener and what headers a proxy makes, from ProxyConfig.

use std::time::Duration;

use super::XfccDetails;
use super::pool::IDLE_TIMEOUT;
use crate::api::ForwardClientCertDetails;

/// `ALLOW`, `REJECT_REQUEST` or `DROP_HEADER` of header names with an underscore.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Underscores {
    /// They are headers like others.
    #[default]
    Allow,
    /// 400.
    Reject,
    /// They are taken away.
    Drop,
}

/// What becomes of `%2F` and `%5C` in a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum EscapedSlashes {
    /// They stay.
    #[default]
    Keep,
    /// 400.
    Reject,
    /// 307 to the path with slashes.
    Redirect,
    /// They become slashes.
    Forward,
}

/// Settings of the HTTP connections of a listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HttpSettings {
    /// Requests without `x-request-id` get one; off by `proxyHeaders.requestId.disabled`.
    pub request_id: bool,
    /// `x-forwarded-port` is set where forwarding headers are (`proxyHeaders.xForwardedPort`).
    pub forwarded_port: bool,
    /// `x-forwarded-client-cert`: `proxyHeaders.forwardedClientCert`, at gateways `gatewayTopology.forwardClientCertDetails`.
    pub client_cert: ForwardClientCertDetails,
    /// What it says about a client: `proxyHeaders.setCurrentClientCertDetails`.
    pub client_cert_details: XfccDetails,
    /// Header names keep their case on HTTP/1.1 (`proxyHeaders.preserveHttp1HeaderCase`).
    pub preserve_case: bool,
    /// HTTP/1.0 is served (`proxyMetadata.ISTIO_META_HTTP10`).
    pub http10: bool,
    /// `connectionSettings.httpHeadersWithUnderscoresAction`.
    pub underscores: Underscores,
    /// `connectionSettings.httpPathWithEscapedSlashesAction`.
    pub escaped_slashes: EscapedSlashes,
    /// `connectionSettings.httpRequestHeadersTimeout`: time for a request's headers to arrive; `None`: for ever.
    pub headers_timeout: Option<Duration>,
    /// `connectionSettings.httpIdleTimeout`, in sidecars `ISTIO_META_IDLE_TIMEOUT`: time without a request after which a
    /// connection goes; `None`: it stays.
    pub idle_timeout: Option<Duration>,
    /// `connectionSettings.httpMaxConnectionDuration`: age at which a connection goes; `None`: any.
    pub max_connection_duration: Option<Duration>,
    /// `connectionSettings.httpDrainTimeout`: how long a connection that goes still takes requests.
    pub drain_timeout: Duration,
    /// `connectionSettings.httpRequestTimeout`: time for a request to arrive completely; `None`: for ever.
    pub request_timeout: Option<Duration>,
    /// `connectionSettings.httpStreamIdleTimeout`: time in which nothing of a request or its response moves.
    pub stream_idle_timeout: Option<Duration>,
    /// `connectionSettings.httpMaxStreamDuration`: time for a request and its response.
    pub max_stream_duration: Option<Duration>,
    /// `connectionSettings.perConnectionBufferLimitBytes`; `None`: what the codecs like.
    pub buffer_limit: Option<u32>,
    /// `connectionSettings.http2MaxConcurrentStreams`.
    pub max_streams: u32,
    /// `connectionSettings.http2InitialStreamWindowSize`, bytes.
    pub stream_window: u32,
    /// `connectionSettings.http2InitialConnectionWindowSize`, bytes.
    pub connection_window: u32,
}

impl Default for HttpSettings {
    /// Istio's and Envoy's defaults for a proxy inside the mesh.
    fn default() -> Self {
        Self {
            request_id: true,
            forwarded_port: false,
            client_cert: ForwardClientCertDetails::Undefined,
            client_cert_details: XfccDetails::default(),
            preserve_case: false,
            http10: false,
            underscores: Underscores::Allow,
            escaped_slashes: EscapedSlashes::Keep,
            headers_timeout: None,
            idle_timeout: Some(IDLE_TIMEOUT),
            max_connection_duration: None,
            drain_timeout: Duration::from_secs(5),
            request_timeout: None,
            stream_idle_timeout: None,
            max_stream_duration: None,
            buffer_limit: None,
            max_streams: 1024,
            stream_window: 16 << 20,
            connection_window: 24 << 20,
        }
    }
}

/// Headers that a route makes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RouteHeaders {
    /// `x-envoy-attempt-count` on requests; off by `proxyHeaders.attemptCount.disabled`.
    pub attempt_count: bool,
    /// The other `x-envoy-` headers (upstream service time, overloaded, expected timeout, original path and host); off by
    /// `proxyHeaders.envoyDebugHeaders.disabled`.
    pub debug: bool,
    /// `x-forwarded-host` where the host is rewritten (`proxyHeaders.xForwardedHost`).
    pub forwarded_host: bool,
}

impl Default for RouteHeaders {
    fn default() -> Self {
        Self { attempt_count: true, debug: true, forwarded_host: false }
    }
}

/// Ports of a proxy in its own network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProxyPorts {
    /// `proxyListenPort`: captured outbound connections.
    pub outbound: u16,
    /// `proxyInboundListenPort`: captured inbound connections.
    pub inbound: u16,
    /// `proxyHttpPort`, or `ISTIO_META_HTTP_PROXY_PORT`: an HTTP proxy on loopback.
    pub http: Option<u16>,
}

impl Default for ProxyPorts {
    fn default() -> Self {
        Self { outbound: 15001, inbound: 15006, http: None }
    }
}
