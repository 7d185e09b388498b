use std::sync::Arc;

use mesh_core::compile::compile;
use mesh_core::wire::ResourceSet;

use super::*;

const GATEWAY: &str = r"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 8080, name: http, protocol: HTTP}
    hosts: ['*']
";

const ROUTE: &str = r"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: direct, namespace: default}
spec:
  hosts: ['*']
  gateways: [front]
  http:
  - directResponse: {status: 200, body: {string: hello}}
";

/// A directory of its own, removed in the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mesh-source-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_follows_its_files() {
    let directory = Directory::new("follow");
    directory.write("gateway.yaml", GATEWAY);
    let mut source = FileSource::of_gateway(vec![directory.0.clone()]).unwrap();
    let id = source.id().clone();
    assert_eq!(&*id.namespace, "istio-system");

    let mut held = ResourceSet::new();
    let first = source.next().await.unwrap();
    first.apply(&mut held);
    let (world, rejected) = World::from_wire(&held);
    assert!(rejected.is_empty());
    let before = compile(&world, &id, None);
    assert!(before.snapshot.gateway(8080).is_some());

    directory.write("route.yaml", ROUTE);
    let second = source.next().await.unwrap();
    assert_ne!(second.nonce, first.nonce);
    second.apply(&mut held);
    let (world, _) = World::from_wire(&held);
    let after = compile(&world, &id, Some(&before));
    let routes = |c: &mesh_core::compile::Compiled| c.snapshot.gateway(8080).unwrap().http.clone().unwrap();
    assert!(!Arc::ptr_eq(&routes(&before), &routes(&after)));

    // Half a file is no reason to forget what was there.
    std::fs::remove_file(directory.0.join("gateway.yaml")).unwrap();
    let third = source.next().await.unwrap();
    assert!(third.changed.is_empty());
    third.apply(&mut held);
    let (world, _) = World::from_wire(&held);
    assert!(compile(&world, &id, None).snapshot.gateway(8080).is_none());
}

#[test]
fn a_missing_file_is_named() {
    let error = FileSource::of_gateway(vec!["/does/not/exist.yaml".into()]).unwrap_err();
    assert!(error.to_string().starts_with("/does/not/exist.yaml: "), "{error}");
}
