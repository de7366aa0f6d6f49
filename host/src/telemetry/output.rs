//! What commands themselves say: results on standard output, complaints and progress on standard error. Every command prints
//! through these functions, so that nothing foreign in a text drives a terminal, and so that a host never waits for a reader.

use std::io::{self, Write as _};
use std::sync::OnceLock;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use super::escape::{escape, escape_json, escape_lines};
use super::lines::{Kind, Lines};

/// How long a host waits until somebody takes its greeting.
const GREETING_WAIT_MAX: Duration = Duration::from_secs(1);

/// The lines to standard error of a command that goes on; absent, standard error is written at once.
static STDERR: OnceLock<Lines> = OnceLock::new();

/// From now on what is said goes the way of these lines.
pub(super) fn say_through(lines: &Lines) {
    // A second start of the log is an error of its own.
    let _ = STDERR.set(lines.clone());
    // The standard library's hook waits for a reader.
    std::panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("without a name");
        say(&escape(&format!("the thread {name} {panic}")));
    }));
}

/// Prints lines to standard output; line breaks in `text` are the caller's own.
///
/// # Errors
/// When standard output is closed.
pub fn print(text: &str) -> io::Result<()> {
    write(escape_lines(text).as_bytes())
}

/// Prints JSON to standard output, whose texts keep what they mean.
///
/// # Errors
/// When standard output is closed.
pub fn print_json(text: &str) -> io::Result<()> {
    write(escape_json(text).as_bytes())
}

/// As [`print()`], of a host: it goes on although nobody takes it.
///
/// # Errors
/// When standard output is closed.
pub fn greet(text: &str) -> io::Result<()> {
    let text = text.to_owned();
    let (done, is_done) = channel();
    thread::Builder::new()
        .name("greeting".to_owned())
        .spawn(move || done.send(print(&text)))?;
    is_done.recv_timeout(GREETING_WAIT_MAX).unwrap_or(Ok(()))
}

/// Says lines on standard error; line breaks in `text` are the caller's own. Where the log goes on, so does who says it: a
/// reader that takes nothing holds nobody up.
pub fn say(text: &str) {
    let lines = format!("{}\n", escape_lines(text));
    match STDERR.get() {
        Some(stderr) => stderr.push(Kind::Error, lines.as_bytes()),
        // Where standard error is closed there is nowhere to complain.
        None => drop(io::stderr().write_all(lines.as_bytes())),
    }
}

/// Puts one line in the place of the one that was drawn last; for a standard error that is a terminal. An empty one makes room for
/// what is said next.
pub fn redraw(line: &str) {
    let mut stderr = io::stderr();
    let written = write!(stderr, "\r\x1b[2K{}", escape(line));
    // Where standard error is closed there is nothing to draw on.
    drop(written.and_then(|()| stderr.flush()));
}

/// Waits until what was said and logged is written, or for so long.
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
