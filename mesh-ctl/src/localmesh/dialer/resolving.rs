//! Names that are looked up in the host's network, on a thread of their own: the parent's loop must never wait.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use mesh_proxy::net::Resolver;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::host::answer;

/// Names that wait to be looked up before more are refused.
const MOST_WAITING: usize = 256;

type Question = (String, OwnedFd);

/// The way to the thread, which is started with the first question.
pub(super) struct Resolving {
    server: Option<SocketAddr>,
    questions: Option<Sender<Question>>,
}

impl Resolving {
    /// `server`: who is asked instead of the host's own resolver.
    pub(super) fn new(server: Option<SocketAddr>) -> Self {
        Self { server, questions: None }
    }

    /// Looks a name up and answers on this socket.
    pub(super) fn resolve(&mut self, name: String, reply: OwnedFd) {
        if self.questions.as_ref().is_none_or(Sender::is_closed) {
            match start(self.server) {
                Ok(questions) => self.questions = Some(questions),
                Err(error) => return answer(&reply, Err(error)),
            }
        }
        let Some(questions) = &self.questions else { return };
        if let Err(error) = questions.try_send((name, reply)) {
            let (_, reply) = error.into_inner();
            answer(&reply, Err(io::Error::other("too many names are being looked up")));
        }
    }
}

fn start(server: Option<SocketAddr>) -> io::Result<Sender<Question>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (sender, questions) = channel(MOST_WAITING);
    std::thread::Builder::new().name("resolve".into()).spawn(move || runtime.block_on(serve(server, questions)))?;
    Ok(sender)
}

async fn serve(server: Option<SocketAddr>, mut questions: Receiver<Question>) {
    let resolver = Arc::new(server.map_or_else(Resolver::system, Resolver::of_server));
    while let Some((name, reply)) = questions.recv().await {
        let resolver = Arc::clone(&resolver);
        tokio::spawn(async move {
            let found = resolver.resolve(&name).await;
            answer(&reply, found.map(|found| (found.to_string(), Vec::new())));
        });
    }
}
