//! Traffic policies of DestinationRules: of the host, its ports, its subsets, and their ports.

use serde_json::{Value, json};

use super::{aged, export_to, maybe, object};
use crate::lab::Block;
use crate::rng::Rng;

/// What the upstreams of a rule's host take.
#[derive(Clone, Copy)]
pub(super) struct Reach<'b> {
    /// All of them take TLS, PROXY headers and tunnels, too; where files are that TLS needs.
    answers_all: Option<&'b Block>,
}

/// Limits that are never reached, so that each request has one outcome; and what shows in the protocol.
pub(super) fn pool(rng: &mut Rng) -> Value {
    let mut out = json!({});
    maybe(rng, 75, &mut out, "tcp", |r| {
        let mut tcp = json!({"connectTimeout": r.pick(&["15s", "20s"])});
        maybe(r, 45, &mut tcp, "maxConnections", |r| json!(r.pick(&[500, 1000])));
        maybe(r, 45, &mut tcp, "idleTimeout", |_| json!("600s"));
        maybe(r, 45, &mut tcp, "maxConnectionDuration", |_| json!("3600s"));
        maybe(r, 45, &mut tcp, "tcpKeepalive", |_| keepalive());
        tcp
    });
    if rng.percent(80) || out == json!({}) {
        let mut http = json!({"idleTimeout": "300s"});
        match rng.below(4) {
            0 | 2 => http["h2UpgradePolicy"] = json!(rng.pick(&["UPGRADE", "DO_NOT_UPGRADE", "DEFAULT"])),
            1 => http["useClientProtocol"] = json!(true),
            _ => {}
        }
        maybe(rng, 45, &mut http, "maxRequestsPerConnection", |r| json!(r.pick(&[0, 1, 2])));
        maybe(rng, 45, &mut http, "http1MaxPendingRequests", |_| json!(1000));
        maybe(rng, 45, &mut http, "http2MaxRequests", |_| json!(1000));
        maybe(rng, 45, &mut http, "maxRetries", |_| json!(100));
        maybe(rng, 45, &mut http, "maxConcurrentStreams", |_| json!(100));
        maybe(rng, 45, &mut http, "http2KeepAlive", |_| json!({"interval": "60s", "timeout": "10s"}));
        out["http"] = http;
    }
    out
}

pub(super) fn keepalive() -> Value {
    json!({"time": "60s", "interval": "10s", "probes": 3})
}

/// Nothing is ever ejected: what counts errors counts to a number that nobody reaches, or may eject so small a part
/// that it is less than one endpoint.
pub(super) fn outlier(rng: &mut Rng) -> Value {
    let mut out = json!({"interval": "60s", "baseEjectionTime": "60s"});
    let many = rng.percent(50);
    let count = |r: &mut Rng| json!(if many { 100_000 } else { r.pick(&[0, 1, 5]) });
    out["consecutive5xxErrors"] = count(rng);
    maybe(rng, 40, &mut out, "consecutiveGatewayErrors", count);
    if many || rng.percent(50) {
        out["maxEjectionPercent"] = json!(if many { rng.pick(&[50, 100]) } else { rng.pick(&[0, 9]) });
    }
    if rng.percent(40) {
        let split = rng.percent(70);
        out["splitExternalLocalOriginErrors"] = json!(split);
        if split {
            out["consecutiveLocalOriginFailures"] = count(rng);
        }
    }
    maybe(rng, 20, &mut out, "consecutiveErrors", |_| json!(1));
    maybe(rng, 40, &mut out, "outlierDetectionHttpErrorCodes", |_| json!([418, 503]));
    maybe(rng, 40, &mut out, "minHealthPercent", |r| json!(r.pick(&[0, 40])));
    out
}

fn load_balancer(rng: &mut Rng) -> Value {
    let mut out = match rng.below(13) {
        0 => json!({"consistentHash": {"httpHeaderName": "x-a"}}),
        1 => json!({"consistentHash": {"httpQueryParameterName": "k", "maglev": {"tableSize": 1009}}}),
        2 => json!({"consistentHash": {"useSourceIp": true, "ringHash": {"minimumRingSize": 64}}}),
        3 => json!({"consistentHash": {"httpHeaderName": "x-b", "minimumRingSize": 32}}),
        4 => {
            json!({"consistentHash": {"httpCookie": {"name": "who", "ttl": "0s", "path": "/", "attributes": [{"name": "SameSite", "value": "Lax"}]}}})
        }
        5 | 6 => {
            let simple = rng.pick(&["ROUND_ROBIN", "LEAST_REQUEST"]);
            match rng.percent(30) {
                true => json!({"simple": simple, "warmupDurationSecs": "1s"}),
                false => {
                    json!({"simple": simple, "warmup": {"duration": "1s", "minimumPercent": 50, "aggression": 1.5}})
                }
            }
        }
        _ => json!({"simple": rng.pick(&["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "UNSPECIFIED"])}),
    };
    maybe(rng, 35, &mut out, "localityLbSetting", locality);
    if out.get("localityLbSetting").is_none() {
        maybe(rng, 20, &mut out, "zoneAwareLbSetting", zones);
    }
    out
}

/// The near ones first.
pub(super) fn zones(rng: &mut Rng) -> Value {
    match rng.percent(50) {
        true => json!({"enabled": true, "minClusterSize": 2, "failover": [{"from": "r1", "to": "r2"}]}),
        false => json!({"enabled": true, "failoverPriority": ["topology.kubernetes.io/region"]}),
    }
}

/// Who gets how much by where it is. The pods are in r1/z1, r1/z2 and r2/z1.
pub(super) fn locality(rng: &mut Rng) -> Value {
    match rng.below(6) {
        0 => json!({"enabled": false}),
        1 => json!({"distribute": [
            {"from": "r1/*", "to": {"r1/z1/*": 70, "r2/*": 30}},
            {"from": "r2/*", "to": {"r2/*": 100}},
        ]}),
        2 => json!({"distribute": [{"from": "*", "to": {"r1/*": 100}}]}),
        3 => json!({"failover": [{"from": "r1", "to": "r2"}], "enabled": true}),
        4 => json!({"failoverPriority": ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"]}),
        _ => json!({"failoverPriority": ["version=v2"], "enabled": true}),
    }
}

/// TLS towards upstreams; most often with a name that they have. `selected`: Secrets can be used.
pub(super) fn tls(rng: &mut Rng, block: &Block, selected: bool) -> Value {
    if rng.percent(12) {
        return json!({"mode": "DISABLE"});
    }
    let mut out = json!({"mode": rng.pick(&["SIMPLE", "SIMPLE", "MUTUAL"])});
    let file = |name: &str| json!(block.files.join(name));
    let mutual = out["mode"] == "MUTUAL";
    if rng.percent(if selected { 60 } else { 40 }) {
        out["credentialName"] = json!("upstream");
    } else {
        if mutual {
            (out["clientCertificate"], out["privateKey"]) = (file("client.pem"), file("client-key.pem"));
        }
        if rng.percent(75) {
            out["caCertificates"] = file(rng.pick(&["ca.pem", "ca.pem", "ca.pem", "ca.pem", "elsewhere.pem"]));
            maybe(rng, 40, &mut out, "caCrl", |r| file(r.pick(&["crl.pem", "crl.pem", "revoking.pem"])));
        } else {
            out["insecureSkipVerify"] = json!(true);
        }
    }
    let names = [&["up.example"][..], &["nobody.example", "up.example"], &["up.example"], &["nobody.example"]];
    if out.get("insecureSkipVerify").is_none() {
        maybe(rng, 85, &mut out, "subjectAltNames", |r| json!(r.pick(&names)));
        maybe(rng, 20, &mut out, "insecureSkipVerify", |_| json!(false));
    }
    maybe(rng, 60, &mut out, "sni", |r| json!(r.pick(&["up.example", "sni.example"])));
    out
}

/// What ports have, too.
fn port_policy(rng: &mut Rng, reach: Reach<'_>, selected: bool) -> Value {
    let mut out = json!({"loadBalancer": load_balancer(rng)});
    maybe(rng, 40, &mut out, "connectionPool", pool);
    maybe(rng, 30, &mut out, "outlierDetection", outlier);
    if let Some(block) = reach.answers_all {
        maybe(rng, 28, &mut out, "tls", |r| tls(r, block, selected));
    }
    out
}

fn policy(rng: &mut Rng, reach: Reach<'_>, selected: bool) -> Value {
    let mut out = port_policy(rng, reach, selected);
    maybe(rng, 55, &mut out, "portLevelSettings", |r| {
        let mut port = port_policy(r, reach, selected);
        port["port"] = json!({"number": r.pick(&[80, 80, 8081])});
        json!([port])
    });
    maybe(
        rng,
        20,
        &mut out,
        "retryBudget",
        |r| json!({"percent": r.pick(&[20, 80]), "minRetryConcurrency": r.pick(&[3, 10]), "budgetInterval": "10s"}),
    );
    if reach.answers_all.is_some() {
        maybe(rng, 12, &mut out, "proxyProtocol", |r| json!({"version": r.pick(&["V1", "V2"])}));
        maybe(
            rng,
            8,
            &mut out,
            "tunnel",
            |_| json!({"protocol": "CONNECT", "targetHost": "far.example", "targetPort": 444}),
        );
    }
    out
}

fn subsets(rng: &mut Rng, reach: Reach<'_>, selected: bool) -> Value {
    let mut list = Vec::new();
    for version in ["v1", "v2", "v3"] {
        if rng.percent(85) {
            let labels = if rng.percent(90) { json!({"version": version}) } else { json!({"version": "v2"}) };
            let mut subset = json!({"name": version, "labels": labels});
            maybe(rng, 30, &mut subset, "trafficPolicy", |r| policy(r, reach, selected));
            list.push(subset);
        }
    }
    list.push(json!({"name": "all"}));
    Value::Array(list)
}

pub(super) fn destination_rules(rng: &mut Rng, block: &Block) -> Vec<Value> {
    let mut out = Vec::new();
    for i in 0..rng.below(5) {
        let hosts = [
            "srv",
            "srv.shop.svc.cluster.local",
            "back.back.svc.cluster.local",
            "*.shop.svc.cluster.local",
            "raw.back.svc.cluster.local",
        ];
        let host = rng.pick(&hosts);
        let namespace = rng.pick(&["shop", "back", "other", "istio-system"]);
        // The host `raw` is reached by bytes, of which TLS would be a second one for clients of another port.
        let reach = Reach { answers_all: (!host.starts_with('*')).then_some(block) };
        let selected = rng.percent(20);
        let mut spec = json!({"host": host, "subsets": subsets(rng, reach, selected)});
        if selected {
            let labels = rng.pick(&[("app", "front"), ("app", "cron"), ("istio", "ingressgateway")]);
            spec["workloadSelector"] = json!({"matchLabels": {labels.0: labels.1}});
        }
        maybe(rng, 60, &mut spec, "trafficPolicy", |r| policy(r, reach, selected));
        maybe(rng, 25, &mut spec, "exportTo", |r| if selected { json!(["."]) } else { export_to(r) });
        let rule = object("DestinationRule", namespace, &format!("dr-{i}"), spec);
        out.push(aged(rng, rule));
    }
    // Without names of its own: those of the ServiceEntry count, or the host.
    for host in ["a.example.com", "b.example.com", "ext.example.com"] {
        if rng.percent(40) {
            let mut tls = json!({"mode": "SIMPLE", "caCertificates": block.files.join("ca.pem")});
            maybe(rng, 20, &mut tls, "subjectAltNames", |_| json!(["up.example"]));
            let spec = json!({"host": host, "trafficPolicy": {"tls": tls}});
            out.push(object("DestinationRule", "shop", &format!("tls-{}", &host[..1]), spec));
        }
    }
    for (namespace, host) in [("shop", "srv"), ("back", "back")] {
        if rng.percent(80) {
            let reach = Reach { answers_all: rng.percent(30).then_some(block) };
            let subsets = subsets(rng, reach, false);
            out.push(object("DestinationRule", namespace, host, json!({"host": host, "subsets": subsets})));
        }
    }
    out
}
