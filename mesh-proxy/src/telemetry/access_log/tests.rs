use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use http::{HeaderValue, Method, StatusCode, Uri, Version};
use mesh_core::api::ContentHash;
use mesh_core::record::{ConnInfo, Cx, Flag, HttpRecord, RequestRecord};
use mesh_core::snapshot::Direction;

use super::Format;

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn cx() -> Cx {
    let conn = ConnInfo {
        direction: Direction::Outbound,
        peer: addr("127.0.0.1:37450"),
        local: addr("127.0.0.1:20001"),
        direct: None,
        sni: "".into(),
        tls: None,
        peer_text: Default::default(),
    };
    Cx::new(Arc::new(conn), ContentHash(0xab))
}

fn answered() -> Cx {
    let cx = cx();
    cx.service_time.store(3, Ordering::Relaxed);
    cx
}

fn record(cx: Cx, http: Option<HttpRecord>) -> RequestRecord {
    RequestRecord {
        start: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_339_807_334),
        duration: Duration::from_micros(4_900),
        cx: Arc::new(cx),
        http,
        termination: "".into(),
    }
}

fn get() -> HttpRecord {
    HttpRecord {
        method: Method::GET,
        target: Uri::from_static("/x?y"),
        version: Version::HTTP_11,
        host: Some(HeaderValue::from_static("a.example")),
        status: Some(StatusCode::OK),
        grpc_status: None,
        grpc: false,
        user_agent: Some(HeaderValue::from_static("curl/8")),
    }
}

fn line(format: &Format, record: &RequestRecord) -> String {
    let mut out = Vec::new();
    format.write(record, &mut out);
    String::from_utf8(out).unwrap()
}

/// Row V1 of the observed Envoy: order, quotes, and `-` for what is missing.
#[test]
fn istio_text_line() {
    let cx = answered();
    cx.upstream_local.set(addr("127.0.0.1:43434"));
    cx.response_bytes.store(9, Ordering::Relaxed);
    assert_eq!(
        line(&Format::istio_text(), &record(cx, Some(get()))),
        "[2026-11-22T09:30:07.334Z] \"GET /x?y HTTP/1.1\" 200 - via_upstream - \"-\" 0 9 4 3 \"-\" \"curl/8\" \"-\" \
         \"a.example\" \"-\" - 127.0.0.1:43434 127.0.0.1:20001 127.0.0.1:37450 - -\n"
    );
}

/// Rows T5 and D8: a TCP stream has no method, path or protocol, and status 0.
#[test]
fn tcp_line() {
    let cx = cx();
    cx.flag(Flag::Uf);
    cx.flag(Flag::Urx);
    cx.failure_reason.set("delayed_connect_error:_Connection_refused".into()).unwrap();
    let line = line(&Format::istio_text(), &record(cx, None));
    assert!(line.contains("\"- - -\" 0 UF,URX - - \"delayed_connect_error:_Connection_refused\" 0 0 4 - "), "{line}");
}

/// Row V2: keys in alphabetical order, missing values null, counts as numbers, service time as text.
#[test]
fn istio_json_line() {
    let line = line(&Format::istio_json(), &record(answered(), Some(get())));
    let json: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&line).unwrap();
    let keys: Vec<_> = json.keys().cloned().collect();
    let mut sorted = keys.clone();
    sorted.sort();
    assert_eq!(keys, sorted);
    assert_eq!(json.len(), 24);
    assert_eq!(json["response_code"], 200);
    assert_eq!(json["duration"], 4);
    assert_eq!(json["upstream_service_time"], "3");
    assert_eq!(json["response_flags"], "-");
    assert_eq!(json["upstream_host"], serde_json::Value::Null);
}

#[test]
fn custom_formats() {
    let ours = Format::text("%REQ(:METHOD)% 100%% %MESH_CONFIG%").unwrap();
    assert_eq!(line(&ours, &record(cx(), Some(get()))), "GET 100% 00000000000000ab\n");
    let json = Format::json(r#"{"code":"%RESPONSE_CODE%","text":"code %RESPONSE_CODE%"}"#).unwrap();
    assert_eq!(line(&json, &record(cx(), Some(get()))), "{\"code\":200,\"text\":\"code 200\"}\n");
}

/// What policies said is one line, whatever a client sent.
#[test]
fn verdicts_stay_on_their_line() {
    let (cx, format) = (cx(), Format::text("%MESH_VERDICT%").unwrap());
    cx.verdict.set("nearest: path is /a\nb, wanted one of /c".into()).unwrap();
    assert_eq!(line(&format, &record(cx, Some(get()))), "nearest: path is /a b, wanted one of /c\n");
    assert_eq!(line(&format, &record(self::cx(), Some(get()))), "-\n");
}

#[test]
fn bad_formats_say_what_is_wrong() {
    let error = |f: Result<Format, super::FormatError>| f.unwrap_err().to_string();
    assert!(error(Format::text("%NOPE%")).contains("operator %NOPE% is not known; known are START_TIME"));
    assert!(error(Format::text("50% done")).contains("not closed by %"));
    assert!(error(Format::json("[]")).contains("has to be a JSON object"));
    assert!(error(Format::json(r#"{"a":1}"#)).contains("the value of \"a\" has to be a text"));
}
