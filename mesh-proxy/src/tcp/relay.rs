//! Bytes both ways between two streams, with half-close and backpressure.
//!
//! A tunnel that is idle has no buffer: reads go into one scratch buffer per worker thread, and only what the other side
//! does not take at once is kept.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

const SCRATCH: usize = 64 * 1024;
/// Reads of one direction before the other one and other connections get their turn.
const TURNS: usize = 8;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into());
}

/// How a relay ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Both sides had finished.
    Finished,
    /// Nothing came from either side for the idle timeout.
    Idle,
    /// The client's side broke.
    Downstream(io::Error),
    /// The upstream's side broke.
    Upstream(io::Error),
}

/// Which side an error is on.
enum Broken {
    Reader(io::Error),
    Writer(io::Error),
}

/// One direction.
struct Half<'a> {
    pending: Vec<u8>,
    written: usize,
    count: &'a AtomicU64,
    /// How reading came to its end.
    end: Option<io::Result<()>>,
    closed: bool,
}

impl<'a> Half<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        Self { pending: Vec::new(), written: 0, count, end: None, closed: false }
    }

    /// Moves what can be moved; ready when this direction is closed. `moved` is set when anything did.
    fn poll<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        moved: &mut bool,
    ) -> Poll<Result<(), Broken>> {
        for _ in 0..TURNS {
            if self.closed {
                return Poll::Ready(Ok(()));
            }
            while self.written < self.pending.len() {
                let rest = &self.pending[self.written..];
                let n = ready!(Pin::new(&mut *to).poll_write(cx, rest)).map_err(Broken::Writer)?;
                if n == 0 {
                    return Poll::Ready(Err(Broken::Writer(io::ErrorKind::WriteZero.into())));
                }
                *moved = true;
                self.written += n;
            }
            if self.written > 0 {
                self.pending = Vec::new();
                self.written = 0;
            }
            match self.end.take() {
                None => ready!(self.poll_move(cx, from, to, moved))?,
                Some(Err(error)) => return Poll::Ready(Err(Broken::Reader(error))),
                Some(Ok(())) => {
                    self.end = Some(Ok(()));
                    ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(Broken::Writer)?;
                    self.closed = true;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads what has come, and writes it once.
    fn poll_move<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        moved: &mut bool,
    ) -> Poll<Result<(), Broken>> {
        BUFFER.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            self.end = ready!(poll_fill(cx, from, &mut buffer));
            let bytes = buffer.filled();
            *moved = true;
            if bytes.is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            let n = match Pin::new(to).poll_write(cx, bytes) {
                Poll::Ready(written) => written.map_err(Broken::Writer)?,
                Poll::Pending => 0,
            };
            if n < bytes.len() {
                self.pending = bytes[n..].to_vec();
            }
            Poll::Ready(Ok(()))
        })
    }
}

/// Reads until there is nothing more for now, or no room: TLS gives no more than a record at a time. `Some`: it came to an
/// end, after what is in the buffer.
fn poll_fill<R: AsyncRead + Unpin>(
    cx: &mut Context<'_>,
    from: &mut R,
    buffer: &mut ReadBuf<'_>,
) -> Poll<Option<io::Result<()>>> {
    while buffer.remaining() > 0 {
        let before = buffer.filled().len();
        match Pin::new(&mut *from).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) if buffer.filled().len() > before => {}
            Poll::Ready(end) => return Poll::Ready(Some(end)),
            Poll::Pending if before > 0 => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        }
    }
    Poll::Ready(None)
}

/// Relays until both sides have finished, one breaks, or nothing moves for `idle`. Counts bytes as they are read.
pub(crate) async fn relay<D, U>(
    downstream: &mut D,
    upstream: &mut U,
    idle: Option<Duration>,
    (received, sent): (&AtomicU64, &AtomicU64),
) -> End
where
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let mut up = Half::new(received);
    let mut down = Half::new(sent);
    let mut timer = pin!(idle.map(|t| Timer { timeout: t, last: Instant::now(), sleep: Box::pin(sleep(t)) }));
    std::future::poll_fn(|cx| {
        let mut moved = false;
        let to_upstream = up.poll(cx, downstream, upstream, &mut moved);
        let to_downstream = down.poll(cx, upstream, downstream, &mut moved);
        match (to_upstream, to_downstream) {
            (Poll::Ready(Err(Broken::Reader(e))), _) | (_, Poll::Ready(Err(Broken::Writer(e)))) => {
                return Poll::Ready(End::Downstream(e));
            }
            (Poll::Ready(Err(Broken::Writer(e))), _) | (_, Poll::Ready(Err(Broken::Reader(e)))) => {
                return Poll::Ready(End::Upstream(e));
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(End::Finished),
            _ => {}
        }
        match timer.as_mut().get_mut() {
            Some(timer) => timer.poll(cx, moved).map(|()| End::Idle),
            None => Poll::Pending,
        }
    })
    .await
}

/// An idle timer that is not touched while bytes flow: it looks at the time of the last ones when it fires.
struct Timer {
    timeout: Duration,
    last: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Timer {
    fn poll(&mut self, cx: &mut Context<'_>, moved: bool) -> Poll<()> {
        if moved {
            self.last = Instant::now();
        }
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            let deadline = self.last + self.timeout;
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests;
