//! A workload's own certificate: asked for at the start, renewed in time, replaced without touching open connections.

mod answer;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_core::env::Env;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use crate::key::Key;
use crate::{
    Authorities, CaError, CertSigner, CertSource, Identity, KeyKind, Material, Roots, SecretError, SecretRef,
    SecretState, Secrets, SpiffeId,
};

/// A workload's certificate with its key.
#[derive(Clone, Debug)]
pub struct WorkloadCert {
    /// Identity in the certificate.
    pub id: SpiffeId,
    /// Chain in PEM, leaf first, without the roots.
    pub chain: Arc<str>,
    /// Trusted roots in PEM, with their revocation lists.
    pub bundle: Arc<str>,
    /// The chain with its key.
    pub identity: Identity,
    /// The roots.
    pub roots: Arc<Roots>,
    /// Serial number in hexadecimal.
    pub serial: Arc<str>,
    /// It is valid from then.
    pub not_before: SystemTime,
    /// It is valid until then.
    pub not_after: SystemTime,
}

/// What is known about the own certificate.
#[derive(Clone, Debug, Default)]
pub enum CertState {
    /// The first one has been asked for.
    #[default]
    Waiting,
    /// It is there.
    Issued(Arc<WorkloadCert>),
    /// There is none, or it has expired: no handshake may succeed.
    Failed(SecretError),
}

/// Config of a [`CertManager`]. The defaults are those of Istio's agent; the variables are the ones that set them there.
#[derive(Clone, PartialEq, Debug)]
pub struct RotationConfig {
    /// Kind of the workload's key. Each certificate has a new one.
    pub key: KeyKind,
    /// Life to ask for. Default 24 h (`SECRET_TTL`).
    pub validity: Duration,
    /// A certificate is renewed when this part of its life is left. Default 0.5 (`SECRET_GRACE_PERIOD_RATIO`).
    pub grace_ratio: f64,
    /// That part differs by up to so much either way, so that workloads that started together don't renew together.
    /// Default 0.01 (`SECRET_GRACE_PERIOD_RATIO_JITTER`).
    pub grace_jitter: f64,
    /// Pause after a failure. It doubles with each further one. Default 200 ms.
    pub first_pause: Duration,
    /// Longest pause; a tenth of the certificate's life is the limit if that is less. Default 30 s.
    pub longest_pause: Duration,
}

impl Default for RotationConfig {
    fn default() -> Self {
        Self {
            key: KeyKind::default(),
            validity: Duration::from_secs(24 * 60 * 60),
            grace_ratio: 0.5,
            grace_jitter: 0.01,
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(30),
        }
    }
}

/// How renewal goes, for metrics and for people.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CertStatus {
    /// Certificates that were issued.
    pub issued: u64,
    /// Requests that failed.
    pub failures: u64,
    /// Why the last one did; `None`: it did not.
    pub last_error: Option<Arc<str>>,
    /// Serial number in hexadecimal.
    pub serial: Option<Arc<str>>,
    /// The certificate is valid from then.
    pub not_before: Option<SystemTime>,
    /// The certificate is valid until then.
    pub not_after: Option<SystemTime>,
    /// It is going to be renewed then.
    pub renew_at: Option<SystemTime>,
    /// By how many seconds the CA's clock is ahead of this one; negative: behind. Known from a certificate's beginning,
    /// which is two minutes before it was made, and as exact as the request was fast.
    pub clock_offset: Option<i64>,
}

impl CertStatus {
    /// Seconds until the certificate expires; negative: since then (`istio_agent_cert_expiry_seconds`).
    pub fn expires_in(&self, now: SystemTime) -> Option<i64> {
        self.not_after.map(|t| seconds_between(now, t))
    }
}

/// From one time to another, negative if that is before.
fn seconds_between(from: SystemTime, to: SystemTime) -> i64 {
    let seconds = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
    to.duration_since(from).map_or_else(|e| -seconds(e.duration()), seconds)
}

struct Shared {
    state: watch::Sender<CertState>,
    status: Mutex<CertStatus>,
    renew: Notify,
}

/// The reader's end: the certificate in force.
#[derive(Clone)]
pub struct CertHandle(Arc<Shared>);

impl fmt::Debug for CertHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertHandle({:?})", self.status())
    }
}

impl CertSource for CertHandle {
    fn watch(&self) -> watch::Receiver<CertState> {
        self.0.state.subscribe()
    }
}

impl CertHandle {
    /// How renewal goes.
    pub fn status(&self) -> CertStatus {
        self.0.status.lock().clone()
    }

    /// The certificate in force; `None`: there is none that may be shown.
    pub fn current(&self) -> Option<Arc<WorkloadCert>> {
        match &*self.0.state.borrow() {
            CertState::Issued(cert) => Some(Arc::clone(cert)),
            CertState::Waiting | CertState::Failed(_) => None,
        }
    }

    /// Asks for a new certificate now, for instance because the roots have changed.
    pub fn renew(&self) {
        self.0.renew.notify_one();
    }
}

/// Keeps a workload's certificate fresh. It makes the keys: they are in no message and on no disk.
///
/// ```
/// use std::sync::Arc;
///
/// use mesh_core::env::Env;
/// use mesh_tls::{Authority, CertManager, RotationConfig, Secrets, SpiffeId, deliver};
///
/// async fn with_identity(ca: Arc<Authority>, env: Arc<dyn Env>, secrets: Arc<Secrets>) {
///     let id = SpiffeId::new("cluster.local", "default", "sleep");
///     let (manager, handle) = CertManager::new(id, ca, RotationConfig::default(), env);
///     // Acceptors and connectors that follow `secrets` have the certificate in force for their next handshake.
///     tokio::join!(manager.run(), deliver(&handle, &secrets));
/// }
/// ```
pub struct CertManager<S> {
    id: SpiffeId,
    signer: S,
    config: RotationConfig,
    env: Arc<dyn Env>,
    shared: Arc<Shared>,
}

impl<S> fmt::Debug for CertManager<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertManager({})", self.id)
    }
}

/// Wall-clock time is looked at so often: a machine that slept has an older certificate than its timers know.
const LOOK: Duration = Duration::from_secs(60);

impl<S: CertSigner> CertManager<S> {
    /// A manager for this identity, and the end that others read. Nothing happens before [`CertManager::run`].
    pub fn new(id: SpiffeId, signer: S, config: RotationConfig, env: Arc<dyn Env>) -> (Self, CertHandle) {
        let shared = Shared {
            state: watch::Sender::new(CertState::Waiting),
            status: Mutex::new(CertStatus::default()),
            renew: Notify::new(),
        };
        let shared = Arc::new(shared);
        (Self { id, signer, config, env, shared: Arc::clone(&shared) }, CertHandle(shared))
    }

    /// Asks for certificates for ever. Without one that is valid now the state is [`CertState::Failed`], so that nothing is
    /// served: at the start, and again when a certificate expires before it could be renewed.
    pub async fn run(self) {
        let mut current: Option<Arc<WorkloadCert>> = None;
        let mut failed: u32 = 0;
        loop {
            let asked = self.while_valid(current.as_deref(), self.issue()).await;
            let due = match asked {
                Ok(cert) => {
                    failed = 0;
                    let due = self.renew_at(&cert);
                    current = Some(self.publish(cert, due));
                    due
                }
                Err(error) => {
                    failed = failed.saturating_add(1);
                    self.note(&error, current.is_none());
                    self.env.now() + self.pause(failed, current.as_deref())
                }
            };
            self.while_valid(current.as_deref(), self.until(due)).await;
            let now = self.env.now();
            current = current.filter(|c| now < c.not_after);
        }
    }

    /// Waits for something, and says so if the certificate expires meanwhile.
    async fn while_valid<T>(&self, current: Option<&WorkloadCert>, other: impl Future<Output = T>) -> T {
        let expiry = async {
            match current {
                Some(cert) => self.wall(cert.not_after).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(other);
        tokio::select! {
            biased;
            done = &mut other => return done,
            () = expiry => {}
        }
        let last = self.shared.status.lock().last_error.clone();
        let why = last.map_or_else(|| "it was not renewed in time".to_owned(), |e| e.to_string());
        self.shared.state.send_replace(CertState::Failed(SecretError(format!("the certificate has expired: {why}"))));
        tracing::error!(id = %self.id, %why, "the workload's certificate has expired");
        other.await
    }

    /// Until a wall-clock time, or until somebody asks for a new certificate.
    async fn until(&self, due: SystemTime) {
        tokio::select! {
            () = self.wall(due) => {}
            () = self.shared.renew.notified() => {}
        }
    }

    async fn wall(&self, due: SystemTime) {
        while let Ok(left) = due.duration_since(self.env.now()) {
            if left.is_zero() {
                return;
            }
            sleep(left.min(LOOK)).await;
        }
    }

    async fn issue(&self) -> Result<WorkloadCert, CaError> {
        let key = Key::generate(self.config.key)?;
        let request = key.request(&self.id)?;
        let answer = self.signer.sign(&self.id, request.as_bytes(), self.config.validity).await?;
        answer::check(&self.id, &key, &answer, self.env.now())
    }

    /// When so much of its life is left as the ratio says; its life begins now, by this clock.
    fn renew_at(&self, cert: &WorkloadCert) -> SystemTime {
        let now = self.env.now();
        let life = cert.not_after.duration_since(now).unwrap_or_default();
        let jitter = self.config.grace_jitter * (self.fraction() * 2.0 - 1.0);
        let left = life.mul_f64((self.config.grace_ratio + jitter).clamp(0.0, 1.0));
        // A life of nothing must not become a storm of requests.
        (cert.not_after - left).max(now + self.config.first_pause)
    }

    /// Doubling, between half and all of it.
    fn pause(&self, failed: u32, current: Option<&WorkloadCert>) -> Duration {
        let life =
            current.map_or(self.config.validity, |c| c.not_after.duration_since(c.not_before).unwrap_or_default());
        let longest = self.config.longest_pause.min(life / 10).max(self.config.first_pause);
        let doubled = self.config.first_pause.saturating_mul(1 << (failed - 1).min(16));
        doubled.min(longest).mul_f64(0.5 + self.fraction() / 2.0)
    }

    /// At random, from 0 to 1.
    fn fraction(&self) -> f64 {
        self.env.below(1 << 32) as f64 / f64::from(u32::MAX)
    }

    fn publish(&self, cert: WorkloadCert, due: SystemTime) -> Arc<WorkloadCert> {
        let now = self.env.now();
        let cert = Arc::new(cert);
        let mut status = self.shared.status.lock();
        *status = CertStatus {
            issued: status.issued + 1,
            failures: status.failures,
            last_error: None,
            serial: Some(cert.serial.clone()),
            not_before: Some(cert.not_before),
            not_after: Some(cert.not_after),
            renew_at: Some(due),
            clock_offset: Some(seconds_between(now, cert.not_before + answer::SKEW)),
        };
        drop(status);
        tracing::info!(id = %self.id, serial = %cert.serial, "the workload has a new certificate");
        self.shared.state.send_replace(CertState::Issued(Arc::clone(&cert)));
        cert
    }

    fn note(&self, error: &CaError, none: bool) {
        let text: Arc<str> = error.to_string().into();
        tracing::warn!(id = %self.id, %error, "no new certificate");
        let mut status = self.shared.status.lock();
        status.failures += 1;
        status.last_error = Some(text.clone());
        drop(status);
        if none {
            let why = SecretError(format!("the workload has no certificate: {text}"));
            self.shared.state.send_replace(CertState::Failed(why));
        }
    }
}

/// Delivers a workload's certificate and the mesh's roots to who follows [`SecretRef::Workload`] and
/// [`SecretRef::MeshRoots`], for as long as the source is there.
pub async fn deliver(source: &impl CertSource, secrets: &Secrets) {
    let (_none, others) = watch::channel(Vec::new());
    deliver_with(source, secrets, others).await;
}

/// The same where other authorities vouch for workloads, too.
pub async fn deliver_with(source: &impl CertSource, secrets: &Secrets, mut others: watch::Receiver<Vec<Authorities>>) {
    let mut certs = source.watch();
    let mut wishes = secrets.wishes();
    loop {
        let state = certs.borrow_and_update().clone();
        let materials = materials(&state, &others.borrow_and_update());
        for (name, material) in &materials {
            secrets.set(name, material.clone());
        }
        loop {
            tokio::select! {
                changed = certs.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                Ok(()) = others.changed() => break,
                changed = wishes.changed() => if changed.is_err() { return },
            }
            // Those that have it already build nothing anew.
            for (name, material) in &materials {
                secrets.answer(name, material);
            }
        }
    }
}

fn materials(state: &CertState, others: &[Authorities]) -> [(SecretRef, SecretState); 2] {
    let (identity, roots) = match state {
        CertState::Waiting => (SecretState::Pending, SecretState::Pending),
        CertState::Issued(cert) => (
            SecretState::Ready(Material::Identity(cert.identity.clone())),
            SecretState::Ready(Material::Roots(Roots::beside(&cert.roots, others))),
        ),
        CertState::Failed(why) => (SecretState::Missing(why.clone()), SecretState::Missing(why.clone())),
    };
    [(SecretRef::Workload, identity), (SecretRef::MeshRoots, roots)]
}
