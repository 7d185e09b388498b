use super::*;

#[test]
fn durations_as_go_reads_them() {
    let ms = |text: &str| text.parse::<Duration>().map(|d| d.0.as_micros());
    assert_eq!(ms("1.5s"), Ok(1_500_000));
    assert_eq!(ms("1h15m"), Ok(4_500_000_000));
    assert_eq!(ms("100ms"), Ok(100_000));
    assert_eq!(ms(".5ms"), Ok(500));
    assert_eq!(ms("0"), Ok(0));
    assert_eq!(ms("1us"), Ok(1));
    assert_eq!(ms("1µs"), Ok(1));
    for wrong in ["", "5", "s", "1.5", "-1s", "1 s", "1d", ".s", "99999999999h"] {
        assert!(wrong.parse::<Duration>().is_err(), "{wrong}");
    }
}

#[test]
fn durations_are_written_in_seconds() {
    for (text, out) in
        [("100ms", "0.100s"), ("1m30s", "90s"), ("0", "0s"), ("1us", "0.000001s"), ("1ns", "0.000000001s")]
    {
        assert_eq!(text.parse::<Duration>().unwrap().to_string(), out);
    }
}

#[test]
fn string_matches() {
    let read = |text: &str| serde_json::from_str::<StringMatch>(text);
    assert_eq!(read(r#"{"exact":"a"}"#).unwrap(), StringMatch::Exact("a".into()));
    assert_eq!(read(r#"{"exact":""}"#).unwrap(), StringMatch::Exact(String::new()));
    assert_eq!(read("{}").unwrap(), StringMatch::Present);
    assert!(read(r#"{"exact":"a","prefix":"b"}"#).unwrap_err().to_string().contains("At most one of"));
    assert!(read("null").is_err());
    assert!(StringMatch::Regex("*".into()).is_presence());
    for m in [StringMatch::Exact("x".into()), StringMatch::Prefix("/".into()), StringMatch::Present] {
        assert_eq!(read(&serde_json::to_string(&m).unwrap()).unwrap(), m);
    }
}
