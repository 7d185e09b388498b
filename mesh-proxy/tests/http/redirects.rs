//! Section J: direct responses and redirects.

use crate::mesh::Door;
use crate::row::{GET, row};
use crate::upstream::Up;

#[tokio::test]
async fn direct_responses() {
    let text = "[{directResponse: {status: 200, body: {string: hello}}}]";
    let j1 = row("J1", Up::Echo).routes(text).body("hello").log("-", "direct_response");
    j1.has(&["content-type: text/plain", "content-length: 5"]).run().await;
    let j1 = row("J1 HEAD", Up::Echo).routes(text).raw(GET.replace("GET", "HEAD")).log("-", "direct_response");
    j1.has(&["content-type: text/plain", "content-length: 5"]).run().await;
    let typed = "[{directResponse: {status: 200, body: {string: '{}'}}, \
                 headers: {response: {set: {content-type: application/json}}}}]";
    let j1 = row("J1 typed", Up::Echo).routes(typed).body("{}").log("-", "direct_response");
    j1.has(&["content-type: application/json"]).lacks(&["content-type: text/plain"]).run().await;
    for (status, line) in [(204, "204 No Content"), (304, "304 Not Modified")] {
        let routes: &'static str = format!("[{{directResponse: {{status: {status}, body: {{string: text}}}}}}]").leak();
        let j2 = row("J2", Up::Echo).routes(routes).status(line).log("-", "direct_response");
        j2.lacks(&["content-type: text/plain", "content-length: 2"]).run().await;
    }
    let j3 = row("J3", Up::Echo).routes("[{directResponse: {status: 304}}]").status("304 Not Modified");
    j3.has(&["location: http://up.example/x"]).log("-", "direct_response").run().await;
}

#[tokio::test]
async fn locations() {
    let cases = [
        ("J4", "{uri: /n}", "up.example:8080", "http://up.example:8080/n?q=1"),
        ("J5", "{uri: '/n?z=1'}", "up.example:8080", "http://up.example:8080/n?z=1"),
        ("J7", "{authority: h.example}", "up.example:8080", "http://h.example/r/rest?q=1"),
        ("J8", "{authority: h.example, port: 8443}", "up.example:8080", "http://h.example:8443/r/rest?q=1"),
        ("J9", "{scheme: https}", "up.example:8080", "https://up.example:8080/r/rest?q=1"),
        ("J9 443", "{scheme: https}", "up.example:443", "https://up.example:443/r/rest?q=1"),
        ("J10", "{scheme: https}", "up.example:80", "https://up.example/r/rest?q=1"),
        ("J12", "{scheme: https, port: 443}", "up.example:80", "https://up.example/r/rest?q=1"),
    ];
    for (id, redirect, host, location) in cases {
        let routes: &'static str = format!("[{{redirect: {redirect}}}]").leak();
        let raw = format!("GET /r/rest?q=1 HTTP/1.1\r\nhost: {host}\r\n\r\n");
        let seen = row(id, Up::Echo).routes(routes).raw(raw).local("301 Moved Permanently", "");
        let seen = seen.log("-", "direct_response").has(&["content-length: 0"]).tries(0).run().await;
        assert_eq!(seen.answer.header("location"), Some(location), "{id}");
    }
    for (code, status) in
        [(302, "302 Found"), (303, "303 See Other"), (307, "307 Temporary Redirect"), (308, "308 Permanent Redirect")]
    {
        let routes: &'static str = format!("[{{redirect: {{uri: /n, redirectCode: {code}}}}}]").leak();
        let j13 = row("J13", Up::Echo).routes(routes).local(status, "");
        j13.log("-", "direct_response").has(&["location: http://up.example/n"]).run().await;
    }
}

#[tokio::test]
async fn the_scheme_of_a_location() {
    let j11 = row("J11", Up::Echo).door(Door::Outbound).routes("[{redirect: {scheme: http}}]");
    let seen = j11
        .raw("GET /x HTTP/1.1\r\nhost: up.example:443\r\nx-forwarded-proto: https\r\n\r\n")
        .local("301 Moved Permanently", "")
        .log("-", "direct_response")
        .run()
        .await;
    // The listener of port 80 takes it all the same, the port of the host is not looked at.
    assert_eq!(seen.answer.header("location"), Some("http://up.example/x"), "J11");
    let j15 = row("J15", Up::Echo).door(Door::Outbound).routes("[{redirect: {uri: /n}}]");
    let j15 = j15.headers(&["x-forwarded-proto: https"]).local("301 Moved Permanently", "");
    j15.log("-", "direct_response").has(&["location: https://up.example/n"]).run().await;
}
