//! A body that hands on what is read of it. Its reader sets the pace; whoever does not follow is left behind.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::copy::Slot;
use crate::error::{Error, ErrorKind};
use crate::layers::Body;

/// Says that a copy can't be completed any more.
#[derive(Clone, Default)]
pub(super) struct Lost(Arc<Notify>);

impl Lost {
    fn tell(&self) {
        self.0.notify_one();
    }

    pub(super) async fn wait(self) {
        self.0.notified().await;
    }
}

/// A piece on its way to a copy. The channel is bounded by bytes, in [`Slot`], not by pieces.
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

/// One body for each slot, fed by `body` from now on, and who is told if it can't be completed.
pub(super) fn split<'a>(body: &mut Body, slots: impl Iterator<Item = &'a Slot>) -> Vec<(Body, Option<Lost>)> {
    match body {
        Body::Empty => slots.map(|_| (Body::Empty, None)).collect(),
        // All of it is here, shared and not copied.
        Body::Full(bytes) => slots.map(|_| (Body::Full(bytes.clone()), None)).collect(),
        Body::Stream(_) if body.is_empty() => slots.map(|_| (Body::Empty, None)).collect(),
        Body::Stream(_) => {
            let whole = std::mem::take(body);
            let (mut feeds, mut copies) = (Vec::new(), Vec::new());
            for slot in slots {
                let (pieces, receive) = unbounded_channel();
                let lost = Lost::default();
                feeds.push(Feed { pieces, slot: slot.clone(), lost: lost.clone() });
                let copy = CopyBody { receive, slot: slot.clone(), hint: whole.size_hint(), given: 0, ended: false };
                copies.push((Body::Stream(Box::pin(copy)), Some(lost)));
            }
            *body = Body::Stream(Box::pin(Tee { body: whole, feeds }));
            copies
        }
    }
}

/// The way to one copy.
struct Feed {
    pieces: UnboundedSender<Piece>,
    slot: Slot,
    lost: Lost,
}

impl Feed {
    /// Hands on a frame; `false`: this copy needs no more.
    fn give(&self, frame: &Frame<Bytes>) -> bool {
        let piece = if let Some(data) = frame.data_ref() {
            if !self.slot.wait(data.len()) {
                self.lost.tell();
                return false;
            }
            Piece::Data(data.clone())
        } else if let Some(trailers) = frame.trailers_ref() {
            Piece::Trailers(trailers.clone())
        } else {
            return true;
        };
        // Nobody at the other end: the mirror has answered without reading on, or has failed.
        self.pieces.send(piece).is_ok()
    }
}

/// The primary's body.
struct Tee {
    body: Body,
    feeds: Vec<Feed>,
}

impl Tee {
    fn end(&mut self) {
        for feed in self.feeds.drain(..) {
            let _ = feed.pieces.send(Piece::End);
        }
    }
}

impl HttpBody for Tee {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                self.feeds.retain(|feed| feed.give(frame));
                // Nothing comes after trailers: not everybody asks once more.
                if frame.is_trailers() || self.body.is_end_stream() {
                    self.end();
                }
            }
            // Dropped without an end, which the copies see.
            Some(Err(_)) => self.feeds.iter().for_each(|f| f.lost.tell()),
            None => self.end(),
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

impl Drop for Tee {
    fn drop(&mut self) {
        // The primary did not want all of it: nobody will read the rest.
        for feed in &self.feeds {
            feed.lost.tell();
        }
    }
}

/// A copy's body.
struct CopyBody {
    receive: UnboundedReceiver<Piece>,
    slot: Slot,
    hint: SizeHint,
    given: u64,
    ended: bool,
}

impl HttpBody for CopyBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.receive.poll_recv(cx)) {
            Some(Piece::Data(data)) => {
                self.slot.taken(data.len());
                self.given += data.len() as u64;
                Some(Ok(Frame::data(data)))
            }
            Some(Piece::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Some(Piece::End) => {
                self.ended = true;
                None
            }
            // Never a shorter body that looks like a complete one.
            None => Some(Err(Error::new(ErrorKind::LocalReset))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        self.hint.exact().map_or_else(SizeHint::new, |all| SizeHint::with_exact(all.saturating_sub(self.given)))
    }
}
