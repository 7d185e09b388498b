//! curl, wrk and h2load as clients. Those that are not installed are skipped, and named.

use std::net::SocketAddr;
use std::process::Stdio;

use tokio::process::Command;

use super::way::{Path, WAYS};
use super::{grpc, wire};
use crate::settings::proxy_config;
use crate::upstream::{Up, Upstream};

/// What a program says, in both of its streams; `None`: it is not there.
async fn run(program: &str, args: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    match command.output().await {
        Ok(out) => {
            let said = [out.stdout, out.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            assert!(out.status.success(), "{program} {args:?}: {}\n{said}", out.status);
            Some(said)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("SKIPPED: there is no {program}");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

async fn curl(at: SocketAddr, args: &[&str]) -> Option<String> {
    let url = format!("http://{at}/curl?q=1");
    let always = ["-q", "-sS", "-i", "--max-time", "60", "-H", "host: up.example", &url];
    run("curl", &[&always[..], args].concat()).await
}

#[tokio::test]
async fn curl_by_every_version() {
    const ENABLED: &str = proxy_config!("{proxyMetadata: {ISTIO_META_HTTP10: '1'}}");
    let app = wire::start().await;
    // More than 1 MiB: curl waits for `100 Continue` before it sends that much.
    let file = std::env::temp_dir().join(format!("mesh-interop-{}", std::process::id()));
    std::fs::write(&file, "0123456789abcdef".repeat(100_000)).unwrap();
    let upload = format!("@{}", file.display());
    for way in WAYS {
        let path = Path::new(way, "HTTP", app, ENABLED).await;
        let Some(said) = curl(path.at, &[]).await else { break };
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.ends_with("GET /curl?q=1 HTTP/1.1"), "{way:?}: {said}");
        let said = curl(path.at, &["--http1.0"]).await.unwrap();
        assert!(said.starts_with("HTTP/1.0 200 OK\r\n") && said.ends_with("GET /curl?q=1 HTTP/1.1"), "{way:?}: {said}");
        let said = curl(path.at, &["--http2-prior-knowledge", "-d", "a=1"]).await.unwrap();
        assert!(said.starts_with("HTTP/2 200 \r\n") && said.ends_with("POST /curl?q=1 HTTP/1.1a=1"), "{way:?}: {said}");
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let said = curl(path.at, &[version, "--data-binary", &upload, "-H", "expect: 100-continue"]).await.unwrap();
            let (_, body) = said.rsplit_once("\r\n\r\n").unwrap();
            let body = body.strip_prefix("POST /curl?q=1 HTTP/1.1").expect("the request line");
            assert!(
                body.len() == 1_600_000 && body.ends_with("f0123456789abcdef"),
                "{way:?} {version}: {}",
                body.len()
            );
            assert_eq!(said.contains("100 Continue"), version == "--http1.1", "{way:?} {version}");
        }
        let chunked = ["-H", "transfer-encoding: chunked", "-d", "abc"];
        assert!(curl(path.at, &chunked).await.unwrap().ends_with("POST /curl?q=1 HTTP/1.1abc"), "{way:?}");
        let head = curl(path.at, &["-I"]).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{way:?}: {head}");
    }
    std::fs::remove_file(&file).unwrap();
}

#[tokio::test]
async fn wrk_without_an_error() {
    let upstream = Upstream::start(Up::Reply("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")).await;
    for way in WAYS {
        let path = Path::new(way, "HTTP", upstream.at.unwrap(), "").await;
        let url = format!("http://{}/wrk", path.at);
        let Some(said) = run("wrk", &["-t1", "-c8", "-d1s", "-H", "Host: up.example", &url]).await else { return };
        assert!(said.contains(" requests in ") && !said.contains(" 0 requests in "), "{way:?}: {said}");
        assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{way:?}: {said}");
    }
    assert!(upstream.requests() > 0);
}

#[tokio::test]
async fn h2load_without_an_error() {
    let upstream = Upstream::start(Up::Reply("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")).await;
    let grpc = grpc::start().await;
    for way in WAYS {
        for (protocol, app, load) in [
            ("HTTP", upstream.at.unwrap(), &["-n2000", "-c4", "-m10"][..]),
            ("HTTP", upstream.at.unwrap(), &["--h1", "-n2000", "-c4"]),
            ("HTTP2", grpc, &["-n2000", "-c4", "-m10", "-H", "content-type: application/grpc", "-H", "te: trailers"]),
        ] {
            let path = Path::new(way, protocol, app, "").await;
            let url = format!("http://{}/h2load", path.at);
            let args = [load, &["-H", ":authority: up.example", &url]].concat();
            let Some(said) = run("h2load", &args).await else { return };
            assert!(said.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{way:?} {load:?}: {said}");
            assert!(said.contains("status codes: 2000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{way:?} {load:?}: {said}");
        }
    }
}
