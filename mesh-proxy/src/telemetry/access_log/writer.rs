//! Lines go to a thread of their own, so that a slow terminal or disk never slows a request.
//!
//! A line that comes after a pause is written at once. After each write the thread lets lines gather for [`PAUSE`]: under load
//! it is woken, and writes, a hundred times a second and not once for each line.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

/// Bytes that wait for the thread at most.
const LIMIT: usize = 2 << 20;
/// So many bytes are written without waiting for more.
const BATCH: usize = 64 << 10;
const PAUSE: Duration = Duration::from_millis(10);
/// Whoever ends waits for so long for what is still to be written.
const LAST: Duration = Duration::from_secs(1);

/// Takes whole lines. Dropping it ends the thread when it has written them.
pub struct LineWriter(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// There is something to do.
    came: Condvar,
    /// Everything is written.
    went: Condvar,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    /// The thread sleeps until the next line comes.
    idle: bool,
    /// It is writing what came before.
    writing: bool,
    /// Somebody waits for the end.
    hurry: bool,
    /// No line will come.
    over: bool,
}

impl LineWriter {
    /// A writer with the loop that has to run on a thread of its own until the writer is gone.
    pub fn new(mut out: impl Write + Send + 'static) -> (Self, impl FnOnce() + Send + 'static) {
        let shared = Arc::new(Shared::default());
        (Self(Arc::clone(&shared)), move || shared.write(&mut out))
    }

    /// Queues a line; where too many wait it is dropped, and counted.
    pub fn send(&self, line: &[u8]) {
        let mut waiting = self.0.waiting.lock();
        let before = waiting.lines.len();
        if before > 0 && before + line.len() > LIMIT {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.lines.extend_from_slice(line);
        let enough = before < BATCH && waiting.lines.len() >= BATCH;
        if std::mem::take(&mut waiting.idle) || enough {
            drop(waiting);
            self.0.came.notify_one();
        }
    }

    /// Waits until every line is written; not for long, where nobody reads them.
    pub fn flush(&self) {
        let mut waiting = self.0.waiting.lock();
        waiting.hurry = true;
        self.0.came.notify_one();
        self.0.went.wait_while_for(&mut waiting, |w| w.writing || !w.lines.is_empty(), LAST);
    }

    /// Lines dropped so far.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        self.0.waiting.lock().over = true;
        self.0.came.notify_one();
    }
}

impl Shared {
    fn write(&self, out: &mut impl Write) {
        let mut batch = Vec::new();
        let mut waiting = self.waiting.lock();
        loop {
            while waiting.lines.is_empty() {
                if waiting.over {
                    return;
                }
                waiting.idle = true;
                self.came.wait(&mut waiting);
            }
            (waiting.idle, waiting.writing) = (false, true);
            std::mem::swap(&mut waiting.lines, &mut batch);
            // A log that can't be written is no reason to stop serving; there is nobody to tell but the log itself.
            MutexGuard::unlocked(&mut waiting, || drop(out.write_all(&batch).and_then(|()| out.flush())));
            batch.clear();
            batch.shrink_to(2 * BATCH);
            waiting.writing = false;
            if waiting.lines.is_empty() {
                waiting.hurry = false;
                self.went.notify_all();
            }
            let gathers = |w: &mut Waiting| w.lines.len() < BATCH && !w.hurry && !w.over;
            self.came.wait_while_for(&mut waiting, gathers, PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::Builder;

    use super::*;

    /// Says what it is given, and takes it when it is allowed to.
    struct Gate(Sender<String>, Receiver<()>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.send(String::from_utf8_lossy(bytes).into()).unwrap();
            self.1.recv().unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (LineWriter, impl FnOnce() + Send, Receiver<String>, Sender<()>) {
        let ((say, said), (allow, allowed)) = (channel(), channel());
        let (writer, write) = LineWriter::new(Gate(say, allowed));
        (writer, write, said, allow)
    }

    #[test]
    fn what_comes_during_a_write_is_written_together() {
        let (writer, write, said, allow) = gated();
        let thread = Builder::new().spawn(write).unwrap();
        writer.send(b"one\n");
        assert_eq!(said.recv().unwrap(), "one\n");
        for line in [b"two\n", b"3rd\n", b"4th\n"] {
            writer.send(line);
        }
        allow.send(()).unwrap();
        assert_eq!(said.recv().unwrap(), "two\n3rd\n4th\n");
        allow.send(()).unwrap();
        drop(writer);
        thread.join().unwrap();
        assert!(said.recv().is_err(), "nothing is written twice");
    }

    #[test]
    fn flushed_is_written_and_so_is_what_is_there_at_the_end() {
        let (writer, write, said, allow) = gated();
        let thread = Builder::new().spawn(write).unwrap();
        (0..3).for_each(|_| allow.send(()).unwrap());
        writer.send(b"one\n");
        writer.flush();
        writer.send(b"two\n");
        writer.flush();
        assert_eq!(said.try_iter().collect::<String>(), "one\ntwo\n");
        writer.send(b"end\n");
        drop(writer);
        thread.join().unwrap();
        assert_eq!(said.try_iter().collect::<String>(), "end\n");
    }

    #[test]
    fn lines_that_nobody_takes_are_dropped_and_counted() {
        let (writer, write, said, allow) = gated();
        let line = vec![b'x'; LIMIT / 4];
        for _ in 0..6 {
            writer.send(&line);
        }
        assert_eq!(writer.dropped(), 2);
        allow.send(()).unwrap();
        drop(writer);
        write();
        assert_eq!(said.recv().unwrap().len(), LIMIT);
    }
}
