//! Requests that are divided among destinations, and those that a destination's limits refuse.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::process::Envoy;
use super::translate::{self, Door, Side};
use super::{beside, binary, log_format};
use crate::client::{Client, To};
use crate::echo::Echo;
use crate::explained::number;
use crate::generate::object;
use crate::lab::{Lab, build};
use crate::topology;

const HOST: &str = "srv.shop.svc.cluster.local";

/// Limits of a destination, 0: none; and how many requests come while none is answered.
struct Limits {
    connections: u32,
    pending: u32,
    active: u32,
    requests: usize,
}

const LIMITS: [Limits; 7] = [
    // Whoever comes meanwhile waits.
    Limits { connections: 1, pending: 0, active: 0, requests: 4 },
    Limits { connections: 1, pending: 1, active: 0, requests: 4 },
    Limits { connections: 2, pending: 1, active: 0, requests: 5 },
    Limits { connections: 1, pending: 0, active: 3, requests: 4 },
    Limits { connections: 1, pending: 2, active: 2, requests: 5 },
    Limits { connections: 0, pending: 0, active: 2, requests: 4 },
    Limits { connections: 3, pending: 1, active: 2, requests: 6 },
];

impl Limits {
    fn policy(&self) -> Value {
        let Self { connections, pending, active, .. } = *self;
        json!({"connectionPool": {
            "tcp": {"maxConnections": connections},
            "http": {"http1MaxPendingRequests": pending, "http2MaxRequests": active, "maxRequestsPerConnection": 1},
        }})
    }

    fn breakers(&self) -> Value {
        let Self { connections, pending, active, .. } = *self;
        let limit = |n: u32| if n == 0 { u32::MAX } else { n };
        json!({"thresholds": [{
            "max_connections": limit(connections),
            "max_pending_requests": limit(pending),
            "max_requests": limit(active),
            "max_retries": u32::MAX,
        }]})
    }
}

fn virtual_service(rules: &Value) -> Value {
    object("VirtualService", "shop", "made", json!({"hosts": [HOST], "gateways": ["shop/gw1"], "http": rules}))
}

fn door(lab: &Lab, port: u16, virtual_service: &Value) -> Door {
    Door {
        at: SocketAddr::new(lab.block.ip(200), port),
        side: Side::Gateway,
        virtual_service: virtual_service.clone(),
        normalization: "BASE",
        domains: vec![HOST.to_owned()],
    }
}

#[tokio::test]
async fn the_limits_of_a_destination_refuse_the_same_requests() {
    let Some(binary) = binary() else { return };
    let mut lab = Lab::new();
    let echo = topology::listen(&lab).await;
    let to = json!([{"destination": {"host": HOST, "subset": "v1"}}]);
    let rules = json!([
        {"match": [{"uri": {"exact": "/probe"}}], "directResponse": {"status": 204}},
        {"route": to, "retries": {"attempts": 0}},
    ]);
    let made = virtual_service(&rules);
    let (mut started, mut refused_all) = (false, 0);
    for (i, limits) in LIMITS.iter().enumerate() {
        let door = door(&lab, 20_000 + u16::try_from(i).unwrap(), &made);
        let at = door.at;
        let mut bootstrap = translate::bootstrap(&lab.block, &[door], &log_format());
        for cluster in bootstrap["static_resources"]["clusters"].as_array_mut().unwrap() {
            cluster["circuit_breakers"] = limits.breakers();
            cluster["typed_extension_protocol_options"] = once();
        }
        let _envoy = Envoy::start(&binary, &bootstrap);
        let mut docs = beside(&lab, "BASE");
        docs.push(made.clone());
        let rule = docs.iter_mut().find(|d| d["kind"] == "DestinationRule" && d["metadata"]["name"] == "rule-srv");
        rule.unwrap()["spec"]["trafficPolicy"] = limits.policy();
        let (world, refused) = build(&docs, &lab.pods);
        assert_eq!(refused, 0);
        if !std::mem::replace(&mut started, true) {
            lab.start(&world).await;
        }
        lab.apply(&world).await;
        let ours = refused_of(lab.gateway(80), &echo, limits.requests).await;
        let theirs = refused_of(at, &echo, limits.requests).await;
        assert_eq!(ours, theirs, "{}", limits.policy());
        refused_all += ours.iter().filter(|s| **s == 503).count();
    }
    assert!(refused_all > 5, "only {refused_all} were refused");
}

/// One request for each connection.
fn once() -> Value {
    json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options": {"max_requests_per_connection": 1},
        "explicit_http_config": {"http_protocol_options": {}},
    }})
}

/// Statuses of requests that come one after another while none is answered. All come on one HTTP/2 connection, so that
/// what follows a request tells when the proxy has decided it.
async fn refused_of(to: SocketAddr, echo: &Echo, requests: usize) -> Vec<u16> {
    let stream = TcpStream::connect(to).await.unwrap();
    let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let mut answers = Vec::new();
    for _ in 0..requests {
        answers.push(ask(&mut send, "/held", "hold"));
        let probe = ask(&mut send, "/probe", "").await.unwrap();
        assert_eq!(probe.status(), 204);
    }
    let statuses = answers.into_iter().map(|answer| async {
        let answer = answer.await.unwrap();
        let overloaded = answer.headers().get("x-envoy-overloaded").is_some_and(|v| v == "true");
        assert_eq!(overloaded, answer.status() == 503, "{answer:?}");
        answer.status().as_u16()
    });
    let statuses = futures_util::future::join_all(statuses);
    echo.let_go(statuses).await
}

fn ask(send: &mut h2::client::SendRequest<bytes::Bytes>, path: &str, todo: &str) -> h2::client::ResponseFuture {
    let request = http::Request::builder().uri(format!("http://{HOST}{path}")).header("x-do", todo);
    send.send_request(request.body(()).unwrap(), true).unwrap().0
}

#[tokio::test]
async fn weights_divide_alike() {
    let Some(binary) = binary() else { return };
    let total = number("MESH_PAIRS", 400) * 3;
    let mut lab = Lab::new();
    let echo = topology::listen(&lab).await;
    let shares = [("v1", 11, 20.0), ("v2", 12, 30.0), ("v3", 13, 50.0)];
    let to = shares
        .map(|(subset, _, weight)| json!({"destination": {"host": HOST, "subset": subset}, "weight": weight as u32}));
    let made = virtual_service(&json!([{"route": to}]));
    let door = door(&lab, 20_000, &made);
    let at = door.at;
    let _envoy = Envoy::start(&binary, &translate::bootstrap(&lab.block, &[door], &log_format()));
    let mut docs = beside(&lab, "BASE");
    docs.push(made);
    let (world, _) = build(&docs, &lab.pods);
    lab.start(&world).await;
    lab.apply(&world).await;
    for (who, door) in [("ours", lab.gateway(80)), ("envoy", at)] {
        let mut client = Client::default();
        let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nuser-agent: {who}\r\n\r\n");
        for _ in 0..total {
            assert_eq!(client.send(&To::door(door), &request, false).await.unwrap().status, 200);
        }
        let seen = echo.take(who);
        assert_eq!(seen.len(), total);
        for (subset, last, percent) in shares {
            let count = seen.iter().filter(|s| s.at.ip() == lab.block.ip(last)).count() as f64;
            let (expected, share) = (total as f64 * percent / 100.0, percent / 100.0);
            let deviations = (count - expected).abs() / (expected * (1.0 - share)).sqrt();
            assert!(
                deviations < 5.0,
                "{who}: {subset} has {count} of {total}, {deviations:.1} standard deviations off"
            );
        }
    }
}
