use super::*;
use crate::api::ContentHash;

fn vs(namespace: &str, name: &str, created: Option<&str>) -> Arc<Object<VirtualService>> {
    let kind = Kind::new("networking.istio.io", "VirtualService");
    Arc::new(Object {
        key: Key::new(kind, namespace, name),
        meta: Meta { creation_timestamp: created.map(Into::into), ..Meta::default() },
        origin: Origin::generated("test"),
        hash: ContentHash::of(name.as_bytes()),
        spec: VirtualService::default(),
    })
}

#[test]
fn oldest_first_then_name_then_namespace() {
    let objects = [
        vs("b", "x", None),
        vs("a", "x", None),
        vs("a", "w", None),
        vs("a", "new", Some("2026-01-02T00:00:00Z")),
        vs("a", "old", Some("2026-01-01T00:00:00Z")),
    ];
    let world = World::of(objects.map(Change::VirtualService));
    let names: Vec<_> =
        world.virtual_services().iter().map(|o| format!("{}/{}", o.key.namespace, o.key.name)).collect();
    assert_eq!(names, ["a/old", "a/new", "a/w", "a/x", "b/x"]);
}

#[test]
fn changes_share_what_they_do_not_touch() {
    let first = World::of([Change::VirtualService(vs("a", "x", None))]);
    let second = first.with([Change::VirtualService(vs("a", "y", None))]);
    assert!(Arc::ptr_eq(&first.services, &second.services) && Arc::ptr_eq(&first.mesh, &second.mesh));
    assert_eq!((first.virtual_services().len(), second.virtual_services().len()), (1, 2));
    let third = second.with([Change::Remove(vs("a", "x", None).key.clone())]);
    assert_eq!(&*third.virtual_services()[0].key.name, "y");
    assert!(Arc::ptr_eq(&third.virtual_services()[0], &second.virtual_services()[1]));
}

#[test]
fn short_names_belong_to_the_object_that_names_them() {
    for (host, want) in [
        ("reviews", "reviews.ns.svc.cluster.local"),
        ("Reviews", "reviews.ns.svc.cluster.local"),
        ("a.b", "a.b"),
        ("*", "*"),
        ("*.Foo", "*.foo"),
        ("10.0.0.1", "10.0.0.1"),
        ("::1", "::1"),
    ] {
        assert_eq!(&*full_host(host, "ns", "cluster.local"), want);
    }
}
