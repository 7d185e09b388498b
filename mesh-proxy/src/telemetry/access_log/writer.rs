//! Lines go to a thread of their own, so that a slow terminal or disk never slows a request.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

/// Lines waiting for the writer thread at most; about 2 MB.
const QUEUE: usize = 4096;

/// Sender of whole lines.
pub struct LineWriter {
    queue: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

impl LineWriter {
    /// A writer with the loop that has to run on a thread of its own until all senders are gone.
    pub fn new(mut out: impl Write + Send + 'static) -> (Self, impl FnOnce() + Send + 'static) {
        let (queue, lines) = sync_channel(QUEUE);
        (Self { queue, dropped: Arc::default() }, move || drain(&lines, &mut out))
    }

    /// Queues a line; a full queue drops it and counts.
    pub fn send(&self, line: Vec<u8>) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(line) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Writes what is there in one go and flushes when the queue is empty: few system calls under load, no delay when idle.
fn drain(lines: &Receiver<Vec<u8>>, out: &mut impl Write) {
    let mut buffer = Vec::with_capacity(64 * 1024);
    while let Ok(line) = lines.recv() {
        buffer.extend_from_slice(&line);
        while buffer.len() < 64 * 1024
            && let Ok(line) = lines.try_recv()
        {
            buffer.extend_from_slice(&line);
        }
        // A log that can't be written is no reason to stop serving; there is nobody to tell but the log itself.
        let _ = out.write_all(&buffer).and_then(|()| out.flush());
        buffer.clear();
    }
}
