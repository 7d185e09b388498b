//! What rules of a VirtualService do.

use super::{TO_B, accepted, rule, rule_refused, warned};

#[test]
fn destinations_weights_and_headers() {
    let to = |d: &str| format!("route: [{{destination: {{{d}}}}}]");
    rule_refused(&[
        (&to("host: ''"), "route[0].destination.host", "Required value"),
        ("route: [{weight: 1}]", "route[0].destination", "Required value"),
        (&to("host: '*'"), "route[0].destination.host", "invalid destination host *"),
        (&to("host: a, subset: a_b"), "route[0].destination.subset", "subset name is invalid"),
        (&to("host: a, port: {number: 0}"), "route[0].destination.port.number", "1..65535"),
        ("route: [{destination: {host: a}, weight: -1}]", "route[0].weight", "weight -1 < 0"),
        ("route: [{destination: {host: a}}, {destination: {host: b}}]", "route", "total destination weight = 0"),
        (&format!("{TO_B}\nheaders: {{request: {{set: {{':path': a}}}}}}"), "headers.request.set.:path", "':' prefix"),
        (
            &format!("{TO_B}\nheaders: {{request: {{remove: [host]}}}}"),
            "headers.request.remove[0]",
            "cannot set Host header",
        ),
        (
            &format!("{TO_B}\nheaders: {{response: {{add: {{Host: a}}}}}}"),
            "headers.response.add.Host",
            "cannot set Host header",
        ),
        (
            &format!("{TO_B}\nheaders: {{request: {{set: {{a: '5%'}}}}}}"),
            "headers.request.set.a",
            "header value configuration",
        ),
        (
            &format!("{TO_B}\nheaders: {{request: {{set: {{host: a}}}}}}\nrewrite: {{authority: b}}"),
            "",
            "authority header cannot be set multiple times",
        ),
    ]);
    let good = format!("{TO_B}\nheaders: {{request: {{set: {{host: a, x: '%REQ(a%b)% 5%%'}}, remove: [z]}}}}");
    accepted(
        "VirtualService",
        &[&rule(&good), &rule("route: [{destination: {host: a}, weight: 30}, {destination: {host: b}, weight: 0}]")],
    );
}

#[test]
fn retries_faults_mirrors_and_cors() {
    let with = |text: &str| format!("{TO_B}\n{text}");
    rule_refused(&[
        (&with("retries: {attempts: -1}"), "retries.attempts", "attempts cannot be negative"),
        (&with("retries: {perTryTimeout: 1s}"), "retries", "when attempts are set to 0"),
        (
            &with("retries: {attempts: 1, retryOn: '5xx,foo'}"),
            "retries.retryOn",
            "\"foo\" is not a valid retryOn policy",
        ),
        (&with("fault: {}"), "fault", "must have an abort and/or a delay"),
        (
            &with("fault: {delay: {fixedDelay: 1s, percentage: {value: 101}}}"),
            "fault.delay.percentage",
            "neither 0.0, nor in range",
        ),
        (&with("fault: {delay: {exponentialDelay: 1s}}"), "fault.delay.exponentialDelay", "not supported yet"),
        (&with("fault: {abort: {httpStatus: 100}}"), "fault.abort.httpStatus", "HTTP status 100"),
        (
            &with("fault: {abort: {grpcStatus: unavailable}}"),
            "fault.abort.grpcStatus",
            "gRPC status \"unavailable\" is not supported",
        ),
        (&with("fault: {abort: {http2Error: X}}"), "fault.abort.http2Error", "not supported"),
        (&with("fault: {abort: {httpStatus: 500, grpcStatus: OK}}"), "fault.abort", "At most one of"),
        (&with("mirror: {host: b}\nmirrors: [{destination: {host: c}}]"), "mirrors", "both mirror and mirrors"),
        (&with("mirror: {host: b}\nmirrorPercentage: {value: 101}"), "mirrorPercentage", "max value of 100"),
        (&with("mirror: {host: b}\nmirrorPercent: 101"), "mirrorPercent", "max value of 100"),
        (&with("corsPolicy: {allowOrigins: [{}]}"), "corsPolicy.allowOrigins[0]", "one of exact"),
        (
            &with("corsPolicy: {allowMethods: [FOO]}"),
            "corsPolicy.allowMethods[0]",
            "\"FOO\" is not a supported HTTP method",
        ),
        (&with("corsPolicy: {maxAge: 1.5s}"), "corsPolicy.maxAge", "accurate only to seconds precision"),
        (&with("corsPolicy: {allowHeaders: ['a b']}"), "corsPolicy.allowHeaders[0]", "not a valid header name"),
    ]);
    accepted(
        "VirtualService",
        &[
            &rule(&with("retries: {attempts: 0}")),
            &rule(&with("retries: {attempts: 3, perTryTimeout: 25ms, retryOn: 'gateway-error,503', backoff: 1s}")),
            &rule(&with(
                "fault: {delay: {fixedDelay: 5s, percentage: {value: 0.1}}, abort: {grpcStatus: UNAVAILABLE}}",
            )),
            &rule(&with("mirror: {host: b}\nmirrorPercentage: {value: 0}")),
            &rule(&with("corsPolicy: {allowOrigins: [{exact: '*'}], allowHeaders: ['*'], maxAge: 24h}")),
        ],
    );
    warned(
        "VirtualService",
        &[(&rule(&with("mirror: {host: b}\nmirror_percent: 5")), "spec.http[0].mirrorPercent", "deprecated")],
    );
}
