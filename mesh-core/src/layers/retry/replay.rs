//! A request body that can be sent again: it remembers what it has given, up to a cap.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;

use crate::error::Error;
use crate::layers::Body;
use crate::snapshot::RoutePlan;

/// Envoy's default buffer limit: 1 MiB.
pub const DEFAULT_CAP: usize = RoutePlan::REPLAY;

/// The keeper of a body between tries. The body in use owns the data and puts it here when it is dropped, so the lock is
/// taken twice for each try, never contended and never for a frame.
pub(super) struct Replay {
    home: Arc<Home>,
}

struct Home {
    kept: Mutex<Option<Kept>>,
    over: std::sync::atomic::AtomicBool,
    back: AtomicWaker,
}

struct Kept {
    rest: Body,
    rest_ended: bool,
    chunks: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    bytes: usize,
    cap: usize,
}

impl Replay {
    /// Wraps a body in place; `None` if there is nothing to remember.
    pub(super) fn new(body: &mut Body, cap: usize) -> Option<Self> {
        if body.is_empty() {
            return None;
        }
        let home = Arc::new(Home { kept: Mutex::new(None), over: false.into(), back: AtomicWaker::new() });
        let kept =
            Kept { rest: std::mem::take(body), rest_ended: false, chunks: Vec::new(), trailers: None, bytes: 0, cap };
        *body = Body::Stream(Box::pin(ReplayBody::new(kept, Arc::clone(&home))));
        Some(Self { home })
    }

    /// All that was given so far is still here.
    pub(super) fn is_whole(&self) -> bool {
        !self.home.over.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The body from its start, as soon as the last try has dropped it: a connection's task may need a moment to see that
    /// nobody wants the exchange any more. `None`: over the cap.
    pub(super) fn poll_again(&mut self, cx: &mut Context<'_>) -> Poll<Option<Body>> {
        self.home.back.register(cx.waker());
        let kept = self.home.kept.lock().take();
        // Asked after the lock: the body may have gone over the cap until it came back.
        if !self.is_whole() {
            return Poll::Ready(None);
        }
        let Some(kept) = kept else { return Poll::Pending };
        Poll::Ready(Some(Body::Stream(Box::pin(ReplayBody::new(kept, Arc::clone(&self.home))))))
    }
}

struct ReplayBody {
    kept: Option<Kept>,
    home: Arc<Home>,
    next: usize,
    trailers_given: bool,
}

impl ReplayBody {
    fn new(kept: Kept, home: Arc<Home>) -> Self {
        Self { kept: Some(kept), home, next: 0, trailers_given: false }
    }
}

impl Drop for ReplayBody {
    fn drop(&mut self) {
        *self.home.kept.lock() = self.kept.take();
        self.home.back.wake();
    }
}

impl Kept {
    fn remember(&mut self, frame: &Frame<Bytes>, home: &Home) {
        if let Some(data) = frame.data_ref() {
            self.bytes += data.len();
            if self.bytes > self.cap {
                home.over.store(true, std::sync::atomic::Ordering::Relaxed);
                self.chunks = Vec::new();
            } else {
                self.chunks.push(data.clone());
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
        }
    }
}

impl HttpBody for ReplayBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let Some(kept) = &mut this.kept else { return Poll::Ready(None) };
        if let Some(chunk) = kept.chunks.get(this.next) {
            this.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
        }
        if kept.rest_ended {
            let trailers = kept.trailers.clone().filter(|_| !std::mem::replace(&mut this.trailers_given, true));
            return Poll::Ready(trailers.map(|t| Ok(Frame::trailers(t))));
        }
        let frame = ready!(Pin::new(&mut kept.rest).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                kept.remember(frame, &this.home);
                this.next = kept.chunks.len();
                this.trailers_given |= frame.is_trailers();
            }
            // A body that broke can't be sent again.
            Some(Err(_)) => this.home.over.store(true, std::sync::atomic::Ordering::Relaxed),
            None => kept.rest_ended = true,
        }
        // Nothing comes after trailers, whether or not the rest was asked once more.
        kept.rest_ended |= kept.rest.is_end_stream() || kept.trailers.is_some();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.kept.as_ref().is_none_or(|k| {
            self.next >= k.chunks.len()
                && (k.rest_ended || k.rest.is_end_stream())
                && (self.trailers_given || k.trailers.is_none())
        })
    }

    fn size_hint(&self) -> SizeHint {
        let Some(kept) = &self.kept else { return SizeHint::with_exact(0) };
        let ahead: usize = kept.chunks.iter().skip(self.next).map(Bytes::len).sum();
        let rest = kept.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + ahead as u64);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + ahead as u64);
        }
        hint
    }
}
