//! The service: a connection is TLS, then HTTP, then tokens, then policies, and then the application.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use mesh_core::api::{ContentHash, Resource};
use mesh_core::error::{Error as Failure, ErrorKind};
use mesh_core::layers::{Body, BoxService, Request, RespondLayer, Response};
use mesh_core::matching::Claims;
use mesh_core::record::{ConnInfo, Cx};
use mesh_core::snapshot::Direction;
use mesh_policy::Policies;
use mesh_policy::authz::{AuthzInput, Protocol, TrustDomains};
use mesh_policy::jwt::{Authenticator, KeyStore};
use mesh_policy::layers::{AuthzConfig, AuthzLayer, JwtConfig, JwtLayer};
use mesh_tls::{MtlsAcceptConfig, MtlsAcceptLayer, PeerIdentity, Secrets, TlsStream};
use tokio::net::{TcpListener, TcpStream};
use tower::{Layer, Service, ServiceBuilder, service_fn};

use crate::Error;
use crate::identities::World;

/// Serves on a port of its own.
#[allow(clippy::disallowed_methods, reason = "an application opens its sockets itself")]
pub(crate) async fn start(secrets: &Arc<Secrets>) -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let at = listener.local_addr()?;
    let stack = stack()?;
    let serve = service_fn(move |(stream, _): (TlsStream<TcpStream>, PeerIdentity)| connection(stream, stack.clone()));
    let service = MtlsAcceptLayer::new(MtlsAcceptConfig::default(), &**secrets).layer(serve);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Who is refused is the client's affair.
            tokio::spawn(service.clone().call(stream));
        }
    });
    Ok(at)
}

/// Tokens, policies, and the application behind them. Failures on the way become replies.
fn stack() -> Result<BoxService, Error> {
    let (resources, reports) = mesh_core::yaml::read("policies.yaml", include_str!("../policies.yaml"));
    if let Some(report) = reports.first() {
        return Err(format!("{report:?}").into());
    }
    let (mut authorization, mut authentication) = (Vec::new(), Vec::new());
    for resource in resources {
        match resource {
            Resource::AuthorizationPolicy(policy) => authorization.push(policy),
            Resource::RequestAuthentication(policy) => authentication.push(policy),
            _ => {}
        }
    }
    let policies = Policies::compile(&AuthzInput {
        policies: &authorization,
        protocol: Protocol::Http,
        trust_domains: &TrustDomains::default(),
        providers: &Default::default(),
    });
    // All keys are in the file, so that nothing is to be fetched.
    let (authenticator, _) = Authenticator::compile(&authentication, &KeyStore::default());
    let stack = ServiceBuilder::new()
        .layer(RespondLayer::new(HeaderValue::from_static("books")))
        .layer(JwtLayer::new(JwtConfig::new(Arc::new(authenticator), Arc::new(World))))
        .layer(AuthzLayer::new(AuthzConfig::new(Arc::new(policies))))
        .service(service_fn(books));
    Ok(BoxService::new(stack))
}

async fn connection(stream: TlsStream<TcpStream>, stack: BoxService) -> Result<(), Error> {
    let tcp = stream.get_ref();
    let (peer, local, tls) = (tcp.peer_addr()?, tcp.local_addr()?, Some(Arc::clone(stream.info())));
    let conn = ConnInfo {
        direction: Direction::Inbound,
        peer,
        local,
        direct: None,
        sni: "".into(),
        tls,
        peer_text: Default::default(),
    };
    let conn = Arc::new(conn);
    let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
        let (mut stack, conn) = (stack.clone(), Arc::clone(&conn));
        async move {
            let mut request =
                request.map(|body| Body::stream(body.map_err(|_| Failure::new(ErrorKind::DownstreamGone))));
            // What policies see of the connection.
            request.extensions_mut().insert(Arc::new(Cx::new(conn, ContentHash::default())));
            stack.call(request).await
        }
    });
    Ok(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await?)
}

/// The application: it knows who asks.
async fn books(request: Request) -> Result<Response, Failure> {
    let cx = request.extensions().get::<Arc<Cx>>();
    let peer = cx.and_then(|cx| cx.conn.tls.as_ref()?.identity.clone());
    let user = request.extensions().get::<Claims>().and_then(|claims| claims.text("sub")).unwrap_or("nobody");
    let peer = peer.as_ref().map_or("nobody", PeerIdentity::principal);
    Ok(Response::new(Body::from(Bytes::from(format!("{peer}, for {user}")))))
}
