//! The output of commands: results on standard output, errors and progress on standard error. Every command prints through these
//! functions, so that foreign text in the output cannot control a terminal and a host never waits for a reader.

use std::io::{self, Write as _};
use std::sync::OnceLock;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use super::escape::{escape, escape_json, escape_lines};
use super::log_queue::{LineKind, LogQueue};

/// How long a host waits until its startup message is read.
const STARTUP_MESSAGE_WAIT_MAX: Duration = Duration::from_secs(1);

/// The queue of lines for standard error while the log runs. If it is not set, standard error is written directly.
static STDERR: OnceLock<LogQueue> = OnceLock::new();

/// Sends the output of [`print_stderr`] through these lines from now on.
pub(crate) fn print_stderr_through(lines: &LogQueue) {
    // A second start of the log is reported as an error elsewhere.
    let _ = STDERR.set(lines.clone());
    // The standard library's panic hook would block on a reader.
    std::panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("without a name");
        print_stderr(&escape(&format!("the thread {name} {panic}")));
    }));
}

/// Prints lines to standard output. Line breaks in `text` are kept.
///
/// # Errors
/// If standard output is closed.
pub fn print(text: &str) -> io::Result<()> {
    write(escape_lines(text).as_bytes())
}

/// Prints JSON to standard output. Its strings keep their values, because they are escaped as JSON.
///
/// # Errors
/// If standard output is closed.
pub fn print_json(text: &str) -> io::Result<()> {
    write(escape_json(text).as_bytes())
}

/// Prints lines like [`print()`], but only waits a limited time for a reader. For a host, which must continue even if its output
/// is not read.
///
/// # Errors
/// If standard output is closed.
pub fn print_startup_message(text: &str) -> io::Result<()> {
    let text = text.to_owned();
    let (done, is_done) = channel();
    thread::Builder::new()
        .name("startup-message".to_owned())
        .spawn(move || done.send(print(&text)))?;
    is_done
        .recv_timeout(STARTUP_MESSAGE_WAIT_MAX)
        .unwrap_or(Ok(()))
}

/// Writes lines to standard error. Line breaks in `text` are kept. While the log runs, this function does not wait for the reader
/// of standard error.
pub fn print_stderr(text: &str) {
    let lines = format!("{}\n", escape_lines(text));
    match STDERR.get() {
        Some(stderr) => stderr.push(LineKind::Error, lines.as_bytes()),
        // If standard error is closed, the error cannot be reported anywhere.
        None => drop(io::stderr().write_all(lines.as_bytes())),
    }
}

/// Replaces the line that was drawn last. Only for a standard error that is a terminal. An empty line makes room for the next
/// output.
pub fn redraw(line: &str) {
    let mut stderr = io::stderr();
    let written = write!(stderr, "\r\x1b[2K{}", escape(line));
    // If standard error is closed, the error cannot be reported anywhere.
    drop(written.and_then(|()| stderr.flush()));
}

/// Waits until all lines are written, or at most for `time_max`.
pub fn flush(time_max: Duration) {
    if let Some(stderr) = STDERR.get() {
        stderr.flush_for(time_max);
    }
}

fn write(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(bytes)?;
    stdout.flush()
}
