//! A unit test of an application with faults from YAML: what does a page of the catalog look like when stock is broken?

use embedded::catalog;
use http_body_util::BodyExt;
use mesh_proxy::{Body, Mesh};
use tower::ServiceExt;

/// stock, without anybody who would have to be started.
const STOCK: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: stock, namespace: default}
spec:
  hosts: [stock]
  ports: [{number: 8081, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1, ports: {http: 9}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: stock, namespace: default}
spec:
  hosts: [stock]
  http:
  - fault: FAULT
    route: [{destination: {host: stock}}]
";

async fn page(fault: &str) -> (u16, String) {
    let mesh = Mesh::builder().yaml(STOCK.replace("FAULT", fault)).start().await.unwrap();
    let request = http::Request::get("/books/1").body(Body::Empty).unwrap();
    let response = catalog::app(mesh.client()).oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    (status, String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

#[tokio::test]
async fn a_book_is_shown_when_stock_is_broken() {
    let fault = "{abort: {percentage: {value: 100}, httpStatus: 503}}";
    assert_eq!(page(fault).await, (200, "Hamlet: ask in the shop\n".into()));
}

// Paused time makes the delay cost nothing.
#[tokio::test(start_paused = true)]
async fn a_book_is_shown_when_stock_is_slow() {
    let fault = "{delay: {percentage: {value: 100}, fixedDelay: 60s}}";
    let asked = tokio::time::Instant::now();
    assert_eq!(page(fault).await, (200, "Hamlet: ask in the shop\n".into()));
    assert!(asked.elapsed().as_secs() < 60, "nobody waits for it");
}
