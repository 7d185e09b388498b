use super::*;
use crate::layers::testing::{call, context, fixed, get, read, service, status, with};
use crate::layers::{Body, Rules};

const RULES: &str = "apiVersion: v1
kind: Service
metadata: {name: a, namespace: default}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a, namespace: default}
spec: {host: a, subsets: [{name: v1, labels: {v: '1'}}, {name: v2, labels: {v: '2'}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: default}
spec:
  hosts: [a]
  http:
  - match: [{uri: {exact: /away}}]
    redirect: {authority: b.example}
  - match: [{uri: {exact: /here}}]
    directResponse: {status: 418, body: {string: tea}}
  - match: [{headers: {x-test: {exact: 'on'}}}]
    headers: {request: {set: {x-set: seen}}}
    route:
    - {destination: {host: a, subset: v1}, weight: 25}
    - {destination: {host: a, subset: v2}, weight: 75}
";

fn layer(random: u64) -> RouteLayer {
    let rules = Rules::read("rules.yaml", RULES).unwrap();
    RouteLayer::new(RouteConfig::new(Arc::clone(rules.http(80).unwrap()), fixed(random)))
}

/// Says where it was sent, and with what.
fn told() -> impl Upstream {
    service(|request: Request| async move {
        let routed = request.extensions().get::<Routed>().unwrap();
        let set = request.headers().get("x-set").map_or("-", |v| v.to_str().unwrap());
        let text = format!("{} {} {set}", routed.cluster, routed.route.matches.headers.len());
        Ok(status(200).map(|_| Body::from(text)))
    })
}

fn request(path: &str, headers: &[(&str, &str)]) -> Request {
    let mut request = get(path, headers);
    request.headers_mut().insert("host", "a".parse().unwrap());
    request
}

#[tokio::test]
async fn a_rule_chooses_the_destination_by_weight_and_changes_the_request() {
    for (random, subset) in [(0, "v1"), (u64::MAX / 5, "v1"), (u64::MAX / 3, "v2"), (u64::MAX, "v2")] {
        let mut answer = call(&layer(random), told(), request("/", &[("x-test", "on")])).await.unwrap();
        let (text, _) = read(answer.body_mut()).await;
        let expected = format!("outbound|80|{subset}|a.default.svc.cluster.local 1 seen");
        assert_eq!(text, expected);
    }
}

#[tokio::test]
async fn redirects_and_direct_responses_are_answered_here() {
    let nowhere = || service(|_| async { panic!("nobody is asked") });
    let away = call(&layer(0), nowhere(), request("/away", &[])).await.unwrap();
    assert_eq!((away.status().as_u16(), &away.headers()["location"]), (301, &"http://b.example/away".parse().unwrap()));
    let mut here = call(&layer(0), nowhere(), request("/here", &[])).await.unwrap();
    assert_eq!(here.status(), 418);
    assert_eq!(read(here.body_mut()).await.0, "tea");
}

#[tokio::test]
async fn without_a_rule_there_is_an_error_and_the_record_has_the_rule_that_there_was() {
    let nowhere = || service(|_| async { panic!("nobody is asked") });
    assert_eq!(call(&layer(0), nowhere(), request("/", &[])).await.unwrap_err().kind(), ErrorKind::NoRoute);
    // Other hosts go where the client wanted to, as `outboundTrafficPolicy` says by default.
    let mut other = call(&layer(0), told(), get("/", &[])).await.unwrap();
    assert_eq!(read(other.body_mut()).await.0, "PassthroughCluster 0 -");
    let cx = context();
    call(&layer(0), nowhere(), with(request("/away", &[]), &cx)).await.unwrap();
    assert!(matches!(cx.route.get().unwrap().action, Action::Redirect(_)));
}
