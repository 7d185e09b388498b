//! Section P: upgrades and CONNECT.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::mesh::{Config, DEFAULT, Mesh, details, flags};
use crate::row::{Answer, row};
use crate::settings::proxy_config;
use crate::upstream::{Up, Upstream};

const WEBSOCKET: &[&str] = &["connection: Upgrade", "upgrade: websocket", "sec-websocket-key: k"];

#[tokio::test]
async fn a_websocket() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nx-a: 1\r\n\r\n";
    let upstream = Upstream::start(Up::Tunnel(switch)).await;
    let mut mesh = Mesh::start(&DEFAULT, upstream.at).await;
    let mut client = mesh.connect().await;
    let head = format!("GET /x HTTP/1.1\r\nhost: up.example\r\n{}\r\n\r\n", WEBSOCKET.join("\r\n"));
    client.write_all(head.as_bytes()).await.unwrap();
    let answer = Answer::read(&mut client, false).await;
    assert_eq!(answer.status, "101 Switching Protocols", "P1");
    for line in ["upgrade: websocket", "connection: Upgrade", "x-a: 1"] {
        assert!(answer.headers.iter().any(|h| h.eq_ignore_ascii_case(line)), "P1: {line}: {answer:?}");
    }
    client.write_all(b"ping").await.unwrap();
    let mut back = [0; 4];
    client.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"ping", "P1");
    drop(client);
    let record = mesh.record().await;
    assert_eq!(record.http.as_ref().and_then(|h| h.status).map(|s| s.as_u16()), Some(101), "P1");
    assert_eq!((&*flags(&record), &*details(&record)), ("DC", "downstream_remote_disconnect"), "P1");
}

#[tokio::test]
async fn a_websocket_that_stands_still() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
    for (extra, flag, reason) in [
        (proxy_config!("{connectionSettings: {httpStreamIdleTimeout: 50ms}}"), "SI", "stream_idle_timeout"),
        (proxy_config!("{connectionSettings: {httpMaxStreamDuration: 50ms}}"), "-", "max_duration_timeout"),
    ] {
        let upstream = Upstream::start(Up::Tunnel(switch)).await;
        let mut mesh = Mesh::start(&Config { extra, ..DEFAULT }, upstream.at).await;
        let mut client = mesh.connect().await;
        let head = format!("GET /x HTTP/1.1\r\nhost: up.example\r\n{}\r\n\r\n", WEBSOCKET.join("\r\n"));
        client.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(Answer::read(&mut client, false).await.status, "101 Switching Protocols");
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
        let record = mesh.record().await;
        assert_eq!((&*flags(&record), &*details(&record)), (flag, reason));
    }
}

#[tokio::test]
async fn refused_upgrades() {
    let p2 = row("P2", Up::Echo).headers(&["connection: Upgrade", "upgrade: other"]).local("403 Forbidden", "");
    p2.closes().log("-", "upgrade_failed").tries(0).run().await;
    for lines in
        [&["connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AA"][..], &["upgrade: websocket"]]
    {
        row("P3", Up::Echo).headers(lines).upstream_lacks(&["upgrade", "connection", "http2-settings"]).run().await;
    }
    let p4 = row("P4", Up::Reply("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc")).headers(WEBSOCKET).body("");
    p4.has(&["content-length: 0"]).closes().log("-", "websocket_handshake_unsuccessful").run().await;
    let p5 = row("P5", Up::Reply("HTTP/1.1 403 Forbidden\r\ncontent-length: 3\r\n\r\nabc")).headers(WEBSOCKET);
    p5.status("403 Forbidden").body("abc").closes().run().await;
    let p8 = row("P8", Up::Echo).raw("CONNECT up.example:80 HTTP/1.1\r\nhost: up.example:80\r\n\r\n");
    p8.local("404 Not Found", "").closes().log("NR", "route_not_found").tries(0).run().await;
}
