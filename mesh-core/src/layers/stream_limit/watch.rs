//! Where a request stands, and which of its limits is the next.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;

use super::StreamLimitConfig;
use super::clock::{StreamTimer, Timer};
use crate::error::{Error, ErrorKind};
use crate::layers::{Body, Request};
use crate::record::Cx;

/// One request and its limits.
pub(super) struct Watch {
    config: StreamLimitConfig,
    began: Instant,
    /// When the response's side last moved.
    moved: Instant,
    /// The request's body, if there is more of it than its head.
    upload: Option<Arc<Upload>>,
    timer: Timer,
}

/// How far a request's body has come.
struct Upload {
    began: Instant,
    /// When it last moved, in microseconds after `began`.
    moved: AtomicU64,
    complete: AtomicBool,
}

impl Watch {
    pub(super) fn of(
        request: Request,
        config: StreamLimitConfig,
        timer: Option<StreamTimer>,
        cx: Option<&Arc<Cx>>,
    ) -> (Request, Self) {
        let now = Instant::now();
        let (clock, began) = timer.map_or((None, now), |t| (t.clock, t.began));
        let timer = Timer::of(clock, cx);
        if request.body().is_empty() || matches!(request.body(), Body::Full(_)) {
            return (request, Self { config, began, moved: now, upload: None, timer });
        }
        let upload = Arc::new(Upload { began: now, moved: 0.into(), complete: false.into() });
        let watched = Arc::clone(&upload);
        let request = request.map(|body| Body::Stream(Box::pin(Watched { body, upload: watched })));
        (request, Self { config, began, moved: now, upload: Some(upload), timer })
    }

    /// The response's side has moved.
    pub(super) fn moved(&mut self) {
        if self.config.idle.is_some() {
            self.moved = Instant::now();
        }
        // The reader may take its time before it asks for more.
        if let Some((at, kind)) = self.next() {
            self.timer.moved(at, kind);
        }
    }

    pub(super) fn request_is_complete(&self) -> bool {
        self.upload.as_ref().is_none_or(|u| u.complete.load(Ordering::Acquire))
    }

    /// The next limit, and when it is.
    fn next(&self) -> Option<(Instant, ErrorKind)> {
        let uploaded = self.upload.as_ref().map(|u| u.began + Duration::from_micros(u.moved.load(Ordering::Acquire)));
        let moved = uploaded.map_or(self.moved, |at| at.max(self.moved));
        let arriving = self.config.request.filter(|_| !self.request_is_complete());
        [
            (self.config.total, self.began, ErrorKind::StreamDuration),
            (arriving, self.began, ErrorKind::RequestTimeout),
            (self.config.idle, moved, ErrorKind::IdleTimeout),
        ]
        .into_iter()
        .filter_map(|(limit, since, kind)| Some((since.checked_add(limit?)?, kind)))
        .min_by_key(|(at, _)| *at)
    }

    /// Ready with what it has been too long for. To be asked whenever neither side had anything to say.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ErrorKind> {
        loop {
            let Some((at, kind)) = self.next() else { return Poll::Pending };
            ready!(self.timer.poll(cx, at, kind));
            if self.next() == Some((at, kind)) {
                return Poll::Ready(kind);
            }
        }
    }
}

/// A request's body that notes when it moves and ends.
struct Watched {
    body: Body,
    upload: Arc<Upload>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Nobody wants the rest: the request is as complete as it will be.
        self.upload.complete.store(true, Ordering::Release);
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        let age = this.upload.began.elapsed().as_micros();
        this.upload.moved.store(u64::try_from(age).unwrap_or(u64::MAX), Ordering::Release);
        if matches!(frame, None | Some(Err(_))) || this.body.is_end_stream() {
            this.upload.complete.store(true, Ordering::Release);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
