//! `meshctl port-forward`.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use super::Outcome;
use super::client::{Call, block_on};
use crate::control::Request;

/// Arguments of `port-forward`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// `svc/NAME[.NAMESPACE]`, `deploy/NAME`, `pod/NAME`.
    target: String,
    /// Port here and port there; one number for both; 0 here picks a free one.
    #[arg(value_name = "LOCAL:REMOTE", value_parser = ports)]
    ports: (u16, u16),
}

fn ports(text: &str) -> Result<(u16, u16), String> {
    let (local, remote) = text.split_once(':').unwrap_or((text, text));
    match (local.parse(), remote.parse()) {
        (Ok(local), Ok(remote)) => Ok((local, remote)),
        _ => Err(format!("{text:?} is not LOCAL:REMOTE, like 9080:9080")),
    }
}

pub(super) fn run(mesh: &str, args: &Args) -> Outcome {
    block_on(serve(mesh, args))
}

#[expect(clippy::disallowed_methods, reason = "a command-line program beside the mesh opens this port")]
async fn serve(mesh: &str, args: &Args) -> Outcome {
    let (local, remote) = args.ports;
    // The first connection is tried before anything listens, so that a wrong name is an error now.
    dial(mesh, &args.target, remote).await?;
    let at = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), local);
    let listener = TcpListener::bind(at).await.map_err(|e| format!("{at}: {e}; choose another port, or 0"))?;
    let at = listener.local_addr().map_err(|e| e.to_string())?;
    super::print(&format!("Forwarding from {at} -> {remote}\n"));
    loop {
        let (mut client, _) = listener.accept().await.map_err(|e| e.to_string())?;
        let (mesh, target) = (mesh.to_owned(), args.target.clone());
        tokio::spawn(async move {
            match dial(&mesh, &target, remote).await {
                Ok(mut upstream) => {
                    // How a copied connection ends is the affair of its two ends.
                    let _ = copy_bidirectional(&mut client, &mut upstream).await;
                }
                Err(e) => eprintln!("{e}"),
            }
        });
    }
}

/// A connection into a pod, past its capture.
pub(super) async fn dial(mesh: &str, target: &str, port: u16) -> Result<TcpStream, String> {
    let request = Request::Dial { target: target.to_owned(), port };
    let (_, fds) = Call::start(mesh, &request, &[]).await?.finish().await?;
    let fd = fds.into_iter().next().ok_or("the mesh's answer has no connection")?;
    let stream = std::net::TcpStream::from(fd);
    stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)).map_err(|e| e.to_string())
}
