//! Logging: one subscriber for the process, which writes text or JSON to standard error.
//!
//! This module does not know the events that are logged. The metrics are in `metrics`. Standard output is reserved for the
//! results of commands.

#[cfg(any(test, feature = "testing"))]
mod captured;
mod count;
mod escape;
mod line_escape;
mod log_queue;
pub mod metrics;
mod output;
mod rate_limit;
mod text_format;

#[cfg(any(test, feature = "testing"))]
pub use captured::CapturedOutput;
pub use count::counted;
pub use escape::{cut, escape, escape_json, escape_lines};
pub use log_queue::{FlushOnDrop, KINDS, LineKind};
pub use output::{flush, print, print_json, print_startup_message, print_stderr, redraw};
pub use rate_limit::{LinePermit, RateLimitedLines};

use std::io::{self, IsTerminal as _};

use line_escape::LineEscaper;
use log_queue::{Dropped, LogQueue};
use text_format::TextFormat;
use tracing::Level;
use tracing_subscriber::filter::{EnvFilter, ParseError, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt};

/// The target of the lines that guests print.
pub const GUEST_TARGET: &str = "guest";
/// The target of the one event per request.
pub const ACCESS_TARGET: &str = "cloakroom::access";
/// The target of events about a guest's version: at INFO it became live, at WARN it was refused.
pub const VERSION_TARGET: &str = "cloakroom::version";
/// The target of events about the file of a component that cannot be read.
pub const COMPONENT_FILE_TARGET: &str = "cloakroom::component_file";
/// The target of events about the speed of the engine on this system.
pub const ENGINE_TARGET: &str = "cloakroom::engine";

/// Settings of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelemetryOptions {
    /// The form of the lines.
    pub format: LogFormat,
    /// The lines to log, in the syntax of `RUST_LOG`: `info`, `info,guest=debug`, `warn,cloakroom::access=info`.
    pub filter: String,
}

impl Default for TelemetryOptions {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            filter: "info".to_owned(),
        }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people, colored on a terminal.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
    /// Text for guest authors: a guest's lines after the guest's name, and the host's lines without time and target.
    Brief,
}

/// The reason why logging did not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The thread that writes the lines could not be started.
    #[error("cannot start the log's thread: {0}")]
    NoThread(#[from] std::io::Error),
    /// The filter does not have the syntax of `RUST_LOG`.
    #[error("log filter `{filter}`: {source}")]
    BadFilter {
        /// The filter.
        filter: String,
        /// The syntax error.
        source: ParseError,
    },
    /// The process already has a subscriber.
    #[error("logging was started twice")]
    StartedTwice(#[from] TryInitError),
}

/// Checks a filter without starting the log.
///
/// # Errors
/// [`TelemetryError::BadFilter`].
pub fn check_filter(filter: &str) -> Result<(), TelemetryError> {
    parse_filter(filter).map(drop)
}

/// Starts logging for the whole process. A separate thread writes the lines, one millisecond after they are logged. Keep the
/// returned value until the process ends: dropping it writes the last lines.
///
/// # Errors
/// [`TelemetryError`]. A second call is also an error.
pub fn init(options: &TelemetryOptions) -> Result<FlushOnDrop, TelemetryError> {
    let escaper = match options.format {
        LogFormat::Json => LineEscaper::Json,
        LogFormat::Text if io::stderr().is_terminal() => LineEscaper::Coloured,
        LogFormat::Text | LogFormat::Brief => LineEscaper::Plain,
    };
    let report_dropped = |_: &LogQueue, dropped: &Dropped| {
        let [access, guest, info, warn, error] = dropped;
        tracing::warn!(
            access,
            guest,
            info,
            warn,
            error,
            "log lines were dropped: standard error was not read for a while"
        );
    };
    let (written, flush) = LogQueue::to(io::stderr(), escaper, report_dropped)?;
    output::print_stderr_through(&written);
    let lines = match options.format {
        LogFormat::Text => fmt::layer().with_ansi(false).with_writer(written).boxed(),
        LogFormat::Brief => fmt::layer()
            .event_format(TextFormat)
            .with_ansi(false)
            .with_writer(written)
            .boxed(),
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .with_writer(written)
            .boxed(),
    };
    init_with(&options.filter, lines)?;
    Ok(flush)
}

/// Returns a writer of whole lines to standard error that never blocks, for a command that formats the log itself. The lines must
/// already be escaped. Keep the second value until the process ends.
///
/// # Errors
/// If the thread cannot be started.
pub fn stderr() -> io::Result<(impl io::Write + Send + 'static, FlushOnDrop)> {
    let report_dropped = |lines: &LogQueue, dropped: &Dropped| {
        let count: u64 = dropped.iter().sum();
        let were = if count == 1 { "was" } else { "were" };
        let line = format!(
            "{} {were} dropped: nobody read standard error for a while\n",
            counted(count, "line")
        );
        lines.push(LineKind::Warn, line.as_bytes());
    };
    let (lines, flush) = LogQueue::to(io::stderr(), LineEscaper::AsItIs, report_dropped)?;
    output::print_stderr_through(&lines);
    Ok((lines.writer(LineKind::Info), flush))
}

/// Reports the number of dropped log lines of each kind.
pub fn collect_dropped(scrape: &metrics::Scrape) {
    for kind in KINDS {
        scrape.total(
            "cloakroom_log_lines_dropped_total",
            "Log lines that were dropped because standard error was not read.",
            &[("kind", kind.as_str())],
            kind.dropped(),
        );
    }
}

/// Starts logging for the whole process with the layer `lines`, which receives the events that pass the filter.
///
/// # Errors
/// As [`init`].
pub fn init_with(
    filter: &str,
    lines: impl Layer<Registry> + Send + Sync,
) -> Result<(), TelemetryError> {
    let filter = parse_filter(filter)?;
    // Below INFO, libraries log the data that they process (header fields, statements). No filter may enable that.
    let is_ours = |target: &str| target.starts_with("cloakroom") || target == GUEST_TARGET;
    let library_filter =
        filter_fn(move |metadata| is_ours(metadata.target()) || *metadata.level() <= Level::INFO);
    tracing_subscriber::registry()
        .with(lines.with_filter(library_filter).with_filter(filter))
        .try_init()?;
    Ok(())
}

fn parse_filter(filter: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|source| TelemetryError::BadFilter {
            filter: filter.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_in_the_syntax_of_rust_log_is_taken() {
        assert!(check_filter("info,guest=debug,cloakroom::access=off").is_ok());
    }

    #[test]
    fn a_bad_filter_is_named() {
        let error = check_filter("cloakroom=loud").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("log filter `cloakroom=loud`: "),
            "{error}"
        );
    }
}
