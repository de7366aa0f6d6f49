//! Progress of a copy: a bar on a terminal, otherwise a line at intervals.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use cloakroom_base::limits::COPY_PROGRESS_INTERVAL;
use cloakroom_base::telemetry;
use cloakroom_base::telemetry::counted;
use cloakroom_session::store::copy::{CopyProgress, CopyProgressReading};

/// How often the bar is redrawn.
const REFRESH: Duration = Duration::from_millis(100);
/// The number of characters in a full bar.
const BAR_CHARS: u64 = 30;

/// Shows the progress on standard error until `work` completes, and returns its result.
///
/// Cancel safety: the same as for `work`.
pub(crate) async fn show_while<T>(gauge: &CopyProgress, work: impl Future<Output = T>) -> T {
    let is_terminal = io::stderr().is_terminal();
    let mut ticks = tokio::time::interval(REFRESH);
    let mut work = std::pin::pin!(work);
    let mut reported_at = Instant::now();
    loop {
        tokio::select! {
            done = work.as_mut() => {
                if is_terminal {
                    telemetry::redraw("");
                }
                return done;
            }
            _ = ticks.tick() => {
                let reading = gauge.read();
                if reading.phase.is_empty() {
                    continue;
                }
                if is_terminal {
                    telemetry::redraw(&bar(reading));
                } else if reported_at.elapsed() >= COPY_PROGRESS_INTERVAL {
                    reported_at = Instant::now();
                    telemetry::print_stderr(&figures(reading));
                }
            }
        }
    }
}

fn bar(reading: CopyProgressReading) -> String {
    let Some(total) = reading.total.filter(|total| *total > 0) else {
        return figures(reading);
    };
    let full = reading.done.min(total).saturating_mul(BAR_CHARS) / total;
    let bar: String = (0..BAR_CHARS)
        .map(|at| if at < full { '#' } else { '.' })
        .collect();
    format!("[{bar}] {}", figures(reading))
}

fn figures(reading: CopyProgressReading) -> String {
    let CopyProgressReading { phase, done, total } = reading;
    match total {
        Some(total) => format!("{phase}: {done} of {}", counted(total, "session")),
        None => format!("{phase}: {}", counted(done, "session")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_progress_display_returns_the_result_of_the_work() {
        let gauge = CopyProgress::default();
        assert_eq!(show_while(&gauge, std::future::ready(7)).await, 7);
    }

    #[test]
    fn the_progress_bar_is_full_at_the_end_and_absent_without_a_total() {
        let reading = |done, total| CopyProgressReading {
            phase: "copying",
            done,
            total,
        };
        let half = "[###############...............] copying: 5 of 10 sessions";
        assert_eq!(bar(reading(5, Some(10))), half);
        assert!(bar(reading(12, Some(10))).starts_with(&format!("[{}]", "#".repeat(30))));
        assert_eq!(bar(reading(5, None)), "copying: 5 sessions");
        assert_eq!(bar(reading(1, None)), "copying: 1 session");
        assert_eq!(bar(reading(0, Some(0))), "copying: 0 of 0 sessions");
    }
}
