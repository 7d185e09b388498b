//! The mesh's settings, and those of proxies.

use serde_json::{Value, json};

use super::traffic_policy::{keepalive, locality, outlier, pool, tls, zones};
use super::{LOG, maybe, policies};
use crate::lab::Block;
use crate::requests::SUITES;
use crate::rng::Rng;

/// The mesh's settings. The access log is always there: it is observed.
pub(super) fn settings(rng: &mut Rng, block: &Block) -> Value {
    let mut mesh = json!({"accessLogFile": "/dev/stdout", "accessLogEncoding": "JSON", "accessLogFormat": LOG});
    maybe(rng, 40, &mut mesh, "outboundTrafficPolicy", |r| if r.percent(30) { by_name(r, block) } else { unknown(r) });
    maybe(
        rng,
        40,
        &mut mesh,
        "pathNormalization",
        |r| json!({"normalization": r.pick(&["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"])}),
    );
    maybe(rng, 30, &mut mesh, "defaultHttpRetryPolicy", |r| match r.below(4) {
        0 => json!({"attempts": 0}),
        1 => json!({"attempts": 1, "retryOn": "5xx", "backoff": "0.001s"}),
        2 => json!({"attempts": 2, "retryOn": "5xx", "backoff": "0.001s", "perTryTimeout": "64s",
            "retryIgnorePreviousHosts": r.percent(50), "retryRemoteLocalities": r.percent(50)}),
        _ => json!({"attempts": 3, "retryOn": "gateway-error,retriable-4xx", "backoff": "0.001s"}),
    });
    maybe(
        rng,
        10,
        &mut mesh,
        "defaultInboundHttpRetryPolicy",
        |r| json!({"attempts": r.pick(&[1, 2]), "retryOn": r.pick(&["5xx", "reset", "503"]), "backoff": "0.001s"}),
    );
    let visible = |r: &mut Rng| json!([r.pick(&["*", ".", "shop"])]);
    maybe(rng, 8, &mut mesh, "defaultVirtualServiceExportTo", visible);
    maybe(rng, 5, &mut mesh, "defaultDestinationRuleExportTo", visible);
    maybe(rng, 5, &mut mesh, "defaultServiceExportTo", visible);
    maybe(rng, 50, &mut mesh, "defaultConfig", |r| proxy_config(r, block));
    maybe(rng, 25, &mut mesh, "h2UpgradePolicy", |r| json!(r.pick(&["UPGRADE", "DO_NOT_UPGRADE"])));
    maybe(rng, 8, &mut mesh, "connectTimeout", |_| json!("12s"));
    maybe(rng, 25, &mut mesh, "defaultTrafficPolicy", |r| {
        let mut policy = json!({"connectionPool": pool(r)});
        maybe(r, 80, &mut policy, "outlierDetection", outlier);
        policy
    });
    maybe(rng, 25, &mut mesh, "localityLbSetting", locality);
    if mesh.get("localityLbSetting").is_none() {
        maybe(rng, 30, &mut mesh, "zoneAwareLbSetting", zones);
    }
    maybe(rng, 15, &mut mesh, "discoverySelectors", |r| match r.below(3) {
        0 => json!([{"matchLabels": {"mesh": "in"}}]),
        1 => json!([{"matchExpressions": [{"key": "mesh", "operator": "NotIn", "values": ["out"]}]}]),
        _ => json!([{"matchExpressions": [{"key": "mesh", "operator": "In", "values": ["in", "other"]}]}]),
    });
    maybe(rng, 12, &mut mesh, "rootNamespace", |r| json!(r.pick(&["back", "other", "istio-system"])));
    maybe(rng, 12, &mut mesh, "inboundTrafficPolicy", |r| json!({"mode": r.pick(&["PASSTHROUGH", "LOCALHOST"])}));
    maybe(rng, 10, &mut mesh, "disableEnvoyListenerLog", |r| json!(r.percent(80)));
    maybe(rng, 10, &mut mesh, "tcpKeepalive", |_| keepalive());
    maybe(rng, 10, &mut mesh, "dnsRefreshRate", |_| json!("30s"));
    maybe(rng, 10, &mut mesh, "protocolDetectionTimeout", |r| json!(r.pick(&["0s", "5s"])));
    // The lab's proxies have their identities from the beginning.
    maybe(rng, 10, &mut mesh, "trustDomain", |_| json!("cluster.local"));
    maybe(rng, 30, &mut mesh, "trustDomainAliases", |_| json!(["old.example"]));
    maybe(rng, 80, &mut mesh, "extensionProviders", policies::authorizers);
    maybe(rng, 10, &mut mesh, "caCertificates", |r| {
        let mut more = json!([{"pem": elsewhere(block)}]);
        maybe(r, 50, &mut more[0], "trustDomains", |_| json!(["elsewhere.example"]));
        more
    });
    maybe(rng, 10, &mut mesh, "enableAutoMtls", |r| json!(r.percent(50)));
    maybe(rng, 10, &mut mesh, "meshMTLS", |r| {
        let mut tls = json!({"minProtocolVersion": r.pick(&["TLSV1_2", "TLSV1_3"])});
        maybe(r, 50, &mut tls, "cipherSuites", |r| json!([r.pick(&SUITES)]));
        tls
    });
    maybe(rng, 10, &mut mesh, "tlsDefaults", |r| {
        let suites = ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256", "unknown"];
        json!({"minProtocolVersion": r.pick(&["TLSV1_2", "TLSV1_3", "TLS_AUTO"]), "cipherSuites": suites,
            "ecdhCurves": r.pick(&[&["P-256", "X25519"][..], &["X25519MLKEM768"], &["P-384", "P-256"]])})
    });
    // The lab's proxies are told by their arguments where to listen.
    maybe(rng, 10, &mut mesh, "proxyListenPort", |r| json!(r.pick(&[15001, 16001])));
    maybe(rng, 10, &mut mesh, "proxyInboundListenPort", |r| json!(r.pick(&[15006, 16006])));
    maybe(rng, 10, &mut mesh, "proxyHttpPort", |r| json!(r.pick(&[0, 3128])));
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": mesh_core::yaml::to_yaml(&mesh)},
    })
}

/// Where unknown traffic goes.
pub(super) fn unknown(rng: &mut Rng) -> Value {
    match rng.below(6) {
        0..=2 => json!({"mode": "REGISTRY_ONLY"}),
        3 => json!({"mode": "ALLOW_ANY"}),
        _ => {
            let mut to = json!({"host": "back.back.svc.cluster.local", "port": {"number": 80}});
            maybe(rng, 70, &mut to, "subset", |r| json!(r.pick(&["v1", "v2"])));
            json!({"mode": "ALLOW_ANY", "egressProxy": to})
        }
    }
}

/// HTTP to unknown hosts goes to where the request says, with TLS around it.
fn by_name(rng: &mut Rng, block: &Block) -> Value {
    let mut out = json!({"mode": "ALLOW_ANY_DYNAMIC_DNS"});
    maybe(rng, 80, &mut out, "tls", |r| tls(r, block, true));
    out
}

/// An authority that none of the mesh's workloads has its certificate from.
fn elsewhere(block: &Block) -> String {
    std::fs::read_to_string(block.files.join("elsewhere.pem")).expect("invariant: certificates are written first")
}

/// Settings of a proxy; limits of time are never reached.
pub(super) fn proxy_config(rng: &mut Rng, block: &Block) -> Value {
    let mut out = json!({});
    maybe(rng, 10, &mut out, "caCertificatesPem", |_| json!([elsewhere(block)]));
    maybe(rng, 60, &mut out, "proxyHeaders", |r| {
        let mut headers = json!({});
        maybe(r, 25, &mut headers, "attemptCount", |r| json!({"disabled": r.percent(80)}));
        maybe(r, 25, &mut headers, "envoyDebugHeaders", |r| json!({"disabled": r.percent(80)}));
        maybe(r, 25, &mut headers, "requestId", |r| json!({"disabled": r.percent(80)}));
        match r.below(4) {
            0 => headers["server"] = json!({"value": "mesh"}),
            1 => headers["server"] = json!({"disabled": true}),
            _ => {}
        }
        let cert = ["SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"];
        maybe(r, 20, &mut headers, "forwardedClientCert", |r| json!(r.pick(&cert)));
        maybe(r, 25, &mut headers, "setCurrentClientCertDetails", |r| {
            let mut details = json!({"subject": r.percent(50)});
            for field in ["cert", "chain", "dns", "uri"] {
                maybe(r, 70, &mut details, field, |r| json!(r.percent(70)));
            }
            details
        });
        maybe(r, 20, &mut headers, "preserveHttp1HeaderCase", |r| json!(r.percent(80)));
        maybe(r, 25, &mut headers, "xForwardedHost", |r| json!({"enabled": r.percent(80)}));
        maybe(r, 20, &mut headers, "xForwardedPort", |r| json!({"enabled": r.percent(80)}));
        headers
    });
    maybe(rng, 40, &mut out, "gatewayTopology", |r| {
        let mut topology = json!({"numTrustedProxies": r.pick(&[0, 1])});
        let cert = ["SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET"];
        maybe(r, 40, &mut topology, "forwardClientCertDetails", |r| json!(r.pick(&cert)));
        maybe(r, 40, &mut topology, "proxyProtocol", |_| json!({}));
        topology
    });
    maybe(rng, 60, &mut out, "connectionSettings", connection_settings);
    maybe(rng, 15, &mut out, "concurrency", |r| json!(r.pick(&[1, 2])));
    maybe(rng, 15, &mut out, "drainDuration", |_| json!("46s"));
    maybe(rng, 15, &mut out, "terminationDrainDuration", |_| json!("6s"));
    maybe(rng, 15, &mut out, "interceptionMode", |r| json!(r.pick(&["REDIRECT", "TPROXY", "NONE"])));
    maybe(rng, 15, &mut out, "proxyAdminPort", |_| json!(15002));
    maybe(rng, 30, &mut out, "proxyMetadata", |r| {
        let mut metadata = json!({"ISTIO_META_HTTP10": r.pick(&["1", "1", "0"])});
        maybe(r, 30, &mut metadata, "ISTIO_META_IDLE_TIMEOUT", |_| json!("700s"));
        metadata
    });
    if out == json!({}) {
        out["concurrency"] = json!(1);
    }
    out
}

fn connection_settings(rng: &mut Rng) -> Value {
    let mut out = json!({});
    maybe(rng, 20, &mut out, "profile", |r| json!(r.pick(&["EDGE", "SIDECAR"])));
    let underscores = ["ALLOW", "REJECT_REQUEST", "DROP_HEADER"];
    maybe(rng, 35, &mut out, "httpHeadersWithUnderscoresAction", |r| json!(r.pick(&underscores)));
    let slashes = ["KEEP_UNCHANGED", "REJECT_REQUEST", "UNESCAPE_AND_REDIRECT", "UNESCAPE_AND_FORWARD"];
    maybe(rng, 35, &mut out, "httpPathWithEscapedSlashesAction", |r| json!(r.pick(&slashes)));
    maybe(rng, 25, &mut out, "httpMergeSlashes", |r| json!(r.percent(70)));
    for field in [
        "httpIdleTimeout",
        "httpMaxConnectionDuration",
        "httpMaxStreamDuration",
        "httpRequestHeadersTimeout",
        "httpRequestTimeout",
        "httpStreamIdleTimeout",
        "httpDrainTimeout",
    ] {
        maybe(rng, 25, &mut out, field, |r| json!(r.pick(&["500s", "900s"])));
    }
    maybe(rng, 25, &mut out, "http2InitialConnectionWindowSize", |_| json!(1_048_576));
    maybe(rng, 25, &mut out, "http2InitialStreamWindowSize", |_| json!(65_536));
    maybe(rng, 25, &mut out, "http2MaxConcurrentStreams", |_| json!(100));
    maybe(rng, 25, &mut out, "perConnectionBufferLimitBytes", |_| json!(65_536));
    out
}
