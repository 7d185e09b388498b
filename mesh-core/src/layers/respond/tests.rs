use std::sync::atomic::Ordering;

use http::{HeaderValue, Method, Version};

use super::*;
use crate::layers::testing::{answer, call, context, get, read, scripted, with};

fn layer() -> RespondLayer {
    RespondLayer::new(HeaderValue::from_static("envoy"))
}

struct Got {
    status: u16,
    body: String,
    headers: HeaderMap,
    flags: String,
    details: String,
}

async fn respond_to(error: Error, request: Request, attempts: u32) -> Got {
    let cx = context();
    cx.attempts.store(attempts, Ordering::Relaxed);
    let (_, inner) = scripted(vec![Err(error)]);
    let mut response = call(&layer(), inner, with(request, &cx)).await.unwrap();
    let body = read(response.body_mut()).await.0;
    Got {
        status: response.status().as_u16(),
        body,
        headers: response.headers().clone(),
        flags: Flag::names(cx.flags.load(Ordering::Relaxed)),
        details: cx.details.get().cloned().unwrap_or_default(),
    }
}

#[tokio::test]
async fn each_kind_of_error_has_envoys_reply() {
    use ErrorKind::*;
    let reset = "upstream connect error or disconnect/reset before headers. reset reason: ";
    let rows: &[(ErrorKind, u16, &str, &str, &str)] = &[
        (NoRoute, 404, "", "NR", "route_not_found"),
        (NoCluster, 503, "", "NC", "cluster_not_found"),
        (NoHealthyUpstream, 503, "no healthy upstream", "UH", "no_healthy_upstream"),
        (DnsFailure, 503, "DNS resolution failure", "DF", "dns_resolution_failure"),
        (ConnectFailure, 503, "~remote connection failure", "UF", "~remote_connection_failure"),
        (ConnectTimeout, 503, "~connection timeout", "UF", "~connection_timeout"),
        (ConnectionTermination, 503, "~connection termination", "UC", "~connection_termination"),
        (RemoteReset, 503, "~remote reset", "UR", "~remote_reset"),
        (RefusedStream, 503, "~remote refused stream reset", "UR", "~remote_refused_stream_reset"),
        (UpstreamProtocol, 502, "~protocol error", "UPE", "~protocol_error"),
        (LocalReset, 503, "~local reset", "LR", "~local_reset"),
        (Overflow, 503, "~overflow", "UO", "~overflow"),
        (Timeout, 504, "upstream request timeout", "UT", "response_timeout"),
        (PerTryTimeout, 504, "upstream request timeout", "UT", "upstream_per_try_timeout"),
        (RequestTimeout, 408, "request timeout", "-", "request_overall_timeout"),
        (StreamDuration, 504, "downstream duration timeout", "-", "max_duration_timeout"),
        (IdleTimeout, 504, "stream timeout", "SI", "stream_idle_timeout"),
        (DownstreamGone, 400, "", "DC", "downstream_remote_disconnect"),
        (DownstreamProtocol, 400, "Bad Request", "DPE", "http1.codec_error"),
        (PayloadTooLarge, 413, "Payload Too Large", "-", "request_payload_too_large"),
    ];
    for (kind, status, body, flags, details) in rows {
        let got = respond_to(Error::new(*kind), get("/", &[]), 1).await;
        let body = body.strip_prefix('~').map_or((*body).to_owned(), |word| format!("{reset}{word}"));
        let braces = |word| format!("upstream_reset_before_response_started{{{word}}}");
        let details = details.strip_prefix('~').map_or((*details).to_owned(), braces);
        assert_eq!((got.status, &got.body, &*got.flags), (*status, &body, *flags), "{kind:?}");
        assert_eq!(got.details, details, "{kind:?}");
        assert_eq!(got.headers["server"], "envoy");
        assert_eq!(got.headers["content-length"], body.len().to_string(), "{kind:?}");
        assert_eq!(got.headers.contains_key("content-type"), !body.is_empty(), "{kind:?}");
        assert_eq!(got.headers.contains_key("x-envoy-overloaded"), *kind == Overflow, "{kind:?}");
        assert_eq!(got.headers.contains_key("connection"), *kind == DownstreamProtocol, "{kind:?}");
    }
}

#[tokio::test]
async fn a_reset_after_retries_says_so() {
    // A7: 121 bytes.
    let got = respond_to(Error::new(ErrorKind::ConnectFailure), get("/", &[]), 3).await;
    assert_eq!(got.body.len(), 121);
    assert!(got.body.contains("retried and the latest reset reason: remote connection failure"), "{}", got.body);
    // C3: a timeout has no such wording.
    let got = respond_to(Error::new(ErrorKind::PerTryTimeout), get("/", &[]), 3).await;
    assert_eq!(got.body, "upstream request timeout");
}

#[tokio::test]
async fn the_cause_is_in_the_details_not_in_the_body() {
    // A6
    let error = Error::new(ErrorKind::ConnectFailure).because(std::io::Error::other("delayed connect error: Refused"));
    let got = respond_to(error, get("/", &[]), 1).await;
    assert_eq!(got.body.len(), 98);
    let wanted = "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Refused}";
    assert_eq!(got.details, wanted);
}

#[tokio::test]
async fn grpc_clients_get_trailers_only() {
    let grpc = || get("/", &[("content-type", "application/grpc+proto")]);
    for (kind, code, message) in [
        (ErrorKind::NoRoute, "12", None),
        (ErrorKind::DownstreamProtocol, "13", Some("Bad Request")),
        (ErrorKind::Timeout, "14", Some("upstream request timeout")),
        (ErrorKind::NoHealthyUpstream, "14", Some("no healthy upstream")),
        (ErrorKind::StreamDuration, "4", Some("downstream duration timeout")),
        (ErrorKind::PayloadTooLarge, "2", Some("Payload Too Large")),
    ] {
        let got = respond_to(Error::new(kind), grpc(), 1).await;
        assert_eq!((got.status, &*got.body), (200, ""), "{kind:?}");
        assert_eq!(got.headers["grpc-status"], code, "{kind:?}");
        assert_eq!(got.headers.get("grpc-message").map(|m| m.to_str().unwrap()), message, "{kind:?}");
        assert_eq!(got.headers["content-type"], "application/grpc");
        assert_eq!(got.headers["content-length"], "0");
    }
    // Q11
    for other in ["application/grpc-web", "application/grpc;x", "Application/GRPC"] {
        let got = respond_to(Error::new(ErrorKind::NoRoute), get("/", &[("content-type", other)]), 1).await;
        assert_eq!(got.status, 404, "{other}");
    }
    // Q12
    assert_eq!(grpc_message("a b%\n\u{e9}".as_bytes()), "a b%25%0A%C3%A9");
}

#[tokio::test]
async fn head_has_no_length_without_a_text() {
    // A2
    let head = || {
        let mut request = get("/", &[]);
        *request.method_mut() = Method::HEAD;
        request
    };
    let got = respond_to(Error::new(ErrorKind::NoRoute), head(), 1).await;
    assert_eq!(got.headers["transfer-encoding"], "chunked");
    assert!(!got.headers.contains_key("content-length"));
    let got = respond_to(Error::new(ErrorKind::NoHealthyUpstream), head(), 1).await;
    assert_eq!(got.headers["content-length"], "19");
    // HTTP/2 needs neither.
    let mut http2 = head();
    *http2.version_mut() = Version::HTTP_2;
    let got = respond_to(Error::new(ErrorKind::NoRoute), http2, 1).await;
    assert!(!got.headers.contains_key("transfer-encoding") && !got.headers.contains_key("content-length"));
}

#[tokio::test]
async fn upstream_answers_pass_unchanged_local_replies_are_finished() {
    // Q13
    let (_, inner) = scripted(vec![Ok(answer(503, &[("server", "app")]))]);
    let response = call(&layer(), inner, get("/", &[("content-type", "application/grpc")])).await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers().len()), (503, 1));

    let cx = context();
    let denied = crate::layers::testing::service(|request: Request| async move {
        let cx = request.extensions().get::<Arc<Cx>>().cloned();
        let reply = LocalReply::new(StatusCode::FORBIDDEN, "RBAC: access denied", "rbac_access_denied");
        Ok(reply.flagged(Flag::Uaex).closing().into_response(cx.as_deref()))
    });
    let request = with(get("/", &[("content-type", "application/grpc")]), &cx);
    let response = call(&layer(), denied, request).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "7");
    assert_eq!(response.headers()["grpc-message"], "RBAC: access denied");
    assert_eq!(response.headers()["connection"], "close");
    assert_eq!(Flag::names(cx.flags.load(Ordering::Relaxed)), "UAEX");
}

#[tokio::test]
async fn a_reply_that_can_have_no_body_has_none() {
    for (status, length) in [(StatusCode::NO_CONTENT, None), (StatusCode::NOT_MODIFIED, Some("0"))] {
        for body in ["", "text"] {
            let reply = crate::layers::testing::service(move |_| async move {
                Ok(LocalReply::new(status, body, "direct_response").into_response(None))
            });
            let response = call(&layer(), reply, get("/", &[])).await.unwrap();
            let said = response.headers().get("content-length").map(|v| v.to_str().unwrap());
            assert_eq!((said, response.body().is_empty()), (length, true), "{status} {body}");
            assert!(!response.headers().contains_key("content-type"));
        }
    }
}

#[tokio::test]
async fn a_redirect_of_a_grpc_request_says_where() {
    let script = crate::layers::testing::service(move |_| {
        let reply = LocalReply::new(StatusCode::FOUND, "", "direct_response");
        async move { Ok(reply.located(HeaderValue::from_static("http://b/")).into_response(None)) }
    });
    let request = get("/", &[("content-type", "application/grpc")]);
    let response = call(&layer(), script, with(request, &context())).await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["grpc-status"]), (200, &HeaderValue::from_static("2")));
    assert_eq!(response.headers()["location"], "http://b/");
}
