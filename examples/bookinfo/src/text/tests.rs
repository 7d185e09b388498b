use super::*;

#[test]
fn markup_becomes_text() {
    assert_eq!(escape("<b a=\"x\" c='y'>&amp;</b>"), "&lt;b a=&quot;x&quot; c=&#39;y&#39;&gt;&amp;amp;&lt;/b&gt;");
    assert_eq!(escape("Grüße ★"), "Grüße ★");
}

#[test]
fn percent_coding_round_trips() {
    for text in ["", "jason", "a b;c=d,e\"f", "Jürgen ★", "100%", "\r\nset-cookie: x"] {
        let coded = percent_encode(text);
        assert!(coded.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)), "{coded}");
        assert_eq!(percent_decode(&coded), text);
    }
    assert_eq!(percent_decode("%zz%4"), "%zz%4");
    assert_eq!(percent_decode("%ff"), "\u{fffd}");
}

#[test]
fn form_fields_are_decoded() {
    let body = "passwd=p&username=Mary+Ann%26Co&username=second";
    assert_eq!(form_field(body, "username").as_deref(), Some("Mary Ann&Co"));
    assert_eq!(form_field(body, "user"), None);
    assert_eq!(form_field("username", "username").as_deref(), Some(""));
}
