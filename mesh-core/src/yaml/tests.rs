use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::{AccessLogEncoding, Object, OutboundTrafficPolicyMode, Resource, kube};

fn value(text: &str) -> Value {
    let (mut documents, errors) = documents(text);
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(documents.len(), 1);
    documents.remove(0).value
}

fn error(text: &str) -> SyntaxError {
    let (documents, mut errors) = documents(text);
    assert!(documents.is_empty(), "{documents:?}");
    errors.remove(0)
}

#[test]
fn scalars_as_kubectl_reads_them() {
    let cases = [
        ("yes", json!(true)),
        ("Off", json!(false)),
        ("n", json!(false)),
        ("~", Value::Null),
        ("012", json!(10)),
        ("08", json!(8)),
        ("0x1F", json!(31)),
        ("0b11", json!(3)),
        ("1_000", json!(1000)),
        ("-5", json!(-5)),
        ("+5", json!(5)),
        ("1.50", json!(1.5)),
        ("1e3", json!(1000)),
        (".5", json!(0.5)),
        ("1.2.3", json!("1.2.3")),
        ("1:30", json!("1:30")),
        ("2001-12-14", json!("2001-12-14")),
        ("1s", json!("1s")),
        ("-", json!([null])),
        (".", json!(".")),
        (".inf", json!(".inf")),
        ("'yes'", json!("yes")),
        ("!!str 5", json!("5")),
        ("! yes", json!("yes")),
        ("!!int 5", json!(5)),
        ("18446744073709551615", json!(u64::MAX)),
        ("-9223372036854775808", json!(i64::MIN)),
    ];
    for (text, expected) in cases {
        assert_eq!(value(&format!("a: {text}\n").replace("a: -\n", "a:\n-\n"))["a"], expected, "{text}");
    }
    assert_eq!(value("80: a\nyes: b\n"), json!({"80": "a", "true": "b"}));
}

#[test]
fn places_of_fields() {
    let (documents, _) = documents("# c\na:\n  - b: 1\n    \"x.y\": {c: 2}\n---\n\n# empty\n---\nd: |\n  text\n");
    let spans = |i: usize, path: &str| documents[i].spans.get(path).map(|s| (s.line, s.column));
    assert_eq!(spans(0, "a"), Some((2, 1)));
    assert_eq!(spans(0, "a[0]"), Some((3, 5)));
    assert_eq!(spans(0, "a[0].b"), Some((3, 5)));
    assert_eq!(spans(0, "a[0][\"x.y\"]"), Some((4, 5)));
    assert_eq!(spans(0, "a[0][\"x.y\"].c"), Some((4, 13)));
    assert_eq!((documents.len(), documents[1].index), (2, 1));
    assert_eq!(spans(1, "d"), Some((9, 1)));
}

#[test]
fn a_broken_document_does_not_take_others_with_it() {
    let (documents, errors) = documents("a: 1\n---\nb: [1\n--- \nc: 'x\n---\nd: 4\n");
    let values: Vec<_> = documents.iter().map(|d| (d.index, d.value.clone())).collect();
    assert_eq!(values, [(0, json!({"a": 1})), (3, json!({"d": 4}))]);
    assert_eq!(errors.iter().map(|e| e.index).collect::<Vec<_>>(), [1, 2]);
    assert!(errors[0].span.line >= 3 && errors[0].span.line <= 4);
}

#[test]
fn directives_belong_to_the_document_after_them() {
    assert_eq!(value("%YAML 1.1\n# c\n---\na: 1\n"), json!({"a": 1}));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let duplicate = error("a: 1\nb: 2\na: 3\n");
    assert!(duplicate.message.contains("first on line 1, again on line 3"), "{}", duplicate.message);
    assert_eq!((duplicate.span.line, duplicate.span.column), (3, 1));
    let tab = error("a:\n\tb: 1\n");
    assert_eq!(tab.span.line, 2);
    assert!(tab.fix.is_some(), "{tab:?}");
    assert!(error("a: !foo 1\n").message.contains("!foo"));
    assert!(error("a: !!int x\n").message.contains("an integer"));
    assert!(error("? [a]\n: b\n").message.contains("key"));
    assert!(error("a: *x\n").message.contains("invalid YAML"));
}

#[test]
fn anchors_and_merge_keys() {
    let text = "base: &b {x: 1, w: 2}\nother: &o {w: 3, z: 4}\na: {<<: *b, w: 5}\nb: {<<: [*b, *o]}\nc: *b\n";
    let v = value(text);
    assert_eq!(v["a"], json!({"x": 1, "w": 5}));
    assert_eq!(v["b"], json!({"x": 1, "w": 2, "z": 4}));
    assert_eq!(v["c"], v["base"]);
    assert_eq!(value("'<<': 1"), json!({"<<": 1}));
    assert!(error("a: {<<: 1}").message.contains("merge"));
}

#[test]
fn bombs_are_defused() {
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..10 {
        let aliases = vec![format!("*a{}", i - 1); 10].join(", ");
        laughs.push_str(&format!("a{i}: &a{i} [{aliases}]\n"));
    }
    assert!(error(&laughs).message.contains("aliases"));
    assert!(error(&"- ".repeat(5000)).message.contains("nesting"));
    for deep in ["[".repeat(5000), "{a: ".repeat(5000), "[".repeat(200) + &"]".repeat(200)] {
        assert_eq!(documents(&deep).0.len(), 0);
    }
}

#[test]
fn json_crlf_and_byte_order_marks() {
    assert_eq!(value("{\n\t\"a\": \"\\ud83d\\ude00\"\n}"), json!({"a": "😀"}));
    assert_eq!(value("\u{feff}a: 1\r\nb:\r\n- c\r\n"), json!({"a": 1, "b": ["c"]}));
    assert_eq!(value("{\"a\": [1, {\"b\": null}]}"), json!({"a": [1, {"b": null}]}));
    assert_eq!(documents("").0.len() + documents("# only\n---\n---\n").0.len(), 0);
}

fn mesh_map(mesh: &str) -> std::sync::Arc<Object<kube::ConfigMap>> {
    let text = mesh.lines().map(|l| format!("    {l}\n")).collect::<String>();
    let text = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio}}\ndata:\n  mesh: |\n{text}");
    match read("m.yaml", &text).0.remove(0) {
        Resource::ConfigMap(map) => map,
        other => panic!("{other:?}"),
    }
}

#[test]
fn mesh_settings_are_merged_into_the_defaults() {
    let text = "access_log_file: /dev/stdout\naccessLogEncoding: JSON\nenableTracing: false\nunheard: 1\ndefaultConfig:\n  \
                statusPort: 5\n  proxyMetadata: {A_b: c}\n";
    let (config, reports) = mesh_config(&mesh_map(text)).unwrap();
    assert_eq!((&*config.access_log_file, config.access_log_encoding), ("/dev/stdout", AccessLogEncoding::Json));
    assert!(!config.enable_tracing);
    let proxy = config.default_config.unwrap();
    assert_eq!((proxy.status_port, proxy.proxy_admin_port, &*proxy.proxy_metadata["A_b"]), (5, 15000, "c"));
    assert_eq!(config.outbound_traffic_policy.unwrap().mode, OutboundTrafficPolicyMode::AllowAny);
    assert_eq!((&*reports[0].field, reports[0].span.line), ("data.mesh.unheard", 9));
    let (empty, _) = mesh_config(&mesh_map("outboundTrafficPolicy: {}")).unwrap();
    assert_eq!(empty.outbound_traffic_policy.unwrap().mode, OutboundTrafficPolicyMode::RegistryOnly);
    let wrong = mesh_config(&mesh_map("rootNamespace: a\nconnectTimeout: 5")).unwrap_err();
    assert_eq!((&*wrong[0].field, wrong[0].span.line), ("data.mesh.connectTimeout", 7));
}

#[test]
fn written_as_kubectl_writes() {
    let v = json!({"a": {"b": [{"c": "1", "d": 2}, "x y"], "e": {}, "f": [], "g": "yes", "h": "l1\nl2\n"}, "n": null,
        "addr": "10.0.0.1", "d": "1.5s", "host": "*.com", "v": "1.10", "neg": "-5", "hex": "0x10"});
    let text = "a:\n  b:\n  - c: \"1\"\n    d: 2\n  - x y\n  e: {}\n  f: []\n  g: \"yes\"\n  h: |\n    l1\n    l2\naddr: 10.0.0.1\n\
                d: 1.5s\nhex: \"0x10\"\nhost: \"*.com\"\n\"n\": null\nneg: \"-5\"\nv: \"1.10\"\n";
    assert_eq!(to_yaml(&v), text);
    assert_eq!(value(text), v);
}

fn any_json() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[ -~]{0,12}",
        "(yes|no|on|null|~|-|---|\\.\\.\\.|0x1|012|1e3|1_0|\\?|:|#|&a|\\*a|!x|%|@|<<|=|\\.5|2001-01-01)",
        "[a-z \n\t:#'\"-]{0,20}",
        any::<String>(),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|n| json!(n)),
        any::<u64>().prop_map(|n| json!(n)),
        (-1_000_000i32..1_000_000).prop_map(|n| json!(f64::from(n) / 64.0 + 0.001)),
        text.clone().prop_map(Value::String),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::btree_map(text.clone(), inner, 0..5).prop_map(|m| json!(m)),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back(v in any_json()) {
        let text = to_yaml(&v);
        let (documents, errors) = documents(&text);
        prop_assert!(errors.is_empty(), "{errors:?} in\n{text}");
        let read = documents.into_iter().next().map_or(Value::Null, |d| d.value);
        prop_assert_eq!(read, v, "{}", text);
    }

    #[test]
    fn json_text_reads_as_json(v in any_json()) {
        let text = serde_json::to_string_pretty(&v).unwrap();
        let (documents, errors) = documents(&text);
        prop_assert!(errors.is_empty(), "{errors:?} in\n{text}");
        prop_assert_eq!(documents.into_iter().next().map_or(Value::Null, |d| d.value), v);
    }

    #[test]
    fn any_text_is_read_without_panic(text in any::<String>()) {
        read("f", &text);
    }

    #[test]
    fn any_yaml_like_text_is_read_without_panic(text in "([ \t]{0,4}|- |\\? |: |a: |&a |\\*a|<<: |---\n|\\.\\.\\.\n|\\||>|[{}\\[\\],]|'|\"|#|%|!|!!str |\n|x|\r|1){0,60}") {
        read("f", &text);
    }

    #[test]
    fn every_path_of_a_document_has_a_place(v in any_json()) {
        for document in documents(&to_yaml(&v)).0 {
            prop_assert!(document.spans.iter().all(|(_, s)| s.line > 0 && s.column > 0));
        }
    }
}

#[test]
fn objects_with_the_same_fields_have_the_same_paths_once() {
    let one = |name: &str| format!("kind: A\nmetadata: {{name: {name}}}\n---\n");
    let (documents, _) = documents(&(one("a") + &one("b") + "kind: A\n"));
    let same = |a: usize, b: usize| documents[a].spans.shares_paths(&documents[b].spans);
    assert!(same(0, 1) && !same(0, 2));
    let line = |i: usize| documents[i].spans.get("metadata.name").map(|s| s.line);
    assert_eq!((line(0), line(1), line(2)), (Some(2), Some(5), None));
}
