//! Capture of a guest's stdout and stderr as lines of the host's log. Lines are held until the run ends, and limited in
//! number and bytes.
//!
//! A run that is discarded and repeated logs its lines twice. Each line carries the number of its attempt.

mod allowance;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

pub(crate) use allowance::LineAllowance;

use crate::engine::memory_tally::MemoryTally;
use crate::settings::GuestLimits;
use allowance::LineDecision;

/// The window of the line and byte limits of a released stream.
const WINDOW: Duration = Duration::from_secs(60);
/// The charge for a held line in addition to its bytes.
const LINE_OVERHEAD_BYTES: usize = 64;
/// Most bytes taken from a guest in one write.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// The lines of one run, and later of the next run of the same instance. Clones write to the same run.
#[derive(Clone)]
pub(crate) struct GuestLog(Arc<Mutex<GuestLogState>>);

/// The origin of a line: one of the guest's two streams, or the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StdStream {
    Stdout,
    Stderr,
    /// Written by the host: the functions in which the guest trapped.
    Backtrace,
}

struct GuestLogState {
    guest: Arc<str>,
    request_id: Arc<str>,
    attempt: u32,
    line_bytes_max: usize,
    lines_max: usize,
    bytes_max: usize,
    lines: usize,
    bytes: usize,
    dropped: u64,
    allowance: Arc<LineAllowance>,
    mode: GuestLogMode,
    unfinished: [UnfinishedLine; 2],
    /// The tally that held lines are charged to.
    tally: Option<MemoryTally>,
}

enum GuestLogMode {
    Held(Vec<(StdStream, String)>),
    Passing { window_start: Instant },
}

#[derive(Default)]
struct UnfinishedLine {
    bytes: Vec<u8>,
    cut: bool,
}

impl GuestLog {
    pub(crate) fn new(
        guest: Arc<str>,
        request_id: Arc<str>,
        attempt: u32,
        limits: &GuestLimits,
        allowance: Arc<LineAllowance>,
    ) -> Self {
        Self(Arc::new(Mutex::new(GuestLogState {
            guest,
            request_id,
            attempt,
            line_bytes_max: limits.log_line_bytes_max,
            lines_max: limits.log_lines_max,
            bytes_max: limits.log_bytes_max,
            lines: 0,
            bytes: 0,
            dropped: 0,
            allowance,
            mode: GuestLogMode::Held(Vec::new()),
            unfinished: Default::default(),
            tally: None,
        })))
    }

    /// Charges held lines to the instance that writes them. A line that would exceed its memory limit is dropped.
    pub(crate) fn charge_to(&self, tally: MemoryTally) {
        self.0.lock().tally = Some(tally);
    }

    /// Starts the lines of another run. The previous run must have been finished.
    pub(crate) fn renew(&self, request_id: &Arc<str>, attempt: u32) {
        let mut state = self.0.lock();
        state.request_id = Arc::clone(request_id);
        state.attempt = attempt;
        state.lines = 0;
        state.bytes = 0;
        state.dropped = 0;
        state.mode = GuestLogMode::Held(Vec::new());
        state.unfinished = Default::default();
    }

    pub(crate) fn stdout(&self) -> GuestStream {
        GuestStream {
            log: self.clone(),
            stream: StdStream::Stdout,
        }
    }

    pub(crate) fn stderr(&self) -> GuestStream {
        GuestStream {
            log: self.clone(),
            stream: StdStream::Stderr,
        }
    }

    /// Logs where the guest trapped, after the lines it wrote.
    pub(crate) fn backtrace(&self, functions: &str) {
        let mut state = self.0.lock();
        state.finish_lines();
        state.keep(StdStream::Backtrace, functions.to_owned());
    }

    /// Logs the held lines. From now on, lines are logged when they are written, up to the limits per minute.
    pub(crate) fn pass_through(&self) {
        let mut state = self.0.lock();
        state.emit_held();
        state.mode = GuestLogMode::Passing {
            window_start: Instant::now(),
        };
        state.lines = 0;
        state.bytes = 0;
    }

    /// Logs the held lines and the unfinished ones, because the run is over.
    pub(crate) fn finish(&self) {
        let mut state = self.0.lock();
        state.finish_lines();
        state.emit_held();
        state.emit_dropped();
    }
}

impl GuestLogState {
    fn write(&mut self, stream: StdStream, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend(stream, &bytes[..end]);
            self.finish_line(stream);
            bytes = &bytes[end + 1..];
        }
        self.extend(stream, bytes);
    }

    fn extend(&mut self, stream: StdStream, bytes: &[u8]) {
        let unfinished = &mut self.unfinished[stream as usize];
        let room = self.line_bytes_max.saturating_sub(unfinished.bytes.len());
        unfinished
            .bytes
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        unfinished.cut |= bytes.len() > room;
    }

    fn finish_line(&mut self, stream: StdStream) {
        let unfinished = std::mem::take(&mut self.unfinished[stream as usize]);
        if !self.takes_line(unfinished.bytes.len()) {
            self.dropped += 1;
            return;
        }
        let line = String::from_utf8_lossy(&unfinished.bytes);
        let mut line = line.strip_suffix('\r').unwrap_or(&line).to_owned();
        if unfinished.cut {
            line.push_str(" [cut]");
        }
        self.keep(stream, line);
    }

    fn finish_lines(&mut self) {
        for stream in [StdStream::Stdout, StdStream::Stderr] {
            if !self.unfinished[stream as usize].bytes.is_empty() {
                self.finish_line(stream);
            }
        }
    }

    fn takes_line(&mut self, bytes: usize) -> bool {
        if let GuestLogMode::Passing { window_start } = &mut self.mode
            && window_start.elapsed() >= WINDOW
        {
            *window_start = Instant::now();
            self.lines = 0;
            self.bytes = 0;
            self.emit_dropped();
        }
        self.lines += 1;
        self.bytes += bytes;
        self.lines <= self.lines_max && self.bytes <= self.bytes_max
    }

    fn keep(&mut self, stream: StdStream, line: String) {
        match &mut self.mode {
            GuestLogMode::Held(lines) => {
                let has_room = |tally: &MemoryTally| tally.add(line.len() + LINE_OVERHEAD_BYTES);
                if self.tally.as_ref().is_none_or(has_room) {
                    lines.push((stream, line));
                } else {
                    self.dropped += 1;
                }
            }
            GuestLogMode::Passing { .. } => self.emit(stream, &line),
        }
    }

    fn emit_held(&mut self) {
        if let GuestLogMode::Held(lines) = &mut self.mode {
            for (stream, line) in std::mem::take(lines) {
                self.emit(stream, &line);
                if let Some(tally) = &self.tally {
                    tally.sub(line.len() + LINE_OVERHEAD_BYTES);
                }
            }
        }
    }

    fn emit_dropped(&mut self) {
        let lines = std::mem::take(&mut self.dropped);
        if lines > 0 {
            self.allowance.count_dropped(lines);
            tracing::warn!(
                target: "guest", guest = %self.guest, request_id = %self.request_id, attempt = self.attempt, lines,
                "the guest wrote more than log_lines or log_bytes of its limits; these were dropped",
            );
        }
    }

    fn emit(&self, stream: StdStream, line: &str) {
        let LineDecision::Logged { dropped } = self.allowance.take(line, Instant::now()) else {
            return;
        };
        if dropped > 0 {
            tracing::warn!(
                target: "guest", guest = %self.guest, lines = dropped,
                "the guest wrote more than log_rate of its limits allows a second; lines of its requests were dropped",
            );
        }
        tracing::info!(
            target: "guest", guest = %self.guest, request_id = %self.request_id, attempt = self.attempt,
            stream = stream.name(), "{line}",
        );
    }
}

impl StdStream {
    fn name(self) -> &'static str {
        match self {
            StdStream::Stdout => "stdout",
            StdStream::Stderr => "stderr",
            StdStream::Backtrace => "backtrace",
        }
    }
}

/// One of a guest's two output streams.
#[derive(Clone)]
pub(crate) struct GuestStream {
    log: GuestLog,
    stream: StdStream,
}

impl IsTerminal for GuestStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for GuestStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.log.0.lock().write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

#[async_trait]
impl Pollable for GuestStream {
    async fn ready(&mut self) {}
}

impl AsyncWrite for GuestStream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let bytes = &bytes[..bytes.len().min(WRITE_BYTES_MAX)];
        self.log.0.lock().write(self.stream, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom_base::telemetry::metrics::GuestMetrics;

    fn log(limits: &GuestLimits) -> GuestLog {
        let allowance = LineAllowance::new(1 << 20, GuestMetrics::new("guest", []));
        GuestLog::new("guest".into(), "request".into(), 1, limits, allowance)
    }

    fn held(log: &GuestLog) -> Vec<String> {
        match &log.0.lock().mode {
            GuestLogMode::Held(lines) => lines
                .iter()
                .map(|(stream, line)| format!("{} {line}", stream.name()))
                .collect(),
            GuestLogMode::Passing { .. } => Vec::new(),
        }
    }

    #[test]
    fn writes_are_joined_and_split_into_lines_per_stream() {
        let log = log(&GuestLimits::default());
        log.stdout().write(Bytes::from("one\ntw")).unwrap();
        log.stderr().write(Bytes::from("oops\r\n")).unwrap();
        log.stdout().write(Bytes::from("o\nthree")).unwrap();
        log.0.lock().finish_lines();
        assert_eq!(
            held(&log),
            ["stdout one", "stderr oops", "stdout two", "stdout three"]
        );
    }

    #[test]
    fn lines_beyond_the_limit_of_a_run_are_dropped_and_counted() {
        let limits = GuestLimits {
            log_lines_max: 2,
            log_line_bytes_max: 4,
            ..GuestLimits::default()
        };
        let log = log(&limits);
        log.stdout()
            .write(Bytes::from("abcdef\ng\nh\ni\n"))
            .unwrap();
        assert_eq!(held(&log), ["stdout abcd [cut]", "stdout g"]);
        assert_eq!(log.0.lock().dropped, 2);
    }

    #[test]
    fn lines_beyond_the_limit_of_bytes_of_a_run_are_dropped() {
        let limits = GuestLimits {
            log_bytes_max: 10,
            ..GuestLimits::default()
        };
        let log = log(&limits);
        log.stdout()
            .write(Bytes::from("123456\n1234\n1\n\n"))
            .unwrap();
        assert_eq!(held(&log), ["stdout 123456", "stdout 1234"]);
        assert_eq!(log.0.lock().dropped, 2);
        log.renew(&"next".into(), 1);
        log.stdout().write(Bytes::from("again\n")).unwrap();
        assert_eq!(held(&log), ["stdout again"]);
    }
}
