//! Output of the mesh's processes: a bounded ring of lines for each container, in memory only.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::watch;

/// Lines that are kept of one container.
const KEEP: usize = 5_000;
/// Longer lines are cut here, in bytes.
const LONGEST: usize = 16 << 10;

/// The last lines of one container, over all its restarts.
#[derive(Debug)]
pub(super) struct Ring {
    lines: Mutex<(u64, VecDeque<Arc<str>>)>,
    count: watch::Sender<u64>,
}

impl Default for Ring {
    fn default() -> Self {
        Self { lines: Mutex::default(), count: watch::Sender::new(0) }
    }
}

impl Ring {
    /// Adds a line.
    pub(super) fn push(&self, line: &str) {
        let count = {
            let mut lines = self.lines.lock();
            if lines.1.len() == KEEP {
                lines.1.pop_front();
            }
            lines.1.push_back(line.into());
            lines.0 += 1;
            lines.0
        };
        self.count.send_replace(count);
    }

    /// Lines from number `from` on (or the oldest that is kept), and the number of the next one.
    pub(super) fn since(&self, from: u64) -> (Vec<Arc<str>>, u64) {
        let lines = self.lines.lock();
        let oldest = lines.0 - lines.1.len() as u64;
        let skip = usize::try_from(from.saturating_sub(oldest)).unwrap_or(usize::MAX);
        (lines.1.iter().skip(skip).cloned().collect(), lines.0)
    }

    /// The number from which the last `n` lines start.
    pub(super) fn tail(&self, n: usize) -> u64 {
        self.lines.lock().0.saturating_sub(n as u64)
    }

    /// Observes the number of lines.
    pub(super) fn count(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }

    /// Reads a stream to its end.
    pub(super) async fn read<R: AsyncRead + Unpin>(self: Arc<Self>, stream: R) {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while let Ok(part) = reader.fill_buf().await {
            if part.is_empty() {
                break;
            }
            let end = part.iter().position(|b| *b == b'\n');
            let take = end.unwrap_or(part.len());
            let room = LONGEST.saturating_sub(line.len());
            line.extend_from_slice(&part[..take.min(room)]);
            reader.consume(end.map_or(take, |e| e + 1));
            if end.is_some() {
                self.push(&String::from_utf8_lossy(&line));
                line.clear();
            }
        }
        if !line.is_empty() {
            self.push(&String::from_utf8_lossy(&line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_split_cut_and_kept_to_a_bound() {
        let ring = Arc::new(Ring::default());
        let long = "y".repeat(LONGEST + 100);
        ring.clone().read(format!("one\ntwo\n{long}\nlast").as_bytes()).await;
        let (lines, next) = ring.since(0);
        assert_eq!(next, 4);
        assert_eq!((&*lines[0], &*lines[1], lines[2].len(), &*lines[3]), ("one", "two", LONGEST, "last"));
        assert_eq!(ring.since(3).0.len(), 1);
        assert_eq!(ring.tail(3), 1);

        for i in 0..KEEP {
            ring.push(&i.to_string());
        }
        let (lines, next) = ring.since(0);
        assert_eq!((lines.len(), &*lines[0], next), (KEEP, "0", KEEP as u64 + 4));
        assert_eq!(*ring.count().borrow(), next);
    }
}
