//! The mission's own faults, verbatim, counted: what share of requests is aborted or delayed, and for how long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use mesh_core::api::{Origin, Resource};
use mesh_core::compile::compile;
use mesh_core::convert::{Addresses, Options, inputs};
use mesh_core::decide::decide_route;
use mesh_core::env::Env;
use mesh_core::layers::{Body, FaultConfig, FaultLayer, Request, Response};
use mesh_core::matching::RequestFacts;
use mesh_core::snapshot::FaultPlan;
use mesh_core::world::World;
use tower::{Layer, Service};

use crate::corpus;
use crate::seed::{bookinfo, proxies};

/// A fixed sequence of well-mixed numbers.
struct Sequence(AtomicU64);

impl Env for Sequence {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn random(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// The fault that a request from reviews or productpage to a host gets.
fn fault(world: &World, host: &str, user: Option<&'static str>) -> Option<Arc<FaultPlan>> {
    let id = proxies(world).into_iter().find(|p| p.name.starts_with("productpage")).unwrap();
    let snapshot = compile(world, &id, None).snapshot;
    let listener = snapshot.outbound(None, 9080);
    let mut headers = HeaderMap::new();
    headers.extend(user.map(|u| (HeaderName::from_static("end-user"), HeaderValue::from_static(u))));
    let facts = RequestFacts {
        method: &Method::GET,
        scheme: "http",
        authority: host,
        path: "/",
        query: None,
        headers: &headers,
        claims: None,
    };
    let routes = &listener.http.as_ref().unwrap().routes;
    decide_route(routes, &facts).route().unwrap().filters.fault.clone()
}

/// Of so many requests: how many got 403, how many reached the application, how many were delayed by how long.
async fn counted(plan: &FaultPlan, requests: usize) -> (usize, usize, usize, Duration) {
    let env = Arc::new(Sequence(AtomicU64::new(7)));
    let reached = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&reached);
    let inner = tower::service_fn(move |_: Request| {
        counter.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Ok(Response::new(Body::Empty)))
    });
    let mut service = FaultLayer::new(FaultConfig::of(plan, env)).layer(inner);
    let (mut aborted, mut delayed, mut longest) = (0, 0, Duration::ZERO);
    for _ in 0..requests {
        let began = tokio::time::Instant::now();
        let response = service.call(Request::new(Body::Empty)).await.unwrap();
        let Body::Full(text) = response.body() else {
            delayed += usize::from(!began.elapsed().is_zero());
            longest = longest.max(began.elapsed());
            continue;
        };
        assert_eq!((response.status().as_u16(), &**text), (403, b"fault filter abort".as_slice()));
        aborted += 1;
    }
    (aborted, reached.load(Ordering::Relaxed), delayed, longest)
}

#[tokio::test(start_paused = true)]
async fn a_third_of_the_ratings_is_aborted() {
    let Some((_, world)) = bookinfo(&[12]) else { return };
    let (aborted, reached, delayed, _) = counted(&fault(&world, "ratings:9080", None).unwrap(), 3000).await;
    assert!((810..=990).contains(&aborted), "{aborted} of 3000, 30 % is 900");
    assert_eq!((reached, delayed), (3000 - aborted, 0));
    let (_, world) = bookinfo(&[13]).unwrap();
    assert!(fault(&world, "ratings:9080", None).is_none() && fault(&world, "ratings:9080", Some("me")).is_none());
    let (aborted, ..) = counted(&fault(&world, "ratings:9080", Some("testing-user")).unwrap(), 3000).await;
    assert!((810..=990).contains(&aborted), "{aborted} of 3000, 30 % is 900");
}

#[tokio::test(start_paused = true)]
async fn half_of_the_details_is_delayed_as_the_patch_says() {
    let Some((resources, world)) = bookinfo(&[14]) else { return };
    let (aborted, reached, delayed, longest) = counted(&fault(&world, "details:9080", None).unwrap(), 3000).await;
    assert!((1410..=1590).contains(&delayed), "{delayed} of 3000, 50 % is 1500");
    assert_eq!((aborted, reached, longest), (0, 3000, Duration::from_secs(7)));
    let patch = std::fs::read_to_string(corpus().unwrap().join("seed/patch-03-details-delay-2s.json")).unwrap();
    let patch: serde_json::Value = serde_json::from_str(&patch).unwrap();
    let patched = |r: Resource| {
        if *r.key().name != *"details" || *r.key().kind.kind != *"VirtualService" {
            return r;
        }
        let mut value = r.to_value();
        for change in patch.as_array().unwrap() {
            assert_eq!(change["op"], "replace");
            *value.pointer_mut(change["path"].as_str().unwrap()).unwrap() = change["value"].clone();
        }
        Resource::parse(value, Origin::generated("patch")).unwrap().0
    };
    let resources: Vec<Resource> = resources.into_iter().map(patched).collect();
    let world = inputs(&resources, &Options::default(), &mut Addresses::default()).world;
    let (_, _, delayed, longest) = counted(&fault(&world, "details:9080", None).unwrap(), 3000).await;
    assert!((1410..=1590).contains(&delayed), "{delayed} of 3000, 50 % is 1500");
    assert_eq!(longest, Duration::from_secs(2));
}
