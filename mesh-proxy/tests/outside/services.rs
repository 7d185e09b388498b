//! What proxies ask themselves: keys of tokens, and external authorizers.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::lab::Block;

/// Where the keys of an issuer are.
pub(crate) const KEYS: &str = "http://keys.other.svc.cluster.local/keys";

/// What the authorizers answer whom they refuse.
pub(crate) const REFUSED: (u16, &str) = (403, "not for you");

/// Header of requests that they let through.
pub(crate) const CHECKED: &str = "x-checked";

/// Whether the authorizers let a request through.
pub(crate) fn admits(method: &str) -> bool {
    method != "DELETE" && method != "PUT"
}

/// Status, header lines, body and trailers.
type Answer = (u16, Vec<(&'static str, &'static str)>, Vec<u8>, Option<(&'static str, &'static str)>);

/// Opens their ports.
pub(crate) async fn listen(block: &Block) {
    let keys = block.tokens.remote_keys();
    let serve = move |_: &str, _: &[u8]| (200, Vec::new(), keys.as_bytes().to_vec(), None);
    answer(SocketAddr::new(block.ip(43), 8080), serve).await;
    let check = |method: &str, _: &[u8]| match admits(method) {
        true => (200, vec![(CHECKED, "yes")], Vec::new(), None),
        false => (REFUSED.0, vec![(CHECKED, "no")], REFUSED.1.as_bytes().to_vec(), None),
    };
    answer(SocketAddr::new(block.ip(44), 8080), check).await;
    answer(SocketAddr::new(block.ip(44), 8081), |_: &str, question: &[u8]| called(question)).await;
}

/// The answer of `envoy.service.auth.v3.Authorization/Check`. Bytes are let through.
fn called(question: &[u8]) -> Answer {
    let said = String::from_utf8_lossy(question);
    // An entry of the headers: a key and a value.
    let is = |method: &&str| said.contains(&format!("\u{7}:method\u{12}{}{method}", char::from(method.len() as u8)));
    let refused = ["DELETE", "PUT"].iter().any(is);
    let field = |tag: u8, content: &[u8]| [&[tag << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat();
    let status = |code: u8| field(1, &[1 << 3, code]);
    let header = |name: &str, value: &str| field(1, &[field(1, name.as_bytes()), field(2, value.as_bytes())].concat());
    let answer = match refused {
        // `denied_response` with a body; its status is 403 by default.
        true => [status(7), field(2, &field(3, REFUSED.1.as_bytes()))].concat(),
        false => [status(0), field(3, &field(2, &header(CHECKED, "yes")))].concat(),
    };
    let mut framed = vec![0, 0, 0, 0, u8::try_from(answer.len()).unwrap()];
    framed.extend(answer);
    (200, vec![("content-type", "application/grpc")], framed, Some(("grpc-status", "0")))
}

async fn answer(at: SocketAddr, answer: impl Fn(&str, &[u8]) -> Answer + Clone + Send + Sync + 'static) {
    let listener = TcpListener::bind(at).await.unwrap_or_else(|e| panic!("{at}: {e}"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A connection that a test's end cuts is no failure.
            tokio::spawn(serve(stream, answer.clone()));
        }
    });
}

/// Requests one after another: over HTTP/1.1 without bodies, over HTTP/2 with them.
async fn serve(mut stream: TcpStream, answer: impl Fn(&str, &[u8]) -> Answer) -> Result<(), h2::Error> {
    let mut first = [0; 4];
    while stream.peek(&mut first).await.is_ok_and(|n| n > 0 && n < 4) {
        tokio::task::yield_now().await;
    }
    if first == *b"PRI " {
        return http2(stream, answer).await;
    }
    let mut got = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = got.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
            if !stream.read_buf(&mut got).await.is_ok_and(|n| n > 0) {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&got[..end]).into_owned();
        got.drain(..end);
        let (status, headers, body, _) = answer(head.split(' ').next().unwrap_or_default(), &[]);
        let mut text = format!("HTTP/1.1 {status} So\r\ncontent-length: {}\r\n", body.len());
        headers.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
        if stream.write_all(&[text.as_bytes(), b"\r\n", &body].concat()).await.is_err() {
            return Ok(());
        }
    }
}

async fn http2(stream: TcpStream, answer: impl Fn(&str, &[u8]) -> Answer) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(stream).await?;
    let mut waiting = futures_util::stream::FuturesUnordered::new();
    loop {
        let (request, mut respond) = tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(accepted) => accepted?,
                None => return Ok(()),
            },
            Some(()) = futures_util::StreamExt::next(&mut waiting) => continue,
        };
        let answer = &answer;
        waiting.push(async move {
            let (head, mut body) = request.into_parts();
            let mut question = Vec::new();
            while let Some(Ok(data)) = body.data().await {
                let _ = body.flow_control().release_capacity(data.len());
                question.extend_from_slice(&data);
            }
            let (status, headers, body, trailer) = answer(head.method.as_str(), &question);
            let mut response = http::Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            let Ok(mut stream) = respond.send_response(response.body(()).unwrap(), false) else { return };
            let _ = stream.send_data(Bytes::from(body), trailer.is_none());
            if let Some((name, value)) = trailer {
                let trailers =
                    [(name.parse().unwrap(), value.parse().unwrap())].into_iter().collect::<http::HeaderMap>();
                let _ = stream.send_trailers(trailers);
            }
        });
    }
}
