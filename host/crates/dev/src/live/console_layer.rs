//! Prints the host's log events for the developer, one line for each: requests with their paths, output and traps of guests,
//! and versions that are ready. Recognises log events by their targets and fields. The code that logs them does not depend on
//! this module.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::{Method, Uri};
use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::console::{Console, TextStyle};
use cloakroom_base::limits::REQUEST_METHOD_BYTES_MAX;
use cloakroom_base::telemetry;
use cloakroom_base::telemetry::{
    ACCESS_TARGET, COMPONENT_FILE_TARGET, GUEST_TARGET, VERSION_TARGET,
};

/// The `error` field of access events that are not printed: a page checks whether it is out of date.
pub(crate) const POLL: &str = "dev-poll";

/// The maximum number of requests in progress whose paths are kept. It exceeds the number of requests that a host serves at the
/// same time.
const PATHS_MAX: usize = 10_000;
/// The maximum number of characters of a path that are printed.
const PATH_CHARS_MAX: usize = 100;

/// The paths of the requests in progress. Log events do not contain them.
#[derive(Debug, Default)]
pub(crate) struct RequestPaths(Mutex<HashMap<String, String>>);

impl RequestPaths {
    /// Records a request when it arrives.
    pub(crate) fn note(&self, request_id: &str, method: &Method, uri: &Uri) {
        let target = uri.path_and_query().map_or("*", |target| target.as_str());
        let shown: String = target.chars().take(PATH_CHARS_MAX).collect();
        let (method, _) = telemetry::cut(method.as_str(), REQUEST_METHOD_BYTES_MAX);
        let mut paths = self.0.lock();
        if paths.len() >= PATHS_MAX {
            // The map grows this large only if the log filter drops the access events that would remove the entries.
            paths.clear();
        }
        paths.insert(request_id.to_owned(), format!("{method} {shown}"));
    }

    fn take(&self, request_id: &str) -> Option<String> {
        let mut paths = self.0.lock();
        paths.remove(request_id)
    }
}

/// Prints log events on the console.
#[derive(Debug)]
pub(crate) struct ConsoleLayer {
    console: Console,
    paths: Arc<RequestPaths>,
    /// The last refusal of each guest. The file watcher and the build both report the same fault of a file, so a repeated one
    /// is not printed.
    refusals: Mutex<HashMap<String, String>>,
}

impl ConsoleLayer {
    pub(crate) fn new(console: Console, paths: Arc<RequestPaths>) -> Self {
        Self {
            console,
            paths,
            refusals: Mutex::default(),
        }
    }

    fn request(&self, fields: &EventFields) {
        let path = self.paths.take(fields.get("request_id"));
        if fields.get("error") == POLL {
            return;
        }
        let path = path.unwrap_or_else(|| fields.get("method").to_owned());
        let status = fields.get("status");
        let style = match status.as_bytes().first() {
            Some(b'1' | b'2') => TextStyle::Green,
            Some(b'3') => TextStyle::Cyan,
            Some(b'4') => TextStyle::Yellow,
            _ => TextStyle::Red,
        };
        let took = fields.get("duration_ms").parse().unwrap_or(0.0);
        let mut beside = format!("  {took:.1} ms");
        let runs = fields.get("attempts");
        if !matches!(runs, "" | "0" | "1") {
            beside += &format!(", {runs} runs");
        }
        let error = fields.get("error");
        if !error.is_empty() {
            beside += &format!(", {error}");
        }
        self.console.line(&[
            (TextStyle::Plain, &path),
            (TextStyle::Plain, " "),
            (style, status),
            (TextStyle::Dim, &beside),
        ]);
    }

    fn guest_line(&self, fields: &EventFields) {
        let style = match fields.get("stream") {
            "backtrace" => TextStyle::Red,
            _ => TextStyle::Plain,
        };
        let name = format!("  {} | ", fields.get("guest"));
        self.console
            .line(&[(TextStyle::Dim, &name), (style, &fields.message)]);
    }

    fn version(&self, level: Level, fields: &EventFields) {
        let (guest, error) = (fields.get("guest"), fields.get("error"));
        let name = format!("{guest}  ");
        let mut refusals = self.refusals.lock();
        if level > Level::WARN {
            refusals.remove(guest);
            let ready = format!("version {} is ready", fields.get("version"));
            self.console
                .line(&[(TextStyle::Bold, &name), (TextStyle::Green, &ready)]);
        } else if refusals
            .insert(guest.to_owned(), error.to_owned())
            .as_deref()
            != Some(error)
        {
            self.console.line(&[
                (TextStyle::Bold, &name),
                (TextStyle::Red, "refused: "),
                (TextStyle::Plain, error),
            ]);
        }
    }

    fn other(&self, level: Level, fields: &EventFields) {
        let (style, word) = match level {
            Level::ERROR => (TextStyle::Red, "error: "),
            _ => (TextStyle::Yellow, "warning: "),
        };
        let guest = match fields.get("guest") {
            "" => String::new(),
            guest => format!("{guest}  "),
        };
        let mut message = fields.message.clone();
        // The detail repeats the error kind and adds to it.
        let details = ["detail", "error"].map(|field| fields.get(field));
        if let Some(detail) = details.iter().find(|detail| !detail.is_empty()) {
            message += &format!(": {detail}");
        }
        self.console.line(&[
            (TextStyle::Bold, &guest),
            (style, word),
            (TextStyle::Plain, &message),
        ]);
    }
}

impl<S: Subscriber> Layer<S> for ConsoleLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        let level = *metadata.level();
        let is_for = |target| metadata.target() == target;
        let has_line = is_for(ACCESS_TARGET) || is_for(GUEST_TARGET) || is_for(VERSION_TARGET);
        // A removed component file is not reported, because a build creates the file again.
        if is_for(COMPONENT_FILE_TARGET) || !(has_line || level <= Level::WARN) {
            return;
        }
        let mut fields = EventFields::default();
        event.record(&mut fields);
        if is_for(ACCESS_TARGET) {
            self.request(&fields);
        } else if is_for(GUEST_TARGET) && level > Level::WARN {
            self.guest_line(&fields);
        } else if is_for(VERSION_TARGET) {
            self.version(level, &fields);
        } else {
            self.other(level, &fields);
        }
    }
}

/// The message and the fields of a log event.
#[derive(Default)]
struct EventFields {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl EventFields {
    /// Returns the value of a field, or an empty string if there is none.
    fn get(&self, name: &str) -> &str {
        let found = self.fields.iter().find(|(field, _)| *field == name);
        found.map_or("", |(_, value)| value)
    }

    fn note(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            name => self.fields.push((name, value)),
        }
    }
}

impl Visit for EventFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.note(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.note(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::super::console::ColorMode;
    use super::super::console::tests::Captured;
    use super::*;

    fn printed(run: impl FnOnce(&RequestPaths)) -> String {
        let captured = Captured::default();
        let paths = Arc::new(RequestPaths::default());
        let console = Console::to(captured.clone(), ColorMode::Plain);
        let console_layer = ConsoleLayer::new(console, Arc::clone(&paths));
        tracing::subscriber::with_default(
            tracing_subscriber::registry().with(console_layer),
            || run(&paths),
        );
        captured.text()
    }

    fn access(request_id: &str, attempts: u32, error: Option<&str>) {
        tracing::info!(
            target: ACCESS_TARGET, method = %Method::GET, status = 200_u16, error, attempts,
            duration_ms = 3.149, request_id = %request_id, "request",
        );
    }

    #[test]
    fn a_request_is_printed_with_its_path_and_number_of_runs() {
        let text = printed(|paths| {
            let uri = "/session?x=1".parse().unwrap();
            for (id, attempts) in [("a", 1), ("b", 3)] {
                paths.note(id, &Method::GET, &uri);
                access(id, attempts, None);
            }
            access("unknown", 0, Some("overloaded"));
        });
        let expected = "GET /session?x=1 200  3.1 ms\n\
                        GET /session?x=1 200  3.1 ms, 3 runs\n\
                        GET 200  3.1 ms, overloaded\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn polls_of_the_notice_page_are_not_printed() {
        let text = printed(|paths| {
            paths.note("a", &Method::GET, &"/".parse().unwrap());
            access("a", 0, Some(POLL));
            assert!(paths.take("a").is_none());
        });
        assert_eq!(text, "");
    }

    #[test]
    fn only_guest_output_versions_and_warnings_are_printed() {
        let text = printed(|_| {
            tracing::info!(target: GUEST_TARGET, guest = %"hello", stream = "stdout", "a line");
            tracing::info!(target: VERSION_TARGET, guest = "hello", version = 3_u64, "a version is live");
            for _ in 0..2 {
                tracing::warn!(target: VERSION_TARGET, guest = "hello", error = %"it is damaged", "refused");
            }
            tracing::warn!(guest = "hello", error = "trap", detail = %"a trap", "a guest gave no answer");
            tracing::warn!(target: COMPONENT_FILE_TARGET, guest = "hello", "the file is gone");
            tracing::info!("stopped");
        });
        let expected = "  hello | a line\n\
                        hello  version 3 is ready\n\
                        hello  refused: it is damaged\n\
                        hello  warning: a guest gave no answer: a trap\n";
        assert_eq!(text, expected);
    }
}
