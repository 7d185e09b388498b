//! A TLS configuration that follows its key material: built when it is first needed and again after a change.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use mesh_core::snapshot::SecretRef;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::material::{Identity, Roots};
use crate::{Material, SecretError, SecretSource, SecretState, TlsError};

/// References that a configuration is made of.
pub(crate) struct Materials {
    all: Vec<(SecretRef, watch::Receiver<SecretState>)>,
}

impl Materials {
    pub(crate) fn watch<'r>(source: &dyn SecretSource, refs: impl IntoIterator<Item = &'r SecretRef>) -> Self {
        Self { all: refs.into_iter().map(|r| (r.clone(), source.watch(r))).collect() }
    }

    /// The material now, marked as seen.
    fn take(&self) -> (Seen, Now) {
        let mut seen = Seen(self.all.iter().map(|(_, r)| r.clone()).collect());
        let states = seen.0.iter_mut().map(|r| r.borrow_and_update().clone());
        let now = Now(self.all.iter().map(|(name, _)| name.clone()).zip(states).collect());
        (seen, now)
    }
}

/// Receivers that know which state a configuration was built of.
struct Seen(Vec<watch::Receiver<SecretState>>);

impl Seen {
    fn is_old(&self) -> bool {
        // A sender that has gone changes nothing any more.
        self.0.iter().any(|r| r.has_changed().unwrap_or(false))
    }
}

/// States at one time, by reference.
pub(crate) struct Now(Vec<(SecretRef, SecretState)>);

impl Now {
    fn get(&self, name: &SecretRef) -> Result<&Material, SecretError> {
        match self.0.iter().find(|(n, _)| n == name).map(|(_, s)| s) {
            Some(SecretState::Ready(material)) => Ok(material),
            Some(SecretState::Missing(why)) => Err(SecretError(format!("{name}: {why}"))),
            Some(SecretState::Pending) | None => Err(SecretError(format!("{name}: not delivered yet"))),
        }
    }

    pub(crate) fn identity(&self, name: &SecretRef) -> Result<&Identity, SecretError> {
        match self.get(name)? {
            Material::Identity(identity) => Ok(identity),
            Material::Roots(_) => Err(SecretError(format!("{name}: no certificate with its key"))),
        }
    }

    pub(crate) fn roots(&self, name: &SecretRef) -> Result<&Arc<Roots>, SecretError> {
        match self.get(name)? {
            Material::Roots(roots) => Ok(roots),
            Material::Identity(_) => Err(SecretError(format!("{name}: no authorities"))),
        }
    }

    fn is_pending(&self) -> bool {
        self.0.iter().any(|(_, s)| matches!(s, SecretState::Pending))
    }
}

/// What was built, of which states.
struct Built<C> {
    seen: Seen,
    config: Result<Arc<C>, TlsError>,
    pending: bool,
}

/// The configuration in force.
pub(crate) struct Following<C> {
    materials: Materials,
    built: ArcSwapOption<Built<C>>,
    building: Mutex<()>,
}

impl<C> Following<C> {
    pub(crate) fn new(materials: Materials) -> Self {
        Self { materials, built: ArcSwapOption::empty(), building: Mutex::new(()) }
    }

    /// The configuration of the material as it is now. Material that was asked for but not delivered is waited for; the
    /// caller bounds that.
    pub(crate) async fn get(&self, build: impl Fn(&Now) -> Result<C, TlsError>) -> Result<Arc<C>, TlsError> {
        loop {
            let built = self.current(&build);
            if !built.pending {
                return built.config.clone();
            }
            let waits = built.seen.0.iter().cloned();
            let mut waits: Vec<_> = waits.map(|mut r| Box::pin(async move { r.changed().await })).collect();
            // A source that has gone delivers nothing any more: what it said last stays.
            if any(&mut waits).await.is_err() {
                return built.config.clone();
            }
        }
    }

    fn current(&self, build: impl Fn(&Now) -> Result<C, TlsError>) -> Arc<Built<C>> {
        if let Some(built) = self.built.load_full().filter(|b| !b.seen.is_old()) {
            return built;
        }
        // Not on the way of a request that has a connection: one handshake builds, others that come meanwhile wait.
        let _building = self.building.lock();
        if let Some(built) = self.built.load_full().filter(|b| !b.seen.is_old()) {
            return built;
        }
        let (seen, now) = self.materials.take();
        let built = Arc::new(Built { seen, pending: now.is_pending(), config: build(&now).map(Arc::new) });
        self.built.store(Some(Arc::clone(&built)));
        built
    }
}

/// Completes with the first of several futures.
async fn any<F: Future + Unpin>(all: &mut [F]) -> F::Output {
    std::future::poll_fn(|cx| {
        for one in &mut *all {
            if let std::task::Poll::Ready(output) = std::pin::Pin::new(one).poll(cx) {
                return std::task::Poll::Ready(output);
            }
        }
        std::task::Poll::Pending
    })
    .await
}
