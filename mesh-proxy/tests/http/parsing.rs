//! Section O: HTTP/1 parsing.

use crate::row::{GET, row};
use crate::upstream::Up;

#[tokio::test]
async fn refused_requests() {
    let (bad, empty, old) =
        (("400 Bad Request", "Bad Request"), ("400 Bad Request", ""), ("426 Upgrade Required", "Upgrade Required"));
    let dpe = |details| ("DPE", details);
    let of = |line: &str, headers: &str| format!("{line}\r\nhost: up.example\r\n{headers}\r\n");
    let get = |headers: &str| of("GET /x HTTP/1.1", headers);
    let post = |headers: &str| of("POST /x HTTP/1.1", headers);
    let not_implemented = ("501 Not Implemented", "Not Implemented");
    for (id, raw, (status, text), (flags, details)) in [
        ("O1", of("GET /x HTTP/1.0", ""), old, dpe("low_version")),
        ("O1", of("GET /x HTTP/1.2", ""), old, dpe("low_version")),
        ("O1", of("GET /x HTTP/2.0", ""), old, dpe("low_version")),
        ("O1", of("GET /x", ""), old, dpe("low_version")),
        ("O3", "GET /x HTTP/1.1\r\n\r\n".into(), empty, ("-", "missing_host_header")),
        ("O3", get("connection: host\r\n"), empty, ("-", "missing_host_header")),
        ("O5 differs", get("host: other\r\n"), bad, dpe("http.invalid_authority")),
        ("O6", GET.replace("up.example", "a b"), bad, dpe("http.invalid_authority")),
        ("O6", GET.replace("up.example", "a/b"), bad, dpe("http.invalid_authority")),
        ("O6", GET.replace("up.example", "a?b"), bad, dpe("http.invalid_authority")),
        ("O6", GET.replace("up.example", "a#b"), bad, dpe("http.invalid_authority")),
        ("O6", GET.replace("up.example", "a\\b"), bad, dpe("http.invalid_authority")),
        ("O9 differs", of("OPTIONS * HTTP/1.1", ""), ("404 Not Found", ""), ("-", "absolute_path_rejected")),
        ("O10", of("GET * HTTP/1.1", ""), bad, dpe("http1.invalid_url")),
        ("O11", of("GET x HTTP/1.1", ""), bad, dpe("http1.codec_error")),
        ("O11", of("GET  HTTP/1.1", ""), bad, dpe("http1.codec_error")),
        ("O11", of("get /x HTTP/1.1", ""), bad, dpe("http1.codec_error")),
        ("O11", of("FOO /x HTTP/1.1", ""), bad, dpe("http1.codec_error")),
        (
            "O12",
            post("content-length: 1\r\ntransfer-encoding: chunked\r\n"),
            bad,
            dpe("http1.content_length_and_chunked_not_allowed"),
        ),
        ("O13", post("content-length: 3\r\ncontent-length: 3\r\n"), bad, dpe("http1.codec_error")),
        ("O13", post("content-length: 3, 3\r\n"), bad, dpe("http1.codec_error")),
        ("O13", post("content-length: -3\r\n"), bad, dpe("http1.codec_error")),
        ("O13", post("content-length: +3\r\n"), bad, dpe("http1.codec_error")),
        ("O14", post("transfer-encoding: gzip\r\n"), not_implemented, dpe("http1.invalid_transfer_encoding")),
        ("O14", post("transfer-encoding: gzip, chunked\r\n"), not_implemented, dpe("http1.invalid_transfer_encoding")),
        ("O14", post("transfer-encoding: identity\r\n"), not_implemented, dpe("http1.invalid_transfer_encoding")),
        ("O18", get("x-a : 1\r\n"), bad, dpe("http1.codec_error")),
        ("O18", get("x-a\r\n"), bad, dpe("http1.codec_error")),
        ("O18", get(": 1\r\n"), bad, dpe("http1.codec_error")),
        ("O19", get("x-a: a\0b\r\n"), bad, dpe("http1.invalid_characters")),
        ("O23", get("connection: a,b,c,d,e,f,g,h,i,j\r\n"), bad, dpe("http1.connection_header_rejected")),
        ("O23", get("connection: x-forwarded-for\r\n"), bad, dpe("http1.connection_header_rejected")),
        ("O23", get("connection: :path\r\n"), bad, dpe("http1.connection_header_rejected")),
        ("O29", "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03".into(), bad, dpe("http1.codec_error")),
    ] {
        let closes = row(id, Up::Echo).raw(raw).local(status, text).log(flags, details);
        closes.closes().run().await;
    }
}

#[tokio::test]
async fn a_body_that_is_no_chunks() {
    let raw = "POST /x HTTP/1.1\r\nhost: up.example\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\nabc\r\n0\r\n\r\n";
    let o15 = row("O15", Up::Echo).raw(raw).local("400 Bad Request", "Bad Request");
    o15.log("DPE", "http1.codec_error").closes().run().await;
}

#[tokio::test]
async fn large_heads() {
    let text = "Request Header Fields Too Large";
    let big = "a".repeat(61 * 1024);
    for raw in [
        format!("GET /x HTTP/1.1\r\nhost: up.example\r\nx-a: {big}\r\n\r\n"),
        format!("GET /{big} HTTP/1.1\r\nhost: up.example\r\n\r\n"),
    ] {
        let o20 = row("O20", Up::Echo).raw(raw).local("431 Request Header Fields Too Large", text);
        o20.closes().log("DPE", "http1.headers_too_large").run().await;
    }
    let lines = |n| GET.replace("\r\n\r\n", &format!("\r\n{}\r\n", "x-a: 1\r\n".repeat(n)));
    row("O21 100", Up::Echo).raw(lines(99)).run().await;
    let o21 = row("O21", Up::Echo).raw(lines(100)).local("431 Request Header Fields Too Large", text);
    o21.closes().log("DPE", "http1.too_many_headers").run().await;
}

#[tokio::test]
async fn accepted_requests() {
    let o4 = row("O4", Up::Echo).hosts("['*']").raw(GET.replace("up.example", ""));
    o4.run().await;
    for host in ["user@a", "a_b"] {
        row("O7", Up::Echo).hosts("['*']").raw(GET.replace("up.example", host)).run().await;
    }
    let o8 = row("O8", Up::Echo).raw("GET http://up.example/y HTTP/1.1\r\nhost: other\r\n\r\n");
    o8.upstream_has(&["GET /y HTTP/1.1", "host: up.example"]).run().await;
    let o8 = row("O8", Up::Echo).raw("GET http://up.example HTTP/1.1\r\nhost: other\r\n\r\n");
    o8.upstream_has(&["GET / HTTP/1.1"]).run().await;
    for raw in [
        "POST /x HTTP/1.1\r\nhost: up.example\r\ntransfer-encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n",
        "POST /x HTTP/1.1\r\nhost: up.example\r\ntransfer-encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "\r\nGET /x HTTP/1.1\r\nhost: up.example\r\n\r\n",
        "GET /x HTTP/1.1\nhost: up.example\n\n",
        "GET /x HTTP/1.1\r\nhost: up.example\r\nx-a: \u{e9}\r\n\r\n",
    ] {
        row("O16 O19", Up::Echo).raw(raw).run().await;
    }
    row("O17", Up::Echo).headers(&["x-a: 1", " 2"]).upstream_has(&["x-a: 1  2"]).run().await;
    row("O22", Up::Echo).headers(&["x_a: 1"]).upstream_has(&["x_a: 1"]).run().await;
    let o23 = row("O23", Up::Echo).headers(&[
        "connection: x-a, keep-alive",
        "x-a: 1",
        "keep-alive: 5",
        "proxy-connection: x",
    ]);
    o23.upstream_lacks(&["connection", "x-a", "keep-alive", "proxy-connection"]).run().await;
    row("O24", Up::Echo).headers(&["te: trailers"]).upstream_has(&["te: trailers"]).run().await;
    row("O24", Up::Echo).headers(&["te: gzip, trailers"]).upstream_has(&["te: trailers"]).run().await;
    row("O24", Up::Echo).headers(&["te: gzip"]).upstream_lacks(&["te"]).run().await;
    let o27 = row("O27", Up::Echo).raw(GET.replace("GET", "POST"));
    o27.upstream_has(&["content-length: 0"]).run().await;
    row("O27", Up::Echo).raw(GET.replace("GET", "OPTIONS")).upstream_has(&["content-length: 0"]).run().await;
    row("O27", Up::Echo).upstream_lacks(&["content-length"]).run().await;
    let trailers =
        "POST /x HTTP/1.1\r\nhost: up.example\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n";
    row("O26 request", Up::Echo).raw(trailers).upstream_lacks(&["x-t"]).run().await;
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n";
    row("O26 response", Up::Reply(answer)).body("abc").run().await;
    let goes_on = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let expect = "POST /x HTTP/1.1\r\nhost: up.example\r\nexpect: 100-continue\r\ncontent-length: 0\r\n\r\n";
    let seen = row("O25", Up::Reply(goes_on)).raw(expect).run().await;
    assert_eq!(seen.answer.interim.len(), 1, "O25: {:?}", seen.answer);
    row("O25 forwarded", Up::Echo).raw(expect).upstream_has(&["expect: 100-continue"]).run().await;
}

/// A head may come in any pieces. The first read takes 1,024 bytes, so that of these heads what is left is more and more of
/// the empty line, and once its last byte alone.
#[tokio::test]
async fn heads_that_end_in_another_read_than_they_began() {
    for length in 1022..=1031 {
        let begin = "GET /x HTTP/1.1\r\nhost: up.example\r\nx-long: ";
        let head = format!("{begin}{}\r\n\r\n", "y".repeat(length - begin.len() - 4));
        row("a long head", Up::Echo).raw(head).run().await;
    }
}
