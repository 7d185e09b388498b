//! A large mesh compiles, and a change keeps what it does not concern. How long it takes is printed, not asserted.

use std::fmt::Write;
use std::sync::Arc;

use crate::compile::compile;
use crate::compile::sim::{Request, Sim, outcome};
use crate::world::Change;

const COUNT: usize = 200;

fn large(count: usize) -> String {
    let mut yaml = String::from(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a-1, namespace: ns, labels: {app: a}}\n\
         spec: {containers: [{name: main, image: a}]}\n",
    );
    for i in 0..count {
        write!(
            yaml,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{i}, namespace: ns}}\n\
             spec: {{selector: {{app: s{i}}}, ports: [{{name: http, port: 8080}}]}}\n\
             ---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: s{i}, namespace: ns}}\n\
             spec:\n  hosts: [s{i}]\n  http:\n  - match: [{{uri: {{prefix: /a}}}}, {{uri: {{regex: '/b.*'}}}}]\n    \
             route: [{{destination: {{host: s{i}, port: {{number: 8080}}}}}}]\n    timeout: 3s\n  \
             - route: [{{destination: {{host: s{i}}}}}]\n"
        )
        .unwrap();
    }
    yaml
}

#[test]
fn a_change_keeps_what_it_does_not_concern() {
    let count = std::env::var("MESH_SCALE").ok().and_then(|v| v.parse().ok()).unwrap_or(COUNT);
    let sim = Sim::bare(&large(count));
    let id = sim.id("a-1");
    let clock = tokio::time::Instant::now();
    let first = compile(&sim.world, &id, None);
    println!("{count} services and VirtualServices: {:?}", clock.elapsed());
    let mut changed = (*sim.world.virtual_services()[3]).clone();
    changed.spec.http[1].timeout = Some(crate::api::Duration::from_secs(9));
    changed.hash = changed.hash.with_str("changed");
    let world = sim.world.with([Change::VirtualService(Arc::new(changed.clone()))]);
    let clock = tokio::time::Instant::now();
    let second = compile(&world, &id, Some(&first));
    println!("one of them changed: {:?}", clock.elapsed());
    assert_ne!(first.snapshot.hash, second.snapshot.hash);
    assert_eq!(second.snapshot, compile(&world, &id, None).snapshot);
    let table = |c: &crate::compile::Compiled| c.snapshot.outbound(None, 8080).http.clone().unwrap().routes.clone();
    let (before, after) = (table(&first), table(&second));
    let host = format!("{}.ns.svc.cluster.local", changed.key.name);
    assert!(Arc::ptr_eq(&after.domains, &before.domains));
    for (plan, old) in after.hosts.iter().zip(&before.hosts) {
        assert_eq!(Arc::ptr_eq(plan, old), *plan.domains[0] != *host, "{}", plan.name);
    }
    assert!(Arc::ptr_eq(&second.snapshot.clusters, &first.snapshot.clusters));
    assert!(Arc::ptr_eq(&second.snapshot.names, &first.snapshot.names));
    let request = Request::parse(&format!("GET http://{}:8080/b1", changed.key.name));
    assert_eq!(outcome(&second.snapshot, &request), format!("8080||{}.ns", changed.key.name));
}
