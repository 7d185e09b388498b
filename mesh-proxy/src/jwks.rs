//! Keys of token issuers: fetched over HTTP(S), kept fresh while a rule needs them.
//!
//! An address that is a service of the mesh is reached as routes reach it, with the mesh's balancing and TLS; any other by
//! DNS, with the system's authorities.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, LOCATION};
use http::{HeaderValue, Method, Uri};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use mesh_core::api::{ContentHash, Object, RequestAuthentication};
use mesh_core::layers::Body;
use mesh_core::snapshot::{ClusterPlan, PeerNames, Provenance, SecretRef, Sni, TlsParameters, UpstreamTls};
use mesh_policy::jwt::{Authenticator, KeySetSource, KeyStore, RemoteKeys};
use mesh_tls::Carries;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;

use crate::cluster::Runtime;
use crate::errand;
use crate::net::{ConnectOptions, Net, Purpose};

/// Longest document.
const MAX_DOCUMENT: usize = 1 << 20;
/// Redirects that are followed, as browsers and Istio's control plane do.
const MAX_REDIRECTS: usize = 5;
/// Time to connect to one address.
const CONNECT: Duration = Duration::from_secs(5);

/// The keys that rules of this process fetch, and the tasks that do it.
#[derive(Default)]
pub(crate) struct Keys {
    store: KeyStore,
    tasks: Mutex<Vec<(Arc<RemoteKeys>, AbortHandle)>>,
}

impl Keys {
    /// Ends tasks whose keys no rule needs any more.
    pub(crate) fn sweep(&self) {
        self.tasks.lock().retain(|(keys, task)| {
            // One is ours, one the task's.
            let needed = Arc::strong_count(keys) > 2;
            if !needed {
                task.abort();
            }
            needed
        });
    }
}

impl<N: Net> Runtime<N> {
    /// The rules about tokens, compiled; keys that are new are on their way afterwards. To be called inside a tokio
    /// runtime.
    pub(crate) fn authenticator(self: &Arc<Self>, policies: &[Arc<Object<RequestAuthentication>>]) -> Authenticator {
        let (authenticator, fetched) = Authenticator::compile(policies, &self.keys.store);
        let mut tasks = self.keys.tasks.lock();
        for keys in fetched {
            let (fetcher, own) = (Fetcher { runtime: Arc::downgrade(self) }, Arc::clone(&keys));
            let task = tokio::spawn(async move { own.run(&fetcher).await });
            tasks.push((keys, task.abort_handle()));
        }
        authenticator
    }
}

/// Fetches documents.
struct Fetcher<N: Net> {
    runtime: Weak<Runtime<N>>,
}

impl<N: Net> KeySetSource for Fetcher<N> {
    async fn fetch(&self, uri: &str) -> Result<Arc<[u8]>, String> {
        let runtime = self.runtime.upgrade().ok_or("the proxy is going away")?;
        let mut uri: Uri = uri.parse().map_err(|e| format!("{uri:?}: {e}"))?;
        for _ in 0..=MAX_REDIRECTS {
            let answer = get(&runtime, &uri).await.map_err(|e| format!("{uri}: {e}"))?;
            match answer {
                Answer::Document(bytes) => return Ok(bytes),
                Answer::Elsewhere(to) => uri = resolved(&uri, &to)?,
            }
        }
        Err(format!("{uri}: more than {MAX_REDIRECTS} redirects"))
    }
}

enum Answer {
    Document(Arc<[u8]>),
    Elsewhere(String),
}

/// The target of a redirect, which may be a path only.
fn resolved(from: &Uri, to: &str) -> Result<Uri, String> {
    let uri: Uri = to.parse().map_err(|e| format!("{from} leads to {to:?}: {e}"))?;
    let mut parts = uri.into_parts();
    if from.scheme_str() == Some("https") && parts.scheme.as_ref().is_some_and(|s| s.as_str() != "https") {
        return Err(format!("{from} leads to {to}, which is not encrypted"));
    }
    parts.scheme = parts.scheme.or(from.scheme().cloned());
    parts.authority = parts.authority.or(from.authority().cloned());
    Uri::from_parts(parts).map_err(|e| format!("{from} leads to {to:?}: {e}"))
}

async fn get<N: Net>(runtime: &Arc<Runtime<N>>, uri: &Uri) -> Result<Answer, String> {
    let authority = uri.authority().ok_or("there is no host")?;
    let https = uri.scheme_str() == Some("https");
    let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let target = uri.path_and_query().map_or("/", |p| p.as_str());
    let mut request = http::Request::builder().method(Method::GET).uri(target);
    let headers = request.headers_mut().ok_or("the path can't be asked for")?;
    headers.insert(HOST, HeaderValue::from_str(authority.as_str()).map_err(|e| e.to_string())?);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    match place(runtime, host, port).filter(|plan| !https || plan.tls.is_some()) {
        Some(plan) => {
            let request = request.body(Body::Empty).map_err(|e| e.to_string())?;
            read(errand::send(runtime, &plan, request).await.map_err(|e| e.to_string())?).await
        }
        None => {
            let request = request.body(Empty::new()).map_err(|e| e.to_string())?;
            let stream = connect(runtime, host, port).await?;
            if !https {
                return exchange(stream, request).await;
            }
            let connector = runtime.tls.connector(&Arc::new(tls(host)));
            let stream = connector.connect(stream, Some(host), Carries::Http1).await.map_err(|e| e.to_string())?;
            exchange(stream, request).await
        }
    }
}

/// The cluster of the mesh that an address is.
fn place<N: Net>(runtime: &Runtime<N>, host: &str, port: u16) -> Option<Arc<ClusterPlan>> {
    let snapshot = runtime.snapshot.load_full()?;
    let name = snapshot.security.places.get(&(host.to_ascii_lowercase().into(), port))?;
    snapshot.clusters.get(name).cloned()
}

async fn connect<N: Net>(runtime: &Runtime<N>, host: &str, port: u16) -> Result<N::Stream, String> {
    let addresses = match host.parse() {
        Ok(ip) => vec![ip],
        Err(_) => runtime.net.resolve(host).await.map_err(|e| format!("{host} does not resolve: {e}"))?.addresses,
    };
    let mut why = format!("{host} has no address");
    for ip in addresses {
        let options = ConnectOptions { purpose: Purpose::Named, source: None, keepalive: None };
        match tokio::time::timeout(CONNECT, runtime.net.connect((ip, port).into(), options)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => why = error.to_string(),
            Err(_) => why = format!("{ip} does not answer"),
        }
    }
    Err(why)
}

fn tls(host: &str) -> UpstreamTls {
    UpstreamTls {
        mode: "SIMPLE",
        identity: None,
        roots: SecretRef::SYSTEM,
        sni: Sni::Host(host.into()),
        names: PeerNames::Host(host.into()),
        verify: true,
        alpn: vec!["http/1.1".into()],
        parameters: TlsParameters::default(),
        origin: Provenance::default("keys are fetched with the system's authorities"),
        hash: ContentHash::of(b"keys of tokens").with_str(host),
    }
}

async fn exchange<I>(io: I, request: http::Request<Empty<Bytes>>) -> Result<Answer, String>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(|e| e.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        read(response).await
    };
    tokio::select! {
        answer = exchange => answer,
        ended = connection => Err(ended.err().map_or_else(|| "closed without an answer".to_owned(), |e| e.to_string())),
    }
}

async fn read<B>(response: http::Response<B>) -> Result<Answer, String>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let status = response.status();
    if status.is_redirection()
        && let Some(to) = response.headers().get(LOCATION).and_then(|l| l.to_str().ok())
    {
        return Ok(Answer::Elsewhere(to.to_owned()));
    }
    if !status.is_success() {
        return Err(format!("answered {status}"));
    }
    let body = Limited::new(response.into_body(), MAX_DOCUMENT).collect().await;
    let body = body.map_err(|e| e.to_string())?.to_bytes();
    Ok(Answer::Document(body.as_ref().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_never_leave_encryption() {
        let from: Uri = "https://a.example/keys".parse().unwrap();
        let to = |text: &str| resolved(&from, text).map(|u| u.to_string());
        assert_eq!(to("/other").unwrap(), "https://a.example/other");
        assert_eq!(to("https://b.example/x").unwrap(), "https://b.example/x");
        assert!(to("http://b.example/x").unwrap_err().contains("not encrypted"));
    }
}
