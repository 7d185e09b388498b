//! Key material by reference, followed while it changes.

use std::collections::BTreeMap;
use std::fmt;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{Material, SecretRef};

/// Why key material is not there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SecretError(pub String);

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SecretError {}

/// What is known about key material.
#[derive(Clone, Debug, Default)]
pub enum SecretState {
    /// It was asked for; nobody has answered yet.
    #[default]
    Pending,
    /// It is there.
    Ready(Material),
    /// It is not there, or can't be used.
    Missing(SecretError),
}

/// Key material by reference. Whoever needs some holds the receiver: as long as one is held, the material is kept fresh,
/// and a change of it is in force for the next handshake. Connections that are open go on.
pub trait SecretSource: Send + Sync + 'static {
    /// Follows a reference.
    fn watch(&self, secret: &SecretRef) -> watch::Receiver<SecretState>;
}

/// A [`SecretSource`] that others fill: the references that somebody wants on one side, their material on the other.
///
/// ```
/// use mesh_tls::{SecretError, SecretRef, SecretSource, SecretState, Secrets};
///
/// let secrets = Secrets::default();
/// let name = SecretRef::Credential { namespace: "istio-system".into(), name: "httpbin".into() };
/// let watch = secrets.watch(&name);
/// assert_eq!(secrets.wanted(), [name.clone()]);
/// secrets.set(&name, SecretState::Missing(SecretError("there is no such Secret".into())));
/// assert!(matches!(*watch.borrow(), SecretState::Missing(_)));
/// drop(watch);
/// assert!(secrets.wanted().is_empty());
/// ```
#[derive(Debug)]
pub struct Secrets {
    entries: Mutex<BTreeMap<SecretRef, Entry>>,
    wishes: watch::Sender<u64>,
}

#[derive(Debug)]
struct Entry {
    sender: watch::Sender<SecretState>,
    /// Which wish it came with.
    wish: u64,
}

impl Default for Secrets {
    fn default() -> Self {
        Self { entries: Mutex::default(), wishes: watch::Sender::new(0) }
    }
}

impl SecretSource for Secrets {
    fn watch(&self, secret: &SecretRef) -> watch::Receiver<SecretState> {
        let mut entries = self.entries.lock();
        if let Some(known) = entries.get(secret) {
            return known.sender.subscribe();
        }
        let (sender, receiver) = watch::channel(SecretState::Pending);
        let wish = *self.wishes.borrow() + 1;
        entries.insert(secret.clone(), Entry { sender, wish });
        self.wishes.send_replace(wish);
        receiver
    }
}

impl Secrets {
    /// The references that somebody follows; the others are forgotten.
    pub fn wanted(&self) -> Vec<SecretRef> {
        self.wanted_since().into_iter().map(|(name, _)| name).collect()
    }

    /// The same, each with the wish that it came with: another one if it was forgotten meanwhile, and what had been said
    /// of it, too. Of several who deliver each may be the one who makes it forgotten, so they compare both.
    pub fn wanted_since(&self) -> Vec<(SecretRef, u64)> {
        let mut entries = self.entries.lock();
        entries.retain(|_, e| e.sender.receiver_count() > 0);
        entries.iter().map(|(name, e)| (name.clone(), e.wish)).collect()
    }

    /// Completes whenever a new reference is wanted.
    pub fn wishes(&self) -> watch::Receiver<u64> {
        self.wishes.subscribe()
    }

    /// Says what a reference stands for now. One that nobody follows is left alone.
    pub fn set(&self, secret: &SecretRef, state: SecretState) {
        if let Some(entry) = self.entries.lock().get(secret) {
            entry.sender.send_replace(state);
        }
    }

    /// The same for one that nobody has answered for yet; what is known already stays.
    pub(crate) fn answer(&self, secret: &SecretRef, state: &SecretState) {
        if let Some(entry) = self.entries.lock().get(secret) {
            entry.sender.send_if_modified(|known| {
                let pending = matches!(known, SecretState::Pending);
                if pending {
                    *known = state.clone();
                }
                pending
            });
        }
    }
}
