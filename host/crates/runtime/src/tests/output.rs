//! The output of guests as events of the host's log: their time, their order and their guest.

use std::fmt::Write as _;

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::*;

/// The guests' events on this thread, each as `guest request_id attempt stream message`.
#[derive(Clone, Default)]
pub(crate) struct Events(Arc<Mutex<Vec<String>>>);

impl Events {
    pub(crate) fn capture() -> (Self, DefaultGuard) {
        let events = Self::default();
        let subscriber = tracing_subscriber::registry().with(events.clone());
        (events, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

impl<S: Subscriber> Layer<S> for Events {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "guest" {
            let mut line = Line::default();
            event.record(&mut line);
            let mut events = self.0.lock();
            events.push(format!("{}{}", line.fields, line.message));
        }
    }
}

#[derive(Default)]
struct Line {
    fields: String,
    message: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let into = if field.name() == "message" {
            &mut self.message
        } else {
            &mut self.fields
        };
        write!(into, "{value:?} ").unwrap();
    }

    fn record_str(&mut self, _: &Field, value: &str) {
        write!(self.fields, "{value} ").unwrap();
    }
}

#[tokio::test]
async fn each_line_is_an_event_with_guest_request_attempt_and_stream() {
    let guest = guest("fixture-faults");
    let (events, _guard) = Events::capture();
    assert_eq!(text(&guest, "/stdout").await, "printed\n");
    let expected = [
        "fixture-faults test 1 stdout out one ",
        "fixture-faults test 1 stdout out two ",
        "fixture-faults test 1 stderr err one ",
    ];
    assert_eq!(events.take(), expected);
}

#[tokio::test]
async fn the_lines_of_a_run_that_failed_are_logged_with_where_it_trapped() {
    for name in ["fixture-session", "fixture-session-service"] {
        let guest = guest(name);
        let (events, _guard) = Events::capture();
        let mut invocation = invocation(&guest, Method::POST, "/", "log before\nerr and\ntrap");
        assert!(run(&mut invocation).await.is_err());
        let lines = events.take();
        assert_eq!(lines[0], format!("{name} test 1 stdout before "));
        assert_eq!(lines[1], format!("{name} test 1 stderr and "));
        let panic = format!("{name} test 1 stderr ");
        assert!(
            lines[2..]
                .iter()
                .any(|line| line.starts_with(&panic) && line.contains("panicked")),
            "{lines:?}"
        );
        assert!(
            lines
                .last()
                .unwrap()
                .starts_with(&format!("{name} test 1 backtrace ")),
            "{lines:?}"
        );
    }
}

#[tokio::test]
async fn lines_are_held_until_the_release_and_then_logged_directly() {
    let guest = guest("fixture-session");
    let (events, _guard) = Events::capture();
    let script = "log one\nsleep 20\nhead\nbody 100000\nlog two";
    // On a busy machine a run may continue in the background pool, whose threads' events are not captured here. Then it
    // is repeated.
    for _ in 0..20 {
        let mut invocation = invocation(&guest, Method::POST, "/", script);
        let mut running = Box::pin(run(&mut invocation));
        let is_running = tokio::time::timeout(Duration::from_millis(5), &mut running)
            .await
            .is_err();
        assert_eq!((is_running, events.take().len()), (true, 0));
        let released = running.await.unwrap();
        assert_eq!(events.take(), ["fixture-session test 1 stdout one "]);
        body(released).await.unwrap();
        let behind = events.take();
        if !behind.is_empty() {
            assert_eq!(behind, ["fixture-session test 1 stdout two "]);
            return;
        }
    }
    panic!("no line came behind the release");
}

#[tokio::test]
async fn the_number_of_dropped_lines_is_logged() {
    let guest = limited("fixture-faults", |limits| limits.log_lines_max = 10);
    let (events, _guard) = Events::capture();
    assert_eq!(text(&guest, "/log-flood?5000").await, "printed\n");
    let lines = events.take();
    assert_eq!(lines.len(), 11);
    assert!(
        lines[10].contains("4990") && lines[10].contains("dropped"),
        "{}",
        lines[10]
    );
}
