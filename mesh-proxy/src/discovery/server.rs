//! The control plane's end of the stream, without any idea of what it sends: whoever takes a [`ProxyStream`] decides.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::server::{Grpc, StreamingService};
use tonic::{Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::csr::{self, CsrServer, NoCa};

use super::proto::{DeltaRequest, DeltaResponse, METADATA_PROXY};
use super::secrets::{NoSecrets, SecretServer};
use super::{Ack, ContentHash, Delta, METHOD, ProxyId, ResourceName, TYPE_URL, client, mpsc};

/// A proxy that has subscribed.
#[derive(Debug)]
pub struct ProxyStream {
    /// Who it says it is.
    pub id: ProxyId,
    /// What it holds already, after a reconnect. Send the difference to this first, even if that is empty: the
    /// acknowledgement says what is in force.
    pub held: BTreeMap<ResourceName, ContentHash>,
    /// Deltas to the proxy. Closed when the stream is gone.
    pub deltas: mpsc::Sender<Delta>,
    /// Its acknowledgements. Ends when the stream is gone.
    pub acks: mpsc::Receiver<Ack>,
}

/// Serves one connection (HTTP/2 with prior knowledge) until it closes, handing each subscription to `streams`.
///
/// # Errors
/// The connection broke, or its peer does not speak HTTP/2.
pub async fn serve<IO>(io: IO, streams: mpsc::Sender<ProxyStream>) -> Result<(), hyper::Error>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    serve_with(io, streams, Arc::new(NoSecrets), Arc::new(NoCa)).await
}

/// The same, answering for key material and issuing certificates as well.
///
/// # Errors
/// As [`serve`].
pub async fn serve_with<IO>(
    io: IO,
    streams: mpsc::Sender<ProxyStream>,
    secrets: Arc<dyn SecretServer>,
    ca: Arc<dyn CsrServer>,
) -> Result<(), hyper::Error>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (streams, secrets, ca) = (streams.clone(), Arc::clone(&secrets), Arc::clone(&ca));
        async move { Ok::<_, std::convert::Infallible>(answer(request, streams, secrets, ca).await) }
    });
    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .adaptive_window(true)
        .serve_connection(TokioIo::new(io), service)
        .await
}

async fn answer(
    request: http::Request<hyper::body::Incoming>,
    streams: mpsc::Sender<ProxyStream>,
    secrets: Arc<dyn SecretServer>,
    ca: Arc<dyn CsrServer>,
) -> http::Response<tonic::body::Body> {
    if csr::is_csr(&request) {
        return csr::answer(request, ca).await;
    }
    if request.uri().path() == super::secrets::METHOD {
        let mut grpc = Grpc::new(ProstCodec::<DeltaResponse, DeltaRequest>::default());
        return grpc.streaming(super::secrets::Serve(secrets), request).await;
    }
    if request.uri().path() != METHOD {
        return Status::unimplemented(format!("only {METHOD} is served here")).into_http();
    }
    Grpc::new(ProstCodec::<DeltaResponse, DeltaRequest>::default())
        .max_decoding_message_size(super::MAX_MESSAGE)
        .streaming(Subscribe { streams }, request)
        .await
}

struct Subscribe {
    streams: mpsc::Sender<ProxyStream>,
}

type Responses = Pin<Box<dyn tokio_stream::Stream<Item = Result<DeltaResponse, Status>> + Send>>;

impl StreamingService<DeltaRequest> for Subscribe {
    type Response = DeltaResponse;
    type ResponseStream = Responses;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Responses>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Streaming<DeltaRequest>>) -> Self::Future {
        let streams = self.streams.clone();
        Box::pin(async move {
            let mut requests = request.into_inner();
            let first = requests.message().await?.ok_or_else(|| Status::invalid_argument("no first request"))?;
            let node = first.node.as_ref().ok_or_else(|| Status::invalid_argument("the first request has no node"))?;
            let id = node.text(METADATA_PROXY).ok_or_else(|| {
                Status::invalid_argument(format!("node.metadata.{METADATA_PROXY} is missing: not a proxy of this mesh"))
            })?;
            let id =
                serde_json::from_str(id).map_err(|e| Status::invalid_argument(format!("{METADATA_PROXY}: {e}")))?;
            let (deltas, outgoing) = mpsc::channel::<Delta>(4);
            let (to_owner, acks) = mpsc::channel(16);
            let stream = ProxyStream { id, held: client::held(&first), deltas, acks };
            streams.send(stream).await.map_err(|_| Status::unavailable("the control plane is going away"))?;
            tokio::spawn(read_acks(requests, to_owner));
            let responses = ReceiverStream::new(outgoing).map(|delta| Ok(DeltaResponse::from(&delta)));
            Ok(Response::new(Box::pin(responses) as Responses))
        })
    }
}

async fn read_acks(mut requests: Streaming<DeltaRequest>, to_owner: mpsc::Sender<Ack>) {
    // Requests of other types come from newer proxies; what we don't serve stays unanswered, as Envoy's protocol has it.
    while let Ok(Some(request)) = requests.message().await {
        let Some(ack) = request.to_ack().filter(|_| request.type_url == TYPE_URL) else { continue };
        if to_owner.send(ack).await.is_err() {
            return;
        }
    }
}
