//! From one root to the next. A workload learns of a root with its next certificate, so that three steps are needed for
//! nobody to meet a certificate that it can't verify:
//!
//! 1. *announced*: the new root is in the bundle, the old one still signs, until every certificate that was issued before
//!    has expired: by then each living workload has the new bundle;
//! 2. *retiring*: the new root signs and the old one is still trusted, until every certificate of it has expired;
//! 3. *stable*: only the new one is left.
//!
//! A root that is issued again with the same key needs no first step: who knows either of the two trusts the other's
//! leaves.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;

use super::{Authority, CaError, Signer, State, files, profile};
use crate::SecretData;
use crate::key::Key;

/// Added to each step: for clocks that differ. They can't differ by more than a certificate's life, or none would work.
const MARGIN: Duration = profile::SKEW;

/// Where the authority is between two roots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rotation {
    /// One root.
    Stable,
    /// The new root is trusted and does not sign yet.
    Announced,
    /// The new root signs, the old one is still trusted.
    Retiring,
}

/// The same with what is needed for the next step.
pub(super) enum Phase {
    Stable,
    Announced { next: Arc<Signer>, then: Trusted, since: SystemTime },
    Retiring { then: Trusted, since: SystemTime },
}

/// What is trusted once a change is over.
#[derive(Clone)]
pub(super) struct Trusted {
    roots: Vec<CertificateDer<'static>>,
    crl: Option<Arc<str>>,
}

impl Authority {
    /// Where it is between two roots.
    pub fn rotation(&self) -> Rotation {
        match self.state.load().rotation {
            Phase::Stable => Rotation::Stable,
            Phase::Announced { .. } => Rotation::Announced,
            Phase::Retiring { .. } => Rotation::Retiring,
        }
    }

    /// When the certificate that signs now expires.
    pub fn not_after(&self) -> SystemTime {
        self.state.load().signer.not_after
    }

    /// Begins to replace a self-signed root by one with another key. [`Authority::maintain`] does the later steps.
    ///
    /// # Errors
    /// The root is the operator's, another change is going on, or the new one can't be made.
    pub fn rotate_root(&self) -> Result<(), CaError> {
        if !self.self_signed {
            return Err(CaError::Signer("its root is not its own: give it other files".into()));
        }
        let next = profile::root(&self.config, Key::generate(self.config.key)?, &*self.env)?;
        let roots = vec![next.certificate.clone()];
        self.announce(next, Trusted { roots, crl: None })
    }

    /// Takes other files of the operator: another intermediate of the same roots, and other revocation lists, at once; other
    /// roots in steps.
    ///
    /// # Errors
    /// The files can't be used, which leaves everything as it was; the roots are others and `multi_root` is not set, or only
    /// one of them has revocation lists; or another change is going on.
    pub fn replace(&self, data: &SecretData) -> Result<(), CaError> {
        if self.self_signed {
            return Err(CaError::Signer("its root is its own".into()));
        }
        let files::Read { signer, roots, crl } = files::read(data, &*self.env)?;
        let same = |a: &[CertificateDer<'_>], b: &[CertificateDer<'_>]| a.iter().all(|root| b.contains(root));
        let now = self.state.load().roots.clone();
        // Whoever knows only some of them could not verify what the others have signed.
        if self.rotation() == Rotation::Stable && !(same(&roots, &now) && same(&now, &roots)) {
            return match self.config.multi_root {
                true => self.announce(signer, Trusted { roots, crl }),
                false => Err(CaError::Files("the roots are others, which is not allowed while running".into())),
            };
        }
        let _changing = self.changing.lock();
        if self.rotation() != Rotation::Stable {
            return Err(CaError::Signer("another change of the root is going on".into()));
        }
        self.put(State { signer: Arc::new(signer), roots, crl, rotation: Phase::Stable });
        Ok(())
    }

    /// Takes the steps that are due: call it every hour (`CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL`), or more often if
    /// leaves live shorter. Signing does it, too.
    pub fn maintain(&self) {
        let now = self.env.now();
        if !self.is_due(&self.state.load(), now) {
            return;
        }
        let _changing = self.changing.lock();
        let state = self.state.load_full();
        if !self.is_due(&state, now) {
            return;
        }
        let signer = Arc::clone(&state.signer);
        let next = match &state.rotation {
            Phase::Announced { next, then, .. } => {
                let all = union(&then.roots, &state.roots);
                let rotation = Phase::Retiring { then: then.clone(), since: now };
                State { signer: Arc::clone(next), roots: all, crl: state.crl.clone(), rotation }
            }
            Phase::Retiring { then: Trusted { roots, crl }, .. } => {
                State { signer, roots: roots.clone(), crl: crl.clone(), rotation: Phase::Stable }
            }
            Phase::Stable => match self.reissue(&state, now) {
                Ok(next) => next,
                Err(error) => return tracing::error!(%error, "the root can't be issued again"),
            },
        };
        self.put(next);
        tracing::info!(rotation = ?self.rotation(), "root certificates");
    }

    fn is_due(&self, state: &State, now: SystemTime) -> bool {
        match &state.rotation {
            Phase::Announced { since, .. } | Phase::Retiring { since, .. } => self.everyone_has_renewed(*since, now),
            Phase::Stable => self.self_signed && self.is_old(&state.signer, now),
        }
    }

    /// The last part of a root's life has begun.
    fn is_old(&self, root: &Signer, now: SystemTime) -> bool {
        let life = root.not_after.duration_since(root.not_before).unwrap_or_default();
        let left = root.not_after.duration_since(now).unwrap_or_default();
        left < life.mul_f64(self.config.root_grace_ratio.clamp(0.0, 1.0))
    }

    /// The same key and name for another life, as Istio's CA does it.
    fn reissue(&self, state: &State, now: SystemTime) -> Result<State, CaError> {
        let key = Key::from_pem(&state.signer.issuer.key().private())?;
        let signer = profile::root(&self.config, key, &*self.env)?;
        let roots = vec![signer.certificate.clone()];
        let all = union(&roots, &state.roots);
        let rotation = Phase::Retiring { then: Trusted { roots, crl: None }, since: now };
        Ok(State { signer: Arc::new(signer), roots: all, crl: None, rotation })
    }

    fn announce(&self, next: Signer, then: Trusted) -> Result<(), CaError> {
        let _changing = self.changing.lock();
        let state = self.state.load_full();
        if !matches!(state.rotation, Phase::Stable) {
            return Err(CaError::Signer("another change of the root is going on".into()));
        }
        // Where there are lists, who has none is not trusted, and what is revoked stays so.
        let crl = match (&state.crl, &then.crl) {
            (None, None) => None,
            (Some(old), Some(new)) => Some([&**old, &**new].concat().into()),
            _ => return Err(CaError::Files("one of the two roots has revocation lists and the other has none".into())),
        };
        let all = union(&state.roots, &then.roots);
        let rotation = Phase::Announced { next: Arc::new(next), then, since: self.env.now() };
        self.put(State { signer: Arc::clone(&state.signer), roots: all, crl, rotation });
        Ok(())
    }

    /// Whether every certificate that existed then has expired.
    fn everyone_has_renewed(&self, then: SystemTime, now: SystemTime) -> bool {
        // Not fixed in advance: one that was being issued at that moment counts as well.
        let life = Duration::from_secs(self.longest.load(Ordering::SeqCst));
        now >= then + life + life.min(MARGIN)
    }

    fn put(&self, state: State) {
        let bundle = state.bundle();
        self.state.store(Arc::new(state));
        self.bundle.send_if_modified(|old| {
            let changed = *old != bundle;
            *old = bundle;
            changed
        });
    }
}

/// Both, the first ones first, without repetitions.
fn union(first: &[CertificateDer<'static>], then: &[CertificateDer<'static>]) -> Vec<CertificateDer<'static>> {
    first.iter().chain(then.iter().filter(|c| !first.contains(c))).cloned().collect()
}
