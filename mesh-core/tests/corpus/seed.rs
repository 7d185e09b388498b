//! The mission's own manifests over bookinfo: what is in force, and what is not yet.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use mesh_core::analyze::{AnalyzeInput, NOT_IN_FORCE, analyze};
use mesh_core::api::Resource;
use mesh_core::compile::compile;
use mesh_core::convert::{Addresses, Options, builtin_gateway, inputs};
use mesh_core::explain::{Caller, ExplainRequest, Explanation, From, explain};
use mesh_core::scope::scope;
use mesh_core::snapshot::{ProxyId, ProxyKind};
use mesh_core::world::World;
use mesh_core::yaml;

use crate::corpus;

/// Bookinfo with its gateway and these seed files, by number.
pub(crate) fn bookinfo(numbers: &[u32]) -> Option<(Vec<Resource>, World)> {
    let platform = corpus()?.join("samples/bookinfo/platform/kube/bookinfo.yaml");
    let (mut resources, reports) = yaml::read("bookinfo.yaml", &std::fs::read_to_string(platform).unwrap());
    assert!(reports.iter().all(|r| r.level < mesh_core::report::Level::Error), "{reports:#?}");
    resources.extend(builtin_gateway(&resources));
    let seed = corpus()?.join("seed");
    for n in numbers {
        let prefix = format!("{n:02}-");
        let mut names = std::fs::read_dir(&seed).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let name = names.find(|f| f.starts_with(&prefix)).unwrap();
        let (more, reports) = yaml::read(&name, &std::fs::read_to_string(seed.join(&name)).unwrap());
        assert!(reports.is_empty(), "{reports:#?}");
        // As `apply`: an object replaces the one of its name.
        resources.retain(|r| more.iter().all(|m| m.key() != r.key()));
        resources.extend(more);
    }
    let made = inputs(&resources, &Options::default(), &mut Addresses::default());
    assert!(made.reports.is_empty());
    Some((resources, made.world))
}

pub(crate) fn proxies(world: &World) -> Vec<ProxyId> {
    let id = |w: &std::sync::Arc<mesh_core::model::Workload>| {
        let ingress = w.labels.get("istio").is_some_and(|l| l == "ingressgateway");
        ProxyId::of(if ingress { ProxyKind::Gateway } else { ProxyKind::Sidecar }, w)
    };
    world.workloads().iter().map(id).collect()
}

#[test]
fn every_field_is_in_force() {
    let fields = |n: u32| -> Option<BTreeSet<String>> {
        let (resources, world) = bookinfo(&[1, 5, 6, 10, n])?;
        let said = analyze(&AnalyzeInput { resources: &resources, reports: &[], world: Some(&world), clusters: &[] });
        let later = said.iter().filter(|r| *r.code == *NOT_IN_FORCE.code && r.file.starts_with(&format!("{n:02}-")));
        Some(later.map(|r| format!("{} {}:{}", r.field, r.span.line, r.span.column)).collect())
    };
    if fields(1).is_none() {
        return;
    }
    for n in 1..=15 {
        assert_eq!(fields(n), Some(BTreeSet::new()), "seed {n} is in force in full");
    }
}

/// Whole folders of samples, over bookinfo, so that the services that most of them name are there.
#[test]
fn no_field_of_a_traffic_kind_in_a_sample_waits() {
    let Some(corpus) = corpus() else { return };
    let kinds = [
        "VirtualService",
        "DestinationRule",
        "Gateway",
        "ServiceEntry",
        "WorkloadEntry",
        "WorkloadGroup",
        "Sidecar",
        "ProxyConfig",
    ];
    let (mut objects, mut waiting) = (0, Vec::new());
    for file in ["samples", "seed", "config"].iter().flat_map(|folder| crate::yaml_files(&corpus.join(folder))) {
        let (mut resources, _) = yaml::read(&file.display().to_string(), &std::fs::read_to_string(&file).unwrap());
        objects += resources.iter().filter(|r| kinds.contains(&&*r.key().kind.kind)).count();
        let (platform, _) = bookinfo(&[]).unwrap();
        resources
            .extend(platform.into_iter().filter(|p| resources.iter().all(|r| r.key() != p.key())).collect::<Vec<_>>());
        let reports: Vec<_> = resources.iter().flat_map(mesh_core::validate::validate).collect();
        let options = Options { quarantined: mesh_core::convert::quarantined(&reports), ..Options::default() };
        let world = inputs(&resources, &options, &mut Addresses::default()).world;
        let said =
            analyze(&AnalyzeInput { resources: &resources, reports: &reports, world: Some(&world), clusters: &[] });
        let late = said.iter().filter(|r| *r.code == *NOT_IN_FORCE.code && kinds.contains(&&*r.object.kind.kind));
        waiting.extend(late.map(ToString::to_string));
    }
    println!("{objects} objects of traffic kinds");
    assert!(objects > 100, "{objects}");
    assert!(waiting.is_empty(), "{}", waiting.join("\n"));
}

#[test]
fn the_tours_security_is_said_to_be_sound() {
    for (numbers, expected) in [
        (&[16][..], &[][..]),
        (&[17], &[]),
        (&[18], &[]),
        (&[16, 18, 19, 20, 21], &[]),
        (&[22], &["MESH0201 22-requestauthentication-productpage-jwt.yaml"]),
        (&[17, 22, 23], &[]),
    ] {
        let Some((resources, world)) = bookinfo(numbers) else { return };
        let input = AnalyzeInput { resources: &resources, reports: &[], world: Some(&world), clusters: &[] };
        let said = analyze(&input).into_iter().filter(|r| r.code.starts_with("MESH02") || &*r.code == "IST0127");
        let said: Vec<String> = said.map(|r| format!("{} {}", r.code, r.file)).collect();
        assert_eq!(said, expected, "{numbers:?}");
    }
}

#[test]
fn a_proxys_scope_compiles_to_the_same_as_the_whole() {
    for seeds in [&[][..], &[1, 2], &[3], &[3, 4], &[1, 3, 5, 6, 8], &[6, 9, 15], &[6, 11, 12, 14, 24]] {
        let Some((_, world)) = bookinfo(seeds) else { return };
        for id in proxies(&world) {
            let (scoped, rejected) = World::from_wire(&scope(&world, &id));
            assert_eq!(rejected, []);
            let (whole, part) = (compile(&world, &id, None), compile(&scoped, &id, None));
            assert_eq!(whole.snapshot.hash, part.snapshot.hash, "{} with seeds {seeds:?}", id.name);
        }
    }
}

fn why(world: &World, from: From, url: &str, headers: &[(&'static str, &str)]) -> Explanation {
    let headers = headers.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect();
    let request = ExplainRequest {
        from,
        method: http::Method::GET,
        url: url.into(),
        headers,
        claims: None,
        caller: Caller::default(),
    };
    explain(world, &request).unwrap()
}

fn gateway() -> From {
    From::Gateway("istio-ingressgateway".into())
}

fn workload(name: &str) -> From {
    From::Workload(name.into())
}

#[test]
fn explain_says_what_the_tour_sees_at_the_gateway() {
    let Some((_, none)) = bookinfo(&[]) else { return };
    let e = why(&none, gateway(), "http://localhost:8080/productpage", &[]);
    assert!(e.outcome.text.starts_with("connection refused"), "{e}");
    let (_, no_route) = bookinfo(&[3]).unwrap();
    let e = why(&no_route, gateway(), "http://localhost:8080/productpage", &[]);
    assert_eq!((e.outcome.status, &*e.outcome.flag, &*e.outcome.body), (Some(404), "NR", ""), "{e}");

    let (_, short) = bookinfo(&[3, 4]).unwrap();
    let e = why(&short, gateway(), "http://localhost:8080/productpage", &[]);
    assert_eq!((e.outcome.status, &*e.outcome.flag), (Some(404), "NR"));
    let miss = e.hops[0].miss.as_ref().unwrap();
    assert!(miss.why[1].contains("host \"productpage\" of VirtualService default/bookinfo is a short name"), "{e}");
    assert!(miss.why[1].contains("productpage.default.svc.cluster.local"), "{e}");
    assert!(miss.fix.as_ref().unwrap().starts_with("write \"*\" or the name that clients use"), "{e}");
    let e = why(
        &short,
        gateway(),
        "http://localhost:8080/productpage",
        &[("host", "productpage.default.svc.cluster.local")],
    );
    assert_eq!((e.outcome.status, e.hops.len()), (None, 2), "{e}");

    let (_, any) = bookinfo(&[3, 5]).unwrap();
    let e = why(&any, gateway(), "http://localhost:8080/productpage", &[]);
    assert_eq!((e.outcome.status, e.hops.len()), (None, 2), "{e}");
    let route = e.hops[0].route.as_ref().unwrap();
    assert_eq!(route.object.as_deref(), Some("VirtualService default/bookinfo"));
    assert!(route.location.as_ref().unwrap().starts_with("05-virtualservice-productpage-wildcard.yaml:"), "{e}");
    assert!(e.hops[1].clusters[0].endpoints[0].contains("port 9080"), "{e}");
    let e = why(&any, gateway(), "http://localhost:8080/", &[]);
    assert_eq!(e.outcome.status, Some(404), "{e}");
    assert!(e.hops[0].miss.as_ref().unwrap().why[0].starts_with("path is \"/\", wanted is exact"), "{e}");
}

#[test]
fn explain_says_what_the_tour_sees_between_services() {
    let Some((_, world)) = bookinfo(&[2]) else { return };
    let e = why(&world, workload("ratings-v1"), "http://productpage:9080/", &[]);
    assert_eq!((e.outcome.status, &*e.outcome.flag), (Some(404), "NR"), "{e}");
    let e = why(&world, workload("deploy/ratings-v1"), "http://productpage:9080/productpage", &[]);
    assert_eq!((e.outcome.status, e.hops.len()), (None, 2), "{e}");
    let first = &e.hops[0];
    assert_eq!(first.timeout.as_ref().unwrap().value, "none");
    assert!(first.retries.as_ref().unwrap().value.starts_with("2 on connect-failure"), "{e}");

    let (_, world) = bookinfo(&[6, 8]).unwrap();
    let e = why(&world, workload("productpage-v1"), "http://reviews:9080/reviews/0", &[]);
    let shares: Vec<_> =
        e.hops[0].clusters.iter().map(|c| (c.cluster.value.split('|').nth(2).unwrap(), c.share)).collect();
    assert_eq!(shares, [("v1", 15.0), ("v2", 25.0), ("v3", 60.0)]);
    assert_eq!(e.hops.len(), 4, "a server hop for each destination");
    assert!(e.hops[1].proxy.starts_with("reviews-v3"), "largest share first: {e}");

    let (_, world) = bookinfo(&[6, 9]).unwrap();
    let reviews = |headers: &[(&'static str, &str)]| {
        let e = why(&world, workload("productpage-v1"), "http://reviews:9080/reviews/0", headers);
        e.hops[0].clusters[0].cluster.value.clone()
    };
    assert!(reviews(&[("end-user", "quentin")]).contains("|v3|"));
    assert!(reviews(&[("end-user", "someone")]).contains("|v2|"));
    let (_, world) = bookinfo(&[6, 10]).unwrap();
    let agent = [("user-agent", "Mozilla/5.0 (iPhone) Mobile/15E148")];
    let e = why(&world, workload("productpage-v1"), "http://reviews:9080/reviews/0", &agent);
    assert!(e.hops[0].clusters[0].cluster.value.contains("|v3|"), "{e}");

    let (_, world) = bookinfo(&[7]).unwrap();
    let e = why(&world, workload("productpage-v1"), "http://reviews:9080/", &[]);
    assert_eq!((e.outcome.status, &*e.outcome.flag), (Some(503), "NC"), "no DestinationRule: {e}");
    let e = why(&world, workload("productpage-v1"), "http://example.com/", &[]);
    assert!(e.hops[0].clusters[0].cluster.value.contains("PassthroughCluster"), "{e}");
    let bad = ExplainRequest {
        from: workload("nobody"),
        method: http::Method::GET,
        url: "http://x/".into(),
        headers: http::HeaderMap::new(),
        claims: None,
        caller: Caller::default(),
    };
    assert!(explain(&world, &bad).unwrap_err().contains("there is no workload nobody; there are "));
}
