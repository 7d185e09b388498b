//! What the guard of a connection and its requests tell each other.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};

use futures_util::task::AtomicWaker;
use http::{Extensions, HeaderMap, StatusCode};
use mesh_core::layers::{LocalReply, Request};
use parking_lot::Mutex;

use crate::http::lifetime::Life;

/// State of one HTTP/1 connection. Requests are counted on both sides; they are served in the order in which they came.
pub(in crate::http) struct Shared {
    pub(in crate::http) life: Arc<Life>,
    passed: AtomicU64,
    served: AtomicU64,
    refusal: OnceLock<(u64, LocalReply)>,
    expecting: AtomicU64,
    interim: Mutex<Vec<u8>>,
    has_interim: AtomicBool,
    reader: AtomicWaker,
    extensions: OnceLock<Extensions>,
    late: OnceLock<LocalReply>,
}

/// What the guard knows about a request.
pub(in crate::http) struct Known {
    pub(in crate::http) refused: Option<LocalReply>,
    pub(in crate::http) expects_continue: bool,
}

impl Shared {
    pub(in crate::http) fn new(life: Life) -> Self {
        Self {
            life: Arc::new(life),
            passed: 0.into(),
            served: 0.into(),
            refusal: OnceLock::new(),
            expecting: 0.into(),
            interim: Mutex::default(),
            has_interim: false.into(),
            reader: AtomicWaker::new(),
            extensions: OnceLock::new(),
            late: OnceLock::new(),
        }
    }

    /// The head that has begun takes too long: this is the answer to it.
    pub(in crate::http) fn too_late(&self, reply: LocalReply) {
        let _ = self.late.set(reply);
    }

    pub(super) fn late(&self) -> Option<&LocalReply> {
        self.late.get()
    }

    /// A head goes to the codec.
    pub(super) fn pass(&self) -> u64 {
        self.life.head_ended();
        self.passed.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The next request that the codec sees is a stand-in for a refused one.
    pub(super) fn refuse(&self, reply: LocalReply) {
        let number = self.pass();
        let _ = self.refusal.set((number, reply));
    }

    /// The request that was just passed had `expect: 100-continue`, which the codec must not answer.
    pub(super) fn note_expectation(&self) {
        self.expecting.store(self.passed.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Called once for each request, in order.
    pub(in crate::http) fn next_request(&self) -> Known {
        let number = self.served.fetch_add(1, Ordering::Relaxed) + 1;
        let refused = self.refusal.get().filter(|(n, _)| *n == number).map(|(_, reply)| reply.clone());
        Known { refused, expects_continue: self.expecting.load(Ordering::Relaxed) == number }
    }

    /// Lets 1xx responses of the upstream through to the client.
    pub(in crate::http) fn pass_informational(self: &Arc<Self>, request: &mut Request) {
        let template = self.extensions.get_or_init(|| {
            let to = Arc::downgrade(self);
            let mut template = http::Request::new(());
            hyper::ext::on_informational(&mut template, move |response| {
                if let Some(shared) = Weak::upgrade(&to) {
                    shared.push_interim(response.status(), response.headers());
                }
            });
            template.into_parts().0.extensions
        });
        if request.extensions().is_empty() {
            *request.extensions_mut() = template.clone();
        } else {
            request.extensions_mut().extend(template.clone());
        }
    }

    fn push_interim(&self, status: StatusCode, headers: &HeaderMap) {
        let reason = match status.as_u16() {
            100 => "Continue",
            102 => "Processing",
            _ => "Unknown",
        };
        let mut interim = self.interim.lock();
        interim.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).as_bytes());
        for (name, value) in headers {
            interim.extend_from_slice(name.as_str().as_bytes());
            interim.extend_from_slice(b": ");
            interim.extend_from_slice(value.as_bytes());
            interim.extend_from_slice(b"\r\n");
        }
        interim.extend_from_slice(b"\r\n");
        self.has_interim.store(true, Ordering::Release);
        self.reader.wake();
    }

    /// Whether there is something to write now; if not, the waker is called when there is.
    pub(super) fn has_interim(&self, waker: &Waker) -> bool {
        self.reader.register(waker);
        self.has_interim.load(Ordering::Acquire)
    }

    pub(super) fn write_interim(
        &self,
        mut write: impl FnMut(&[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        let mut interim = self.interim.lock();
        while !interim.is_empty() {
            match write(&interim) {
                Poll::Ready(Ok(n)) => drop(interim.drain(..n)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        self.has_interim.store(false, Ordering::Release);
        Poll::Ready(Ok(()))
    }
}
