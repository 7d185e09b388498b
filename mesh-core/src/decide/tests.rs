use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode};

use super::*;
use crate::compile::sim::{Request, Sim};
use crate::snapshot::{HeaderOps, Provenance};

fn weighted(weights: &[u32]) -> Vec<WeightedCluster> {
    let one = |w: &u32| WeightedCluster {
        cluster: w.to_string().into(),
        missing_status: StatusCode::SERVICE_UNAVAILABLE,
        weight: *w,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        authority: None,
        origin: Provenance::default("test"),
    };
    weights.iter().map(one).collect()
}

#[test]
fn weights_share_evenly_spaced_randomness_exactly() {
    let clusters = weighted(&[15, 25, 60]);
    let mut counts = std::collections::BTreeMap::new();
    for i in 0..1000_u64 {
        let random = u64::try_from((u128::from(i) << 64).div_ceil(1000)).unwrap();
        let picked = pick_weighted(&clusters, random).unwrap();
        *counts.entry(picked.weight).or_insert(0) += 1;
    }
    assert_eq!(counts, [(15, 150), (25, 250), (60, 600)].into());
    assert_eq!(pick_weighted(&clusters, u64::MAX).unwrap().weight, 60);
    assert!(pick_weighted(&[], 1).is_none());
    assert_eq!(pick_weighted(&weighted(&[7]), u64::MAX).unwrap().weight, 7);
}

#[test]
fn the_nearest_rule_and_why_it_missed() {
    let yaml = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: ns}
spec:
  hosts: [b]
  http:
  - match: [{uri: {prefix: /x}, headers: {h: {exact: v}}, method: {exact: PUT}}]
    route: [{destination: {host: a}}]
  - match: [{uri: {prefix: /x}, headers: {h: {exact: v}}}]
    route: [{destination: {host: b}}]";
    let snapshot = Sim::of(yaml).compile("a-1").snapshot;
    let table = &snapshot.outbound(None, 8080).http.as_ref().unwrap().routes;
    let request = Request::parse("GET http://b:8080/x");
    let Some(NearestMiss::Route { nearest: Some(route), misses, .. }) = nearest_miss(table, &request.facts()) else {
        panic!("a near miss")
    };
    assert_eq!((&*route.origin.field, &misses[..]), ("spec.http[1].match[0]", &[Miss::Header(0)][..]));
    assert!(nearest_miss(table, &Request::parse("GET http://b:8080/x [h: v]").facts()).is_none());
}

#[test]
fn the_short_host_that_a_gateway_never_matches() {
    let yaml = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: ns}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: h, protocol: HTTP}, hosts: ['*']}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: ns}
spec: {hosts: [b], gateways: [gw], http: [{route: [{destination: {host: b}}]}]}";
    let snapshot = Sim::of(yaml).compile("gw-1").snapshot;
    let table = &snapshot.gateway(8080).unwrap().http.as_ref().unwrap().routes;
    let (method, headers) = (Method::GET, HeaderMap::new());
    let facts = RequestFacts {
        method: &method,
        scheme: "http",
        authority: "b",
        path: "/",
        query: None,
        headers: &headers,
        claims: None,
    };
    let Some(NearestMiss::Host { domain: Some(domain), .. }) = nearest_miss(table, &facts) else {
        panic!("a near miss")
    };
    assert_eq!(**domain, *"b.ns.svc.cluster.local");
    let unlike = RequestFacts { authority: "zzz", ..facts };
    assert!(matches!(nearest_miss(table, &unlike), Some(NearestMiss::Host { domain: None, .. })));
}

#[test]
fn a4_missing_clusters_keep_their_status() {
    let yaml = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: ns}
spec: {hosts: [b], http: [{route: [{destination: {host: b, subset: nope}}]}]}";
    let snapshot = Sim::of(yaml).compile("a-1").snapshot;
    let route: Arc<RoutePlan> = crate::compile::sim::route(&snapshot, "GET http://b:8080/");
    let crate::snapshot::Action::Forward(clusters) = &route.action else { panic!("forwards") };
    assert_eq!(clusters[0].missing_status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!snapshot.clusters.contains_key(&clusters[0].cluster));
}
