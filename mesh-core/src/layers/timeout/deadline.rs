//! A clock that starts when the request's body has ended.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use crate::error::Error;
use crate::layers::{Body, Request};

pin_project! {
    /// Ready when the time has passed.
    pub(super) struct Deadline {
        limit: Duration,
        request: Option<Arc<Ended>>,
        at: Option<Instant>,
        // A timer is registered only for a request that has to wait.
        #[pin]
        sleep: Option<Sleep>,
    }
}

#[derive(Default)]
struct Ended {
    done: AtomicBool,
    waiter: AtomicWaker,
}

impl Deadline {
    /// A deadline for a request, and the request to send on.
    pub(super) fn after_request(request: Request, limit: Duration) -> (Request, Self) {
        let late = |limit| Instant::now().checked_add(limit);
        if request.body().is_empty() || matches!(request.body(), Body::Full(_)) {
            return (request, Self { limit, request: None, at: late(limit), sleep: None });
        }
        let ended = Arc::new(Ended::default());
        let watched = Arc::clone(&ended);
        let request = request.map(|body| Body::Stream(Box::pin(Watched { body, ended: watched })));
        (request, Self { limit, request: Some(ended), at: None, sleep: None })
    }

    /// When it will be; `None`: the request has not ended yet.
    pub(super) fn at(self: Pin<&mut Self>) -> Option<Instant> {
        let this = self.project();
        if this.at.is_none() && this.request.as_ref().is_some_and(|r| r.done.load(Ordering::Acquire)) {
            *this.at = Instant::now().checked_add(*this.limit);
        }
        *this.at
    }
}

impl Future for Deadline {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let (None, Some(request)) = (&self.at, &self.request) {
            request.waiter.register(cx.waker());
        }
        let Some(at) = self.as_mut().at() else { return Poll::Pending };
        let mut sleep = self.project().sleep;
        if sleep.is_none() {
            sleep.set(Some(tokio::time::sleep_until(at)));
        }
        sleep.as_pin_mut().map_or(Poll::Pending, |sleep| sleep.poll(cx))
    }
}

/// A request's body that says when it has ended or is no longer wanted.
struct Watched {
    body: Body,
    ended: Arc<Ended>,
}

impl Watched {
    fn end(&self) {
        if !self.ended.done.swap(true, Ordering::Release) {
            self.ended.waiter.wake();
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.end();
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) || self.body.is_end_stream() {
            self.end();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
