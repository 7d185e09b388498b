//! Section V: the access log and the metrics of requests that went through the real stack.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use mesh_core::record::{RequestRecord, Sink};
use mesh_proxy::telemetry::access_log::Format;
use mesh_proxy::telemetry::metrics::Metrics;
use serde_json::Value;

use crate::row::{Seen, row};
use crate::upstream::Up;

/// A request with everything that the log shows, to an upstream that answers nine bytes.
async fn seen(id: &'static str, more: &'static [&'static str]) -> Seen {
    let up = Up::Reply("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n123456789");
    let mut lines = vec!["user-agent: curl/8"];
    lines.extend(more);
    let raw = format!("GET /x?y HTTP/1.1\r\nhost: up.example\r\n{}\r\n\r\n", lines.join("\r\n"));
    row(id, up).routes("[{name: named, retries: {attempts: 0}, route: [$up]}]").raw(raw).run().await
}

fn line(format: &Format, record: &RequestRecord) -> String {
    let mut out = Vec::new();
    format.write(record, &mut out);
    String::from_utf8(out).unwrap()
}

/// The words of a line; what is in quotes or brackets is one.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.trim_end().chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words
}

fn is_number(text: &str) -> bool {
    text.parse::<u64>().is_ok()
}

fn is_address(text: &str) -> bool {
    text.parse::<SocketAddr>().is_ok_and(|a| a.ip().is_loopback() && a.port() != 0)
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && text.split('-').map(str::len).eq([8, 4, 4, 4, 12])
}

#[tokio::test]
async fn the_text_of_the_access_log() {
    let seen = seen("V1", &[]).await;
    let line = line(&Format::istio_text(), &seen.record);
    let words = words(&line);
    let [
        start,
        request,
        status,
        flags,
        details,
        termination,
        failure,
        received,
        sent,
        duration,
        service_time,
        forwarded,
        agent,
        id,
        authority,
        host,
        cluster,
        from,
        to,
        client,
        sni,
        route,
    ] = &words[..]
    else {
        panic!("V1: {} words: {line}", words.len())
    };
    let time = start.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or_else(|| panic!("V1: {line}"));
    assert!(time.len() == 24 && time.ends_with('Z') && time.as_bytes()[19] == b'.', "V1: {line}");
    assert_eq!([request, status, flags, details], ["GET /x?y HTTP/1.1", "200", "-", "via_upstream"], "V1: {line}");
    assert_eq!([termination, failure, received, sent], ["-", "-", "0", "9"], "V1: {line}");
    assert!(is_number(duration) && is_number(service_time), "V1: {line}");
    // What a gateway sends on, which is what its log shows; of a client on loopback it is the gateway's own address.
    assert_eq!([forwarded, agent, authority], [&*seen.node, "curl/8", "up.example"], "V1: {line}");
    assert!(is_uuid(id), "V1: {line}");
    assert!([host, from, to, client].iter().all(|a| is_address(a)), "V1: {line}");
    assert_eq!([cluster, sni, route], ["outbound|80||up.example", "-", "named"], "V1: {line}");
    assert!(line.ends_with(" named\n") && line.contains("\" 200 - via_upstream - \"-\" 0 9 "), "V1: {line}");
}

#[tokio::test]
async fn the_json_of_the_access_log() {
    let seen = seen("V2", &[]).await;
    let line = line(&Format::istio_json(), &seen.record);
    let object: BTreeMap<String, Value> = serde_json::from_str(&line).unwrap();
    let places: Vec<_> = object.keys().map(|k| line.find(&format!("\"{k}\":")).unwrap()).collect();
    assert!(object.len() == 24 && places.is_sorted(), "V2: keys in alphabetical order: {line}");
    for key in ["response_code", "bytes_received", "bytes_sent", "duration"] {
        assert!(object[key].is_u64(), "V2: {key}: {line}");
    }
    assert!(object["upstream_service_time"].as_str().is_some_and(is_number), "V2: {line}");
    assert_eq!(object["response_flags"], "-", "V2: {line}");
    for key in ["connection_termination_details", "requested_server_name", "upstream_transport_failure_reason"] {
        assert_eq!(object[key], Value::Null, "V2: {key}: {line}");
    }
    assert_eq!((&object["path"], &object["route_name"]), (&"/x?y".into(), &"named".into()), "V2: {line}");
}

#[tokio::test]
async fn histograms_have_envoys_buckets() {
    let seen = seen("V3", &[]).await;
    let metrics = Metrics::new();
    metrics.record(&seen.record);
    let text = metrics.encode();
    let bounds = "0.5 1 5 10 25 50 100 250 500 1000 2500 5000 10000 30000 60000 300000 600000 1800000 3600000 +Inf";
    for name in ["istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes"] {
        let lines = text.lines().filter(|l| l.starts_with(&format!("{name}_bucket{{")));
        let got: Vec<&str> = lines.map(|l| l.split("le=\"").nth(1).unwrap().split('"').next().unwrap()).collect();
        assert_eq!(got.join(" "), bounds, "V3: {name}");
        assert!(text.contains(&format!("# TYPE {name} histogram\n")), "V3: {name}: {text}");
    }
    assert_eq!(Metrics::CONTENT_TYPE, "text/plain; charset=UTF-8", "V3");
    let requests = text.lines().find(|l| l.starts_with("istio_requests_total{")).unwrap();
    let labels: Vec<&str> = requests.split(['{', ',']).skip(1).filter_map(|l| l.split_once('=').map(|l| l.0)).collect();
    let order = "reporter source_workload source_canonical_service source_canonical_revision source_workload_namespace \
                 source_principal source_app source_version source_cluster destination_workload \
                 destination_workload_namespace destination_principal destination_app destination_version \
                 destination_service destination_canonical_service destination_canonical_revision \
                 destination_service_name destination_service_namespace destination_cluster request_protocol \
                 response_code grpc_response_status response_flags connection_security_policy";
    assert_eq!(labels.join(" "), order, "V3");
}
