//! Keys that are fetched: kept fresh in the background, the last good ones kept in use.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::keys::KeySet;

/// How often keys are fetched again.
const REFRESH: Duration = Duration::from_secs(20 * 60);
/// After a failure: this long, then twice as long each time, up to an hour.
const RETRY: Duration = Duration::from_secs(60);
const RETRY_MAX: Duration = Duration::from_secs(60 * 60);
/// While there are no keys at all, this many tries follow a failure, a second apart.
const FIRST_TRIES: u32 = 7;
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Keys that could not be confirmed for so long are not believed any more.
const BELIEVED: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Fetches documents over HTTP(S).
pub trait KeySetSource: Send + Sync + 'static {
    /// The document at a URL. Anything but an answer of 2xx is an error.
    fn fetch(&self, uri: &str) -> impl Future<Output = Result<Arc<[u8]>, String>> + Send;
}

/// Keys of one issuer from one place, in whatever state they are.
#[derive(Debug)]
pub struct RemoteKeys {
    issuer: String,
    /// Empty: OIDC discovery says.
    uri: String,
    timeout: Duration,
    keys: ArcSwapOption<KeySet>,
    state: watch::Sender<State>,
}

/// What became of fetching.
#[derive(Clone, Default, Debug)]
struct State {
    /// There was an answer or a failure; before that, requests wait.
    tried: bool,
    /// When keys were last fetched.
    success: Option<Instant>,
    /// Why not, the last time.
    failure: Option<String>,
}

impl RemoteKeys {
    /// The keys in force; `None`: there are none, so that no token is good.
    pub fn current(&self) -> Option<Arc<KeySet>> {
        self.keys.load_full()
    }

    /// Where keys come from: the issuer, and the address if it is configured.
    pub fn place(&self) -> (&str, &str) {
        (&self.issuer, &self.uri)
    }

    /// Why keys could not be fetched, the last time.
    pub fn failure(&self) -> Option<String> {
        self.state.borrow().failure.clone()
    }

    /// Takes these keys for the ones that would be fetched.
    pub(crate) fn hold(&self, keys: KeySet) {
        self.keys.store(Some(Arc::new(keys)));
        self.state.send_replace(State { tried: true, success: Some(Instant::now()), failure: None });
    }

    /// Nothing is known yet, not even a failure.
    pub(super) fn is_pending(&self) -> bool {
        !self.state.borrow().tried
    }

    /// Waits until the first try has ended, at most for the time that a try may take. Who fetches nothing (see
    /// [`RemoteKeys::run`]) makes every request wait so long.
    pub(crate) async fn settled(&self) {
        let mut state = self.state.subscribe();
        let _ = timeout(self.timeout, state.wait_for(|s| s.tried)).await;
    }

    /// Fetches, again and again, until the future is dropped.
    pub async fn run<S: KeySetSource>(&self, source: &S) {
        let (mut failures, mut first) = (0_u32, FIRST_TRIES);
        loop {
            let result = match timeout(self.timeout, self.fetch(source)).await {
                Ok(result) => result,
                Err(_) => Err(format!("no answer within {:?}", self.timeout)),
            };
            let wait = match result {
                Ok(keys) => {
                    (failures, first) = (0, FIRST_TRIES);
                    self.keys.store(Some(Arc::new(keys)));
                    let state = State { tried: true, success: Some(Instant::now()), failure: None };
                    self.state.send_replace(state);
                    REFRESH
                }
                Err(why) => {
                    tracing::warn!(issuer = self.issuer, uri = self.uri, why, "keys of tokens could not be fetched");
                    self.fail(why);
                    if self.keys.load().is_none() && first > 0 {
                        first -= 1;
                        FIRST_RETRY
                    } else {
                        failures += 1;
                        RETRY.saturating_mul(1 << (failures - 1).min(6)).min(RETRY_MAX)
                    }
                }
            };
            sleep(wait).await;
        }
    }

    fn fail(&self, why: String) {
        let success = self.state.borrow().success;
        if success.is_some_and(|at| at.elapsed() >= BELIEVED) {
            self.keys.store(None);
        }
        self.state.send_replace(State { tried: true, success, failure: Some(why) });
    }

    async fn fetch<S: KeySetSource>(&self, source: &S) -> Result<KeySet, String> {
        if !self.uri.is_empty() {
            return KeySet::parse(&source.fetch(&self.uri).await?);
        }
        let at = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        if !is_web(&at) {
            return Err(format!("issuer {:?} is no URL, so there is no place to look for its keys", self.issuer));
        }
        let document = source.fetch(&at).await?;
        let document: Value = serde_json::from_slice(&document).map_err(|e| format!("{at} is not JSON: {e}"))?;
        let uri = document.get("jwks_uri").and_then(Value::as_str).filter(|u| is_web(u));
        let uri = uri.ok_or_else(|| format!("{at} names no jwks_uri"))?;
        KeySet::parse(&source.fetch(uri).await?)
    }
}

fn is_web(uri: &str) -> bool {
    uri.starts_with("http://") || uri.starts_with("https://")
}

/// All keys that are fetched in a process: one [`RemoteKeys`] for each issuer and place, shared by all rules and
/// snapshots that need it, gone with the last of them.
#[derive(Debug, Default)]
pub struct KeyStore {
    all: Mutex<HashMap<(String, String), Weak<RemoteKeys>, RandomState>>,
}

impl KeyStore {
    /// The keys of an issuer; `timeout` is for new ones. The flag says that they are new: somebody has to
    /// [`run`](RemoteKeys::run) them.
    pub fn get(&self, issuer: &str, uri: &str, timeout: Duration) -> (Arc<RemoteKeys>, bool) {
        let mut all = self.all.lock();
        all.retain(|_, keys| keys.strong_count() > 0);
        let key = (issuer.to_owned(), uri.to_owned());
        if let Some(keys) = all.get(&key).and_then(Weak::upgrade) {
            return (keys, false);
        }
        let keys = Arc::new(RemoteKeys {
            issuer: issuer.to_owned(),
            uri: uri.to_owned(),
            timeout,
            keys: ArcSwapOption::empty(),
            state: watch::Sender::new(State::default()),
        });
        all.insert(key, Arc::downgrade(&keys));
        (keys, true)
    }
}
