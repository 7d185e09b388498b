//! The CA's end, without any idea of who may have what: a [`CsrServer`] decides.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;

use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_tls::CaError;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::server::{Grpc, UnaryService};
use tonic::{Response, Status};
use tonic_prost::ProstCodec;

use super::{CertificateRequest, CertificateResponse, METHOD};

/// Longest request in bytes.
const MAX_REQUEST: usize = 128 * 1024;

/// A CA for whoever is at the other end of one connection.
pub trait CsrServer: Send + Sync + 'static {
    /// Signs, once it knows by the value of `authorization` and by the connection who asks.
    ///
    /// # Errors
    /// [`CaError::Unauthenticated`] is told to the caller without its reason, which is for the log.
    fn sign(&self, authorization: Option<&str>, request: &CertificateRequest) -> Result<Vec<String>, CaError>;
}

/// A server that issues nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCa;

impl CsrServer for NoCa {
    fn sign(&self, _: Option<&str>, _: &CertificateRequest) -> Result<Vec<String>, CaError> {
        Err(CaError::Unavailable("this control plane has no CA".into()))
    }
}

/// Whether a request is for this service.
pub(crate) fn is_csr<B>(request: &http::Request<B>) -> bool {
    request.uri().path() == METHOD
}

/// Answers one request.
pub(crate) async fn answer(
    request: http::Request<hyper::body::Incoming>,
    ca: Arc<dyn CsrServer>,
) -> http::Response<tonic::body::Body> {
    Grpc::new(ProstCodec::<CertificateResponse, CertificateRequest>::default())
        .max_decoding_message_size(MAX_REQUEST)
        .unary(Sign(ca), request)
        .await
}

/// Serves one connection (HTTP/2 with prior knowledge) until it closes.
///
/// # Errors
/// The connection broke, or its peer does not speak HTTP/2.
pub async fn serve<IO>(io: IO, ca: Arc<dyn CsrServer>) -> Result<(), hyper::Error>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let ca = Arc::clone(&ca);
        async move {
            Ok::<_, Infallible>(match is_csr(&request) {
                true => answer(request, ca).await,
                false => Status::unimplemented(format!("only {METHOD} is served here")).into_http(),
            })
        }
    });
    hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(io), service).await
}

struct Sign(Arc<dyn CsrServer>);

impl UnaryService<CertificateRequest> for Sign {
    type Response = CertificateResponse;
    type Future = Ready<Result<Response<CertificateResponse>, Status>>;

    fn call(&mut self, request: tonic::Request<CertificateRequest>) -> Self::Future {
        let header = request.metadata().get("authorization").and_then(|v| v.to_str().ok());
        let signed = self.0.sign(header, request.get_ref());
        ready(signed.map(|cert_chain| Response::new(CertificateResponse { cert_chain })).map_err(|e| to_status(&e)))
    }
}

fn to_status(error: &CaError) -> Status {
    tracing::warn!(%error, "no certificate is issued");
    match error {
        // Istio's words, and no more: who guesses learns nothing.
        CaError::Unauthenticated(_) => Status::unauthenticated("request authenticate failure"),
        CaError::Request(why) => Status::invalid_argument(why.clone()),
        CaError::Unavailable(why) => Status::unavailable(why.clone()),
        CaError::Signer(_) | CaError::Files(_) | CaError::Answer(_) => Status::internal("the CA can't sign"),
    }
}
