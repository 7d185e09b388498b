//! What becomes of a connection to a workload's port, by its mode and its first bytes.

use super::Detected;
use crate::snapshot::{ListenerPlan, MtlsMode};

/// What a port is declared to carry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PortProtocol {
    /// HTTP of any version.
    Http,
    /// Bytes.
    Tcp,
    /// Nothing is declared: the first bytes tell.
    Auto,
}

impl PortProtocol {
    /// Of an inbound listener.
    pub fn of(listener: &ListenerPlan) -> Self {
        match (&listener.http, listener.detect) {
            (None, _) => Self::Tcp,
            (Some(_), false) => Self::Http,
            (Some(_), true) => Self::Auto,
        }
    }
}

/// What to do with a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Arrival {
    /// End mesh TLS, then serve HTTP.
    MtlsHttp,
    /// End mesh TLS, then forward bytes.
    MtlsTcp,
    /// Serve HTTP.
    Http,
    /// Forward bytes; TLS that is not the mesh's stays closed.
    Tcp,
    /// Close it: no filter chain matches.
    Refuse,
}

const HTTP: [&str; 3] = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];
const BYTES: [&str; 2] = ["istio-peer-exchange", "istio"];

/// Whether a client that offers this protocol is a sidecar.
pub fn is_mesh_protocol(alpn: &str) -> bool {
    HTTP.contains(&alpn) || BYTES.contains(&alpn)
}

/// Decides as Istio's inbound filter chains do (spec of PeerAuthentication, "Inbound chains per declared port protocol";
/// observed: S4, S5, S6).
///
/// A STRICT port takes every ClientHello for the mesh's: whoever is not of the mesh fails in the handshake.
pub fn decide_arrival(mode: MtlsMode, port: PortProtocol, first: &Detected) -> Arrival {
    use Arrival::{Http, MtlsHttp, MtlsTcp, Refuse, Tcp};
    let alpn = match first {
        Detected::Tls { alpn, .. } => alpn,
        plain => {
            let http = matches!(plain, Detected::Http1 | Detected::Http2);
            return match (mode, port) {
                (MtlsMode::Strict, _) => Refuse,
                (_, PortProtocol::Http) => Http,
                (_, PortProtocol::Tcp) => Tcp,
                (_, PortProtocol::Auto) => {
                    if http {
                        Http
                    } else {
                        Tcp
                    }
                }
            };
        }
    };
    let offers = |known: &[&str]| alpn.iter().any(|p| known.contains(&&**p));
    match (mode, port) {
        (MtlsMode::Strict, PortProtocol::Http) => MtlsHttp,
        (MtlsMode::Strict, PortProtocol::Tcp) => MtlsTcp,
        (MtlsMode::Strict, PortProtocol::Auto) => {
            if offers(&HTTP) {
                MtlsHttp
            } else {
                MtlsTcp
            }
        }
        (MtlsMode::Permissive, PortProtocol::Http) if offers(&HTTP) || offers(&BYTES) => MtlsHttp,
        (MtlsMode::Permissive, PortProtocol::Http) => Refuse,
        (MtlsMode::Permissive, PortProtocol::Tcp) if offers(&HTTP) || offers(&BYTES) => MtlsTcp,
        (MtlsMode::Permissive, PortProtocol::Auto) if offers(&HTTP) => MtlsHttp,
        (MtlsMode::Permissive, PortProtocol::Auto) if offers(&BYTES) => MtlsTcp,
        (MtlsMode::Permissive, PortProtocol::Tcp | PortProtocol::Auto) => Tcp,
        // The application may speak TLS itself; a port that is declared to be HTTP gets it as a request line that is none.
        (MtlsMode::Disable, PortProtocol::Http) => Http,
        (MtlsMode::Disable, PortProtocol::Tcp | PortProtocol::Auto) => Tcp,
    }
}

#[cfg(test)]
mod tests {
    use super::Arrival::{Http, MtlsHttp, MtlsTcp, Refuse, Tcp};
    use super::*;

    fn hello(alpn: &[&str]) -> Detected {
        Detected::Tls { sni: None, alpn: alpn.iter().map(|p| (*p).into()).collect() }
    }

    /// S4, S6 and the table of the specification; columns: HTTP, TCP, auto.
    #[test]
    fn every_cell() {
        use MtlsMode::{Disable, Permissive, Strict};
        let sidecar = hello(&["istio-http/1.1", "istio", "http/1.1"]);
        let bytes = hello(&["istio-peer-exchange", "istio"]);
        let foreign = hello(&["h2", "http/1.1"]);
        for (mode, first, expected) in [
            (Strict, &sidecar, [MtlsHttp, MtlsTcp, MtlsHttp]),
            (Strict, &bytes, [MtlsHttp, MtlsTcp, MtlsTcp]),
            (Strict, &foreign, [MtlsHttp, MtlsTcp, MtlsTcp]),
            (Strict, &hello(&[]), [MtlsHttp, MtlsTcp, MtlsTcp]),
            (Strict, &Detected::Http1, [Refuse; 3]),
            (Strict, &Detected::Http2, [Refuse; 3]),
            (Strict, &Detected::Other, [Refuse; 3]),
            (Permissive, &sidecar, [MtlsHttp, MtlsTcp, MtlsHttp]),
            (Permissive, &bytes, [MtlsHttp, MtlsTcp, MtlsTcp]),
            (Permissive, &foreign, [Refuse, Tcp, Tcp]),
            (Permissive, &hello(&[]), [Refuse, Tcp, Tcp]),
            (Permissive, &Detected::Http1, [Http, Tcp, Http]),
            (Permissive, &Detected::Http2, [Http, Tcp, Http]),
            (Permissive, &Detected::Other, [Http, Tcp, Tcp]),
            (Disable, &sidecar, [Http, Tcp, Tcp]),
            (Disable, &foreign, [Http, Tcp, Tcp]),
            (Disable, &Detected::Http1, [Http, Tcp, Http]),
            (Disable, &Detected::Other, [Http, Tcp, Tcp]),
        ] {
            let ports = [PortProtocol::Http, PortProtocol::Tcp, PortProtocol::Auto];
            assert_eq!(ports.map(|p| decide_arrival(mode, p, first)), expected, "{mode:?} {first:?}");
        }
    }
}
