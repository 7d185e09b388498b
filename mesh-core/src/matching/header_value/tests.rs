use super::*;

fn render(text: &str) -> Option<String> {
    let resolve = |name: &str, arg: &str| match (name, arg) {
        ("REQ", "x-a") => Some("value".to_owned()),
        ("PROTOCOL", "") => Some("HTTP/1.1".to_owned()),
        _ => None,
    };
    let value = HeaderValueTemplate::parse(text).unwrap().render(resolve)?;
    Some(value.to_str().unwrap().to_owned())
}

#[test]
fn l4_operators() {
    assert_eq!(render("plain").as_deref(), Some("plain"));
    assert_eq!(render("100%%").as_deref(), Some("100%"));
    assert_eq!(render("a %REQ(x-a)% b").as_deref(), Some("a value b"));
    assert_eq!(render("%REQ(x-a):3%").as_deref(), Some("val"));
    assert_eq!(render("%PROTOCOL%").as_deref(), Some("HTTP/1.1"));
    assert_eq!(render("<%REQ(nope)%>").as_deref(), Some("<>"), "empty inside text");
    assert_eq!(render("%REQ(nope)%"), None, "an empty value is not added");
    assert_eq!(render(""), Some(String::new()), "a literal empty value is a value");
}

#[test]
fn wrong_ones_are_refused() {
    for text in ["%", "50% off", "%REQ(x%", "%NOSUCH%", "%req(x)%", "a\nb", "a\0"] {
        let error = HeaderValueTemplate::parse(text).expect_err(text);
        assert!(error.starts_with("header value configuration"), "{error}");
    }
    assert!(matches!(HeaderValueTemplate::parse("50%% off").unwrap(), HeaderValueTemplate::Literal(_)));
}
