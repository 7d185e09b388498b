//! What decisions cost on a request, and what the plan for them costs on a change.
//!
//! ```text
//! cargo bench -p mesh-core --bench decisions --profile quick
//! ```
//!
//! `examples/bench/micro` counts their instructions, which repeat on a busy machine, too.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use divan::{Bencher, black_box};
use http::{HeaderMap, Method};
use mesh_core::balance::{Ask, Host, Layout};
use mesh_core::compile::compile;
use mesh_core::convert::{Addresses, Options, inputs};
use mesh_core::decide::decide_route;
use mesh_core::env::Env;
use mesh_core::matching::RequestFacts;
use mesh_core::model::{Health, Workload};
use mesh_core::snapshot::{Address, Balancer, Balancing, Endpoint, MeshPeer, ProxyId, ProxyKind, Snapshot};
use mesh_core::world::World;

fn main() {
    divan::main();
}

/// Of a mesh with a pod, and whatever else.
fn world(yaml: &str) -> World {
    let pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: client, namespace: default}\nspec: {containers: [{name: c, image: c}]}\n";
    let (resources, reports) = mesh_core::yaml::read("bench.yaml", &(yaml.to_owned() + pod));
    assert!(reports.is_empty(), "{reports:?}");
    inputs(&resources, &Options::default(), &mut Addresses::default()).world
}

fn client(world: &World) -> ProxyId {
    let pod = world.workloads_in("default").iter().find(|w| &*w.name == "client").expect("the pod");
    ProxyId::of(ProxyKind::Sidecar, pod)
}

fn plan(yaml: &str) -> Arc<Snapshot> {
    let world = world(yaml);
    compile(&world, &client(&world), None).snapshot
}

fn service(name: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n\
         spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 80}}]}}\n"
    )
}

/// A host whose rules are conditions like this one, from 0.
fn routes(count: usize, condition: impl Fn(usize) -> String) -> Arc<Snapshot> {
    let mut yaml = service("a");
    yaml += "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a, namespace: default}\n\
             spec:\n  hosts: [a]\n  http:\n";
    for n in 0..count {
        let _ = writeln!(yaml, "  - match: [{}]\n    route: [{{destination: {{host: a}}}}]", condition(n));
    }
    plan(&yaml)
}

/// The route that the last of the rules takes.
fn last_route(bencher: Bencher<'_, '_>, snapshot: &Snapshot, path: &str, headers: &HeaderMap) {
    let table = &snapshot.outbound(None, 80).http.as_ref().expect("HTTP").routes;
    let facts =
        RequestFacts { method: &Method::GET, scheme: "http", authority: "a", path, query: None, headers, claims: None };
    assert!(decide_route(table, &facts).route().is_some());
    bencher.bench(|| decide_route(black_box(table), black_box(&facts)).index);
}

const ROUTES: [usize; 3] = [1, 1_000, 5_000];

#[divan::bench(args = ROUTES)]
fn route_by_prefix(bencher: Bencher<'_, '_>, count: usize) {
    let snapshot = routes(count, |n| format!("{{uri: {{prefix: /api/r{n}/}}}}"));
    last_route(bencher, &snapshot, &format!("/api/r{}/x", count - 1), &HeaderMap::new());
}

#[divan::bench(args = ROUTES)]
fn route_by_exact_path(bencher: Bencher<'_, '_>, count: usize) {
    let snapshot = routes(count, |n| format!("{{uri: {{exact: /api/r{n}}}}}"));
    last_route(bencher, &snapshot, &format!("/api/r{}", count - 1), &HeaderMap::new());
}

/// Nothing but a header tells them apart: they are looked at one by one.
#[divan::bench(args = ROUTES)]
fn route_by_header(bencher: Bencher<'_, '_>, count: usize) {
    let snapshot = routes(count, |n| format!("{{headers: {{x-version: {{exact: v{n}}}}}}}"));
    let mut headers = HeaderMap::new();
    headers.insert("x-version", format!("v{}", count - 1).parse().expect("a value"));
    last_route(bencher, &snapshot, "/", &headers);
}

#[divan::bench(args = ROUTES)]
fn route_by_host(bencher: Bencher<'_, '_>, count: usize) {
    let snapshot = plan(&(0..count).map(|n| service(&format!("svc{n}"))).collect::<String>());
    let table = &snapshot.outbound(None, 80).http.as_ref().expect("HTTP").routes;
    let authority = format!("svc{}.default.svc.cluster.local", count - 1);
    let facts = RequestFacts {
        method: &Method::GET,
        scheme: "http",
        authority: &authority,
        path: "/",
        query: None,
        headers: &HeaderMap::new(),
        claims: None,
    };
    assert!(decide_route(table, &facts).route().is_some());
    bencher.bench(|| decide_route(black_box(table), black_box(&facts)).index);
}

/// So many Services, each with a VirtualService.
#[divan::bench(args = [1, 1_000], sample_count = 10)]
fn compile_services(bencher: Bencher<'_, '_>, count: usize) {
    let one = |n: usize| {
        service(&format!("svc{n}"))
            + &format!(
                "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: svc{n}, namespace: default}}\n\
                 spec: {{hosts: [svc{n}], http: [{{route: [{{destination: {{host: svc{n}}}}}], retries: {{attempts: 3}}}}]}}\n"
            )
    };
    let world = world(&(0..count).map(one).collect::<String>());
    let id = client(&world);
    bencher.bench(|| compile(black_box(&world), &id, None));
}

/// An endpoint with its counters.
struct Member(Endpoint, AtomicU64);

impl Host for Member {
    fn endpoint(&self) -> &Endpoint {
        &self.0
    }

    fn active(&self) -> u32 {
        0
    }

    fn turn(&self) -> &AtomicU64 {
        &self.1
    }

    fn is_ejected(&self) -> bool {
        false
    }

    fn joined(&self) -> Duration {
        Duration::ZERO
    }
}

/// Numbers that are random enough.
#[derive(Default)]
struct Counted(AtomicU64);

impl Env for Counted {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn random(&self) -> u64 {
        self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }
}

#[divan::bench(args = [Balancer::LeastRequest, Balancer::RoundRobin, Balancer::Random])]
fn pick_of_a_hundred(bencher: Bencher<'_, '_>, balancer: Balancer) {
    let workload = Arc::new(Workload::default());
    let host = |n: u8| {
        let address = Address::from(std::net::SocketAddr::from(([10, 0, 0, n], 80)));
        let (workload, mesh) = (Arc::clone(&workload), MeshPeer::default());
        Arc::new(Member(Endpoint { address, weight: 1, health: Health::Healthy, workload, mesh }, AtomicU64::new(0)))
    };
    let hosts: Vec<_> = (0..100).map(host).collect();
    let layout = Layout::build(&hosts, balancer, &Balancing::default(), 0);
    let (env, clock) = (Counted::default(), AtomicU64::new(0));
    let ask = Ask { env: &env, now: &|| Duration::ZERO, clock: &clock, hash: None, tried: None };
    assert!(layout.pick(&ask).is_some());
    bencher.bench_local(|| layout.pick(black_box(&ask)).is_some());
}
