use super::*;
use crate::layers::testing::{Seen, answer, call, context_from, fixed, get, scripted, status, with};

fn sidecar() -> SanitizeConfig {
    SanitizeConfig {
        direction: Direction::Outbound,
        server: Some(HeaderValue::from_static("envoy")),
        use_remote_address: false,
        trusted_hops: 0,
        path_normalization: PathNormalization::Base,
        settings: HttpSettings::default(),
        node_address: Some([10, 0, 0, 7].into()),
        env: fixed(0x0123_4567_89ab_cdef),
    }
}

fn gateway() -> SanitizeConfig {
    SanitizeConfig { direction: Direction::Gateway, use_remote_address: true, ..sidecar() }
}

async fn forwarded(config: SanitizeConfig, peer: &str, headers: &[(&str, &str)]) -> (Seen, Arc<Cx>) {
    let cx = context_from(peer);
    let (seen, inner) = scripted(vec![Ok(status(200))]);
    call(&SanitizeLayer::new(config), inner, with(get("/", headers), &cx)).await.unwrap();
    (seen, cx)
}

const PEER: &str = "10.0.0.9:1";

#[tokio::test]
async fn internal_headers_are_stripped_others_kept() {
    // E1, E2, E3
    let stripped = "retry-on retry-grpc-on max-retries upstream-rq-timeout-ms upstream-rq-per-try-timeout-ms \
        upstream-rq-timeout-alt-response expected-rq-timeout-ms upstream-alt-stat-name force-trace ip-tags internal \
        original-url retriable-status-codes retriable-header-names hedge-on-per-try-timeout upstream-stream-duration-ms";
    let edge = "decorator-operation downstream-service-cluster downstream-service-node";
    let kept = "original-path is-timeout-retry original-dst-host peer-metadata unknown";
    for (config, at_edge) in [(sidecar(), false), (gateway(), true)] {
        let names: Vec<_> = [stripped, edge, kept].iter().flat_map(|l| l.split_whitespace()).collect();
        let names: Vec<_> = names.iter().map(|n| format!("x-envoy-{n}")).collect();
        let headers: Vec<_> = names.iter().map(|n| (n.as_str(), "v")).collect();
        let (seen, _) = forwarded(config, PEER, &headers).await;
        for name in names {
            let short = &name["x-envoy-".len()..];
            let gone = stripped.split_whitespace().any(|n| n == short)
                || (at_edge && edge.split_whitespace().any(|n| n == short));
            assert_eq!(seen.header(0, &name).is_none(), gone, "{name} at edge: {at_edge}");
        }
    }
}

#[tokio::test]
async fn request_ids() {
    // M5
    let (seen, cx) = forwarded(sidecar(), PEER, &[]).await;
    let made = "01234567-89ab-4def-8123-456789abcdef";
    assert_eq!(seen.header(0, "x-request-id").unwrap(), made);
    assert_eq!(cx.request_id.get().unwrap(), made);
    let (seen, _) = forwarded(sidecar(), PEER, &[("x-request-id", "abc")]).await;
    assert_eq!(seen.header(0, "x-request-id").unwrap(), "abc");
    let (seen, _) = forwarded(gateway(), PEER, &[("x-request-id", "abc")]).await;
    assert_eq!(seen.header(0, "x-request-id").unwrap(), made);
}

#[tokio::test]
async fn forwarding_headers_of_a_sidecar() {
    // M1, M4
    let (seen, cx) = forwarded(sidecar(), PEER, &[("x-forwarded-for", "1.2.3.4, 5.6.7.8")]).await;
    assert_eq!(seen.header(0, "x-forwarded-for").unwrap(), "1.2.3.4, 5.6.7.8");
    assert_eq!(seen.header(0, "x-forwarded-proto").unwrap(), "http");
    assert_eq!(cx.remote().to_string(), "5.6.7.8:0");
    let (seen, cx) = forwarded(sidecar(), PEER, &[("x-forwarded-for", "x"), ("x-forwarded-proto", "ftp")]).await;
    assert_eq!(seen.header(0, "x-forwarded-proto").unwrap(), "ftp");
    assert_eq!(cx.remote().to_string(), PEER);
    let hops = SanitizeConfig { trusted_hops: 1, ..sidecar() };
    let (_, cx) = forwarded(hops, PEER, &[("x-forwarded-for", "1.2.3.4,5.6.7.8")]).await;
    assert_eq!(cx.remote().to_string(), "1.2.3.4:0");
    let (seen, _) = forwarded(sidecar(), PEER, &[]).await;
    assert_eq!(seen.header(0, "x-forwarded-for"), None);
    assert_eq!(seen.header(0, "x-forwarded-proto").unwrap(), "http");
}

#[tokio::test]
async fn forwarding_headers_of_a_gateway() {
    // M2, M3, E3
    let sent = [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https"), ("x-forwarded-client-cert", "By=x")];
    let (seen, cx) = forwarded(gateway(), PEER, &sent).await;
    assert_eq!(seen.header(0, "x-forwarded-for").unwrap(), "1.2.3.4,10.0.0.9");
    assert_eq!(seen.header(0, "x-forwarded-proto").unwrap(), "http");
    assert_eq!(seen.header(0, "x-envoy-external-address").unwrap(), "10.0.0.9");
    assert_eq!(seen.header(0, "x-forwarded-client-cert"), None);
    assert_eq!(cx.remote().to_string(), PEER);
    let (seen, _) = forwarded(gateway(), "127.0.0.1:5", &[]).await;
    assert_eq!(seen.header(0, "x-forwarded-for").unwrap(), "10.0.0.7");
    let hops = SanitizeConfig { trusted_hops: 1, ..gateway() };
    let (seen, cx) = forwarded(hops, PEER, &sent).await;
    assert_eq!(seen.header(0, "x-envoy-external-address").unwrap(), "1.2.3.4");
    assert_eq!(seen.header(0, "x-forwarded-proto").unwrap(), "https");
    assert_eq!(cx.remote().to_string(), "1.2.3.4:0");
}

#[tokio::test]
async fn hop_by_hop_headers_end_here() {
    // O23, O24
    let sent =
        [("connection", "x-a, keep-alive"), ("x-a", "1"), ("x-b", "1"), ("keep-alive", "1"), ("te", "gzip, trailers")];
    let (seen, _) = forwarded(sidecar(), PEER, &sent).await;
    for (name, wanted) in
        [("connection", None), ("x-a", None), ("keep-alive", None), ("x-b", Some("1")), ("te", Some("trailers"))]
    {
        assert_eq!(seen.header(0, name).as_deref(), wanted, "{name}");
    }
    let (seen, _) = forwarded(sidecar(), PEER, &[("te", "gzip")]).await;
    assert_eq!(seen.header(0, "te"), None);
    let (seen, _) = forwarded(sidecar(), PEER, &[("connection", "Upgrade"), ("upgrade", "websocket")]).await;
    assert_eq!(seen.header(0, "upgrade").unwrap(), "websocket");
}

async fn refused(headers: &[(&str, &str)]) -> (u16, String) {
    let cx = context_from(PEER);
    let (seen, inner) = scripted(vec![Ok(status(200))]);
    let response = call(&SanitizeLayer::new(sidecar()), inner, with(get("/", headers), &cx)).await.unwrap();
    assert_eq!((seen.count(), response.headers()["connection"].to_str().unwrap()), (0, "close"));
    (response.status().as_u16(), cx.details.get().unwrap().clone())
}

#[tokio::test]
async fn what_connection_may_not_name() {
    // O3, O23, P
    let rejected = (400, "http1.connection_header_rejected".to_owned());
    for value in ["x-forwarded-for", ":path", "a,b,c,d,e,f,g,h,i,j"] {
        assert_eq!(refused(&[("connection", value)]).await, rejected, "{value}");
    }
    assert_eq!(refused(&[("connection", "host")]).await, (400, "missing_host_header".to_owned()));
    assert_eq!(refused(&[("connection", "upgrade"), ("upgrade", "foo")]).await, (403, "upgrade_failed".to_owned()));
}

#[tokio::test]
async fn responses() {
    // L6, L7
    let headers = [("server", "app"), ("connection", "x-a"), ("x-a", "1"), ("keep-alive", "1"), ("date", "then")];
    let (_, inner) = scripted(vec![Ok(answer(200, &headers))]);
    let response = call(&SanitizeLayer::new(sidecar()), inner, get("/", &[])).await.unwrap();
    let headers = response.headers();
    assert_eq!(
        (&headers["server"], &headers["date"], &headers["x-a"]),
        (&"envoy".parse().unwrap(), &"then".parse().unwrap(), &"1".parse().unwrap())
    );
    assert!(!headers.contains_key("connection") && !headers.contains_key("keep-alive"));
    let (_, inner) = scripted(vec![Ok(answer(200, &[("server", "app")]))]);
    let passes = SanitizeConfig { server: None, ..sidecar() };
    assert_eq!(call(&SanitizeLayer::new(passes), inner, get("/", &[])).await.unwrap().headers()["server"], "app");
}

#[tokio::test]
async fn paths_are_normalized() {
    // K1
    let (seen, inner) = scripted(vec![Ok(status(200))]);
    call(&SanitizeLayer::new(sidecar()), inner, get("/a/../%41//b?q=%41", &[])).await.unwrap();
    assert_eq!(seen.target(), "/A//b?q=%41");
}
