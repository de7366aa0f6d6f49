//! The progress of an upload: a line that is redrawn on a terminal, otherwise separate lines.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How often the line on a terminal is redrawn.
const REFRESH: Duration = Duration::from_millis(100);

/// The progress of one component.
pub(crate) struct UploadProgress<'a> {
    name: &'a str,
    bytes: usize,
    sent: Arc<AtomicUsize>,
}

impl<'a> UploadProgress<'a> {
    /// Creates the progress for a component of `bytes` bytes. `sent` counts the bytes that were sent.
    pub(crate) fn new(name: &'a str, bytes: usize, sent: Arc<AtomicUsize>) -> Self {
        Self { name, bytes, sent }
    }

    /// Shows the progress until `work` completes. Returns its result and the time it took.
    pub(crate) async fn show_while<T>(self, work: impl Future<Output = T>) -> (T, Duration) {
        let is_terminal = io::stderr().is_terminal();
        let started_at = Instant::now();
        let mut sent_at = None;
        let mut ticks = tokio::time::interval(REFRESH);
        let mut work = std::pin::pin!(work);
        if !is_terminal {
            self.line(&format!("uploading {}", size(self.bytes)));
        }
        loop {
            tokio::select! {
                done = work.as_mut() => {
                    if is_terminal {
                        // Clears the line for the result.
                        self.write("\r\x1b[2K");
                    }
                    return (done, started_at.elapsed());
                }
                _ = ticks.tick() => {
                    let sent = self.sent.load(Ordering::Relaxed);
                    if sent >= self.bytes && sent_at.is_none() {
                        sent_at = Some(Instant::now());
                        if !is_terminal {
                            self.line("uploaded; the host compiles and tries it");
                        }
                    }
                    if is_terminal {
                        let text = self.text(sent, sent_at.map(|at: Instant| at.elapsed()));
                        self.write(&format!("\r\x1b[2K{}: {text}", self.name));
                    }
                }
            }
        }
    }

    fn text(&self, sent: usize, since_sent: Option<Duration>) -> String {
        match since_sent {
            None => format!("uploading {} of {}", size(sent), size(self.bytes)),
            Some(since) => format!(
                "uploaded {}; compiling {:.1} s",
                size(self.bytes),
                since.as_secs_f64()
            ),
        }
    }

    fn line(&self, text: &str) {
        self.write(&format!("{}: {text}\n", self.name));
    }

    /// Ignores errors: the command continues even if its progress cannot be shown.
    fn write(&self, text: &str) {
        let mut stderr = io::stderr();
        let written = stderr.write_all(text.as_bytes());
        drop(written.and_then(|()| stderr.flush()));
    }
}

/// Formats a number of bytes for a person.
pub fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_progress_display_returns_the_result_of_the_work() {
        let progress = UploadProgress::new("counter", 10, Arc::default());
        let (done, took) = progress
            .show_while(async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                7
            })
            .await;
        assert_eq!(done, 7);
        assert!(took >= Duration::from_millis(1));
    }

    #[test]
    fn the_progress_text_names_the_phase_and_the_bytes() {
        let progress = UploadProgress::new("counter", 3 << 20, Arc::default());
        assert_eq!(progress.text(1 << 20, None), "uploading 1.0 MiB of 3.0 MiB");
        let text = progress.text(3 << 20, Some(Duration::from_millis(2345)));
        assert_eq!(text, "uploaded 3.0 MiB; compiling 2.3 s");
        assert_eq!(
            (size(5), size(2048)),
            ("5 B".to_owned(), "2.0 KiB".to_owned())
        );
    }
}
