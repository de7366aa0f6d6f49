//! Where log lines go: one subscriber for the process, text for people or JSON for machines, on standard error.
//!
//! Knows nothing of what is logged; `metrics` counts. Standard output stays free for what the command itself has to say.

mod brief;
#[cfg(test)]
mod captured;
mod count;
mod dress;
mod escape;
mod lines;
pub mod metrics;
mod output;
mod recurring;

#[cfg(test)]
pub(crate) use captured::Captured;
pub use count::counted;
pub use escape::{cut, escape, escape_json, escape_lines};
pub use lines::{Flush, KINDS, Kind};
pub use output::{flush, greet, print, print_json, redraw, say};
pub use recurring::{Line, Recurring};

use std::io::{self, IsTerminal as _};

use brief::Brief;
use dress::Dress;
use lines::{Dropped, Lines};
use tracing::Level;
use tracing_subscriber::filter::{EnvFilter, ParseError, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt};

/// The target of lines that guests print.
pub const GUEST_TARGET: &str = "guest";
/// The target of the one event per request.
pub const ACCESS_TARGET: &str = "cloakroom::access";
/// The target of what becomes of a guest's version: at INFO it is live, at WARN it was refused.
pub const VERSION_TARGET: &str = "cloakroom::version";

/// How to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// In which form.
    pub format: Format,
    /// Which lines, in the syntax of `RUST_LOG`: `info`, `info,guest=debug`, `warn,cloakroom::access=info`.
    pub filter: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            format: Format::Text,
            filter: "info".to_owned(),
        }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
    /// For who writes guests: their own lines behind their names, the host's without time and place.
    Brief,
}

/// Why logging did not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The thread that writes the lines could not be started.
    #[error("cannot start the log's thread: {0}")]
    NoThread(#[from] std::io::Error),
    /// The filter is not in the syntax.
    #[error("log filter `{filter}`: {source}")]
    BadFilter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The process has a subscriber already.
    #[error("logging was started twice")]
    StartedTwice(#[from] TryInitError),
}

/// Checks a filter without starting anything.
///
/// # Errors
/// [`TelemetryError::BadFilter`].
pub fn check_filter(filter: &str) -> Result<(), TelemetryError> {
    parse_filter(filter).map(drop)
}

/// Starts logging for the whole process. Lines are written by a thread of their own, a millisecond after they came; keep the
/// returned value until the process ends: its drop has the last lines written.
///
/// # Errors
/// [`TelemetryError`]; a second start is one.
pub fn init(options: &Options) -> Result<Flush, TelemetryError> {
    let dress = match options.format {
        Format::Json => Dress::Json,
        Format::Text if io::stderr().is_terminal() => Dress::Coloured,
        Format::Text | Format::Brief => Dress::Plain,
    };
    let tell = |_: &Lines, dropped: &Dropped| {
        let [access, guest, info, warn, error] = dropped;
        tracing::warn!(
            access,
            guest,
            info,
            warn,
            error,
            "log lines were dropped: nobody read standard error for a while"
        );
    };
    let (written, flush) = Lines::to(io::stderr(), dress, tell)?;
    output::say_through(&written);
    let lines = match options.format {
        Format::Text => fmt::layer().with_ansi(false).with_writer(written).boxed(),
        Format::Brief => fmt::layer()
            .event_format(Brief)
            .with_ansi(false)
            .with_writer(written)
            .boxed(),
        Format::Json => fmt::layer()
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

/// A writer of whole lines to standard error that never waits, for a command that shows the log in its own way. Lines must be
/// harmless already. Keep the second value until the process ends.
///
/// # Errors
/// When the thread cannot be started.
pub fn stderr() -> io::Result<(impl io::Write + Send + 'static, Flush)> {
    let tell = |lines: &Lines, dropped: &Dropped| {
        let count: u64 = dropped.iter().sum();
        let were = if count == 1 { "was" } else { "were" };
        let line = format!(
            "{} {were} dropped: nobody read standard error for a while\n",
            counted(count, "line")
        );
        lines.push(Kind::Warn, line.as_bytes());
    };
    let (lines, flush) = Lines::to(io::stderr(), Dress::AsItIs, tell)?;
    output::say_through(&lines);
    Ok((lines.writer(Kind::Info), flush))
}

/// Tells how many log lines were dropped, by kind.
pub fn tell_dropped(scrape: &metrics::Scrape) {
    for kind in KINDS {
        scrape.total(
            "cloakroom_log_lines_dropped_total",
            "Log lines that were dropped because nobody read standard error.",
            &[("kind", kind.as_str())],
            kind.dropped(),
        );
    }
}

/// Starts logging for the whole process, with what `lines` makes of the events that pass the filter.
///
/// # Errors
/// As [`init`].
pub fn init_with(
    filter: &str,
    lines: impl Layer<Registry> + Send + Sync,
) -> Result<(), TelemetryError> {
    let filter = parse_filter(filter)?;
    // Below INFO, libraries print what passes through them (header fields, statements): no filter may turn that on.
    let is_ours = |target: &str| target.starts_with("cloakroom") || target == GUEST_TARGET;
    let libraries_say_little =
        filter_fn(move |metadata| is_ours(metadata.target()) || *metadata.level() <= Level::INFO);
    tracing_subscriber::registry()
        .with(lines.with_filter(libraries_say_little).with_filter(filter))
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
