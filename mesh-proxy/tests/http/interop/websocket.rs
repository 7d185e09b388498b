//! WebSocket by tungstenite.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Error, Message};

use super::way::{Path, WAYS};

/// A server that sends back what it gets; without the subprotocol `echo` it refuses.
pub(super) async fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    at
}

#[expect(clippy::result_large_err, reason = "the library's signature")]
async fn serve(stream: TcpStream) -> Option<()> {
    let asked = |request: &Request, mut response: Response| {
        let protocol = request.headers().get("sec-websocket-protocol").cloned();
        let Some(protocol) = protocol.filter(|p| p == "echo") else {
            let refused = http::Response::builder().status(403).body(Some("no".to_owned()));
            return Err(refused.unwrap());
        };
        response.headers_mut().insert("sec-websocket-protocol", protocol);
        Ok(response)
    };
    let mut socket = tokio_tungstenite::accept_hdr_async(stream, asked).await.ok()?;
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() || message.is_binary() {
            socket.send(message).await.ok()?;
        }
    }
    Some(())
}

fn request(protocol: &str) -> ClientRequestBuilder {
    ClientRequestBuilder::new("ws://up.example/chat?x=1".parse().unwrap()).with_sub_protocol(protocol)
}

/// Texts, large messages, pings and an orderly end over one connection.
pub(super) async fn exercise(at: SocketAddr) {
    let stream = TcpStream::connect(at).await.unwrap();
    let (mut socket, response) = tokio_tungstenite::client_async(request("echo"), stream).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["sec-websocket-protocol"]),
        (101, &"echo".parse().unwrap())
    );
    let large: Vec<u8> = (0..1 << 20).map(|i| (i % 251) as u8).collect();
    for message in [Message::text("hello \u{1f600}"), Message::binary(large), Message::text("")] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    socket.send(Message::Ping(b"are you there".to_vec().into())).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong(b"are you there".to_vec().into()));
    let goodbye = CloseFrame { code: CloseCode::Normal, reason: "done".into() };
    socket.close(Some(goodbye.clone())).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Close(Some(goodbye)));
    assert!(socket.next().await.is_none(), "the connection ends with it");
}

#[tokio::test]
async fn tungstenite_through_sidecars_and_a_gateway() {
    let app = start().await;
    for way in WAYS {
        let mut path = Path::new(way, "HTTP", app, "").await;
        exercise(path.at).await;
        let record = path.proxies[0].record().await;
        assert_eq!(record.http.unwrap().status.unwrap().as_u16(), 101, "{way:?}");
        let stream = TcpStream::connect(path.at).await.unwrap();
        match tokio_tungstenite::client_async(request("other"), stream).await.unwrap_err() {
            Error::Http(refused) => assert_eq!(refused.status().as_u16(), 403, "{way:?}: the application's answer"),
            other => panic!("{way:?}: {other}"),
        }
    }
}
