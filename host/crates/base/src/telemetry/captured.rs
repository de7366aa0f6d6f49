//! Captures the log lines of a test.
#![expect(
    clippy::unwrap_used,
    reason = "a test helper: a failure is a failed test"
)]

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;

/// The bytes that a layer wrote. Clones share them.
#[derive(Clone, Default)]
pub struct CapturedOutput(Arc<Mutex<Vec<u8>>>);

impl CapturedOutput {
    /// Captures the lines of this thread as JSON, until the guard is dropped.
    pub fn json_of_this_thread() -> (Self, DefaultGuard) {
        let captured = Self::default();
        let layer = fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(captured.writer());
        let subscriber = tracing_subscriber::registry().with(layer);
        (captured, tracing::subscriber::set_default(subscriber))
    }

    /// Returns a writer for a layer.
    pub fn writer(&self) -> impl Fn() -> Self + Send + Sync + 'static {
        let captured = self.clone();
        move || captured.clone()
    }

    /// Returns the text so far.
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

impl io::Write for CapturedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
