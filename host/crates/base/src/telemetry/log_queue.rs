//! The queue between log lines and standard error. A separate thread writes lines in batches, so that a request makes no system
//! call for its line and never waits for a reader. If the reader is too slow, lines are dropped and counted: access lines first,
//! errors last. The queue knows the kind and the form of a line, not its content.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::line_escape::LineEscaper;
use super::{ACCESS_TARGET, GUEST_TARGET};

/// How long a batch is collected before it is written. A host that is killed loses the lines of about this time.
const BATCH_WAIT: Duration = Duration::from_millis(1);
/// The largest number of bytes in the queue: a few thousand lines.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// The kinds of lines, in the order in which they are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// The one line per request.
    Access,
    /// A line that a guest printed.
    Guest,
    /// Any other line up to INFO.
    Info,
    /// WARN.
    Warn,
    /// ERROR.
    Error,
}

/// All kinds, in the order of their numbers.
pub const KINDS: [LineKind; 5] = [
    LineKind::Access,
    LineKind::Guest,
    LineKind::Info,
    LineKind::Warn,
    LineKind::Error,
];

/// The lines of this process that were dropped, by kind.
static DROPPED: [AtomicU64; KINDS.len()] = [const { AtomicU64::new(0) }; KINDS.len()];

impl LineKind {
    fn of(metadata: &Metadata<'_>) -> Self {
        match *metadata.level() {
            Level::ERROR => Self::Error,
            Level::WARN => Self::Warn,
            _ if metadata.target() == ACCESS_TARGET => Self::Access,
            _ if metadata.target() == GUEST_TARGET => Self::Guest,
            _ => Self::Info,
        }
    }

    /// Returns the name of the kind in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Guest => "guest",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    /// Returns the number of lines of this kind that were dropped because the reader was too slow.
    pub fn dropped(self) -> u64 {
        DROPPED[self as usize].load(Ordering::Relaxed)
    }

    /// Returns the number of bytes that the queue may hold with a new line of this kind: half of the maximum for access lines,
    /// all of it for errors.
    fn room(self) -> usize {
        WAITING_BYTES_MAX / 8 * (4 + self as usize)
    }
}

/// The lines dropped since the last report, by kind.
pub(crate) type Dropped = [u64; KINDS.len()];

/// A handle of the queue. Clones share the same queue.
#[derive(Clone)]
pub(crate) struct LogQueue(Arc<LogQueueShared>);

struct LogQueueShared {
    escaper: LineEscaper,
    state: Mutex<LogQueueState>,
    /// Notified when the queue is no longer empty.
    has_lines: Condvar,
    /// Notified when a batch has been written.
    is_written: Condvar,
}

#[derive(Default)]
struct LogQueueState {
    waiting: Vec<u8>,
    dropped: Dropped,
    is_writing: bool,
}

/// A guard that flushes the queue when it is dropped. It waits a limited time for the reader.
#[must_use = "dropping it waits a limited time until the log lines are written"]
pub struct FlushOnDrop(LogQueue);

/// How long the end of a host waits until the reader has taken the last lines.
const FLUSH_MAX: Duration = Duration::from_secs(2);

impl Drop for FlushOnDrop {
    fn drop(&mut self) {
        self.0.flush_for(FLUSH_MAX);
    }
}

impl LogQueue {
    /// Starts the thread that writes lines to `target` in their order. It calls `report_dropped` when lines were dropped and the queue has
    /// room again.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(crate) fn to(
        mut target: impl Write + Send + 'static,
        escaper: LineEscaper,
        report_dropped: impl Fn(&LogQueue, &Dropped) + Send + 'static,
    ) -> io::Result<(Self, FlushOnDrop)> {
        let lines = Self(Arc::new(LogQueueShared {
            escaper,
            state: Mutex::default(),
            has_lines: Condvar::new(),
            is_written: Condvar::new(),
        }));
        let written = lines.clone();
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || written.write_for_ever(&mut target, &report_dropped))?;
        Ok((lines.clone(), FlushOnDrop(lines)))
    }

    /// Adds a line to the queue, or drops it if the queue is full. Never blocks. The line must be escaped and include its line
    /// break.
    pub(crate) fn push(&self, kind: LineKind, line: &[u8]) {
        let mut state = self.0.state.lock();
        if state.waiting.len() + line.len() > kind.room() {
            state.dropped[kind as usize] += 1;
            DROPPED[kind as usize].fetch_add(1, Ordering::Relaxed);
            return;
        }
        let is_first = state.waiting.is_empty();
        state.waiting.extend_from_slice(line);
        drop(state);
        if is_first {
            self.0.has_lines.notify_one();
        }
    }

    /// Returns a writer that gives its lines this kind.
    pub(crate) fn writer(&self, kind: LineKind) -> LineWriter {
        LineWriter {
            lines: self.clone(),
            kind,
        }
    }

    /// Waits until all lines are written, or at most for `time_max`.
    pub(crate) fn flush_for(&self, time_max: Duration) {
        let is_unwritten =
            |state: &mut LogQueueState| !state.waiting.is_empty() || state.is_writing;
        let mut state = self.0.state.lock();
        let is_written = &self.0.is_written;
        is_written.wait_while_for(&mut state, is_unwritten, time_max);
    }

    fn write_for_ever(
        &self,
        target: &mut impl Write,
        report_dropped: &impl Fn(&LogQueue, &Dropped),
    ) {
        let mut batch = Vec::new();
        loop {
            let mut state = self.0.state.lock();
            let is_empty = |state: &mut LogQueueState| state.waiting.is_empty();
            self.0.has_lines.wait_while(&mut state, is_empty);
            drop(state);
            thread::sleep(BATCH_WAIT);
            let mut state = self.0.state.lock();
            std::mem::swap(&mut batch, &mut state.waiting);
            let dropped = std::mem::take(&mut state.dropped);
            state.is_writing = true;
            drop(state);
            // This line comes after the lines that filled the queue.
            if dropped.iter().any(|count| *count > 0) {
                report_dropped(self, &dropped);
            }
            // The thread continues if standard error cannot be written: the error cannot be reported anywhere.
            let _ = target.write_all(&batch).and_then(|()| target.flush());
            batch.clear();
            self.0.state.lock().is_writing = false;
            self.0.is_written.notify_all();
        }
    }
}

/// A writer of lines of one kind. Each call must write a whole line.
pub(crate) struct LineWriter {
    lines: LogQueue,
    kind: LineKind,
}

impl Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = match self.lines.0.escaper {
            LineEscaper::AsItIs => Cow::Borrowed(bytes),
            escaper => escaper.apply(bytes),
        };
        self.lines.push(self.kind, &line);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The subscriber writes each event with one call.
impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = LineWriter;

    fn make_writer(&'a self) -> LineWriter {
        self.writer(LineKind::Info)
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> LineWriter {
        self.writer(LineKind::of(metadata))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A target that passes on each batch and blocks until the test lets it continue.
    struct Slow(Sender<Vec<u8>>, Receiver<()>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).unwrap();
            // At the end of a test, the sender no longer exists.
            let _ = self.1.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (LogQueue, FlushOnDrop, Receiver<Vec<u8>>, Sender<()>) {
        let ((batch, batches), (resume, received)) = (channel(), channel());
        let report_dropped = |lines: &LogQueue, dropped: &Dropped| {
            lines.push(LineKind::Warn, format!("dropped {dropped:?}\n").as_bytes());
        };
        let (lines, flush) =
            LogQueue::to(Slow(batch, received), LineEscaper::AsItIs, report_dropped).unwrap();
        (lines, flush, batches, resume)
    }

    #[test]
    fn lines_queued_during_a_write_form_the_next_batch_in_order() {
        let (lines, flush, batches, resume) = slow();
        lines.push(LineKind::Info, b"one\n");
        assert_eq!(batches.recv().unwrap(), b"one\n");
        for line in ["two\n", "three\n"] {
            lines.push(LineKind::Info, line.as_bytes());
        }
        resume.send(()).unwrap();
        assert_eq!(batches.recv().unwrap(), b"two\nthree\n");
        resume.send(()).unwrap();
        drop(flush);
    }

    #[test]
    fn shutdown_waits_until_all_lines_are_written() {
        let (lines, flush, batches, resume) = slow();
        lines.push(LineKind::Info, b"last words\n");
        let ended = thread::spawn(move || drop(flush));
        batches.recv().unwrap();
        assert!(!ended.is_finished());
        resume.send(()).unwrap();
        ended.join().unwrap();
    }

    #[test]
    fn shutdown_does_not_wait_forever_for_a_stalled_reader() {
        let (lines, flush, batches, _go_on) = slow();
        lines.push(LineKind::Info, b"nobody reads this\n");
        batches.recv().unwrap();
        lines.push(LineKind::Info, b"nor this\n");
        drop(flush);
    }

    #[test]
    fn with_a_stalled_reader_lines_are_dropped_by_kind_without_blocking() {
        let (lines, flush, batches, resume) = slow();
        lines.push(LineKind::Info, b"first\n");
        batches.recv().unwrap();
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        // Each kind still finds room when the kind before it does not.
        for kind in KINDS {
            let taken = (0..2048).take_while(|_| {
                let before = lines.0.state.lock().dropped;
                lines.push(kind, &line);
                lines.0.state.lock().dropped == before
            });
            assert!(taken.count() > 64, "{kind:?}");
        }
        assert_eq!(lines.0.state.lock().waiting.len(), WAITING_BYTES_MAX);
        lines.push(LineKind::Access, b"one more\n");
        assert!(LineKind::Access.dropped() >= 2, "the metric counts it");

        resume.send(()).unwrap();
        assert_eq!(batches.recv().unwrap().len(), WAITING_BYTES_MAX);
        resume.send(()).unwrap();
        let received = String::from_utf8(batches.recv().unwrap()).unwrap();
        assert_eq!(received, "dropped [2, 1, 1, 1, 1]\n");
        resume.send(()).unwrap();
        drop(flush);
    }
}
