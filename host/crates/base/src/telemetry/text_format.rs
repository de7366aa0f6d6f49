//! A log format for guest authors, for a terminal that also shows the output of a test runner. A guest's line is its name and
//! the text. A host's line is the level, the message and the fields. Both omit the time, the target and the request.

use std::fmt::{Debug, Result, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::GUEST_TARGET;

/// The formatter of this module.
pub(crate) struct TextFormat;

impl<S, N> FormatEvent<S, N> for TextFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> Result {
        let metadata = event.metadata();
        if metadata.target() == GUEST_TARGET {
            let mut printed = GuestOutput::default();
            event.record(&mut printed);
            return writeln!(writer, "{}", printed.line());
        }
        let level = metadata.level().as_str().to_ascii_lowercase();
        write!(writer, "cloakroom: {level}: ")?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// A line that a guest printed.
#[derive(Default)]
struct GuestOutput {
    guest: String,
    attempt: u64,
    stream: String,
    text: String,
}

impl GuestOutput {
    /// Formats the line. From the second run of a request on, it contains the number of the run, which explains repeated lines.
    fn line(&self) -> String {
        let Self {
            guest,
            attempt,
            stream,
            text,
        } = self;
        let run = match attempt {
            0 | 1 => String::new(),
            _ => format!(" (run {attempt})"),
        };
        // A backtrace is not printed by the guest.
        let ended_in = if stream == "backtrace" {
            "ended in "
        } else {
            ""
        };
        format!("{guest}{run}: {ended_in}{text}")
    }
}

impl Visit for GuestOutput {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "attempt" {
            self.attempt = value;
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "stream" {
            value.clone_into(&mut self.stream);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = match field.name() {
            "guest" => &mut self.guest,
            "message" => &mut self.text,
            _ => return,
        };
        // Writing to a String cannot fail.
        let _ = write!(text, "{value:?}");
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::fmt;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::telemetry::CapturedOutput;

    fn lines(log: impl FnOnce()) -> String {
        let captured = CapturedOutput::default();
        let layer = fmt::layer()
            .event_format(TextFormat)
            .with_ansi(false)
            .with_writer(captured.writer());
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, log);
        captured.text()
    }

    #[test]
    fn a_guests_log_lines_are_prefixed_with_its_name_and_run_number() {
        let print = |attempt: u32, stream: &str| {
            tracing::info!(
                target: GUEST_TARGET, guest = %"hello", request_id = %"7", attempt, stream, "buy {}", "milk"
            );
        };
        let printed = lines(|| {
            print(1, "stdout");
            print(2, "stderr");
            print(1, "backtrace");
        });
        let expected = "hello: buy milk\nhello (run 2): buy milk\nhello: ended in buy milk\n";
        assert_eq!(printed, expected);
    }

    #[test]
    fn the_hosts_log_lines_have_neither_time_nor_span() {
        let logged = lines(|| {
            let _span = tracing::info_span!("request", id = 7).entered();
            tracing::warn!(guest = "hello", "it trapped");
        });
        assert_eq!(logged, "cloakroom: warn: it trapped guest=\"hello\"\n");
    }
}
