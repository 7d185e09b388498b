//! gRPC by tonic: unary, streams in either direction and in both at once, trailers, and errors with their details.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use http::uri::PathAndQuery;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::server::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::way::{Path, WAYS};

#[derive(Clone, PartialEq, prost::Message)]
struct Words {
    #[prost(string, tag = "1")]
    text: String,
    #[prost(uint32, tag = "2")]
    count: u32,
}

fn words(text: &str, count: u32) -> Words {
    Words { text: text.into(), count }
}

type Codec = ProstCodec<Words, Words>;
type Answer = http::Response<tonic::body::Body>;

/// A server of all kinds of calls, by path.
pub(super) async fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(async |r| Ok::<_, Infallible>(answer(r).await));
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    at
}

async fn answer(request: http::Request<hyper::body::Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let mut grpc = Grpc::new(Codec::default());
    match &*path {
        "/interop.Words/Say" => grpc.unary(service_fn(say), request).await,
        "/interop.Words/Collect" => grpc.client_streaming(service_fn(collect), request).await,
        "/interop.Words/Repeat" => grpc.server_streaming(service_fn(repeat), request).await,
        "/interop.Words/Chat" => grpc.streaming(service_fn(chat), request).await,
        other => Status::unimplemented(format!("{other} is not served")).into_http(),
    }
}

async fn say(request: Request<Words>) -> Result<Response<Words>, Status> {
    let from = request.metadata().get("x-from").cloned();
    let asked = request.into_inner();
    if asked.text == "refuse" {
        let mut status = Status::with_details(Code::FailedPrecondition, "100% no: \u{e9}", b"\x00\xff".to_vec().into());
        status.metadata_mut().insert("x-why", "asked to".parse().unwrap());
        return Err(status);
    }
    let mut response = Response::new(words(&asked.text.to_uppercase(), asked.count));
    if let Some(from) = from {
        response.metadata_mut().insert("x-to", from);
    }
    Ok(response)
}

async fn collect(request: Request<Streaming<Words>>) -> Result<Response<Words>, Status> {
    let mut all = request.into_inner();
    let (mut text, mut count) = (String::new(), 0);
    while let Some(next) = all.message().await? {
        text += &next.text;
        count += 1;
    }
    Ok(Response::new(words(&text, count)))
}

type Out = ReceiverStream<Result<Words, Status>>;

async fn repeat(request: Request<Words>) -> Result<Response<Out>, Status> {
    let Words { text, count } = request.into_inner();
    let (send, out) = mpsc::channel(1);
    tokio::spawn(async move {
        for i in 0..count {
            send.send(Ok(words(&text, i))).await.ok()?;
        }
        if text == "breaks" {
            let mut status = Status::data_loss("in the middle");
            status.metadata_mut().insert("x-sent", count.into());
            send.send(Err(status)).await.ok()?;
        }
        Some(())
    });
    Ok(Response::new(ReceiverStream::new(out)))
}

async fn chat(request: Request<Streaming<Words>>) -> Result<Response<Out>, Status> {
    let mut all = request.into_inner();
    let (send, out) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Ok(Some(next)) = all.message().await {
            send.send(Ok(words(&next.text, next.count + 1))).await.ok()?;
        }
        Some(())
    });
    Ok(Response::new(ReceiverStream::new(out)))
}

struct Client(tonic::client::Grpc<Channel>);

impl Client {
    async fn to(at: SocketAddr) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{at}")).unwrap();
        let channel = endpoint.origin("http://up.example".parse().unwrap()).connect().await.unwrap();
        Self(tonic::client::Grpc::new(channel))
    }

    async fn grpc(&mut self, method: &'static str) -> (&mut tonic::client::Grpc<Channel>, PathAndQuery, Codec) {
        self.0.ready().await.unwrap();
        (&mut self.0, PathAndQuery::from_static(method), Codec::default())
    }

    async fn say(&mut self, request: Request<Words>) -> Result<Response<Words>, Status> {
        let (grpc, path, codec) = self.grpc("/interop.Words/Say").await;
        grpc.unary(request, path, codec).await
    }
}

/// All kinds of calls over one connection.
pub(super) async fn exercise(at: SocketAddr) {
    let mut client = Client::to(at).await;
    unary(&mut client).await;
    streams(&mut client).await;
    conversation(&mut client).await;
}

async fn unary(client: &mut Client) {
    let mut request = Request::new(words("hello", 7));
    request.metadata_mut().insert("x-from", "me".parse().unwrap());
    request.set_timeout(Duration::from_secs(60));
    let said = client.say(request).await.unwrap();
    assert_eq!(said.metadata().get("x-to").unwrap(), "me");
    assert_eq!(said.into_inner(), words("HELLO", 7));
    let status = client.say(Request::new(words("refuse", 0))).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "100% no: \u{e9}"));
    assert_eq!(
        (status.details(), status.metadata().get("x-why").unwrap().to_str().unwrap()),
        (&b"\x00\xff"[..], "asked to")
    );
    let (grpc, path, codec) = client.grpc("/interop.Words/Nothing").await;
    let status = grpc.unary::<_, Words, _>(Request::new(words("", 0)), path, codec).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unimplemented, "/interop.Words/Nothing is not served"));
    // More than a window of a stream, in one message.
    let long = "x".repeat(1 << 20);
    assert_eq!(client.say(Request::new(words(&long, 1))).await.unwrap().into_inner(), words(&long.to_uppercase(), 1));
}

async fn streams(client: &mut Client) {
    let all = tokio_stream::iter((0..500).map(|i| words(&format!("{i},"), 0)));
    let (grpc, path, codec) = client.grpc("/interop.Words/Collect").await;
    let got = grpc.client_streaming(Request::new(all), path, codec).await.unwrap().into_inner();
    assert_eq!(got, words(&(0..500).map(|i| format!("{i},")).collect::<String>(), 500));

    let (grpc, path, codec) = client.grpc("/interop.Words/Repeat").await;
    let answer = grpc.server_streaming(Request::new(words("again", 500)), path, codec).await.unwrap();
    let mut stream: Streaming<Words> = answer.into_inner();
    let got: Vec<_> = stream.by_ref().map(|w| w.unwrap()).collect().await;
    assert_eq!(got, (0..500).map(|i| words("again", i)).collect::<Vec<_>>());

    let (grpc, path, codec) = client.grpc("/interop.Words/Repeat").await;
    let answer = grpc.server_streaming(Request::new(words("breaks", 3)), path, codec).await.unwrap();
    let mut stream: Streaming<Words> = answer.into_inner();
    for i in 0..3 {
        assert_eq!(stream.message().await.unwrap(), Some(words("breaks", i)));
    }
    let status = stream.message().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::DataLoss, "in the middle"));
    assert_eq!(status.metadata().get("x-sent").unwrap(), "3", "a trailer");
}

/// Each side waits for the other: nothing on the way may hold messages back.
async fn conversation(client: &mut Client) {
    let (send, out) = mpsc::channel(1);
    let (grpc, path, codec) = client.grpc("/interop.Words/Chat").await;
    let answer = grpc.streaming(Request::new(ReceiverStream::new(out)), path, codec).await.unwrap();
    let mut stream: Streaming<Words> = answer.into_inner();
    for i in 0..50 {
        send.send(words("ping", i)).await.unwrap();
        assert_eq!(stream.message().await.unwrap(), Some(words("ping", i + 1)));
    }
    drop(send);
    assert_eq!(stream.message().await.unwrap(), None, "status OK");
}

#[tokio::test]
async fn tonic_through_sidecars_and_a_gateway() {
    let app = start().await;
    for way in WAYS {
        for protocol in ["GRPC", "HTTP2"] {
            let mut path = Path::new(way, protocol, app, "").await;
            exercise(path.at).await;
            let record = path.proxies[0].record().await;
            let http = record.http.unwrap();
            let seen = (http.status.unwrap().as_u16(), http.grpc_status);
            assert_eq!(seen, (200, Some(0)), "{way:?} {protocol}: the status is seen in the trailers");
        }
    }
}
