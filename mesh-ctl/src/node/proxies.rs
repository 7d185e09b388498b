//! The node's end of each proxy's configuration stream.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_core::api::{ContentHash, Key, Kind};
use mesh_core::wire::{Ack, Delta, ResourceName, ResourceSet, WireResource};
use mesh_proxy::discovery::ProxyStream;
use tokio::sync::mpsc;

use super::mesh::{Mesh, ProxyState};

/// Serves every proxy that subscribes.
pub(super) async fn serve(mesh: Arc<Mesh>, mut streams: mpsc::Receiver<ProxyStream>) {
    while let Some(stream) = streams.recv().await {
        tokio::spawn(follow(mesh.clone(), stream));
    }
}

async fn follow(mesh: Arc<Mesh>, mut stream: ProxyStream) {
    let key = Key::new(Kind::new("", "Pod"), &stream.id.namespace, &stream.id.name);
    super::publish::publish(&mesh);
    let opened = mesh.pod(&key, |p| {
        let proxy = p.proxy.as_mut().filter(|x| x.id == stream.id)?;
        proxy.connected = true;
        proxy.acked = 0;
        let mut target = proxy.target.subscribe();
        target.mark_changed();
        Some(target)
    });
    let Some(Some(mut target)) = opened else {
        return tracing::warn!(proxy = %stream.id.name, "a proxy of no pod of this mesh was turned away");
    };
    let mut held = Held { sent: stream.held.clone(), outstanding: None, seen: 0 };
    loop {
        tokio::select! {
            changed = target.changed() => {
                if changed.is_err() {
                    return;
                }
                let (revision, set) = target.borrow_and_update().clone();
                match held.delta(revision, &set) {
                    Some(delta) => if stream.deltas.send(delta).await.is_err() { break },
                    None => mesh.note_ack(&key, &held, None),
                }
            }
            ack = stream.acks.recv() => match ack {
                Some(ack) => {
                    held.acknowledge(&ack);
                    mesh.note_ack(&key, &held, Some(&ack));
                }
                None => break,
            },
        }
    }
    mesh.pod(&key, |p| {
        if let Some(proxy) = &mut p.proxy {
            proxy.connected = false;
        }
    });
}

/// What a proxy was sent on this stream.
struct Held {
    sent: BTreeMap<ResourceName, ContentHash>,
    /// Nonce that is not acknowledged yet: the last one, since a proxy acknowledges in order.
    outstanding: Option<String>,
    /// Revision that `sent` stands for.
    seen: u64,
}

impl Held {
    /// The difference to a set; `None` if there is none and something was sent before.
    fn delta(&mut self, revision: u64, set: &ResourceSet) -> Option<Delta> {
        let first = self.seen == 0;
        self.seen = revision;
        let (changed, removed) = difference(&self.sent, set);
        if !first && changed.is_empty() && removed.is_empty() {
            return None;
        }
        for name in &removed {
            self.sent.remove(name);
        }
        self.sent.extend(changed.iter().map(|r| (r.name.clone(), r.version)));
        self.outstanding = Some(revision.to_string());
        Some(Delta { nonce: revision.to_string(), changed, removed })
    }

    fn acknowledge(&mut self, ack: &Ack) {
        if self.outstanding.as_ref() == Some(&ack.nonce) {
            self.outstanding = None;
        }
    }
}

/// What is new or of another version, and what is gone: both maps are in order, so one pass tells.
fn difference(
    sent: &BTreeMap<ResourceName, ContentHash>,
    set: &ResourceSet,
) -> (Vec<Arc<WireResource>>, Vec<ResourceName>) {
    let (mut changed, mut removed) = (Vec::new(), Vec::new());
    let mut sent = sent.iter().peekable();
    for (name, resource) in set {
        while let Some((gone, _)) = sent.next_if(|(n, _)| *n < name) {
            removed.push(gone.clone());
        }
        if sent.next_if(|(n, _)| *n == name).is_none_or(|(_, version)| *version != resource.version) {
            changed.push(resource.clone());
        }
    }
    removed.extend(sent.map(|(n, _)| n.clone()));
    (changed, removed)
}

impl Mesh {
    fn note_ack(&self, key: &Key, held: &Held, ack: Option<&Ack>) {
        self.pod(key, |p| {
            let Some(proxy) = &mut p.proxy else { return };
            if held.outstanding.is_none() {
                proxy.acked = held.seen;
            }
            if let Some(ack) = ack {
                proxy.take(ack);
            }
        });
    }
}

impl ProxyState {
    fn take(&mut self, ack: &Ack) {
        self.config = ack.config;
        // A refusal stands until the resource is accepted or gone: an acknowledgement names only what it was about.
        let set = self.target.borrow().1.clone();
        self.rejected.retain(|r| set.contains_key(&r.name) && !ack.rejected.iter().any(|n| n.name == r.name));
        self.rejected.extend(ack.rejected.iter().cloned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(entries: &[(&str, u64)]) -> ResourceSet {
        let one = |(name, version): &(&str, u64)| {
            let name = ResourceName { kind: "k".into(), name: (*name).into() };
            (name.clone(), Arc::new(WireResource { name, version: ContentHash(*version), body: Vec::new().into() }))
        };
        entries.iter().map(one).collect()
    }

    #[test]
    fn a_proxy_gets_the_difference_to_what_it_holds() {
        let held = set(&[("a", 1), ("b", 1)]).into_iter().map(|(n, r)| (n, r.version)).collect();
        let mut held = Held { sent: held, outstanding: None, seen: 0 };
        let delta = held.delta(5, &set(&[("b", 1), ("c", 1)])).unwrap();
        assert_eq!((delta.nonce.as_str(), delta.changed.len(), delta.removed.len()), ("5", 1, 1));
        assert!(held.delta(6, &set(&[("b", 1), ("c", 1)])).is_none());
        held.acknowledge(&Ack { nonce: "5".into(), ..Ack::default() });
        assert_eq!((held.outstanding.clone(), held.seen), (None, 6));
        let delta = held.delta(7, &set(&[("b", 2)])).unwrap();
        assert_eq!((delta.changed.len(), delta.removed.len()), (1, 1));
    }

    #[test]
    fn the_first_delta_is_sent_even_if_it_is_empty() {
        let mut held = Held { sent: BTreeMap::new(), outstanding: None, seen: 0 };
        assert_eq!(held.delta(1, &set(&[])).unwrap(), Delta { nonce: "1".into(), ..Delta::default() });
    }
}
