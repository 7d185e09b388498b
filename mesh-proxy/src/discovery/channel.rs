//! The connection to the control plane, for services beside the configuration.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::client::conn::http2::SendRequest;
use tokio::sync::watch;
use tonic::body::Body;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A gRPC service over whatever connection there is now; a request that comes before the first one waits for it.
#[derive(Clone, Debug)]
pub struct Channel(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    connection: watch::Sender<Option<SendRequest<Body>>>,
    bundle: watch::Sender<Option<Bytes>>,
}

impl Default for Channel {
    fn default() -> Self {
        Self(Arc::new(Shared { connection: watch::Sender::new(None), bundle: watch::Sender::new(None) }))
    }
}

impl Channel {
    pub(super) fn connected(&self, sender: SendRequest<Body>) {
        self.0.connection.send_replace(Some(sender));
    }

    /// What the control plane's CA trusts now, in PEM (`ROOTCA`), as it says beside the certificates that it issues; `None`:
    /// it has not said it.
    pub(crate) fn bundle(&self) -> watch::Receiver<Option<Bytes>> {
        self.0.bundle.subscribe()
    }

    pub(super) fn announced(&self, bundle: Bytes) {
        self.0.bundle.send_replace(Some(bundle));
    }
}

impl tower::Service<http::Request<Body>> for Channel {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut connections = self.0.connection.subscribe();
        Box::pin(async move {
            let there = connections.wait_for(Option::is_some).await?.clone();
            match there {
                Some(mut sender) => Ok(sender.send_request(request).await?),
                None => Err("there is no connection to the control plane".into()),
            }
        })
    }
}
