//! An application with the mesh inside, which does nothing but call: each request that it gets in absolute form goes out
//! through its own mesh, as a sidecar sends on what it is asked as an HTTP proxy. So both can be held side by side.
//!
//! It is this test's own program once more, with the one test here to run: it needs no other.

use std::net::SocketAddr;
use std::process::Command;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mesh_proxy::Mesh;
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
        let client = mesh.client();
        let service = service_fn(move |request| client.clone().call(request));
        // A client that breaks its connection knows it.
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
