//! The proxy's end of the stream: a task that keeps one open.

use std::collections::BTreeMap;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream as StdUnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_core::snapshot::ProxyKind;
use mesh_tls::Secrets;
use tokio::net::UnixStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic_prost::ProstCodec;

use super::proto::{DeltaRequest, DeltaResponse, METADATA_PROXY, Node, name_text, parse_name};
use super::{Ack, Channel, ContentHash, Delta, METHOD, ProxyId, Rejection, ResourceName, TYPE_URL, Target, mpsc};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Why a session ended.
enum End {
    /// The proxy no longer listens.
    Dropped,
    /// The server or the connection failed; the text says how.
    Failed(String),
}

/// Opens streams until the proxy drops its end or there is nothing left to connect to.
pub(super) async fn run(
    (target, id, keys, channel): (Target, ProxyId, Arc<Secrets>, Channel),
    deltas: mpsc::Sender<Delta>,
    mut acks: mpsc::Receiver<Ack>,
) {
    let mut session = Session { id, keys, channel, held: BTreeMap::new(), deltas };
    let (path, mut fd) = match target {
        Target::Fd(fd) => (None, Some(StdUnixStream::from(fd))),
        Target::Path(path) => (Some(path), None),
    };
    let mut pause = FIRST_PAUSE;
    loop {
        let io = match (&path, fd.take()) {
            (_, Some(stream)) => adopt(stream),
            (Some(path), None) => open(path),
            (None, None) => return tracing::warn!("the configuration channel is closed; the last configuration stays"),
        };
        let before = session.held.len();
        let end = match io {
            Ok(io) => session.run(io, &mut acks).await,
            Err(e) => End::Failed(e.to_string()),
        };
        match end {
            End::Dropped => return,
            End::Failed(why) => {
                tracing::warn!(%why, "configuration stream ended; the last configuration stays in force")
            }
        }
        if session.held.len() != before {
            pause = FIRST_PAUSE;
        }
        if path.is_some() {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = session.deltas.closed() => return,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        // Acknowledgements of the old stream mean nothing to the next one.
        while acks.try_recv().is_ok() {}
    }
}

fn adopt(stream: StdUnixStream) -> io::Result<UnixStream> {
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

fn open(path: &Path) -> io::Result<UnixStream> {
    // Connecting to a unix socket never waits for the network: it succeeds or fails at once.
    let address = match path.to_str().and_then(|p| p.strip_prefix('@')) {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    adopt(StdUnixStream::connect_addr(&address)?)
}

struct Session {
    id: ProxyId,
    keys: Arc<Secrets>,
    channel: Channel,
    /// What the proxy holds, which the next stream starts from.
    held: BTreeMap<ResourceName, ContentHash>,
    deltas: mpsc::Sender<Delta>,
}

impl Session {
    async fn run(&mut self, io: UnixStream, acks: &mut mpsc::Receiver<Ack>) -> End {
        let (requests, mut responses) = match self.subscribe(io).await {
            Ok(stream) => stream,
            Err(e) => return End::Failed(e),
        };
        loop {
            tokio::select! {
                message = responses.message() => match message {
                    Ok(Some(response)) => if let Err(end) = self.deliver(response, &requests).await { return end },
                    Ok(None) => return End::Failed("the server closed the stream".into()),
                    Err(status) => return End::Failed(status.to_string()),
                },
                ack = acks.recv() => match ack {
                    Some(ack) => if requests.send(DeltaRequest::from(&ack)).await.is_err() {
                        return End::Failed("the server closed the stream".into());
                    },
                    None => return End::Dropped,
                },
            }
        }
    }

    async fn subscribe(
        &self,
        io: UnixStream,
    ) -> Result<(mpsc::Sender<DeltaRequest>, Streaming<DeltaResponse>), String> {
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .adaptive_window(true)
            .handshake::<_, tonic::body::Body>(TokioIo::new(io))
            .await
            .map_err(|e| e.to_string())?;
        tokio::spawn(connection);
        self.channel.connected(sender.clone());
        let service = tower::service_fn(move |request: http::Request<tonic::body::Body>| {
            let mut sender = sender.clone();
            async move { sender.send_request(request).await }
        });
        tokio::spawn(super::secrets::follow(service.clone(), Arc::clone(&self.keys), self.channel.clone()));
        let (requests, outgoing) = mpsc::channel(16);
        let first = self.first_request().map_err(|e| e.to_string())?;
        requests.send(first).await.map_err(|e| e.to_string())?;
        let mut grpc = tonic::client::Grpc::with_origin(service, http::Uri::from_static("http://mesh"))
            .max_decoding_message_size(super::MAX_MESSAGE);
        let response = grpc
            .streaming(
                tonic::Request::new(ReceiverStream::new(outgoing)),
                PathAndQuery::from_static(METHOD),
                ProstCodec::<DeltaRequest, DeltaResponse>::default(),
            )
            .await
            .map_err(|status| status.to_string())?;
        Ok((requests, response.into_inner()))
    }

    fn first_request(&self) -> serde_json::Result<DeltaRequest> {
        let kind = match self.id.kind {
            ProxyKind::Sidecar => "sidecar",
            ProxyKind::Gateway => "router",
        };
        let ip = self.id.addresses.first().map(ToString::to_string).unwrap_or_default();
        let id =
            format!("{kind}~{ip}~{}.{}~{}.svc.{}", self.id.name, self.id.namespace, self.id.namespace, self.id.domain);
        let node = Node { id, user_agent_name: "mesh-proxy".into(), ..Node::default() };
        Ok(DeltaRequest {
            node: Some(node.with_text(METADATA_PROXY, serde_json::to_string(&self.id)?)),
            type_url: TYPE_URL.to_owned(),
            resource_names_subscribe: vec!["*".into()],
            initial_resource_versions: self.held.iter().map(|(n, v)| (name_text(n), v.to_string())).collect(),
            ..DeltaRequest::default()
        })
    }

    async fn deliver(&mut self, response: DeltaResponse, requests: &mpsc::Sender<DeltaRequest>) -> Result<(), End> {
        if response.type_url != TYPE_URL {
            // A newer server offers more than we know: refused by name, never fatal.
            let name = ResourceName { kind: response.type_url.as_str().into(), name: "*".into() };
            let refusal = Ack {
                nonce: response.nonce,
                rejected: vec![Rejection { name, message: "this proxy does not know the type".into() }],
                ..Ack::default()
            };
            let request = DeltaRequest { type_url: response.type_url, ..DeltaRequest::from(&refusal) };
            return requests.send(request).await.map_err(|e| End::Failed(e.to_string()));
        }
        let (delta, foreign) = response.into_delta();
        for name in foreign {
            tracing::warn!(name, "a resource without a readable name, version or content was ignored");
        }
        for n in &delta.removed {
            self.held.remove(n);
        }
        for r in &delta.changed {
            self.held.insert(r.name.clone(), r.version);
        }
        self.deltas.send(delta).await.map_err(|_| End::Dropped)
    }
}

/// Versions named in a first request.
pub(super) fn held(request: &DeltaRequest) -> BTreeMap<ResourceName, ContentHash> {
    let versions = request.initial_resource_versions.iter();
    versions.filter_map(|(n, v)| Some((parse_name(n)?, super::proto::parse_hash(v)?))).collect()
}
