use mesh_core::compile::{Compiled, compile};
use mesh_core::convert::{Addresses, Options, inputs};
use mesh_core::snapshot::{ProxyId, ProxyKind};

use super::*;
use crate::net::{HostEnv, HostNet};

const PORT: u16 = 80;

/// Services a, b and c with a route each; `rest` is added.
fn plan(timeout: &str, rest: &str, before: Option<&Compiled>) -> Compiled {
    let mut yaml = String::from(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: ns}\nspec: {containers: [{name: main, image: a}]}\n",
    );
    for name in ["a", "b", "c"] {
        let timeout = if name == "b" { timeout } else { "1s" };
        yaml += &format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: ns}}\n\
             spec: {{ports: [{{name: http, port: {PORT}}}]}}\n---\n\
             apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: ns}}\n\
             spec: {{hosts: [{name}], http: [{{timeout: {timeout}, route: [{{destination: {{host: {name}}}}}]}}]}}\n"
        );
    }
    let (resources, reports) = mesh_core::yaml::read("test.yaml", &(yaml + rest));
    assert!(reports.is_empty(), "{reports:?}");
    let world = inputs(&resources, &Options::default(), &mut Addresses::default()).world;
    let workload = &world.workloads()[0];
    let id = ProxyId::of(ProxyKind::Sidecar, workload);
    compile(&world, &id, before)
}

fn listener(active: &Active) -> &Arc<Built> {
    let at = ListenerKey::new(Direction::Outbound, None, PORT);
    &active.http[&(at, ContentHash::default())]
}

/// Virtual hosts that are other ones than before.
fn rebuilt(before: &Active, after: &Active) -> Vec<String> {
    let hosts = |active: &Active| listener(active).router.routes().hosts.clone();
    let (old, new) = (hosts(before), hosts(after));
    assert_eq!(old.len(), new.len());
    let other = old.iter().zip(&new).filter(|(a, b)| !Arc::ptr_eq(a, b));
    other.map(|(_, b)| b.plan.name.split('.').next().unwrap().to_owned()).collect()
}

/// How many routes have stacks.
fn made(active: &Active) -> usize {
    listener(active).router.routes().hosts.iter().map(|host| host.made()).sum()
}

#[tokio::test]
async fn only_what_changed_is_built_again() {
    let runtime = Arc::new(Runtime::new(HostNet::new(), Arc::new(HostEnv), Vec::new(), 1));
    let first = plan("1s", "", None);
    let one = activate(first.snapshot.clone(), &runtime, None);
    let same = activate(first.snapshot.clone(), &runtime, Some(&one));
    assert!(Arc::ptr_eq(listener(&one), listener(&same)));

    let second = plan("2s", "", Some(&first));
    let two = activate(second.snapshot.clone(), &runtime, Some(&one));
    assert_eq!(rebuilt(&one, &two), ["b"]);

    // Another cluster of the same route: the stacks above it are for the old one.
    let rule = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: c, namespace: ns}\n\
                spec: {host: c, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 3s}}}}\n";
    let third = plan("2s", rule, Some(&second));
    let three = activate(third.snapshot.clone(), &runtime, Some(&two));
    assert_eq!(rebuilt(&two, &three), ["c"]);
}

#[tokio::test]
async fn the_stacks_of_a_route_are_made_for_its_first_request_and_stay() {
    let runtime = Arc::new(Runtime::new(HostNet::new(), Arc::new(HostEnv), Vec::new(), 1));
    let limit = "---\napiVersion: policy.mesh.local/v1\nkind: LocalRateLimit\nmetadata: {name: b, namespace: ns}\n\
                 spec: {targetRefs: [{group: networking.istio.io, kind: VirtualService, name: b}], tokenBucket: {maxTokens: 1, fillInterval: 3600s}}\n";
    let first = plan("1s", limit, None);
    let one = activate(first.snapshot.clone(), &runtime, None);
    assert_eq!(made(&one), 1, "the one with a bucket, which must not begin anew with each configuration");
    let target = |active: &Active| {
        let hosts = &listener(active).router.routes().hosts;
        let host = hosts.iter().find(|host| host.plan.name.starts_with("a.")).unwrap();
        host.target(0, 0).unwrap().service.clone()
    };
    let service = target(&one);
    assert_eq!(made(&one), 2);
    let second = plan("2s", limit, Some(&first));
    let two = activate(second.snapshot.clone(), &runtime, Some(&one));
    assert!(target(&two).same(&service));
    assert_eq!(made(&two), 2);
}
