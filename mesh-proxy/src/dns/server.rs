//! Sockets of the DNS server.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

use super::{Plan, encode, outside, plan, udp_limit};
use crate::listener::{Engine, Shared};
use crate::net::{Datagrams, Listener, Net};

/// Queries that wait for the outside at one time; more are dropped, and clients ask again.
const WAITING: usize = 1024;

/// Answers queries on these sockets for ever.
pub(crate) async fn serve<N, H>(shared: Arc<Shared<N, H>>, udp: Vec<N::Datagrams>, tcp: Vec<N::Listener>)
where
    N: Net,
    H: Engine<N::Stream>,
{
    let waiting = Arc::new(Semaphore::new(WAITING));
    for socket in udp {
        tokio::spawn(datagrams(shared.clone(), Arc::new(socket), waiting.clone()));
    }
    for listener in tcp {
        tokio::spawn(streams(shared.clone(), listener));
    }
}

async fn datagrams<N, H>(shared: Arc<Shared<N, H>>, socket: Arc<N::Datagrams>, waiting: Arc<Semaphore>)
where
    N: Net,
    H: Engine<N::Stream>,
{
    let mut buffer = vec![0; 4096];
    loop {
        // An error here is about an earlier answer (the client's port is closed), not about the socket.
        let Ok((length, from)) = socket.receive(&mut buffer).await else { continue };
        let query = &buffer[..length];
        let snapshot = shared.snapshot();
        let limit = udp_limit(query);
        match plan(query, snapshot.as_deref()) {
            None => {}
            Some(Plan::Reply(reply)) => {
                if let Some(bytes) = encode(&reply, Some(limit)) {
                    let _ = socket.send(&bytes, from).await;
                }
            }
            Some(Plan::Ask(reply, name)) => {
                let Ok(permit) = waiting.clone().try_acquire_owned() else { continue };
                let (shared, socket) = (shared.clone(), socket.clone());
                tokio::spawn(async move {
                    let _permit = permit;
                    let reply = outside(*reply, shared.net.resolve(&name).await);
                    if let Some(bytes) = encode(&reply, Some(limit)) {
                        let _ = socket.send(&bytes, from).await;
                    }
                });
            }
        }
    }
}

async fn streams<N, H>(shared: Arc<Shared<N, H>>, mut listener: N::Listener)
where
    N: Net,
    H: Engine<N::Stream>,
{
    loop {
        if let Ok(stream) = listener.accept().await {
            let shared = shared.clone();
            tokio::spawn(async move {
                // The client's connection: how it ends is its affair.
                let _ = stream_queries(&shared, stream).await;
            });
        }
    }
}

/// Queries over TCP, each with its length before it.
async fn stream_queries<N, H>(shared: &Shared<N, H>, mut stream: N::Stream) -> io::Result<()>
where
    N: Net,
    H: Engine<N::Stream>,
{
    loop {
        let length = stream.read_u16().await?;
        let mut query = vec![0; length.into()];
        stream.read_exact(&mut query).await?;
        let snapshot = shared.snapshot();
        let reply = match plan(&query, snapshot.as_deref()) {
            None => return Ok(()),
            Some(Plan::Reply(reply)) => *reply,
            Some(Plan::Ask(reply, name)) => outside(*reply, shared.net.resolve(&name).await),
        };
        let Some(bytes) = encode(&reply, None) else { return Ok(()) };
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat()).await?;
    }
}
