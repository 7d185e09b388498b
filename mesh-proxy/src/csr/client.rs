//! The proxy's end.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::PathAndQuery;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_tls::{CaError, CertSigner, SpiffeId};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::metadata::AsciiMetadataValue;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::{CertificateRequest, CertificateResponse, METHOD};

/// How long one request may take; the certificate manager asks again.
const TIMEOUT: Duration = Duration::from_secs(10);
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A [`CertSigner`] over gRPC. It shows a token, which it reads anew for each request, since whoever issues tokens replaces
/// the file before they expire.
#[derive(Clone)]
pub struct CsrClient<S> {
    service: S,
    token: Option<PathBuf>,
    cluster: Arc<str>,
}

impl<S> fmt::Debug for CsrClient<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CsrClient({:?})", self.token)
    }
}

impl<S> CsrClient<S> {
    /// Over a gRPC connection. `token`: the file with the token; `None` where the connection itself says who asks.
    pub fn new(service: S, token: Option<PathBuf>, cluster: &str) -> Self {
        Self { service, token, cluster: cluster.into() }
    }

    fn request(&self, csr: &[u8], validity: Duration) -> Result<tonic::Request<CertificateRequest>, CaError> {
        let csr = String::from_utf8(csr.to_vec()).map_err(|_| CaError::Request("it is no PEM request".into()))?;
        let validity_duration = i64::try_from(validity.as_secs()).unwrap_or(i64::MAX);
        let mut request = tonic::Request::new(CertificateRequest { csr, validity_duration, metadata: None });
        let headers = request.metadata_mut();
        if let Some(path) = &self.token {
            let unreadable = |e: &dyn fmt::Display| CaError::Unavailable(format!("token {}: {e}", path.display()));
            let token = std::fs::read_to_string(path).map_err(|e| unreadable(&e))?;
            let mut value = AsciiMetadataValue::try_from(format!("Bearer {}", token.trim()))
                .map_err(|_| unreadable(&"it can't be in a header"))?;
            value.set_sensitive(true);
            headers.insert("authorization", value);
        }
        if let Ok(cluster) = AsciiMetadataValue::try_from(&*self.cluster) {
            headers.insert("clusterid", cluster);
        }
        Ok(request)
    }
}

impl<S, B> CertSigner for CsrClient<S>
where
    S: tower::Service<http::Request<tonic::body::Body>, Response = http::Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError> + Send,
{
    async fn sign(&self, _: &SpiffeId, csr: &[u8], validity: Duration) -> Result<Vec<String>, CaError> {
        let request = self.request(csr, validity)?;
        let origin = http::Uri::from_static("http://mesh");
        let mut grpc = tonic::client::Grpc::with_origin(self.service.clone(), origin);
        let asking = async {
            grpc.ready().await.map_err(|e| Status::unavailable(e.into().to_string()))?;
            let codec = ProstCodec::<CertificateRequest, CertificateResponse>::default();
            grpc.unary(request, PathAndQuery::from_static(METHOD), codec).await
        };
        match tokio::time::timeout(TIMEOUT, asking).await {
            Ok(Ok(response)) => Ok(response.into_inner().cert_chain),
            Ok(Err(status)) => Err(of_status(&status)),
            Err(_) => Err(CaError::Unavailable("no answer in time".into())),
        }
    }
}

fn of_status(status: &Status) -> CaError {
    let text = status.message().to_owned();
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => CaError::Unauthenticated(text),
        Code::InvalidArgument => CaError::Request(text),
        _ => CaError::Unavailable(format!("{:?}: {text}", status.code())),
    }
}

/// A gRPC service that dials for each request, as Istio's agent does after each failure: what is at the other end may have
/// been replaced since the last certificate, which was hours ago.
#[derive(Clone, Debug)]
pub struct Redial<D>(pub D);

impl<D, F, IO> tower::Service<http::Request<tonic::body::Body>> for Redial<D>
where
    D: Fn() -> F,
    F: Future<Output = io::Result<IO>> + Send + 'static,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Response = http::Response<hyper::body::Incoming>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let dialling = (self.0)();
        Box::pin(async move {
            let io = TokioIo::new(dialling.await?);
            let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
            // It ends with the last stream, once the sender is gone.
            tokio::spawn(connection);
            Ok(sender.send_request(request).await?)
        })
    }
}
