//! What stands between log lines and standard error: a thread of its own writes what has come together, so that a request costs
//! no system call for its line. Knows nothing of what the lines say.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// How long a line waits for company. A host that is killed loses the lines of its last moment, and no others.
const GATHERED_FOR: Duration = Duration::from_millis(1);
/// Bytes that wait at most. Who finds more there waits, as it would for the system call: nothing is dropped.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// See the module. Clones are the same lines.
#[derive(Clone)]
pub(super) struct Lines(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Something waits.
    has_lines: Condvar,
    /// What waited has been written.
    is_written: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    is_writing: bool,
}

/// Has all lines written when it is dropped.
#[must_use = "dropped, it waits until what was logged is written"]
pub struct Flush(Lines);

impl Drop for Flush {
    fn drop(&mut self) {
        self.0.flush_all();
    }
}

impl Lines {
    /// Lines that go to `target`, in their order.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(super) fn to(mut target: impl Write + Send + 'static) -> io::Result<(Self, Flush)> {
        let lines = Self(Arc::new(Shared {
            state: Mutex::default(),
            has_lines: Condvar::new(),
            is_written: Condvar::new(),
        }));
        let written = lines.clone();
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || written.write_for_ever(&mut target))?;
        Ok((lines.clone(), Flush(lines)))
    }

    fn write_for_ever(&self, target: &mut impl Write) {
        let mut batch = Vec::new();
        loop {
            let state = self.lock();
            let state = self
                .0
                .has_lines
                .wait_while(state, |state| state.waiting.is_empty());
            drop(state);
            thread::sleep(GATHERED_FOR);
            let mut state = self.lock();
            std::mem::swap(&mut batch, &mut state.waiting);
            state.is_writing = true;
            drop(state);
            // A log that nobody takes is no reason to end: there is nowhere to complain.
            let _ = target.write_all(&batch).and_then(|()| target.flush());
            batch.clear();
            self.lock().is_writing = false;
            self.0.is_written.notify_all();
        }
    }

    fn flush_all(&self) {
        let is_unwritten = |state: &mut State| !state.waiting.is_empty() || state.is_writing;
        drop(self.0.is_written.wait_while(self.lock(), is_unwritten));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics half way through a change of it.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let is_full = |state: &mut State| state.waiting.len() >= WAITING_BYTES_MAX;
        let state = self.0.is_written.wait_while(self.lock(), is_full);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        let is_first = state.waiting.is_empty();
        state.waiting.extend_from_slice(bytes);
        drop(state);
        if is_first {
            self.0.has_lines.notify_one();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Gives away each batch; takes the next when it is told to.
    struct Slow(Sender<Vec<u8>>, Receiver<()>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).unwrap();
            self.1.recv().unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (Lines, Flush, Receiver<Vec<u8>>, Sender<()>) {
        let ((batch, batches), (go_on, told)) = (channel(), channel());
        let (lines, flush) = Lines::to(Slow(batch, told)).unwrap();
        (lines, flush, batches, go_on)
    }

    #[test]
    fn what_comes_while_one_batch_is_written_is_the_next_in_its_order() {
        let (mut lines, flush, batches, go_on) = slow();
        lines.write_all(b"one\n").unwrap();
        assert_eq!(batches.recv().unwrap(), b"one\n");
        for line in ["two\n", "three\n"] {
            lines.write_all(line.as_bytes()).unwrap();
        }
        go_on.send(()).unwrap();
        assert_eq!(batches.recv().unwrap(), b"two\nthree\n");
        go_on.send(()).unwrap();
        drop(flush);
    }

    #[test]
    fn who_ends_waits_until_all_is_written() {
        let (mut lines, flush, batches, go_on) = slow();
        lines.write_all(b"last words\n").unwrap();
        let ended = thread::spawn(move || drop(flush));
        batches.recv().unwrap();
        assert!(!ended.is_finished());
        go_on.send(()).unwrap();
        ended.join().unwrap();
    }

    #[test]
    fn nothing_is_dropped_where_nobody_reads_for_a_while() {
        let (mut lines, flush, batches, go_on) = slow();
        lines.write_all(b"first\n").unwrap();
        batches.recv().unwrap();
        let much = vec![b'x'; WAITING_BYTES_MAX];
        lines.write_all(&much).unwrap();
        let waits = thread::spawn(move || lines.write_all(b"last\n").unwrap());
        thread::sleep(Duration::from_millis(50));
        assert!(!waits.is_finished(), "there is no room");
        go_on.send(()).unwrap();
        assert_eq!(batches.recv().unwrap().len(), much.len());
        go_on.send(()).unwrap();
        assert_eq!(batches.recv().unwrap(), b"last\n");
        go_on.send(()).unwrap();
        waits.join().unwrap();
        drop(flush);
    }
}
