//! A response's body that counts as in flight until it has gone.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use mesh_core::error::Error;
use mesh_core::layers::MeterBody;

use super::lifetime::Open;
use crate::drain::InFlight;

/// The body as the codec takes it. A process that ends while it streams would cut it.
pub(super) struct Counted {
    body: MeterBody,
    _open: (InFlight, Open),
}

impl Counted {
    pub(super) fn new(body: MeterBody, open: (InFlight, Open)) -> Self {
        Self { body, _open: open }
    }
}

impl HttpBody for Counted {
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
