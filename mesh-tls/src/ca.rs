//! The mesh's certificate authority: a root of its own or the operator's, leaves for workloads, and the change from one
//! root to the next while both are trusted.

mod files;
mod profile;
mod rotation;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use mesh_core::env::Env;
use parking_lot::Mutex;
use rcgen::Issuer;
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

use crate::key::Key;
use crate::{CertSigner, KeyKind, SecretData, SpiffeId};
pub use rotation::Rotation;

/// Why no certificate was issued.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CaError {
    /// The request can't be granted to anybody: it is broken, its key is too weak, or it asks for too long a life.
    Request(String),
    /// The caller could not be authenticated. What exactly was wrong is for the CA's log only.
    Unauthenticated(String),
    /// The CA can't be reached now; a later try may do.
    Unavailable(String),
    /// The CA's own key or certificate can't be used.
    Signer(String),
    /// What was given as the CA's key material can't be used.
    Files(String),
    /// What the CA answered is not what was asked for.
    Answer(String),
}

impl fmt::Display for CaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(why) => write!(f, "the certificate request is refused: {why}"),
            Self::Unauthenticated(why) => write!(f, "request authenticate failure: {why}"),
            Self::Unavailable(why) => write!(f, "the CA can't be reached: {why}"),
            Self::Signer(why) => write!(f, "the CA can't sign: {why}"),
            Self::Files(why) => write!(f, "the CA's key material can't be used: {why}"),
            Self::Answer(why) => write!(f, "the CA's answer can't be used: {why}"),
        }
    }
}

impl std::error::Error for CaError {}

/// Config of an [`Authority`]. The defaults are those of Istio's CA; the variables are the ones that set them there.
#[derive(Clone, PartialEq, Debug)]
pub struct AuthorityConfig {
    /// Organization in a self-signed root's subject: the trust domain, as Istio's CA puts it.
    pub organization: Arc<str>,
    /// Kind of a self-signed root's key. Default ECDSA with P-256; Istio's is RSA-2048 (`CITADEL_SELF_SIGNED_CA_RSA_KEY_SIZE`).
    pub key: KeyKind,
    /// Life of a self-signed root. Default 3650 days (`CITADEL_SELF_SIGNED_CA_CERT_TTL`).
    pub root_ttl: Duration,
    /// A self-signed root is issued again when this part of its life is left. Default 0.2
    /// (`CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE`).
    pub root_grace_ratio: f64,
    /// Life of a leaf whose request asks for none. Default 24 h (`DEFAULT_WORKLOAD_CERT_TTL`).
    pub default_ttl: Duration,
    /// Longest life that a request may ask for; more is an error, not less. Default 90 days (`MAX_WORKLOAD_CERT_TTL`).
    pub max_ttl: Duration,
    /// Whether files with another root may be taken while running. Default false (`ISTIO_MULTIROOT_MESH`).
    pub multi_root: bool,
}

impl Default for AuthorityConfig {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            organization: "cluster.local".into(),
            key: KeyKind::default(),
            root_ttl: DAY * 3650,
            root_grace_ratio: 0.2,
            default_ttl: DAY,
            max_ttl: DAY * 90,
            multi_root: false,
        }
    }
}

/// What signs now.
struct Signer {
    issuer: Issuer<'static, Key>,
    certificate: CertificateDer<'static>,
    /// PEM of the certificates between a leaf and the roots.
    intermediates: Vec<String>,
    not_before: SystemTime,
    not_after: SystemTime,
    /// Only a signer that has a key identifier is named by one.
    has_key_id: bool,
}

struct State {
    signer: Arc<Signer>,
    /// Trusted now, the signer's first.
    roots: Vec<CertificateDer<'static>>,
    /// PEM of what they have revoked; `None`: nobody looks for that.
    crl: Option<Arc<str>>,
    rotation: rotation::Phase,
}

impl State {
    /// What a workload has to know in order to trust: the roots, and behind them what they have revoked.
    fn bundle(&self) -> Arc<str> {
        match &self.crl {
            None => pem(&self.roots),
            Some(crl) => [&*pem(&self.roots), crl].concat().into(),
        }
    }
}

/// A certificate authority in this process. Its key stays in it.
///
/// ```
/// use std::sync::Arc;
///
/// use mesh_core::env::Env;
/// use mesh_tls::{Authority, AuthorityConfig, CaError};
///
/// fn start(env: Arc<dyn Env>) -> Result<Authority, CaError> {
///     Authority::self_signed(AuthorityConfig::default(), env)
/// }
/// ```
pub struct Authority {
    config: AuthorityConfig,
    env: Arc<dyn Env>,
    state: ArcSwap<State>,
    /// Held by whoever changes the state.
    changing: Mutex<()>,
    /// The longest life of a leaf that was issued, in seconds: how long one may live on that knows fewer roots.
    longest: AtomicU64,
    bundle: watch::Sender<Arc<str>>,
    self_signed: bool,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Authority {
    /// An authority with a root of its own.
    ///
    /// # Errors
    /// The key or the certificate can't be made.
    pub fn self_signed(config: AuthorityConfig, env: Arc<dyn Env>) -> Result<Self, CaError> {
        let signer = profile::root(&config, Key::generate(config.key)?, &*env)?;
        let (roots, crl) = (vec![signer.certificate.clone()], None);
        Ok(Self::with(config, env, files::Read { signer, roots, crl }, true))
    }

    /// An authority with the operator's root, of the data of a Secret `cacerts` or of the files of that directory, in
    /// cert-manager's layout (`tls.crt`, `tls.key`, `ca.crt`, looked for first) or in Istio's (`ca-cert.pem`, `ca-key.pem`,
    /// `cert-chain.pem`, `root-cert.pem`). With `ca-crl.pem` it goes out with the roots, and every certificate has to be
    /// covered by the list of who signed it.
    ///
    /// # Errors
    /// A file is missing or can't be read, the certificate is no authority's, the key is not its key, it has expired or is
    /// revoked, its chain does not lead to one of the roots, or an authority of the chain has no revocation list though
    /// others have.
    pub fn plugged_in(files: &SecretData, config: AuthorityConfig, env: Arc<dyn Env>) -> Result<Self, CaError> {
        let read = files::read(files, &*env)?;
        Ok(Self::with(config, env, read, false))
    }

    fn with(config: AuthorityConfig, env: Arc<dyn Env>, read: files::Read, self_signed: bool) -> Self {
        let files::Read { signer, roots, crl } = read;
        let state = State { signer: Arc::new(signer), roots, crl, rotation: rotation::Phase::Stable };
        let (bundle, _) = watch::channel(state.bundle());
        let longest = AtomicU64::new(0);
        Self {
            config,
            env,
            state: ArcSwap::from_pointee(state),
            changing: Mutex::new(()),
            longest,
            bundle,
            self_signed,
        }
    }

    /// Roots that are trusted now, in PEM, and their revocation lists if there are any; it changes while the authority passes
    /// from one root to the next.
    pub fn trust_bundle(&self) -> watch::Receiver<Arc<str>> {
        self.bundle.subscribe()
    }

    /// Signs the public key of a PEM request for a caller whose identity is proven. Of the request nothing but the key is
    /// taken, once its own signature is checked: names, usages, constraints and validity are this CA's, whatever it asks.
    /// A `validity` of zero stands for the default. Returns PEM: the leaf, each intermediate, and the bundle of roots last.
    ///
    /// # Errors
    /// [`CaError::Request`], or [`CaError::Signer`] if the signer has expired.
    pub fn issue(&self, caller: &SpiffeId, csr: &[u8], validity: Duration) -> Result<Vec<String>, CaError> {
        let ttl = if validity.is_zero() { self.config.default_ttl } else { validity };
        if ttl > self.config.max_ttl {
            let (asked, max) = (ttl.as_secs(), self.config.max_ttl.as_secs());
            return Err(CaError::Request(format!("a life of {asked} s is longer than the {max} s that are allowed")));
        }
        let key = profile::public_key(csr)?;
        self.maintain();
        // Noted before the state is read: who begins a rotation meanwhile knows of this leaf.
        self.longest.fetch_max(ttl.as_secs(), Ordering::SeqCst);
        let state = self.state.load_full();
        let signer = &*state.signer;
        let leaf = profile::leaf(signer, caller, &key, ttl, &*self.env)?;
        let intermediates = signer.intermediates.iter().cloned();
        Ok(std::iter::once(leaf).chain(intermediates).chain([state.bundle().to_string()]).collect())
    }
}

impl CertSigner for Authority {
    async fn sign(&self, caller: &SpiffeId, csr: &[u8], validity: Duration) -> Result<Vec<String>, CaError> {
        self.issue(caller, csr, validity)
    }
}

/// Certificates as a PEM bundle.
fn pem(certificates: &[CertificateDer<'_>]) -> Arc<str> {
    certificates.iter().map(|c| pem_of(c)).collect::<String>().into()
}

fn pem_of(der: &[u8]) -> String {
    crate::pem::encode("CERTIFICATE", der)
}
