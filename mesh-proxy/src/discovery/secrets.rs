//! Key material over the configuration channel's connection: Envoy's secret discovery (`SecretDiscoveryService`), as a
//! stream of its own, so that no key is ever among the resources of the configuration.
//!
//! A proxy asks for `kubernetes://NAME` (certificate and key), `kubernetes://NAME-cacert` (authorities: of that Secret, else
//! of `NAME`), `configmap://NAMESPACE/NAME` and `ROOTCA` (the mesh's own roots), and is told again when one changes. The server knows from the connection
//! who asks, and answers for that proxy's namespace only.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use mesh_tls::{Identity, Material, PrivateKey, Roots, SecretError, SecretRef, SecretState, Secrets};
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::server::StreamingService;
use tonic::{Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::Channel;
use super::proto::{Any, DeltaRequest, DeltaResponse, Resource};

/// Where the stream is served.
pub const METHOD: &str = "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets";
/// Type of the subscription.
const TYPE_URL: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// What the mesh's CA trusts now, by Istio's name: a proxy that has another bundle has its certificate renewed, with which the
/// new one comes. So a revocation is known everywhere as soon as it is known to the CA.
pub const ROOT_CA: &str = "ROOTCA";
/// Type of an answer that says why there is no Secret.
const MISSING: &str = "type.mesh.local/MissingSecret";

/// `envoy.config.core.v3.DataSource`, of which we use bytes only.
#[derive(Clone, PartialEq, Message)]
struct DataSource {
    #[prost(bytes = "bytes", tag = "2")]
    inline_bytes: Bytes,
}

/// `TlsCertificate`.
#[derive(Clone, PartialEq, Message)]
struct TlsCertificate {
    #[prost(message, optional, tag = "1")]
    certificate_chain: Option<DataSource>,
    #[prost(message, optional, tag = "2")]
    private_key: Option<DataSource>,
}

/// `CertificateValidationContext`.
#[derive(Clone, PartialEq, Message)]
struct ValidationContext {
    #[prost(message, optional, tag = "1")]
    trusted_ca: Option<DataSource>,
    #[prost(message, optional, tag = "7")]
    crl: Option<DataSource>,
}

/// `envoy.extensions.transport_sockets.tls.v3.Secret`.
#[derive(Clone, PartialEq, Message)]
struct Secret {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    tls_certificate: Option<TlsCertificate>,
    #[prost(message, optional, tag = "4")]
    validation_context: Option<ValidationContext>,
}

/// PEM for one reference. It is not printed.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretPem {
    /// A certificate chain, and its key.
    Identity(Vec<u8>, Vec<u8>),
    /// Authorities, and a revocation list.
    Roots(Vec<u8>, Option<Vec<u8>>),
}

/// What a server answers from, for the proxy at the other end of one connection.
pub trait SecretServer: Send + Sync + 'static {
    /// The PEM of a reference by its name on the wire.
    ///
    /// # Errors
    /// Why there is none, for people.
    fn get(&self, name: &str) -> Result<SecretPem, String>;

    /// Changes whenever an answer may be another one.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// A server that has no Secrets.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSecrets;

impl SecretServer for NoSecrets {
    fn get(&self, _: &str) -> Result<SecretPem, String> {
        Err("this control plane has no Secrets".into())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}

fn encode(name: &str, pem: SecretPem) -> Any {
    let source = |bytes: Vec<u8>| Some(DataSource { inline_bytes: bytes.into() });
    let mut secret = Secret { name: name.to_owned(), ..Secret::default() };
    match pem {
        SecretPem::Identity(chain, key) => {
            let (certificate_chain, private_key) = (source(chain), source(key));
            secret.tls_certificate = Some(TlsCertificate { certificate_chain, private_key });
        }
        SecretPem::Roots(roots, crl) => {
            let (trusted_ca, crl) = (source(roots), crl.and_then(source));
            secret.validation_context = Some(ValidationContext { trusted_ca, crl });
        }
    }
    Any { type_url: TYPE_URL.to_owned(), value: secret.encode_to_vec().into() }
}

fn decode(any: &Any) -> Result<Material, SecretError> {
    if any.type_url == MISSING {
        return Err(SecretError(String::from_utf8_lossy(&any.value).into_owned()));
    }
    let secret = Secret::decode(any.value.clone()).map_err(|e| SecretError(e.to_string()))?;
    let bytes = |source: Option<DataSource>| source.map(|s| s.inline_bytes).unwrap_or_default();
    match (secret.tls_certificate, secret.validation_context) {
        (Some(TlsCertificate { certificate_chain, private_key }), _) => {
            let key = PrivateKey::from_pem(&bytes(private_key));
            Identity::from_pem(&bytes(certificate_chain), &key).map(Material::Identity)
        }
        (None, Some(ValidationContext { trusted_ca, crl })) => {
            let crl = crl.map(|c| c.inline_bytes);
            Roots::from_pem(&bytes(trusted_ca), crl.as_deref()).map(|r| Material::Roots(Arc::new(r)))
        }
        (None, None) => Err(SecretError("the answer holds neither a certificate nor authorities".into())),
    }
}

/// The bundle that a CA announces; `None`: there is no CA.
fn announced(any: &Any) -> Option<Bytes> {
    let secret = (any.type_url == TYPE_URL).then(|| Secret::decode(any.value.clone()))?.ok()?;
    secret.validation_context?.trusted_ca.map(|ca| ca.inline_bytes)
}

/// The name of a reference on the wire; `None`: it is not asked for here.
fn wire_name(name: &SecretRef) -> Option<String> {
    match name {
        SecretRef::Credential { name, .. } => Some(format!("kubernetes://{name}")),
        SecretRef::CredentialRoots { name, .. } => Some(format!("kubernetes://{name}-cacert")),
        SecretRef::ConfigMapRoots { namespace, name } => Some(format!("configmap://{namespace}/{name}")),
        SecretRef::Files { .. } | SecretRef::RootsFile { .. } | SecretRef::Workload | SecretRef::MeshRoots => None,
    }
}

/// Asks for everything that is wanted until the connection ends. What was delivered stays in force then.
pub(super) async fn follow<S>(service: S, secrets: Arc<Secrets>, channel: Channel)
where
    S: tower::Service<
            http::Request<tonic::body::Body>,
            Response = http::Response<hyper::body::Incoming>,
            Error = hyper::Error,
        > + Send,
    S::Future: Send,
{
    let (requests, outgoing) = mpsc::channel(16);
    let mut wishes = secrets.wishes();
    wishes.mark_changed();
    let mut grpc = tonic::client::Grpc::with_origin(service, http::Uri::from_static("http://mesh"));
    let mut asked = Asked::new();
    let mut first = vec![ROOT_CA.to_owned()];
    let opening = async {
        grpc.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
        let codec = ProstCodec::<DeltaRequest, DeltaResponse>::default();
        let outgoing = tonic::Request::new(ReceiverStream::new(outgoing));
        grpc.streaming(outgoing, PathAndQuery::from_static(METHOD), codec).await
    };
    let mut responses = match opening.await {
        Ok(response) => response.into_inner(),
        Err(status) => return tracing::debug!(%status, "the control plane delivers no Secrets"),
    };
    loop {
        tokio::select! {
            changed = wishes.changed() => {
                if changed.is_err() {
                    return;
                }
                let wanted: Asked =
                    secrets.wanted_since().into_iter().filter_map(|(r, wish)| Some((wire_name(&r)?, (r, wish)))).collect();
                let request = DeltaRequest {
                    type_url: TYPE_URL.to_owned(),
                    resource_names_subscribe: [only(&wanted, &asked), std::mem::take(&mut first)].concat(),
                    resource_names_unsubscribe: only(&asked, &wanted),
                    ..DeltaRequest::default()
                };
                asked = wanted;
                if requests.send(request).await.is_err() {
                    return;
                }
            }
            message = responses.message() => match message {
                Ok(Some(response)) => take(&secrets, &channel, &asked, response),
                Ok(None) | Err(_) => return,
            },
        }
    }
}

/// Names of references by the wish that they came with.
type Asked = BTreeMap<String, (SecretRef, u64)>;

/// Names that `b` does not have, or has with another wish.
fn only(a: &Asked, b: &Asked) -> Vec<String> {
    a.iter().filter(|(name, wish)| b.get(*name) != Some(*wish)).map(|(name, _)| name.clone()).collect()
}

fn take(secrets: &Secrets, channel: &Channel, asked: &Asked, response: DeltaResponse) {
    for resource in response.resources {
        if resource.name == ROOT_CA {
            resource.resource.as_ref().and_then(announced).into_iter().for_each(|pem| channel.announced(pem));
            continue;
        }
        let (Some((name, _)), Some(any)) = (asked.get(&resource.name), &resource.resource) else { continue };
        let state = match decode(any) {
            Ok(material) => SecretState::Ready(material),
            Err(error) => {
                tracing::warn!(secret = %name, %error, "key material");
                SecretState::Missing(error)
            }
        };
        secrets.set(name, state);
    }
}

/// The server's end.
pub(super) struct Serve(pub(super) Arc<dyn SecretServer>);

type Responses = Pin<Box<dyn tokio_stream::Stream<Item = Result<DeltaResponse, Status>> + Send>>;

impl StreamingService<DeltaRequest> for Serve {
    type Response = DeltaResponse;
    type ResponseStream = Responses;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Responses>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Streaming<DeltaRequest>>) -> Self::Future {
        let server = Arc::clone(&self.0);
        Box::pin(async move {
            let (answers, outgoing) = mpsc::channel(4);
            tokio::spawn(answer(server, request.into_inner(), answers));
            Ok(Response::new(Box::pin(ReceiverStream::new(outgoing)) as Responses))
        })
    }
}

/// Answers each name when it is asked for, and again when its answer is another one.
async fn answer(
    server: Arc<dyn SecretServer>,
    mut requests: Streaming<DeltaRequest>,
    answers: mpsc::Sender<Result<DeltaResponse, Status>>,
) {
    let mut changes = server.changes();
    let mut told: BTreeMap<String, Option<Result<SecretPem, String>>> = BTreeMap::new();
    let mut nonce = 0_u64;
    let mut ended = false;
    loop {
        tokio::select! {
            request = requests.message() => match request {
                Ok(Some(request)) => {
                    for name in request.resource_names_unsubscribe {
                        told.remove(&name);
                    }
                    for name in request.resource_names_subscribe {
                        told.insert(name, None);
                    }
                }
                Ok(None) | Err(_) => return,
            },
            changed = changes.changed(), if !ended => ended = changed.is_err(),
        }
        let mut resources = Vec::new();
        for (name, last) in &mut told {
            let now = server.get(name);
            if last.as_ref() == Some(&now) {
                continue;
            }
            let any = match now.clone() {
                Ok(pem) => encode(name, pem),
                Err(why) => Any { type_url: MISSING.to_owned(), value: why.into() },
            };
            *last = Some(now);
            resources.push(Resource { name: name.clone(), resource: Some(any), version: String::new() });
        }
        if resources.is_empty() {
            continue;
        }
        nonce += 1;
        let response =
            DeltaResponse { resources, type_url: TYPE_URL.to_owned(), nonce: nonce.to_string(), ..Default::default() };
        if answers.send(Ok(response)).await.is_err() {
            return;
        }
    }
}
