use mesh_core::compile::compile;
use mesh_core::convert::{Addresses, Options, inputs};
use mesh_core::layers::Body;
use mesh_core::snapshot::{ProxyId, ProxyKind};

use super::*;

/// A mesh in which `shop` has this address.
fn shop_at(address: &str) -> Arc<Snapshot> {
    let yaml = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: ns}}\nspec: {{containers: [{{name: main, image: a}}]}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: shop, namespace: ns}}\n\
         spec: {{clusterIP: {address}, ports: [{{name: http, port: 80}}]}}\n"
    );
    let (resources, reports) = mesh_core::yaml::read("test.yaml", &yaml);
    assert!(reports.is_empty(), "{reports:?}");
    let world = inputs(&resources, &Options::default(), &mut Addresses::default()).world;
    let workload = &world.workloads()[0];
    let id = ProxyId::of(ProxyKind::Sidecar, workload);
    compile(&world, &id, None).snapshot
}

fn request(host: &str) -> Request {
    http::Request::builder().header(HOST, host).body(Body::Empty).unwrap()
}

fn source() -> Source {
    let any = "127.0.0.1:0".parse().unwrap();
    let conn = ConnInfo {
        direction: Direction::Outbound,
        peer: any,
        local: any,
        direct: None,
        sni: "".into(),
        tls: None,
        peer_text: Default::default(),
    };
    Source::new(Arc::new(conn), Route::ByAuthority)
}

#[test]
fn an_authority_leads_where_the_configuration_in_force_says() {
    let source = source();
    let (before, after) = (shop_at("10.0.0.1"), shop_at("10.0.0.2"));
    let of = |snapshot, host: &str| source.of(snapshot, &request(host)).0;
    let first = of(&before, "shop");
    assert_eq!(first.local, "10.0.0.1:80".parse().unwrap());
    assert!(Arc::ptr_eq(&first, &of(&before, "shop")), "it is found out once");
    assert_eq!(of(&before, "shop.ns:81").local, "10.0.0.1:81".parse().unwrap());
    assert!(Arc::ptr_eq(&first, &of(&before, "shop")), "also when others are known");
    assert_eq!(of(&after, "shop").local, "10.0.0.2:80".parse().unwrap());
    assert!(Arc::ptr_eq(&of(&after, "elsewhere"), &source.conn), "what is not known has no address");
}

#[test]
fn no_more_authorities_are_kept_than_it_says() {
    let (source, snapshot) = (source(), shop_at("10.0.0.1"));
    for port in 1..=MAX_KNOWN + 10 {
        let (conn, listener) = source.of(&snapshot, &request(&format!("shop:{port}")));
        assert_eq!(usize::from(conn.local.port()), port);
        assert!(listener.is_some());
    }
    assert_eq!(source.known.load().as_ref().unwrap().to.len(), MAX_KNOWN);
}
