//! Applications that are members of the mesh themselves: calls, servers, policies, identities, all in this process.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use mesh_proxy::{Body, Client, Mesh};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tower::{Layer, Service, ServiceExt};

use crate::certificates::{Ca, Leaf};

/// `reviews` on this port of 127.0.0.1, in plaintext, and somebody who calls it.
fn world(port: u16, more: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: reviews-v1, namespace: default}}
spec:
  address: 127.0.0.1
  labels: {{app: reviews, security.istio.io/tlsMode: disabled}}
  serviceAccount: reviews
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: productpage-v1, namespace: default}}
spec: {{address: 127.0.0.2, labels: {{app: productpage}}, serviceAccount: productpage}}
---
apiVersion: v1
kind: Service
metadata: {{name: reviews, namespace: default}}
spec: {{clusterIP: 127.0.0.3, selector: {{app: reviews}}, ports: [{{name: http, port: 9080, targetPort: {port}}}]}}
---
{more}"
    )
}

/// Says what it received.
async fn echo(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let header = |name: &str| head.headers.get(name).map_or("-", |v| v.to_str().unwrap()).to_owned();
    let text = format!(
        "{} {} {} {} {}",
        head.method,
        head.uri,
        header("host"),
        header("x-test"),
        String::from_utf8_lossy(&body)
    );
    Ok(Response::new(Body::from(bytes::Bytes::from(text))))
}

fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

async fn member(yaml: &str, workload: &str) -> Mesh {
    Mesh::builder().yaml(yaml).workload(workload).start().await.unwrap()
}

/// Serves until the task is awaited after a shutdown.
fn serve(mesh: &Mesh, listener: TcpListener) -> JoinHandle<std::io::Result<()>> {
    let mesh = mesh.clone();
    tokio::spawn(async move { mesh.serve(listener, tower::service_fn(echo)).await })
}

async fn get(client: &mut Client, url: &str) -> (StatusCode, String) {
    let response = client.call(Request::get(url).body(Body::Empty).unwrap()).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// Nobody has to hear of an end before it comes.
const AT_ONCE: &str = "---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: 'defaultConfig: {terminationDrainDuration: 0.001s}'}
";

const ROUTE: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: default}
spec:
  hosts: [reviews]
  http:
  - match: [{uri: {prefix: /old}}]
    rewrite: {uri: /new}
    headers: {request: {set: {x-test: routed}}}
    route: [{destination: {host: reviews}}]
  - match: [{uri: {prefix: /broken}}]
    fault: {abort: {percentage: {value: 100}, httpStatus: 418}}
    route: [{destination: {host: reviews}}]
  - route: [{destination: {host: reviews}}]
";

#[tokio::test]
async fn a_call_is_routed_served_and_counted_on_both_sides() {
    let (listener, port) = listener();
    let yaml = world(port, ROUTE) + AT_ONCE;
    let (server, caller) = (member(&yaml, "default/reviews-v1").await, member(&yaml, "default/productpage-v1").await);
    let serving = serve(&server, listener);
    let mut client = caller.client();
    let (status, text) = get(&mut client, "http://reviews:9080/old/1?q=2").await;
    assert_eq!((status, text.as_str()), (StatusCode::OK, "GET /new/1?q=2 reviews:9080 routed "));
    let post = Request::post("http://reviews:9080/").body(Body::from("body")).unwrap();
    let answer = client.call(post).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(&answer[..], b"POST / reviews:9080 - body");
    // Nobody is asked where the route says abort.
    assert_eq!(
        get(&mut client, "http://reviews:9080/broken").await,
        (StatusCode::IM_A_TEAPOT, "fault filter abort".into())
    );
    let counted = |mesh: &Mesh, reporter: &str, code: &str| {
        let line = |l: &str| {
            l.starts_with("istio_requests_total{")
                && l.contains(&format!("reporter=\"{reporter}\""))
                && l.contains(&format!("response_code=\"{code}\""))
                && l.contains("destination_service_name=\"reviews\"")
        };
        mesh.metrics()
            .lines()
            .filter(|l| line(l))
            .filter_map(|l| l.rsplit(' ').next()?.parse::<u64>().ok())
            .sum::<u64>()
    };
    assert_eq!((counted(&caller, "source", "200"), counted(&caller, "source", "418")), (2, 1));
    assert_eq!((counted(&server, "destination", "200"), counted(&server, "destination", "418")), (2, 0));
    assert!(server.is_ready());
    server.shutdown().await;
    assert!(!server.is_ready());
    drop((client, caller));
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_wrong_with_a_call_is_answered_as_a_sidecar_would() {
    let (listener, port) = listener();
    let caller = member(&world(port, ""), "default/productpage-v1").await;
    drop(listener);
    let mut client = caller.client();
    let (status, text) = get(&mut client, "http://reviews:9080/").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.starts_with("upstream connect error or disconnect/reset before headers"), "{text}");
    let (status, text) = get(&mut client, "https://reviews:9080/").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("connector"), "{text}");
}

#[tokio::test]
async fn what_never_ends_does_not_hold_up_the_end() {
    let (listener, port) = listener();
    let yaml = world(port, "") + &AT_ONCE.replace("0.001s}", "0.001s, drainDuration: 0.001s}");
    let server = member(&yaml, "default/reviews-v1").await;
    let (asked, mut came) = tokio::sync::mpsc::unbounded_channel();
    let app = tower::service_fn(move |_: Request<Body>| {
        asked.send(()).unwrap();
        std::future::pending::<Result<Response<Body>, Infallible>>()
    });
    let serving = server.clone();
    let serving = tokio::spawn(async move { serving.serve(listener, app).await });
    let mut client = member(&yaml, "default/productpage-v1").await.client();
    let waiting = tokio::spawn(async move { get(&mut client, "http://reviews:9080/").await });
    came.recv().await.unwrap();
    server.shutdown().await;
    serving.await.unwrap().unwrap();
    waiting.abort();
}

#[tokio::test]
async fn policies_and_tokens_stand_before_the_application() {
    let deny = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: secret, namespace: default}
spec:
  selector: {matchLabels: {app: reviews}}
  action: DENY
  rules: [{to: [{operation: {paths: [/secret*]}}]}]
";
    let (listener, port) = listener();
    let yaml = world(port, deny);
    let server = member(&yaml, "default/reviews-v1").await;
    let _serving = serve(&server, listener);
    let mut client = member(&yaml, "default/productpage-v1").await.client();
    assert_eq!(get(&mut client, "http://reviews:9080/open").await.0, StatusCode::OK);
    let refused = (StatusCode::FORBIDDEN, "RBAC: access denied".to_owned());
    assert_eq!(get(&mut client, "http://reviews:9080/secret/1").await, refused);
    // The same for a server of somebody else's.
    let mut layered = server.layer(port).layer(tower::service_fn(echo));
    let mut ask = async |path: &str| {
        let request = Request::get(path).header("host", "reviews:9080").body(Body::Empty).unwrap();
        let response = layered.call(request).await.unwrap();
        let status = response.status();
        (status, String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
    };
    assert_eq!(ask("/open").await, (StatusCode::OK, "GET /open reviews:9080 - ".into()));
    assert_eq!(ask("/secret/1").await, refused);
}

const STRICT: &str = "apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: p, namespace: default}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: a, namespace: default}
spec:
  selector: {matchLabels: {app: reviews}}
  rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/productpage]}}]}]
";

async fn identified(yaml: &str, workload: &str, (leaf, ca): (&Leaf, &Ca)) -> Mesh {
    let builder = Mesh::builder().yaml(yaml).workload(workload);
    builder.identity(leaf.pem.as_str(), leaf.key.as_str(), ca.pem.as_str()).start().await.unwrap()
}

#[tokio::test]
async fn strict_mutual_tls_lets_in_who_has_the_identity() {
    let (listener, port) = listener();
    let yaml = world(port, STRICT).replace("tlsMode: disabled", "tlsMode: istio");
    let ca = Ca::new("mesh");
    let leaf = |account: &str| ca.leaf(&[&format!("spiffe://cluster.local/ns/default/sa/{account}")]);
    let server = identified(&yaml, "default/reviews-v1", (&leaf("reviews"), &ca)).await;
    let _serving = serve(&server, listener);
    let url = "http://reviews:9080/";
    let mut allowed = identified(&yaml, "default/productpage-v1", (&leaf("productpage"), &ca)).await.client();
    assert_eq!(get(&mut allowed, url).await.0, StatusCode::OK);
    let mut other = identified(&yaml, "default/productpage-v1", (&leaf("ratings"), &ca)).await.client();
    assert_eq!(get(&mut other, url).await, (StatusCode::FORBIDDEN, "RBAC: access denied".into()));
    // Plaintext does not get in.
    let mut plain = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let _ = plain.write_all(b"GET / HTTP/1.1\r\nhost: reviews\r\n\r\n").await;
    let mut got = Vec::new();
    let _ = plain.read_to_end(&mut got).await;
    assert!(got.is_empty(), "{}", String::from_utf8_lossy(&got));
    // Nor where nobody knows who comes.
    let layered = server.layer(port).layer(tower::service_fn(echo));
    let request = Request::get("/").header("host", "reviews:9080").body(Body::Empty).unwrap();
    assert_eq!(layered.oneshot(request).await.unwrap().status(), StatusCode::FORBIDDEN);
}

/// `caCertificates` beside an identity that was given in code.
#[tokio::test]
async fn authorities_of_other_meshes_vouch_for_theirs() {
    let (ours, theirs) = (Ca::new("mesh"), Ca::new("theirs"));
    let settings = serde_json::json!({ "caCertificates": [{ "pem": theirs.pem, "trustDomains": ["td2"] }] });
    let settings = serde_json::json!(settings.to_string());
    let policy = STRICT.replace("[cluster.local/ns", "['*/ns");
    let policy = policy.replace("sa/productpage]", "sa/productpage']");
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:";
    for (more, of_them) in [(policy.clone(), false), (format!("{policy}---\n{map} {{mesh: {settings}}}\n"), true)] {
        let (listener, port) = listener();
        let yaml = world(port, &more).replace("tlsMode: disabled", "tlsMode: istio");
        let server = ours.leaf(&["spiffe://cluster.local/ns/default/sa/reviews"]);
        let server = identified(&yaml, "default/reviews-v1", (&server, &ours)).await;
        let _serving = serve(&server, listener);
        for (ca, domain, welcome) in [
            (&ours, "cluster.local", true),
            (&theirs, "td2", of_them),
            (&theirs, "cluster.local", false),
            (&ours, "td2", false),
        ] {
            let leaf = ca.leaf(&[&format!("spiffe://{domain}/ns/default/sa/productpage")]);
            // Whom the client trusts is not the question here.
            let mut client = identified(&yaml, "default/productpage-v1", (&leaf, &ours)).await.client();
            let (status, said) = get(&mut client, "http://reviews:9080/").await;
            assert_eq!(status == StatusCode::OK, welcome, "{domain}, {of_them}: {status} {said}");
        }
    }
}

#[tokio::test]
async fn another_configuration_comes_into_force_while_running() {
    let (listener, port) = listener();
    let file = std::env::temp_dir().join(format!("embedded-{}-{port}.yaml", std::process::id()));
    std::fs::write(&file, world(port, "")).unwrap();
    let member = |name: &str| Mesh::builder().files([&file]).workload(name).start();
    let server = member("default/reviews-v1").await.unwrap();
    let _serving = serve(&server, listener);
    let caller = member("default/productpage-v1").await.unwrap();
    let mut client = caller.client();
    let mut watch = caller.watch();
    let before = watch.current();
    assert_eq!(get(&mut client, "http://reviews:9080/broken").await.0, StatusCode::OK);
    std::fs::write(&file, world(port, ROUTE)).unwrap();
    assert_ne!(watch.changed().await, Some(before));
    assert_eq!(get(&mut client, "http://reviews:9080/broken").await.0, StatusCode::IM_A_TEAPOT);
    std::fs::remove_file(&file).unwrap();
}

/// `reviews.example` on these ports of 127.0.0.1 (with their versions), in the form with this number.
fn changing(form: usize, ports: [u16; 3]) -> String {
    let [a, b, c] = ports;
    let at = |port: u16, version: &str| {
        format!("  - {{address: 127.0.0.1, ports: {{http: {port}}}, labels: {{version: {version}}}}}\n")
    };
    let v1 = "{destination: {host: reviews.example, subset: v1}, weight: 40}";
    let v2 = "{destination: {host: reviews.example, subset: v2}, weight: 60}";
    let (endpoints, subsets, route, policy) = match form % 5 {
        0 => (at(a, "v1") + &at(b, "v2"), "[{name: v1, labels: {version: v1}}]", format!("[{v1}]"), ""),
        1 => (
            at(a, "v1") + &at(b, "v2"),
            "[{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]",
            format!("[{v1}, {v2}]"),
            "timeout: 10s, retries: {attempts: 3, perTryTimeout: 5s},",
        ),
        2 => (at(b, "v2") + &at(c, "v2"), "[{name: v2, labels: {version: v2}}]", format!("[{v2}]"), ""),
        3 => (
            at(a, "v1") + &at(b, "v1") + &at(c, "v2"),
            "[{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}, trafficPolicy: {loadBalancer: {simple: RANDOM}}}]",
            format!("[{v1}, {v2}]"),
            "rewrite: {uri: /new},",
        ),
        _ => (at(c, "v1"), "[]", "[{destination: {host: reviews.example}}]".into(), ""),
    };
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: reviews, namespace: default}}
spec:
  hosts: [reviews.example]
  ports: [{{number: 80, name: http}}]
  resolution: STATIC
  endpoints:
{endpoints}---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: reviews, namespace: default}}
spec: {{host: reviews.example, subsets: {subsets}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: reviews, namespace: default}}
spec:
  hosts: [reviews.example]
  http: [{{headers: {{request: {{set: {{x-test: form-{form}}}}}}}, {policy} route: {route}}}]
"
    )
}

#[tokio::test]
async fn changes_under_load_lose_no_request() {
    const CHANGES: usize = 20;
    const CALLERS: u64 = 16;
    const PER_SECOND: u64 = 1_000;
    let listeners: [_; 3] = std::array::from_fn(|_| listener());
    let ports = listeners.each_ref().map(|(_, port)| *port);
    let server = member(&world(ports[0], ""), "default/reviews-v1").await;
    let _serving = listeners.map(|(listener, _)| serve(&server, listener));
    let file = std::env::temp_dir().join(format!("embedded-{}-{}.yaml", std::process::id(), ports[0]));
    // Whole at any time: it is followed while it is written.
    let write = |form| {
        let next = file.with_extension("next");
        std::fs::write(&next, changing(form, ports)).unwrap();
        std::fs::rename(&next, &file).unwrap();
    };
    write(0);
    let caller = Mesh::builder().files([&file]).start().await.unwrap();
    let (over, ended) = tokio::sync::watch::channel(false);
    let ask = |mut client: Client| {
        let ended = ended.clone();
        async move {
            let mut ticks = tokio::time::interval(std::time::Duration::from_millis(CALLERS * 1_000 / PER_SECOND));
            let (mut asked, mut failed) = (0_u64, Vec::new());
            while !*ended.borrow() {
                ticks.tick().await;
                let (status, text) = get(&mut client, "http://reviews.example/").await;
                asked += 1;
                if status != StatusCode::OK {
                    failed.push((status, text));
                }
            }
            (asked, failed)
        }
    };
    let callers: Vec<_> = (0..CALLERS).map(|_| tokio::spawn(ask(caller.client()))).collect();
    let (mut client, mut watch) = (caller.client(), caller.watch());
    let start = std::time::Instant::now();
    for form in 1..=CHANGES {
        write(form);
        watch.changed().await.unwrap();
        let (status, text) = get(&mut client, "http://reviews.example/").await;
        assert!(status == StatusCode::OK && text.contains(&format!("form-{form}")), "{form}: {status} {text}");
    }
    let seconds = start.elapsed().as_secs_f64();
    over.send_replace(true);
    let (mut asked, mut failed) = (0, Vec::new());
    for caller in callers {
        let (one, wrong) = caller.await.unwrap();
        asked += one;
        failed.extend(wrong);
    }
    println!("{CHANGES} changes in {seconds:.1} s, {asked} requests, {} failed", failed.len());
    assert!(failed.is_empty(), "{failed:?}");
    assert!(asked > 20 * CHANGES as u64, "nobody asked while it changed");
    std::fs::remove_file(&file).unwrap();
}

#[tokio::test]
async fn other_protocols_and_clients_use_the_connector() {
    let (listener, port) = listener();
    let yaml = world(port, ROUTE);
    let server = member(&yaml, "default/reviews-v1").await;
    let _serving = serve(&server, listener);
    let caller = member(&yaml, "default/productpage-v1").await;
    let mut stream = caller.connector().connect("reviews", 9080).await.unwrap();
    stream.write_all(b"GET /old HTTP/1.1\r\nhost: reviews:9080\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("GET /new reviews:9080 routed"), "{answer}");
    let no_host = caller.connector().call("/path".parse().unwrap()).await.unwrap_err();
    assert!(no_host.to_string().contains("names no host"), "{no_host}");
}

/// Agrees to WebSocket and gives every byte back; on `/no` it doesn't agree.
async fn mirror(mut request: Request<Body>) -> Result<Response<Body>, Infallible> {
    if request.uri().path() == "/no" {
        return Ok(Response::builder().status(StatusCode::FORBIDDEN).body(Body::from("no")).unwrap());
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let (mut reads, mut writes) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
        tokio::io::copy(&mut reads, &mut writes).await.unwrap();
        writes.shutdown().await.unwrap();
    });
    let answer = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    Ok(answer.header("connection", "upgrade").header("upgrade", "websocket").body(Body::Empty).unwrap())
}

#[tokio::test]
async fn websockets_reach_the_application_and_are_called() {
    let (listener, port) = listener();
    let yaml = world(port, ROUTE);
    let (server, caller) = (member(&yaml, "default/reviews-v1").await, member(&yaml, "default/productpage-v1").await);
    let serving = server.clone();
    tokio::spawn(async move { serving.serve(listener, tower::service_fn(mirror)).await });
    let ask = |path: &str| {
        let ask = Request::get(format!("http://reviews:9080{path}"));
        let ask = ask.header("connection", "Upgrade").header("upgrade", "websocket");
        ask.header("sec-websocket-version", "13").body(Body::Empty).unwrap()
    };
    let mut client = caller.client();
    let answer = client.call(ask("/")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut stream = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    stream.write_all(b"there and back").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut back = String::new();
    stream.read_to_string(&mut back).await.unwrap();
    assert_eq!(back, "there and back");

    let answer = client.call(ask("/no")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "no");

    let mut stream = caller.connector().connect("reviews", 9080).await.unwrap();
    let head = "GET / HTTP/1.1\r\nhost: reviews\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "{}", String::from_utf8_lossy(&answer));
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    stream.write_all(b"and again").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut back = String::new();
    stream.read_to_string(&mut back).await.unwrap();
    assert_eq!(back, "and again");
}

#[tokio::test]
async fn a_trace_goes_on_with_the_calls_that_serve_it() {
    let (listener, port) = listener();
    let yaml = world(port, "");
    let server = member(&yaml, "default/reviews-v1").await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut inner = member(&yaml, "default/productpage-v1").await.client();
    let app = {
        let (seen, client) = (Arc::clone(&seen), inner.clone());
        tower::service_fn(move |request: Request<Body>| {
            let (seen, mut client) = (Arc::clone(&seen), client.clone());
            async move {
                let trace = request.headers().get("traceparent").map(|v| v.to_str().unwrap().to_owned());
                seen.lock().unwrap().push((request.uri().path().to_owned(), trace));
                if request.uri().path() == "/outer" {
                    let (status, _) = get(&mut client, "http://reviews:9080/inner").await;
                    assert_eq!(status, StatusCode::OK);
                }
                Ok::<_, Infallible>(Response::new(Body::Empty))
            }
        })
    };
    let serving = server.clone();
    tokio::spawn(async move { serving.serve(listener, app).await });
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = Request::get("http://reviews:9080/outer").header("traceparent", trace).body(Body::Empty).unwrap();
    assert_eq!(inner.call(request).await.unwrap().status(), StatusCode::OK);
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen, [("/outer", trace), ("/inner", trace)].map(|(p, t)| (p.to_owned(), Some(t.to_owned()))));
}

#[tokio::test]
async fn a_start_that_can_t_succeed_says_why() {
    let error = |builder: mesh_proxy::Builder| async move { builder.start().await.unwrap_err().to_string() };
    let text = error(Mesh::builder().yaml(world(1, "")).workload("default/nobody")).await;
    assert!(text.contains("no pod default/nobody"), "{text}");
    let text = error(Mesh::builder().files(["/nowhere.yaml"])).await;
    assert!(text.contains("/nowhere.yaml"), "{text}");
    let text = error(Mesh::builder()).await;
    assert!(text.contains("Builder::files") && text.contains("inject.istio.io/templates"), "{text}");
    let text = error(Mesh::builder().yaml("").identity("no", "pem", "at all")).await;
    assert!(text.contains("the own certificate"), "{text}");
}
