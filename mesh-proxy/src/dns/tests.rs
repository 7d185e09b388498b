use std::sync::Arc;

use hickory_proto::rr::Name;
use mesh_core::api::ContentHash;
use mesh_core::snapshot::{NameEntry, ProxyId, ProxyKind, ProxyPlan};

use super::*;

fn snapshot(names: &[(&str, &[&str])]) -> Snapshot {
    let id = ProxyId {
        kind: ProxyKind::Sidecar,
        workload: "w".into(),
        name: "w".into(),
        namespace: "default".into(),
        addresses: Vec::new(),
        domain: "cluster.local".into(),
    };
    let proxy = ProxyPlan {
        id,
        access_log: false,
        access_log_json: false,
        access_log_format: None,
        accepts_proxy_header: false,
        listener_log: true,
        ports: Default::default(),
        preserve_case: false,
        allow_any: true,
        detection_timeout: None,
        drain_duration: std::time::Duration::from_secs(45),
        termination_drain_duration: std::time::Duration::from_secs(5),
        authorities: Default::default(),
        workload: None,
        hash: ContentHash::default(),
    };
    let entry = |(name, addresses): &(&str, &[&str])| {
        let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        (Arc::from(*name), Arc::new(NameEntry { hostname: (*name).into(), addresses }))
    };
    Snapshot {
        hash: ContentHash::default(),
        proxy: Arc::new(proxy),
        listeners: Default::default(),
        binds: Vec::new(),
        clusters: Default::default(),
        names: Arc::new(names.iter().map(entry).collect()),
        security: Default::default(),
    }
}

fn query(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

/// Code, whether authoritative, and answers; `None`: asked outside.
fn ask(names: &[(&str, &[&str])], name: &str, kind: RecordType) -> Option<(ResponseCode, bool, Vec<String>)> {
    match plan(&query(name, kind), Some(&snapshot(names))).unwrap() {
        Plan::Ask(..) => None,
        Plan::Reply(reply) => {
            let reply = Message::from_vec(&encode(&reply, None).unwrap()).unwrap();
            assert_eq!(reply.metadata.id, 7);
            let answers = reply.answers.iter().map(|r| {
                assert_eq!(r.ttl, TTL);
                r.data.to_string()
            });
            Some((reply.metadata.response_code, reply.metadata.authoritative, answers.collect()))
        }
    }
}

#[test]
fn names_of_the_mesh() {
    let names: &[(&str, &[&str])] = &[
        ("reviews", &["10.96.0.5"]),
        ("dual.default.svc.cluster.local", &["10.96.0.6", "fd11::6"]),
        ("headless", &["10.244.0.3", "10.244.0.4"]),
        ("*.wild.example", &["240.0.0.9"]),
    ];
    let ok = |answers: &[&str]| Some((ResponseCode::NoError, true, answers.iter().map(ToString::to_string).collect()));
    assert_eq!(ask(names, "reviews.", RecordType::A), ok(&["10.96.0.5"]));
    assert_eq!(ask(names, "Reviews.", RecordType::A), ok(&["10.96.0.5"]));
    assert_eq!(ask(names, "reviews.", RecordType::AAAA), ok(&[]));
    assert_eq!(ask(names, "reviews.", RecordType::TXT), ok(&[]));
    assert_eq!(ask(names, "dual.default.svc.cluster.local.", RecordType::AAAA), ok(&["fd11::6"]));
    assert_eq!(ask(names, "headless.", RecordType::A), ok(&["10.244.0.3", "10.244.0.4"]));
    assert_eq!(ask(names, "a.b.wild.example.", RecordType::A), ok(&["240.0.0.9"]));
    assert_eq!(ask(names, "wild.example.", RecordType::A), None);
    assert_eq!(ask(names, "example.com.", RecordType::AAAA), None);
    let refused = Some((ResponseCode::NotImp, false, Vec::new()));
    assert_eq!(ask(names, "example.com.", RecordType::MX), refused);
}

#[test]
fn before_the_first_configuration_clients_are_told_to_try_again() {
    let Some(Plan::Reply(reply)) = plan(&query("reviews.", RecordType::A), None) else { panic!("no reply") };
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn what_is_not_a_query_is_refused_or_dropped() {
    assert!(plan(b"", None).is_none());
    let Some(Plan::Reply(reply)) = plan(&[0, 9, 1, 2, 3], None) else { panic!("no reply") };
    assert_eq!((reply.metadata.id, reply.metadata.response_code), (9, ResponseCode::FormErr));
    let response = Message::response(1, OpCode::Query).to_vec().unwrap();
    assert!(plan(&response, None).is_none());
}

#[test]
fn a_long_answer_is_cut_for_udp() {
    let many: Vec<String> = (0..100).map(|i| format!("10.0.0.{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let names: &[(&str, &[&str])] = &[("many", &many)];
    let Some(Plan::Reply(reply)) = plan(&query("many.", RecordType::A), Some(&snapshot(names))) else { panic!() };
    let cut = Message::from_vec(&encode(&reply, Some(UDP_MAX)).unwrap()).unwrap();
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    let whole = Message::from_vec(&encode(&reply, None).unwrap()).unwrap();
    assert_eq!(whole.answers.len(), 100);
}

#[test]
fn names_outside_have_the_resolvers_ttl() {
    let Some(Plan::Ask(reply, name)) = plan(&query("example.com.", RecordType::A), Some(&snapshot(&[]))) else {
        panic!()
    };
    assert_eq!(name, "example.com");
    let found = crate::net::Resolved {
        addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        ttl: std::time::Duration::from_secs(5),
    };
    let reply = outside(*reply, Ok(found));
    assert_eq!(reply.answers.len(), 1);
    assert_eq!(reply.answers[0].ttl, 5);
    assert!(!reply.metadata.authoritative);
}
