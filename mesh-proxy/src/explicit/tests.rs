use super::*;

#[test]
fn a_connect_request_is_taken_apart_only_when_whole() {
    assert_eq!(connect_head(b""), Head::Partial);
    assert_eq!(connect_head(b"CONN"), Head::Partial);
    assert_eq!(connect_head(b"CONNECT db:5432 HTTP/1.1\r\nhost: db:5432\r\n"), Head::Partial);
    let whole = b"CONNECT db:5432 HTTP/1.1\r\nhost: db:5432\r\n\r\nrest";
    assert_eq!(connect_head(whole), Head::Connect("db:5432".into(), whole.len() - 4));
    assert_eq!(connect_head(b"GET http://a/ HTTP/1.1\r\n"), Head::Other);
    assert_eq!(connect_head(b"CONNECT nonsense\r\n\r\n"), Head::Other);
}

#[test]
fn an_authority_is_split() {
    assert_eq!(split_authority("a.b:80", 443), Some(("a.b", 80)));
    assert_eq!(split_authority("a.b", 443), Some(("a.b", 443)));
    assert_eq!(split_authority("[::1]:8080", 80), Some(("::1", 8080)));
    assert_eq!(split_authority("[::1]", 80), Some(("::1", 80)));
    assert_eq!(split_authority("a:b", 80), None);
    assert_eq!(split_authority("[::1]x", 80), None);
}
