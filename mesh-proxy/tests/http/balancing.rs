//! Section R, the part about balancing and outlier detection that shows on the wire; the rest are tables in mesh-core
//! (`balance`, `outlier`, `layers::affinity`). Mirroring is in a file of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::mesh::{Config, DEFAULT, Door, Mesh, flags};
use crate::row::Answer;
use crate::upstream::{Up, Upstream};

const OK: Up = Up::Reply("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
const FAILING: Up = Up::Reply("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 3\r\n\r\nbad");
const MISSING: Up = Up::Reply("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");

/// A service of several endpoints.
struct Many {
    upstreams: Vec<Upstream>,
    mesh: Mesh,
}

impl Many {
    /// `policy` is the DestinationRule's; endpoints can have more fields (`locality: r1, weight: 2`).
    async fn start(endpoints: &[(Up, &str)], policy: &str) -> Self {
        Self::with(endpoints, policy, "").await
    }

    async fn with(endpoints: &[(Up, &str)], policy: &str, more: &str) -> Self {
        let (mut upstreams, mut list) = (Vec::new(), Vec::new());
        for (up, fields) in endpoints {
            let upstream = Upstream::start(*up).await;
            let port = upstream.at.unwrap().port();
            list.push(format!("{{address: 127.0.0.1, ports: {{http: {port}}}, {fields}}}"));
            upstreams.push(upstream);
        }
        let extra = format!(
            "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: many, namespace: default}}
spec: {{hosts: [many.example], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: STATIC, endpoints: [{}]}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: many, namespace: default}}
spec: {{host: many.example, exportTo: ['*'], trafficPolicy: {{{policy}}}}}
{more}",
            list.join(", ")
        );
        let config = Config {
            routes: "[{retries: {attempts: 0}, route: [{destination: {host: many.example}}]}]",
            extra: extra.leak(),
            door: Door::Outbound,
            ..DEFAULT
        };
        Self { upstreams, mesh: Mesh::start(&config, None).await }
    }

    async fn ask(&mut self, target: &str, headers: &str) -> (Answer, String) {
        let mut client = self.mesh.connect().await;
        let request = format!("GET {target} HTTP/1.1\r\nhost: up.example\r\n{headers}\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = Answer::read(&mut client, false).await;
        drop(client);
        let flags = flags(&self.mesh.record().await);
        (answer, flags)
    }

    fn counts(&self) -> Vec<usize> {
        self.upstreams.iter().map(Upstream::requests).collect()
    }

    /// Asks so many times; who answered how often.
    async fn spread(&mut self, times: usize, target: &str, headers: &str) -> Vec<usize> {
        let before = self.counts();
        for _ in 0..times {
            self.ask(target, headers).await;
        }
        self.counts().iter().zip(before).map(|(now, before)| now - before).collect()
    }

    /// Asks until an answer has this flag.
    async fn until(&mut self, wanted: &str) -> Answer {
        let asking = async {
            loop {
                let (answer, flags) = self.ask("/", "").await;
                if flags == wanted {
                    return answer;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(5), asking).await.unwrap_or_else(|_| panic!("never {wanted}"))
    }
}

#[tokio::test]
async fn r1_r2_cookies() {
    let hash = "loadBalancer: {consistentHash: {httpCookie: {name: sess, path: /p, ttl: 60s}}}";
    let mut many = Many::start(&[(OK, ""), (OK, ""), (OK, "")], hash).await;
    let (answer, _) = many.ask("/", "").await;
    let cookie = answer.header("set-cookie").expect("R1: a cookie is made");
    let value = cookie.strip_prefix("sess=\"").and_then(|c| c.strip_suffix("\"; Max-Age=60; Path=/p; HttpOnly"));
    let value = value.unwrap_or_else(|| panic!("R1 {cookie}")).to_owned();
    assert!(value.len() == 16 && value.bytes().all(|b| b.is_ascii_hexdigit()), "R1 {value}");
    let first = many.counts();
    for sent in [format!("cookie: sess=\"{value}\"\r\n"), format!("cookie: a=b; sess={value}\r\n")] {
        let (answer, _) = many.ask("/", &sent).await;
        assert_eq!(answer.header("set-cookie"), None, "R2: never set again");
        assert_eq!(many.spread(5, "/", &sent).await.iter().filter(|n| **n > 0).count(), 1, "R2 {sent}");
    }
    let same = many.counts().iter().zip(first).filter(|(now, before)| *now > before).count();
    assert_eq!(same, 1, "R2: quoted and unquoted go to the host of the one that was made");
    let none = "loadBalancer: {consistentHash: {httpCookie: {name: sess}}}";
    let mut many = Many::start(&[(OK, ""), (OK, ""), (OK, "")], none).await;
    let (answer, _) = many.ask("/", "").await;
    assert_eq!(answer.header("set-cookie"), None, "R2: without ttl none is made");
}

#[tokio::test]
async fn r2_a_key_stays_and_without_it_all_are_used() {
    for (key, target, headers) in [
        ("httpHeaderName: x-user", "/", "x-user: ann\r\n"),
        ("httpQueryParameterName: user", "/?user=ann", ""),
        ("httpHeaderName: x-user, maglev: {tableSize: 101}", "/", "x-user: ann\r\n"),
    ] {
        let policy = format!("loadBalancer: {{consistentHash: {{{key}}}}}");
        let mut many = Many::start(&[(OK, ""), (OK, ""), (OK, "")], &policy).await;
        let with = many.spread(9, target, headers).await;
        assert_eq!(with.iter().filter(|n| **n > 0).count(), 1, "{key} {with:?}");
        let without = many.spread(60, "/", "").await;
        assert!(without.iter().all(|n| *n > 0), "{key} {without:?}");
    }
    let mut many = Many::start(&[(OK, ""), (OK, "")], "loadBalancer: {consistentHash: {useSourceIp: true}}").await;
    let same = many.spread(9, "/", "").await;
    assert!(same.contains(&9), "one address, one endpoint: {same:?}");
}

#[tokio::test]
async fn weights_and_turns() {
    let mut many = Many::start(&[(OK, "weight: 1"), (OK, "weight: 3")], "loadBalancer: {simple: ROUND_ROBIN}").await;
    let mut spread = many.spread(40, "/", "").await;
    spread.sort_unstable();
    assert_eq!(spread, [10, 30]);
}

#[tokio::test]
async fn r12_all_ejected() {
    let policy = "outlierDetection: {consecutive5xxErrors: 2, maxEjectionPercent: 100}";
    let mut many = Many::start(&[(FAILING, ""), (FAILING, "")], policy).await;
    let answer = many.until("UH").await;
    assert_eq!((&*answer.status, &*answer.body), ("503 Service Unavailable", "no healthy upstream"), "R12");
    let counts = many.counts();
    assert!(counts.iter().all(|n| *n >= 2), "each was seen to fail twice: {counts:?}");
    assert_eq!(many.spread(3, "/", "").await, [0, 0]);
}

#[tokio::test]
async fn r7_the_default_ejects_nobody_of_a_few() {
    let mut many = Many::start(&[(FAILING, ""), (FAILING, ""), (FAILING, "")], "outlierDetection: {}").await;
    assert_eq!(many.spread(30, "/", "").await.iter().sum::<usize>(), 30, "R7: 1 of 3 is more than 10%");
}

#[tokio::test]
async fn r9_refused_connections_eject() {
    let policy = |more: &str| {
        format!(
            "outlierDetection: {{consecutive5xxErrors: 1, maxEjectionPercent: 50, interval: 1h, {more}}}, loadBalancer: {{simple: ROUND_ROBIN}}"
        )
    };
    let split = "consecutive5xxErrors: 0, splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 1";
    for policy in [policy(""), policy("").replace("consecutive5xxErrors: 1", split)] {
        let mut many = Many::start(&[(Up::Refused, ""), (OK, "")], &policy).await;
        many.until("UF").await;
        // The ejection comes into force apart from requests: at most a few more see it.
        let mut row = 0;
        while row < 4 {
            let (_, flags) = many.ask("/", "").await;
            row = if flags == "-" { row + 1 } else { 0 };
        }
    }
}

#[tokio::test]
async fn r13_what_is_no_server_error_never_ejects() {
    let policy = "outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100}";
    let mut many = Many::start(&[(MISSING, "")], policy).await;
    assert_eq!(many.spread(20, "/", "").await, [20]);
}

#[tokio::test]
async fn r6_panic_uses_everyone() {
    let policy = "outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100, minHealthPercent: 50}";
    let mut many = Many::start(&[(FAILING, ""), (FAILING, "")], policy).await;
    assert_eq!(many.spread(30, "/", "").await.iter().sum::<usize>(), 30, "R6: ejected, and used all the same");
}

/// The client, a pod, gets a locality.
const CLIENT: &str = "---
apiVersion: v1
kind: Pod
metadata: {name: a-client, namespace: default, labels: {app: client, istio-locality: r1.z1.s1}}
spec: {containers: [{name: c, image: c}]}
";

#[tokio::test]
async fn the_nearest_take_everything_until_they_fail() {
    let outlier = "outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100, interval: 1h}";
    let endpoints = [(FAILING, "locality: r1/z1/s1"), (OK, "locality: r1/z2/s1"), (OK, "locality: r2/z1/s1")];
    let mut many = Many::with(&endpoints, outlier, CLIENT).await;
    let (first, _) = many.ask("/", "").await;
    assert_eq!(&*first.body, "bad", "same subzone first");
    let mut row = 0;
    while row < 4 {
        row = if many.ask("/", "").await.0.body == "ok" { row + 1 } else { 0 };
    }
    assert_eq!(many.spread(10, "/", "").await, [0, 10, 0], "then the own region");
    assert_eq!(many.counts()[2], 0);
}

#[tokio::test]
async fn shares_by_locality() {
    let distribute =
        "loadBalancer: {localityLbSetting: {distribute: [{from: r1/*, to: {r1/z1/s1: 20, r2/z1/s1: 80}}]}}";
    let endpoints = [(OK, "locality: r1/z1/s1"), (OK, "locality: r2/z1/s1"), (OK, "locality: r3/z1/s1")];
    let mut many = Many::with(&endpoints, distribute, CLIENT).await;
    let spread = many.spread(300, "/", "").await;
    assert!((30..90).contains(&spread[0]) && spread[2] == 0, "{spread:?}");
}

#[tokio::test]
async fn random_uses_everyone() {
    let mut many = Many::start(&[(OK, ""), (OK, ""), (OK, "")], "loadBalancer: {simple: RANDOM}").await;
    let used: BTreeSet<usize> =
        many.spread(60, "/", "").await.iter().enumerate().filter(|(_, n)| **n > 0).map(|(i, _)| i).collect();
    assert_eq!(used.len(), 3);
}
