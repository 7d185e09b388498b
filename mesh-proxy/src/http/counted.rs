//! A response's body that counts as in flight until it has gone.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use mesh_core::error::Error;
use mesh_core::layers::MeterBody;

/// The body as who called the stack takes it, with what counts it. A process that ends while it streams would cut it.
pub(crate) struct Counted<O> {
    body: MeterBody,
    _open: O,
}

impl<O> Counted<O> {
    pub(crate) fn new(body: MeterBody, open: O) -> Self {
        Self { body, _open: open }
    }
}

impl<O: Unpin> HttpBody for Counted<O> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
