//! An external authorizer over gRPC.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use parking_lot::Mutex;
use tokio::net::TcpListener;

/// Questions that an authorizer got.
pub(crate) type Asked = Arc<Mutex<Vec<String>>>;

/// A field of a message that is a message or a text itself.
pub(crate) fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag << 3 | 2, u8::try_from(content.len()).unwrap()];
    out.extend_from_slice(content);
    out
}

/// `envoy.config.core.v3.HeaderValueOption`.
pub(crate) fn header(name: &str, value: &str) -> Vec<u8> {
    field(1, &[field(1, name.as_bytes()), field(2, value.as_bytes())].concat())
}

/// `CheckResponse` with this code of `google.rpc.Status`.
pub(crate) fn status(code: u8) -> Vec<u8> {
    field(1, &[1 << 3, code])
}

/// An authorizer over gRPC that always gives this answer; `None`: the call fails with INTERNAL.
pub(crate) async fn grpc(answer: Option<Vec<u8>>) -> (SocketAddr, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (at, asked) = (listener.local_addr().unwrap(), Asked::default());
    let told = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (told, answer) = (Arc::clone(&told), answer.clone());
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let (told, answer) = (Arc::clone(&told), answer.clone());
                    tokio::spawn(async move {
                        let (head, mut body) = request.into_parts();
                        let mut message = Vec::new();
                        while let Some(Ok(data)) = body.data().await {
                            message.extend_from_slice(&data);
                        }
                        told.lock().push(format!("{} {}", head.uri.path(), String::from_utf8_lossy(&message)));
                        let response = http::Response::builder().header("content-type", "application/grpc");
                        let mut stream = respond.send_response(response.body(()).unwrap(), false).unwrap();
                        if let Some(answer) = &answer {
                            let mut framed = BytesMut::new();
                            framed.put_u8(0);
                            framed.put_u32(u32::try_from(answer.len()).unwrap());
                            framed.put_slice(answer);
                            stream.send_data(framed.freeze(), false).unwrap();
                        }
                        let mut trailers = http::HeaderMap::new();
                        let code = if answer.is_some() { "0" } else { "13" };
                        trailers.insert("grpc-status", code.parse().unwrap());
                        stream.send_trailers(trailers).unwrap();
                    });
                }
            });
        }
    });
    (at, asked)
}
