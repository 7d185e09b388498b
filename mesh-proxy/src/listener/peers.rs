//! Who has connected to the own application, and how: what says whether a port could be STRICT.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use mesh_core::record::ConnInfo;
use mesh_core::snapshot::Map;

/// Peers that are remembered. Of more, those that were seen last.
const MOST: usize = 1024;

/// A peer of a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerSeen {
    /// Port of the workload.
    pub port: u16,
    /// Where it connected from.
    pub address: IpAddr,
    /// Who it is, by mutual TLS; `None`: it spoke plaintext, or TLS that is not the mesh's.
    pub principal: Option<Arc<str>>,
    /// Connections that were let in.
    pub connections: u64,
    /// Of these, those that are open.
    pub open: u32,
    /// Connections that were refused because the port takes mutual TLS only.
    pub refused: u64,
    /// When a connection of it was there for the last time.
    pub last_seen: SystemTime,
}

type Key = (u16, IpAddr, Option<Arc<str>>);

/// Peers by port, address and identity.
#[derive(Debug, Default)]
pub(super) struct Peers(Map<Key, PeerSeen>);

fn key(conn: &ConnInfo) -> Key {
    let principal = conn.tls.as_ref().and_then(|tls| tls.identity.as_ref()).map(|peer| peer.uri().clone());
    (conn.local.port(), conn.direct.unwrap_or(conn.peer).ip().to_canonical(), principal)
}

impl Peers {
    pub(super) fn comes(&mut self, conn: &ConnInfo, now: SystemTime) {
        let seen = self.seen(conn, now);
        seen.connections += 1;
        seen.open += 1;
    }

    pub(super) fn goes(&mut self, conn: &ConnInfo, now: SystemTime) {
        let seen = self.seen(conn, now);
        seen.open = seen.open.saturating_sub(1);
    }

    pub(super) fn is_refused(&mut self, conn: &ConnInfo, now: SystemTime) {
        self.seen(conn, now).refused += 1;
    }

    /// By port and address. Those that are connected are seen now.
    pub(super) fn all(&self, now: SystemTime) -> Vec<PeerSeen> {
        let mut all: Vec<_> = self.0.values().cloned().collect();
        all.iter_mut().filter(|p| p.open > 0).for_each(|p| p.last_seen = now);
        all.sort_by(|a, b| (a.port, a.address, &a.principal).cmp(&(b.port, b.address, &b.principal)));
        all
    }

    fn seen(&mut self, conn: &ConnInfo, now: SystemTime) -> &mut PeerSeen {
        let key = key(conn);
        if self.0.len() >= MOST && !self.0.contains_key(&key) {
            let oldest = self.0.iter().min_by_key(|(_, p)| (p.open > 0, p.last_seen)).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| self.0.remove(&oldest));
        }
        let (port, address, principal) = key.clone();
        let fresh = PeerSeen { port, address, principal, connections: 0, open: 0, refused: 0, last_seen: now };
        let seen = self.0.entry(key).or_insert(fresh);
        seen.last_seen = now;
        seen
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mesh_core::snapshot::Direction;

    use super::*;

    fn conn(peer: &str) -> ConnInfo {
        let (peer, local) = (peer.parse().unwrap(), "10.0.0.1:80".parse().unwrap());
        ConnInfo {
            direction: Direction::Inbound,
            peer,
            local,
            direct: None,
            sni: "".into(),
            tls: None,
            peer_text: Default::default(),
        }
    }

    #[test]
    fn peers_are_counted_and_bounded() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut peers = Peers::default();
        let (a, b) = (conn("10.0.0.2:1"), conn("10.0.0.3:1"));
        peers.comes(&a, at(1));
        peers.comes(&conn("10.0.0.2:2"), at(2));
        peers.goes(&a, at(3));
        peers.is_refused(&b, at(4));
        let short = |p: &PeerSeen| (p.connections, p.open, p.refused, p.last_seen);
        let all: Vec<_> = peers.all(at(9)).iter().map(short).collect();
        assert_eq!(all, [(2, 1, 0, at(9)), (0, 0, 1, at(4))]);
        for i in 0..MOST {
            peers.comes(&conn(&format!("10.1.{}.{}:1", i / 250, i % 250)), at(10));
            peers.goes(&conn(&format!("10.1.{}.{}:1", i / 250, i % 250)), at(10));
        }
        let all = peers.all(at(11));
        assert_eq!(all.len(), MOST);
        assert!(all.iter().any(|p| p.address == a.peer.ip()), "it is connected");
        assert!(!all.iter().any(|p| p.address == b.peer.ip()), "the oldest is forgotten");
    }
}
