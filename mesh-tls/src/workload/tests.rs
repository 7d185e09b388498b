use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::time::{Instant, advance, timeout};

use super::*;
use crate::tests::TestEnv;
use crate::{Authority, AuthorityConfig, SecretSource};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn id() -> SpiffeId {
    SpiffeId::new("cluster.local", "default", "sleep")
}

/// A CA that can be away, and that notes when it was asked.
struct Switch {
    ca: Authority,
    away: AtomicBool,
    asked: Mutex<Vec<Instant>>,
    /// Whom it signs for instead of the caller; 0: nobody else.
    mistake: AtomicU64,
}

impl Switch {
    fn new(env: &Arc<TestEnv>) -> Arc<Self> {
        let ca = Authority::self_signed(AuthorityConfig::default(), env.clone()).unwrap();
        Arc::new(Self { ca, away: false.into(), asked: Mutex::default(), mistake: 0.into() })
    }

    fn asked(&self) -> usize {
        self.asked.lock().len()
    }
}

impl CertSigner for Switch {
    async fn sign(&self, caller: &SpiffeId, csr: &[u8], validity: Duration) -> Result<Vec<String>, CaError> {
        self.asked.lock().push(Instant::now());
        if self.away.load(Ordering::Relaxed) {
            return Err(CaError::Unavailable("connection refused".into()));
        }
        let other = SpiffeId::new("cluster.local", "default", "other");
        let elsewhere = Authority::self_signed(AuthorityConfig::default(), TestEnv::new())?;
        let mut answer = match self.mistake.load(Ordering::Relaxed) {
            1 => self.ca.issue(&other, csr, validity)?,
            2 => {
                let foreign = Key::generate(KeyKind::EcdsaP256)?.request(caller)?;
                self.ca.issue(caller, foreign.as_bytes(), validity)?
            }
            _ => self.ca.issue(caller, csr, validity)?,
        };
        match self.mistake.load(Ordering::Relaxed) {
            3 => answer.truncate(1),
            4 => *answer.last_mut().unwrap() = elsewhere.trust_bundle().borrow().to_string(),
            5 => answer.clear(),
            6 => answer[0] = "nonsense".into(),
            _ => {}
        }
        Ok(answer)
    }
}

struct Running {
    ca: Arc<Switch>,
    handle: CertHandle,
    state: watch::Receiver<CertState>,
    env: Arc<TestEnv>,
    _task: tokio::task::JoinSet<()>,
}

impl Running {
    fn start(prepare: impl FnOnce(&Switch)) -> Self {
        let env = TestEnv::new();
        let ca = Switch::new(&env);
        prepare(&ca);
        Self::with(ca, env, RotationConfig::default())
    }

    fn with(ca: Arc<Switch>, env: Arc<TestEnv>, config: RotationConfig) -> Self {
        let (manager, handle) = CertManager::new(id(), Arc::clone(&ca), config, env.clone());
        let mut task = tokio::task::JoinSet::new();
        task.spawn(manager.run());
        Self { ca, state: handle.watch(), handle, env, _task: task }
    }

    async fn changed(&mut self) -> CertState {
        self.state.changed().await.unwrap();
        self.state.borrow_and_update().clone()
    }

    async fn issued(&mut self) -> Arc<WorkloadCert> {
        match self.changed().await {
            CertState::Issued(cert) => cert,
            other => panic!("{other:?}"),
        }
    }

    async fn failed(&mut self) -> String {
        match self.changed().await {
            CertState::Failed(why) => why.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_renewed_with_a_new_key_when_half_of_its_life_is_left() {
    let mut running = Running::start(|_| {});
    assert!(matches!(*running.state.borrow(), CertState::Waiting));
    let start = Instant::now();
    let first = running.issued().await;
    assert_eq!(first.id, id());
    let status = running.handle.status();
    assert_eq!((status.issued, status.failures, status.last_error.clone()), (1, 0, None));
    assert_eq!(status.clock_offset, Some(0));
    assert_eq!(status.expires_in(running.env.now()), Some(86400));
    assert_eq!(status.expires_in(running.env.now() + DAY * 2), Some(-86400));
    let second = running.issued().await;
    let after = start.elapsed();
    let around = DAY.mul_f64(0.489)..DAY.mul_f64(0.511);
    assert!(around.contains(&after), "half a day and one per cent: {after:?}");
    let key = |c: &WorkloadCert| c.identity.certified().key.public_key().unwrap().to_vec();
    assert_ne!(key(&first), key(&second));
    assert_ne!(first.serial, second.serial);
    assert_eq!(running.handle.status().serial.as_ref(), Some(&second.serial));
}

#[tokio::test(start_paused = true)]
async fn without_a_ca_nothing_is_served_and_it_is_asked_less_and_less_often() {
    let mut running = Running::start(|ca| ca.away.store(true, Ordering::Relaxed));
    let said = running.failed().await;
    assert_eq!(said, "the workload has no certificate: the CA can't be reached: connection refused");
    while running.ca.asked() < 14 {
        advance(Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
    }
    let asked = running.ca.asked.lock().clone();
    let pauses: Vec<_> = asked.windows(2).map(|w| w[1] - w[0]).collect();
    assert!(pauses[0] <= Duration::from_secs(2), "{pauses:?}");
    for pause in &pauses[9..] {
        assert!((Duration::from_secs(15)..=Duration::from_secs(32)).contains(pause), "{pauses:?}");
    }
    assert_eq!(running.handle.status().failures, 14);
    running.ca.away.store(false, Ordering::Relaxed);
    running.state.wait_for(|s| matches!(s, CertState::Issued(_))).await.unwrap();
    let status = running.handle.status();
    assert!(status.last_error.is_none() && status.failures >= 14, "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn a_certificate_serves_until_it_expires_and_no_longer() {
    let mut running = Running::start(|_| {});
    let first = running.issued().await;
    running.ca.away.store(true, Ordering::Relaxed);
    let said = running.failed().await;
    assert!(said.starts_with("the certificate has expired: the CA can't be reached"), "{said}");
    let late = running.env.now().duration_since(first.not_after).unwrap();
    assert!(late < Duration::from_secs(1), "{late:?}");
    running.ca.away.store(false, Ordering::Relaxed);
    running.state.wait_for(|s| matches!(s, CertState::Issued(_))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_ca_that_does_not_answer_keeps_nobody_valid() {
    /// Answers once.
    struct Once(Authority, AtomicBool);
    impl CertSigner for Once {
        async fn sign(&self, caller: &SpiffeId, csr: &[u8], validity: Duration) -> Result<Vec<String>, CaError> {
            if self.1.swap(true, Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            self.0.issue(caller, csr, validity)
        }
    }
    let env = TestEnv::new();
    let ca = Authority::self_signed(AuthorityConfig::default(), env.clone()).unwrap();
    let (manager, handle) = CertManager::new(id(), Once(ca, false.into()), RotationConfig::default(), env.clone());
    let mut state = handle.watch();
    let watching = async {
        state.wait_for(|s| matches!(s, CertState::Issued(_))).await.unwrap();
        state.wait_for(|s| matches!(s, CertState::Failed(_))).await.unwrap();
    };
    tokio::select! {
        () = manager.run() => unreachable!("it runs for ever"),
        done = timeout(DAY * 2, watching) => done.unwrap(),
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_not_what_was_asked_for_are_refused() {
    for (mistake, why) in [
        (1, "is for spiffe://cluster.local/ns/default/sa/other instead of spiffe://cluster.local/ns/default/sa/sleep"),
        (2, "for another key"),
        (3, "only one certificate"),
        (4, "does not lead to its roots"),
        (5, "it is empty"),
        (6, "no certificate in it"),
    ] {
        let mut running = Running::start(|ca| ca.mistake.store(mistake, Ordering::Relaxed));
        let said = running.failed().await;
        assert!(said.contains(why), "{mistake}: {said}");
    }
}

#[tokio::test(start_paused = true)]
async fn clocks_that_differ_are_seen() {
    for (ahead, fine) in [(90, true), (600, false)] {
        let (env, cas) = (TestEnv::new(), TestEnv::new());
        cas.jump(Duration::from_secs(ahead));
        let mut running = Running::with(Switch::new(&cas), env, RotationConfig::default());
        match running.changed().await {
            CertState::Issued(_) => {
                assert!(fine);
                assert_eq!(running.handle.status().clock_offset, Some(i64::try_from(ahead).unwrap()));
            }
            CertState::Failed(why) => {
                assert!(!fine);
                assert!(why.to_string().contains("this clock and the CA's differ by 600 s"), "{why}");
            }
            CertState::Waiting => unreachable!("it has changed"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_jump_of_the_clock_renewal_is_not_left_to_the_timer() {
    let mut running = Running::start(|_| {});
    running.issued().await;
    running.env.jump(DAY.mul_f64(0.8));
    let start = Instant::now();
    running.issued().await;
    assert!(start.elapsed() <= LOOK, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn somebody_can_ask_for_a_new_one() {
    let mut running = Running::start(|_| {});
    let first = running.issued().await;
    let start = Instant::now();
    running.handle.renew();
    assert_ne!(running.issued().await.serial, first.serial);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_life_of_nothing_is_no_storm() {
    let env = TestEnv::new();
    let config = RotationConfig { validity: Duration::from_secs(1), grace_ratio: 1.0, ..RotationConfig::default() };
    let running = Running::with(Switch::new(&env), env, config);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let asked = running.ca.asked();
    assert!((2..=51).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn who_follows_the_secrets_has_what_is_in_force() {
    let mut running = Running::start(|_| {});
    let secrets = Arc::new(Secrets::default());
    let handle = running.handle.clone();
    let into = Arc::clone(&secrets);
    let mut task = tokio::task::JoinSet::new();
    task.spawn(async move { deliver(&handle, &into).await });
    let mut identity = secrets.watch(&SecretRef::Workload);
    assert!(matches!(*identity.borrow(), SecretState::Pending));
    running.issued().await;
    identity.wait_for(|s| matches!(s, SecretState::Ready(Material::Identity(_)))).await.unwrap();
    identity.borrow_and_update();
    // A wish of another leaves what is there as it is.
    let mut roots = secrets.watch(&SecretRef::MeshRoots);
    roots.wait_for(|s| matches!(s, SecretState::Ready(Material::Roots(_)))).await.unwrap();
    assert!(!identity.has_changed().unwrap());
    running.ca.away.store(true, Ordering::Relaxed);
    running.failed().await;
    identity.wait_for(|s| matches!(s, SecretState::Missing(_))).await.unwrap();
    roots.wait_for(|s| matches!(s, SecretState::Missing(_))).await.unwrap();
}

#[test]
fn a_state_does_not_print_its_key() {
    let printed = format!("{:?}", CertState::default());
    assert_eq!(printed, "Waiting");
}
