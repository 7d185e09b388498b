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
    let says = |text: &str| HeaderValueTemplate::parse(text).unwrap_err();
    let unknown = says("a %DOWNSTREAM_REMOTE_IP% b");
    assert!(
        unknown.contains("%DOWNSTREAM_REMOTE_IP%, which is no operator; write %DOWNSTREAM_REMOTE_PORT% or"),
        "{unknown}"
    );
    assert!(says("%NOSUCH%").contains("%% for a percent sign"));
    assert!(says("50% off").contains("unbalanced %; write %%"));
    assert!(says("%REQ(x):y%").contains("no number"));
    assert!(matches!(HeaderValueTemplate::parse("50%% off").unwrap(), HeaderValueTemplate::Literal(_)));
}

#[test]
fn operators_without_a_value_are_known() {
    let empty = |text: &str| {
        let template = HeaderValueTemplate::parse(text).unwrap();
        template.always_empty().into_iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(empty("%FILTER_STATE(x)% %REQ(a)% %DURATION%"), ["FILTER_STATE", "DURATION"]);
    assert!(empty("%START_TIME(%Y-%m-%d)% %HOSTNAME% %PROTOCOL% %UPSTREAM_HOST%").is_empty());
}

#[test]
fn fixed_values_are_put_in() {
    let template = HeaderValueTemplate::parse("%HOSTNAME%:%ENVIRONMENT(POD):2%:%REQ(x)%").unwrap();
    let fixed = template.with_fixed(|name, argument| match name {
        "HOSTNAME" => Some("h".into()),
        "ENVIRONMENT" => Some(format!("{argument}-1")),
        _ => None,
    });
    let value = fixed.render(|name, argument| Some(format!("{name} {argument}")));
    assert_eq!(value.unwrap(), "h:PO:REQ x");
}

#[test]
fn display_is_what_was_parsed() {
    for text in ["plain", "100%%", "a %REQ(x-a)% 5%% b", "%REQ(x-a):3%", "%PROTOCOL%"] {
        assert_eq!(HeaderValueTemplate::parse(text).unwrap().to_string(), text);
    }
}
