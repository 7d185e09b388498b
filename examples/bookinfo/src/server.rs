//! The process: listening, serving HTTP/1.1, and ending on SIGTERM or SIGINT once the requests in hand are answered.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mesh_proxy::Mesh;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::client::Client;
use crate::config::{Config, NoService, Service, USAGE};
use crate::details;
use crate::productpage::ProductPage;
use crate::ratings::Ratings;
use crate::reply::{self, Reply};
use crate::reviews::Reviews;

/// Largest request body that is read, in bytes.
const MOST_BYTES: usize = 64 << 10;
/// How long requests in hand may take after the signal to stop.
const PATIENCE_AT_END: Duration = Duration::from_secs(5);
/// Pause after a failed accept, when file descriptors have run out for a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// One of the four services, ready to answer.
pub(crate) enum App {
    ProductPage(ProductPage),
    Details,
    Reviews(Reviews),
    Ratings(Ratings),
}

impl App {
    pub(crate) fn new(config: &Config, client: Client) -> Self {
        match config.service {
            Service::ProductPage => Self::ProductPage(ProductPage::new(config, client)),
            Service::Details => Self::Details,
            Service::Reviews => Self::Reviews(Reviews::new(config, client)),
            Service::Ratings => Self::Ratings(Ratings::default()),
        }
    }

    async fn handle(&self, request: &Parts, body: &Bytes) -> Reply {
        match self {
            Self::ProductPage(app) => app.handle(request, body).await,
            Self::Details => details::handle(request),
            Self::Reviews(app) => app.handle(request).await,
            Self::Ratings(app) => app.handle(request, body),
        }
    }
}

/// Runs the service until it is told to stop. Exit codes: 0 after a signal or for help, 1 if it can't start, 2 for a wrong
/// command line or environment.
pub(crate) fn run(config: Result<Config, NoService>) -> ExitCode {
    let config = match config {
        Ok(config) => config,
        Err(NoService::Help) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(NoService::Wrong(message)) => {
            eprintln!("bookinfo: {message}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let ended = tokio::runtime::Builder::new_current_thread().enable_all().build().and_then(|runtime| {
        let ended = runtime.block_on(until_signal(&config));
        // A host name that is just being looked up must not hold up the end.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bookinfo {}: {error}", config.service.name());
            ExitCode::FAILURE
        }
    }
}

async fn until_signal(config: &Config) -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let listener = listen(config.bind, config.port).await?;
    println!("{} listens on {}, pod {}", config.service.name(), listener.local_addr()?, config.pod);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    if config.embedded {
        return embedded(listener.into_std()?, config, stop).await;
    }
    let app = App::new(config, Client::direct(config.proxy.clone()));
    serve(listener, Arc::new(app), stop).await;
    Ok(())
}

/// The same as a member of the mesh: its listener, its client.
async fn embedded(
    listener: std::net::TcpListener,
    config: &Config,
    stop: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let mesh = Mesh::builder().access_log().start().await?;
    let app = Arc::new(App::new(config, Client::Mesh(mesh.client())));
    let service = tower::service_fn(move |request| {
        let app = Arc::clone(&app);
        async move { answer(&app, request).await }
    });
    let ended = async {
        stop.await;
        mesh.shutdown().await;
    };
    // Serving ends because of the shutdown.
    let (served, ()) = tokio::join!(mesh.serve(listener, service), ended);
    served
}

/// Without an address of choice: one IPv6 socket that takes IPv4 too, or IPv4 alone where the host has no IPv6.
#[allow(clippy::disallowed_methods, reason = "the application is served by the mesh, not a part of it")]
async fn listen(bind: Option<IpAddr>, port: u16) -> std::io::Result<TcpListener> {
    let explain = |address: IpAddr| {
        move |error: std::io::Error| {
            std::io::Error::new(error.kind(), format!("listening on {address} port {port}: {error}"))
        }
    };
    if let Some(address) = bind {
        return TcpListener::bind((address, port)).await.map_err(explain(address));
    }
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        Err(_) => {
            let address = Ipv4Addr::UNSPECIFIED;
            TcpListener::bind((address, port)).await.map_err(explain(address.into()))
        }
    }
}

/// Serves connections until `stop` is ready, then answers what is in hand and closes.
pub(crate) async fn serve(listener: TcpListener, app: Arc<App>, stop: impl Future<Output = ()>) {
    let (stopping, stopped) = watch::channel(());
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = stop.as_mut() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, Arc::clone(&app), stopped.clone()))),
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    drop(listener);
    drop(stopped);
    stopping.send_replace(());
    // Every connection holds a receiver for as long as it lives.
    let _ = tokio::time::timeout(PATIENCE_AT_END, stopping.closed()).await;
}

async fn connection(stream: TcpStream, app: Arc<App>, mut stopped: watch::Receiver<()>) {
    // Without it an answer may wait for the peer's delayed acknowledgement; that it can't be set hurts nobody.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| answer(&app, request));
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    // What ends a connection is the client's affair: bad framing has been answered by hyper, a reset needs no answer.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopped.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn answer<B>(app: &App, request: Request<B>) -> Result<Reply, Infallible>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (parts, body) = request.into_parts();
    Ok(match Limited::new(body, MOST_BYTES).collect().await {
        Ok(body) => app.handle(&parts, &body.to_bytes()).await,
        Err(_) => reply::json_error(StatusCode::PAYLOAD_TOO_LARGE, "the body is broken or larger than 64 KiB"),
    })
}
