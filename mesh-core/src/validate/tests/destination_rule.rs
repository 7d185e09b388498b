//! DestinationRule.

use super::{accepted, refused, warned};

#[test]
fn destination_rules() {
    let policy = |p: &str| format!("host: a\ntrafficPolicy: {{{p}}}");
    let lb = |p: &str| policy(&format!("loadBalancer: {{{p}}}"));
    accepted(
        "DestinationRule",
        &[
            "host: a",
            "host: '*.a.com'\nsubsets: [{name: v1}, {name: v2, labels: {version: v2}}]",
            &lb("simple: ROUND_ROBIN"),
            &lb("consistentHash: {httpCookie: {name: c, ttl: 0s}, maglev: {tableSize: 65537}}"),
            &lb("localityLbSetting: {distribute: [{from: a/b/*, to: {a/b/*: 80, a/c/*: 20}}]}"),
            &policy("connectionPool: {tcp: {idleTimeout: 0s}}, outlierDetection: {consecutive5xxErrors: 0}"),
            &policy("portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]"),
        ],
    );
    refused(
        "DestinationRule",
        &[
            ("subsets: []", "spec.host", "Required value"),
            (&policy(""), "spec.trafficPolicy", "traffic policy must have at least one field"),
            ("host: a\nsubsets: [{name: v}, {name: v}]", "spec.subsets[1].name", "duplicate subset names: v"),
            ("host: a\nsubsets: [{name: v_1}]", "spec.subsets[0].name", "subset name is invalid"),
            ("host: a\nworkloadSelector: {matchLabels: {a: b}}\nexportTo: ['*']", "spec.exportTo", "own namespace"),
            (
                &lb("simple: RANDOM, consistentHash: {useSourceIp: true}"),
                "spec.trafficPolicy.loadBalancer",
                "At most one of",
            ),
            (
                &lb("consistentHash: {httpCookie: {path: /}}"),
                "spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.name",
                "required",
            ),
            (
                &lb("consistentHash: {useSourceIp: true, maglev: {tableSize: 4}}"),
                "spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize",
                "prime",
            ),
            (
                &lb("localityLbSetting: {distribute: [{from: a, to: {b: 90}}]}"),
                "spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to",
                "total locality weight 90 != 100",
            ),
            (
                &lb("localityLbSetting: {distribute: [{from: a, to: {b: 100}}], failover: [{from: a, to: b}]}"),
                "spec.trafficPolicy.loadBalancer.localityLbSetting",
                "can not simultaneously specify",
            ),
            (
                &lb("localityLbSetting: {failover: [{from: a, to: a}]}"),
                "spec.trafficPolicy.loadBalancer.localityLbSetting.failover[0]",
                "different regions",
            ),
            (
                &lb("localityLbSetting: {}, zoneAwareLbSetting: {}"),
                "spec.trafficPolicy.loadBalancer",
                "only one of localityLbSetting and zoneAwareLbSetting",
            ),
            (
                &lb("warmup: {}"),
                "spec.trafficPolicy.loadBalancer.warmup.duration",
                "spec.trafficPolicy.loadBalancer.warmup.duration: Required value",
            ),
            (
                &policy("connectionPool: {}"),
                "spec.trafficPolicy.connectionPool",
                "connection pool must have at least one field",
            ),
            (
                &policy("connectionPool: {tcp: {maxConnections: -1}}"),
                "spec.trafficPolicy.connectionPool.tcp.maxConnections",
                "must be positive",
            ),
            (
                &policy("connectionPool: {http: {useClientProtocol: true, h2UpgradePolicy: UPGRADE}}"),
                "spec.trafficPolicy.connectionPool.http.useClientProtocol",
                "must not be true",
            ),
            (
                &policy("outlierDetection: {maxEjectionPercent: 101}"),
                "spec.trafficPolicy.outlierDetection.maxEjectionPercent",
                "not in range",
            ),
            (
                &policy("outlierDetection: {consecutiveLocalOriginFailures: 3}"),
                "spec.trafficPolicy.outlierDetection.consecutiveLocalOriginFailures",
                "split",
            ),
            (
                &policy("tls: {mode: MUTUAL}"),
                "spec.trafficPolicy.tls.clientCertificate",
                "client certificate required for mutual tls",
            ),
            (
                &policy("tls: {mode: SIMPLE, credentialName: c, caCertificates: f}"),
                "spec.trafficPolicy.tls.credentialName",
                "cannot specify",
            ),
            (
                &policy("portLevelSettings: [{tls: {}}]"),
                "spec.trafficPolicy.portLevelSettings[0].port",
                "must have valid port",
            ),
            (
                &policy("portLevelSettings: [{port: {number: 80}}]"),
                "spec.trafficPolicy.portLevelSettings[0]",
                "at least one field",
            ),
            (
                &policy("tunnel: {targetHost: a, targetPort: 80}, proxyProtocol: {version: V2}"),
                "spec.trafficPolicy",
                "must not be set together",
            ),
        ],
    );
    warned(
        "DestinationRule",
        &[
            (
                &policy("outlierDetection: {consecutiveErrors: 3}"),
                "spec.trafficPolicy.outlierDetection.consecutiveErrors",
                "deprecated",
            ),
            (
                &lb("localityLbSetting: {failover: [{from: a, to: b}]}"),
                "spec.trafficPolicy.loadBalancer.localityLbSetting",
                "outlier detection policy must be provided",
            ),
        ],
    );
}
