use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn at(line: u32) -> Span {
    Span { line, column: 1 }
}

#[test]
fn in_text_they_are_a_map() {
    let spans: Spans =
        [("spec.b", at(2)), ("spec", at(1)), ("spec.headers[\"x.y\"]", at(3)), ("spec.b", at(4))].into_iter().collect();
    let json = serde_json::to_value(&spans).unwrap();
    assert_eq!(json["spec.headers[\"x.y\"]"]["line"], 3);
    assert_eq!(json["spec.b"]["line"], 4, "the last one counts");
    assert_eq!(json.as_object().unwrap().len(), 3);
    assert_eq!(serde_json::from_str::<Spans>(&json.to_string()).unwrap(), spans);
    assert!(!spans.contains("spe") && !spans.contains("spec.") && !spans.contains("z"));
    assert!(Spans::default().is_empty() && Spans::default().get("").is_none());
}

proptest! {
    #[test]
    fn as_a_map(all in proptest::collection::vec(("[a-c.]{0,4}", any::<u32>()), 0..12), ask in "[a-c.]{0,4}") {
        let map: BTreeMap<String, Span> = all.iter().map(|(path, line)| (path.clone(), at(*line))).collect();
        let spans: Spans = all.iter().map(|(path, line)| (path, at(*line))).collect();
        prop_assert_eq!(spans.get(&ask), map.get(&ask).copied());
        let list = |from: &str| map.range(from.to_owned()..).map(|(p, s)| (p.clone(), *s)).collect::<Vec<_>>();
        prop_assert_eq!(spans.iter().map(|(p, s)| (p.to_owned(), s)).collect::<Vec<_>>(), list(""));
        prop_assert_eq!(spans.since(&ask).map(|(p, s)| (p.to_owned(), s)).collect::<Vec<_>>(), list(&ask));
    }
}
