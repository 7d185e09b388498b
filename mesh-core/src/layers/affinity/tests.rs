use parking_lot::Mutex;

use super::*;
use crate::layers::testing::{call, context, context_from, fixed, get, service, status, with};

fn cookie(attributes: Option<&str>) -> HashKey {
    HashKey::Cookie(CookiePlan { name: "sess".into(), attributes: attributes.map(Into::into) })
}

/// The hash that the service below sees, and the cookie that the client gets.
async fn run(key: &HashKey, request: Request) -> (Option<u64>, Option<String>) {
    let seen: Arc<Mutex<Option<u64>>> = Arc::default();
    let note = Arc::clone(&seen);
    let below = service(move |request: Request| {
        *note.lock() = request.extensions().get::<Affinity>().map(|a| a.0);
        std::future::ready(Ok(status(200)))
    });
    let layer = AffinityLayer::new(AffinityConfig { key: key.clone(), env: fixed(0x79f6_a92b_0578_085a) });
    let response = call(&layer, below, request).await.unwrap();
    let cookie = response.headers().get(SET_COOKIE).map(|c| c.to_str().unwrap().to_owned());
    let hash = *seen.lock();
    (hash, cookie)
}

async fn of(key: &HashKey, request: Request) -> Option<u64> {
    run(key, request).await.0
}

#[tokio::test]
async fn by_header() {
    let key = HashKey::Header("x-user".parse().unwrap());
    let (ann, bob) = (get("/", &[("x-user", "ann")]), get("/", &[("x-user", "bob")]));
    assert_eq!(of(&key, ann).await, Some(hash(b"ann")));
    assert_eq!(of(&key, bob).await, Some(hash(b"bob")));
    assert_eq!(of(&key, get("/", &[])).await, None, "R2");
    let two = |a, b| get("/", &[("x-user", a), ("x-user", b)]);
    assert_eq!(of(&key, two("a", "b")).await, of(&key, two("b", "a")).await);
}

#[tokio::test]
async fn by_query_parameter() {
    let key = HashKey::Query("user".into());
    assert_eq!(of(&key, get("/?a=b&user=ann&user=bob", &[])).await, Some(hash(b"ann")));
    assert_eq!(of(&key, get("/?a=b", &[])).await, None, "R2");
    assert_eq!(of(&key, get("/", &[])).await, None, "R2");
}

#[tokio::test]
async fn by_address() {
    let key = HashKey::SourceIp;
    let from = |peer: &str| with(get("/", &[]), &context_from(peer));
    assert_eq!(of(&key, from("10.0.0.9:1")).await, of(&key, from("10.0.0.9:2")).await);
    assert_ne!(of(&key, from("10.0.0.9:1")).await, of(&key, from("10.0.0.8:1")).await);
    assert_eq!(of(&key, get("/", &[])).await, None);
    let conn = &context().conn;
    assert_eq!(of_connection(&key, conn), Some(hash(b"10.0.0.9")));
    assert_eq!(of_connection(&HashKey::Query("a".into()), conn), None);
}

#[tokio::test]
async fn r1_a_cookie_is_made() {
    let key = cookie(Some("; Max-Age=60; Path=/p; HttpOnly"));
    let (made, set) = run(&key, get("/", &[])).await;
    assert_eq!(set.as_deref(), Some("sess=\"79f6a92b0578085a\"; Max-Age=60; Path=/p; HttpOnly"));
    // The client that comes back with it, quoted or not, stays, and gets none again.
    for sent in ["sess=\"79f6a92b0578085a\"", "a=b; sess=79f6a92b0578085a; c=d"] {
        assert_eq!(run(&key, get("/", &[("cookie", sent)])).await, (made, None), "R2 {sent}");
    }
}

#[tokio::test]
async fn r2_without_ttl_none_is_made() {
    assert_eq!(run(&cookie(None), get("/", &[])).await, (None, None));
    assert_eq!(run(&cookie(None), get("/", &[("cookie", "other=1")])).await, (None, None));
    assert_eq!(of(&cookie(None), get("/", &[("cookie", "sess=1")])).await, Some(hash(b"1")));
}
