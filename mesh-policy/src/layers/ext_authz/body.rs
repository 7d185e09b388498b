//! A request's body, read as far as an authorizer is shown it, and put back.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use mesh_core::error::Error;
use mesh_core::layers::{Body, Request, Response};

use super::{context, too_large};
use crate::ext_authz::BodyInCheck;

/// The request with its body as it was, and the beginning of the body with whether there is more of it; or the reply to a
/// request that has too much. A body that breaks is shown as far as it came; whoever reads it next meets the error.
pub(super) async fn read(request: Request, limits: BodyInCheck) -> Result<(Request, (Bytes, bool)), Response> {
    let cx = context(&request);
    let (head, mut body) = request.into_parts();
    let (mut shown, mut frames, mut partial) = (BytesMut::new(), VecDeque::new(), false);
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let broke = frame.is_err();
        if let Some(data) = frame.as_ref().ok().and_then(Frame::data_ref) {
            let room = limits.max - shown.len();
            if data.len() > room && !limits.allow_partial {
                return Err(too_large(cx.as_deref()));
            }
            shown.extend_from_slice(&data[..data.len().min(room)]);
            partial = data.len() > room || shown.len() == limits.max;
        }
        frames.push_back(frame);
        if broke || (partial && limits.allow_partial) {
            break;
        }
    }
    partial = partial && limits.allow_partial && (!body.is_end_stream() || shown.len() < total(&frames));
    let body = if frames.is_empty() { body } else { Body::stream(Replayed { frames, rest: body }) };
    Ok((Request::from_parts(head, body), (shown.freeze(), partial)))
}

fn total(frames: &VecDeque<Result<Frame<Bytes>, Error>>) -> usize {
    frames.iter().filter_map(|f| f.as_ref().ok()?.data_ref()).map(Bytes::len).sum()
}

/// What was read of a body, then the rest.
struct Replayed {
    frames: VecDeque<Result<Frame<Bytes>, Error>>,
    rest: Body,
}

impl HttpBody for Replayed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.frames.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.rest.size_hint();
        let read = total(&self.frames) as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + read);
        }
        hint.set_lower(hint.lower() + read);
        hint
    }
}
