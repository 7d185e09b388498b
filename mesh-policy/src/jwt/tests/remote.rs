//! Keys that are fetched.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::time::{advance, timeout};

use super::*;

/// Documents by URL, and what was asked for.
#[derive(Default)]
struct Pages {
    pages: Mutex<BTreeMap<String, Result<String, String>>>,
    asked: Mutex<Vec<String>>,
    hangs: bool,
}

impl Pages {
    fn set(&self, uri: &str, page: Result<&str, &str>) {
        self.pages.lock().insert(uri.to_owned(), page.map(str::to_owned).map_err(str::to_owned));
    }

    fn asked(&self) -> usize {
        self.asked.lock().len()
    }
}

impl KeySetSource for Pages {
    async fn fetch(&self, uri: &str) -> Result<Arc<[u8]>, String> {
        self.asked.lock().push(uri.to_owned());
        if self.hangs {
            std::future::pending::<()>().await;
        }
        let page = self.pages.lock().get(uri).cloned();
        page.unwrap_or_else(|| Err("404".to_owned())).map(|p| p.into_bytes().into())
    }
}

const URI: &str = "http://keys.example/k";
const RULE: &str = "issuer: i, jwksUri: 'http://keys.example/k'";

fn token() -> Request<()> {
    bearer(&KEY.sign(r#"{"iss":"i"}"#))
}

fn outcome(authenticator: &Authenticator) -> Result<bool, Option<JwtError>> {
    match authenticator.check(&token(), now()) {
        Outcome::Pass(changes) => Ok(changes.claims.is_some()),
        Outcome::Refuse(error) => Err(Some(error)),
        Outcome::Wait(_) => Err(None),
    }
}

fn compile(rule: &str) -> (Authenticator, Arc<RemoteKeys>) {
    let (authenticator, mut keys) = Authenticator::compile(&policies(&[rule]), &KeyStore::default());
    (authenticator, keys.pop().unwrap())
}

/// Runs the fetching for a while.
async fn run(keys: &RemoteKeys, pages: &Pages, time: Duration) {
    let _ = timeout(time, keys.run(pages)).await;
}

#[tokio::test(start_paused = true)]
async fn fetched_refreshed_and_the_last_good_ones_kept() {
    let pages = Pages::default();
    let (authenticator, keys) = compile(RULE);
    assert_eq!(outcome(&authenticator), Err(None));
    pages.set(URI, Ok(&set(&[OTHER.jwk("k", "")])));
    run(&keys, &pages, Duration::from_secs(1)).await;
    assert_eq!((outcome(&authenticator), pages.asked()), (Err(Some(JwtError::Signature)), 1));
    // Every 20 minutes.
    pages.set(URI, Ok(&set(&[KEY.jwk("k", "")])));
    run(&keys, &pages, Duration::from_secs(1)).await;
    let before = pages.asked();
    let task = async {
        assert_eq!(outcome(&authenticator), Ok(true));
        pages.set(URI, Err("503"));
        // The refresh, and then after 1, 2, 4, 8, 16, 32, 60, 60 minutes.
        for (i, minutes) in [20, 1, 2, 4, 8, 16, 32, 60, 60].into_iter().enumerate() {
            advance(Duration::from_secs(minutes * 60 - 1)).await;
            tokio::task::yield_now().await;
            assert_eq!(pages.asked(), before + 1 + i, "too early: {minutes}");
            advance(Duration::from_secs(1)).await;
            tokio::task::yield_now().await;
            assert_eq!(pages.asked(), before + 2 + i, "too late: {minutes}");
            assert_eq!(outcome(&authenticator), Ok(true));
        }
        assert_eq!(keys.failure().as_deref(), Some("503"));
        // Rubbish is no key set either.
        pages.set(URI, Ok("{}"));
        advance(Duration::from_secs(3600)).await;
        tokio::task::yield_now().await;
        assert_eq!(outcome(&authenticator), Ok(true));
        // After a week nobody believes them any more.
        for _ in 0..24 * 8 {
            advance(Duration::from_secs(3600)).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(outcome(&authenticator), Err(Some(JwtError::KeysUnavailable)));
    };
    tokio::select! {
        biased;
        () = keys.run(&pages) => unreachable!(),
        () = task => {}
    }
}

#[tokio::test(start_paused = true)]
async fn h29_refused_while_there_are_none() {
    let pages = Pages::default();
    pages.set(URI, Err("connection refused"));
    let (authenticator, keys) = compile(RULE);
    run(&keys, &pages, Duration::from_millis(500)).await;
    assert_eq!(outcome(&authenticator), Err(Some(JwtError::KeysUnavailable)));
    assert_eq!(taken(&authenticator, request("/", &[])), Ok(false));
    // A few quick tries, then slower ones.
    run(&keys, &pages, Duration::from_secs(8)).await;
    let quick = pages.asked();
    assert_eq!(quick, 1 + 8);
    pages.set(URI, Ok(&set(&[KEY.jwk("k", "")])));
    run(&keys, &pages, Duration::from_millis(500)).await;
    assert_eq!(outcome(&authenticator), Ok(true));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer() {
    let pages = Pages { hangs: true, ..Pages::default() };
    let (authenticator, keys) = compile("issuer: i, jwksUri: 'http://keys.example/k', timeout: 2s");
    let begun = tokio::time::Instant::now();
    tokio::select! {
        () = keys.run(&pages) => unreachable!(),
        () = keys.settled() => {}
    }
    assert_eq!(begun.elapsed().as_secs(), 2);
    run(&keys, &pages, Duration::from_secs(3)).await;
    assert_eq!(outcome(&authenticator), Err(Some(JwtError::KeysUnavailable)));
    assert_eq!(keys.failure().as_deref(), Some("no answer within 2s"));
}

#[tokio::test(start_paused = true)]
async fn discovery() {
    let pages = Pages::default();
    let (authenticator, keys) = compile("discover issuer: 'https://i.example/', fromHeaders: [{name: x-t}]");
    assert_eq!(keys.place(), ("https://i.example/", ""));
    pages.set("https://i.example/.well-known/openid-configuration", Ok(r#"{"jwks_uri":"https://i.example/jwks"}"#));
    pages.set("https://i.example/jwks", Ok(&set(&[KEY.jwk("k", "")])));
    run(&keys, &pages, Duration::from_millis(500)).await;
    let token = KEY.sign(r#"{"iss":"https://i.example/"}"#);
    assert_eq!(taken(&authenticator, request("/", &[("x-t", &token)])), Ok(true));
    for (page, why) in [
        ("{}", "names no jwks_uri"),
        ("x", "is not JSON"),
        (r#"{"jwks_uri":"file:///etc/passwd"}"#, "names no jwks_uri"),
    ] {
        pages.set("https://i.example/.well-known/openid-configuration", Ok(page));
        run(&keys, &pages, Duration::from_millis(500)).await;
        assert!(keys.failure().unwrap().contains(why), "{page}: {:?}", keys.failure());
    }
    let (_, keys) = compile("discover issuer: i");
    run(&keys, &pages, Duration::from_millis(500)).await;
    assert!(keys.failure().unwrap().contains("is no URL"));
}

#[test]
fn keys_are_shared_as_long_as_somebody_needs_them() {
    let store = KeyStore::default();
    let (first, fetched) = Authenticator::compile(&policies(&[RULE, RULE]), &store);
    assert_eq!(fetched.len(), 1);
    let (second, none) = Authenticator::compile(&policies(&[RULE]), &store);
    assert!(none.is_empty());
    drop((first, fetched));
    assert!(Authenticator::compile(&policies(&[RULE]), &store).1.is_empty());
    drop(second);
    assert_eq!(Authenticator::compile(&policies(&[RULE]), &store).1.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn new_keys_end_what_was_remembered() {
    let pages = Pages::default();
    let (authenticator, keys) = compile(RULE);
    pages.set(URI, Ok(&set(&[KEY.jwk("k", "")])));
    run(&keys, &pages, Duration::from_secs(1)).await;
    assert_eq!(outcome(&authenticator), Ok(true));
    pages.set(URI, Ok(&set(&[OTHER.jwk("k", "")])));
    run(&keys, &pages, Duration::from_secs(1)).await;
    assert_eq!(outcome(&authenticator), Err(Some(JwtError::Signature)));
}
