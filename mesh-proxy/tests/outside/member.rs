//! An application with the mesh inside, which does nothing but call: each request that it gets in absolute form goes out
//! through its own mesh, and each tunnel that it is asked for leads there, as a sidecar does what it is asked as an HTTP
//! proxy. So both can be held side by side.
//!
//! It is this test's own program once more, with the one test here to run: it needs no other.

use std::net::SocketAddr;
use std::process::Command;

use http::{Method, Request, Response};
use http_body_util::{BodyExt, Either, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mesh_proxy::{Connect, Mesh};
use tower::Service;

/// Where it listens; only the laboratory says so.
const AT: &str = "MESH_OUTSIDE_MEMBER";

/// The program, told where to listen and where its configuration comes from.
pub(crate) fn program(at: SocketAddr, server: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "member::calls_through_its_own_mesh", "--ignored", "--nocapture"]);
    command.env(AT, at.to_string()).env("MESH_XDS", format!("@{server}"));
    command
}

#[tokio::test]
#[ignore = "a program that the laboratory starts"]
async fn calls_through_its_own_mesh() {
    let Ok(at) = std::env::var(AT) else { return };
    let at: SocketAddr = at.parse().unwrap();
    // The log begins on a line of its own.
    println!();
    let mesh = Mesh::builder().access_log().admin(at.ip()).start().await.unwrap();
    let listener = tokio::net::TcpListener::bind(at).await.unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (client, connector) = (mesh.client(), mesh.connector());
        let service = service_fn(move |request: Request<Incoming>| {
            let (mut client, connector) = (client.clone(), connector.clone());
            async move {
                if request.method() == Method::CONNECT {
                    tokio::spawn(tunnel(connector, request));
                    return Ok(Response::new(Either::Left(Empty::new().map_err(|no| match no {}))));
                }
                client.call(request).await.map(|answer| answer.map(Either::Right))
            }
        });
        // A client that breaks its connection knows it.
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades());
    }
}

/// Joins a client to where it wants to be connected to.
async fn tunnel(connector: Connect, request: Request<Incoming>) {
    let to: SocketAddr = request.uri().authority().unwrap().as_str().parse().unwrap();
    let ip = to.ip().to_string();
    let (client, there) = tokio::join!(hyper::upgrade::on(request), connector.connect(&ip, to.port()));
    let (mut client, mut there) = (TokioIo::new(client.unwrap()), there.unwrap());
    // Whichever of them breaks, both know it.
    let _ = tokio::io::copy_bidirectional(&mut client, &mut there).await;
}
