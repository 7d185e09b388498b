//! The mission's own manifests over bookinfo: what is in force, and what is not yet.

use std::collections::BTreeSet;

use mesh_core::analyze::{AnalyzeInput, NOT_IN_FORCE, analyze};
use mesh_core::api::Resource;
use mesh_core::compile::compile;
use mesh_core::convert::{Addresses, Options, builtin_gateway, inputs};
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

fn proxies(world: &World) -> Vec<ProxyId> {
    let id = |w: &std::sync::Arc<mesh_core::model::Workload>| ProxyId {
        kind: match w.labels.get("istio").map(String::as_str) {
            Some("ingressgateway") => ProxyKind::Gateway,
            _ => ProxyKind::Sidecar,
        },
        workload: w.uid.clone(),
        name: w.name.clone(),
        namespace: w.namespace.clone(),
        addresses: w.addresses.clone(),
        domain: "cluster.local".into(),
    };
    world.workloads().iter().map(id).collect()
}

#[test]
fn fields_that_are_not_in_force_yet_are_said_exactly() {
    let fields = |n: u32| -> Option<BTreeSet<String>> {
        let (resources, world) = bookinfo(&[1, 5, 6, 10, n])?;
        let said = analyze(&AnalyzeInput { resources: &resources, reports: &[], world: Some(&world) });
        let later = said.iter().filter(|r| *r.code == *NOT_IN_FORCE.code && r.file.starts_with(&format!("{n:02}-")));
        Some(later.map(|r| format!("{} {}:{}", r.field, r.span.line, r.span.column)).collect())
    };
    let expected: &[(u32, &[&str])] = &[
        (11, &["spec.http[0].mirror.host 14:7", "spec.http[0].mirror.subset 15:7"]),
        (12, &["spec.http[0].fault.abort.httpStatus 12:9", "spec.http[0].fault.abort.percentage.value 14:11"]),
        (13, &["spec.http[0].fault.abort.httpStatus 12:9", "spec.http[0].fault.abort.percentage.value 14:11"]),
        (14, &["spec.http[0].fault.delay.fixedDelay 15:9", "spec.http[0].fault.delay.percent 16:9"]),
        (
            15,
            &[
                "spec.trafficPolicy.connectionPool.http.http2MaxRequests 12:9",
                "spec.trafficPolicy.connectionPool.http.maxRequestsPerConnection 13:9",
                "spec.trafficPolicy.connectionPool.tcp.maxConnections 10:9",
            ],
        ),
    ];
    for (n, wanted) in expected {
        let Some(got) = fields(*n) else { return };
        let wanted: BTreeSet<String> = wanted.iter().map(|w| (*w).to_owned()).collect();
        assert_eq!(got, wanted, "seed {n}");
    }
    for n in 1..=10 {
        assert_eq!(fields(n), Some(BTreeSet::new()), "seed {n} is in force in full");
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
