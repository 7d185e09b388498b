//! What a policy may look at.

use std::net::IpAddr;

use mesh_core::matching::RequestFacts;
use mesh_core::record::ConnInfo;

/// What is known about a request or connection when a policy is asked.
#[derive(Clone, Copy, Debug)]
pub struct PolicyInput<'a> {
    /// Address of the TCP peer.
    pub source_ip: IpAddr,
    /// Address of the client as `x-forwarded-for`, trusted hops or a PROXY header give it; else the peer's.
    pub remote_ip: IpAddr,
    /// Address that the connection is for.
    pub destination_ip: IpAddr,
    /// Port of the workload, not of a Service.
    pub destination_port: u16,
    /// SNI; empty: none.
    pub sni: &'a str,
    /// Who the peer is.
    pub peer: Peer<'a>,
    /// `None` on a TCP connection.
    pub request: Option<RequestFacts<'a>>,
}

/// The authenticated peer of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer<'a> {
    /// Nobody: plaintext, or TLS without a certificate of the peer that was verified.
    Anonymous,
    /// A SPIFFE identity, without `spiffe://`.
    Spiffe(&'a str),
    /// Somebody whose certificate has no SPIFFE identity. Only `principals: ["*"]` knows it, and what is negated.
    Other(&'a str),
}

impl<'a> Peer<'a> {
    /// The peer of a connection, by its certificate, if that was verified: whoever shows one that nobody vouches for is
    /// anonymous. A certificate with several URIs is nobody's in particular: an identity is one URI.
    pub fn of(conn: &'a ConnInfo) -> Self {
        let Some(tls) = &conn.tls else { return Self::Anonymous };
        if let Some(identity) = &tls.identity {
            return Self::Spiffe(identity.principal());
        }
        let Some(certificate) = tls.verified() else { return Self::Anonymous };
        match &certificate.uris[..] {
            [] => Self::Other(certificate.dns.first().map_or(&*certificate.subject, |name| name)),
            [first, ..] => Self::Other(first),
        }
    }

    /// The SPIFFE identity without its scheme.
    pub(crate) fn spiffe(self) -> Option<&'a str> {
        match self {
            Self::Spiffe(id) => Some(id),
            Self::Anonymous | Self::Other(_) => None,
        }
    }
}

impl<'a> PolicyInput<'a> {
    /// Of a connection, without a request.
    pub fn connection(conn: &'a ConnInfo, remote_ip: IpAddr) -> Self {
        Self {
            source_ip: conn.direct.unwrap_or(conn.peer).ip().to_canonical(),
            remote_ip: remote_ip.to_canonical(),
            destination_ip: conn.local.ip().to_canonical(),
            destination_port: conn.local.port(),
            sni: &conn.sni,
            peer: Peer::of(conn),
            request: None,
        }
    }

    /// Of a request on a connection.
    pub fn request(conn: &'a ConnInfo, remote_ip: IpAddr, request: RequestFacts<'a>) -> Self {
        Self { request: Some(request), ..Self::connection(conn, remote_ip) }
    }
}
