//! Reading ahead of the TLS library, which asks its connection for 4 KiB at a time: five system calls for a large record.

use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are asked for at once: two of TLS's largest records.
const AHEAD: usize = 32 * 1024;

thread_local! {
    /// The buffer of whoever reads next on this thread.
    static SPARE: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// A connection that is read in large steps, however small those are that are asked for. While nothing is left of a step,
/// it has no buffer.
#[derive(Debug)]
pub(crate) struct ReadAhead<IO> {
    io: IO,
    rest: Option<Rest>,
}

/// What was read and not yet asked for.
#[derive(Debug)]
struct Rest {
    buffer: Box<[u8]>,
    range: Range<usize>,
}

impl<IO> ReadAhead<IO> {
    pub(crate) fn new(io: IO) -> Self {
        Self { io, rest: None }
    }

    pub(crate) fn get_ref(&self) -> &IO {
        &self.io
    }
}

impl Rest {
    /// Gives what fits, and itself if there is more.
    fn give(mut self, buf: &mut ReadBuf<'_>) -> Option<Self> {
        let end = self.range.end.min(self.range.start + buf.remaining());
        buf.put_slice(&self.buffer[self.range.start..end]);
        self.range.start = end;
        if self.range.is_empty() {
            SPARE.set(Some(self.buffer));
            return None;
        }
        Some(self)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for ReadAhead<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let rest = match this.rest.take() {
            Some(rest) => rest,
            None if buf.remaining() >= AHEAD => return Pin::new(&mut this.io).poll_read(cx, buf),
            None => {
                // Taken, not borrowed: what is read may be TLS itself, and read ahead, too.
                let mut buffer = SPARE.take().unwrap_or_else(|| vec![0; AHEAD].into());
                let mut read = ReadBuf::new(&mut buffer);
                let polled = Pin::new(&mut this.io).poll_read(cx, &mut read);
                let range = 0..read.filled().len();
                if !matches!(polled, Poll::Ready(Ok(()))) {
                    SPARE.set(Some(buffer));
                    return polled;
                }
                Rest { buffer, range }
            }
        };
        this.rest = rest.give(buf);
        Poll::Ready(Ok(()))
    }
}

crate::write_through!([IO: AsyncWrite + Unpin] ReadAhead<IO> => io);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn everything_comes_in_order_whatever_the_steps() {
        let sent: Vec<u8> = (0..300_000_u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
        for step in [1, 7, 4096, AHEAD - 1, AHEAD, AHEAD + 1] {
            let (mut writer, reader) = duplex(50_000);
            // Twice, as TLS inside TLS has it.
            let mut reader = ReadAhead::new(ReadAhead::new(reader));
            let all = sent.clone();
            let writing = tokio::spawn(async move { writer.write_all(&all).await.unwrap() });
            let (mut got, mut buffer) = (Vec::new(), vec![0; step]);
            loop {
                let n = reader.read(&mut buffer).await.unwrap();
                got.extend_from_slice(&buffer[..n]);
                if n == 0 {
                    break;
                }
            }
            writing.await.unwrap();
            assert!(got == sent, "in steps of {step}");
        }
    }

    #[tokio::test]
    async fn one_step_serves_many_and_then_nothing_is_held() {
        let (mut writer, reader) = duplex(50_000);
        let mut reader = ReadAhead::new(reader);
        writer.write_all(&[1; 20_000]).await.unwrap();
        let mut buffer = [0; 5_000];
        for left in [15_000, 10_000, 5_000] {
            reader.read_exact(&mut buffer).await.unwrap();
            assert_eq!(reader.rest.as_ref().map(|r| r.range.len()), Some(left));
        }
        reader.read_exact(&mut buffer).await.unwrap();
        assert!(reader.rest.is_none());
        // Nor while it waits, and errors and ends are its connection's.
        let mut more = [0; 10];
        tokio::select! {
            biased;
            _ = reader.read(&mut more) => panic!("there is nothing"),
            () = std::future::ready(()) => {}
        }
        assert!(reader.rest.is_none());
        drop(writer);
        assert_eq!(reader.read(&mut more).await.unwrap(), 0);
    }
}
