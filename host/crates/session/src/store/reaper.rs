//! The task that deletes expired rows in bounded batches for as long as the host runs. Knows only the `SessionStore`
//! trait, no specific store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{SessionStore, StoreError};
use cloakroom_base::clock::Clock;
use cloakroom_base::limits::{
    REAP_BATCH_ROWS_MAX, REAP_FIRST_DELAY_MAX, REAP_PAUSE_FACTOR, REAP_RETRY_DELAY_MIN,
};

/// Timing and batch size of the reaper.
#[derive(Clone, Debug)]
pub struct ReaperOptions {
    /// Time from the end of one run to the start of the next. It varies by ten percent, so that several hosts drift
    /// apart.
    pub interval: Duration,
    /// The longest wait before the first run. The wait is also never longer than `interval`.
    pub first_delay_max: Duration,
    /// Maximum number of rows that one statement deletes.
    pub batch_rows_max: usize,
}

impl ReaperOptions {
    /// Returns the default options for this interval.
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            first_delay_max: REAP_FIRST_DELAY_MAX,
            batch_rows_max: REAP_BATCH_ROWS_MAX,
        }
    }
}

/// Reaps until `shutdown` is cancelled. If the store fails, retries with growing delays, but at least once per
/// interval.
///
/// Cancel safety: may be dropped at any time; a statement in progress may still take effect.
pub async fn run(
    store: Arc<dyn SessionStore>,
    clock: Clock,
    options: ReaperOptions,
    shutdown: CancellationToken,
) {
    shutdown
        .run_until_cancelled(reap_for_ever(&*store, &clock, &options))
        .await;
}

async fn reap_for_ever(store: &dyn SessionStore, clock: &Clock, options: &ReaperOptions) {
    let mut rhythm = ReaperSchedule::new(options.interval);
    let mut delay = options.first_delay_max.min(options.interval);
    loop {
        sleep(jittered(delay)).await;
        let result = reap_all(store, clock, options.batch_rows_max).await;
        let news = match &result {
            Ok(_) => rhythm.after_success(),
            Err(_) => rhythm.after_failure(),
        };
        match (&result, news) {
            (Err(error), ReaperNews::TroubleBegan) => {
                tracing::warn!(%error, "cannot delete expired sessions, will retry; they stay invalid");
            }
            (_, ReaperNews::TroubleOver { failures }) => {
                tracing::info!(failures, "expired sessions are deleted again");
            }
            _ => {}
        }
        delay = rhythm.delay();
    }
}

/// The retry schedule. Also decides which results are logged: the first failure and the recovery, not each retry in
/// between.
#[derive(Debug)]
struct ReaperSchedule {
    interval: Duration,
    /// Failures since the last success.
    failures: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum ReaperNews {
    Nothing,
    TroubleBegan,
    TroubleOver { failures: u32 },
}

impl ReaperSchedule {
    fn new(interval: Duration) -> Self {
        Self {
            interval,
            failures: 0,
        }
    }

    fn after_success(&mut self) -> ReaperNews {
        match std::mem::take(&mut self.failures) {
            0 => ReaperNews::Nothing,
            failures => ReaperNews::TroubleOver { failures },
        }
    }

    fn after_failure(&mut self) -> ReaperNews {
        self.failures = self.failures.saturating_add(1);
        match self.failures {
            1 => ReaperNews::TroubleBegan,
            _ => ReaperNews::Nothing,
        }
    }

    fn delay(&self) -> Duration {
        match self.failures {
            0 => self.interval,
            failures => {
                let doublings = (failures - 1).min(16);
                (REAP_RETRY_DELAY_MIN * 2_u32.pow(doublings)).min(self.interval)
            }
        }
    }
}

/// Deletes batch after batch until a batch is not full. Pauses between batches to leave the store to requests: no
/// request waits for the deletion of expired rows, because they are invalid in any case.
async fn reap_all(
    store: &dyn SessionStore,
    clock: &Clock,
    batch_rows_max: usize,
) -> Result<usize, StoreError> {
    let mut row_count = 0;
    loop {
        let began_at = Instant::now();
        let reaped = store.reap(clock.now_s(), batch_rows_max).await?;
        row_count += reaped;
        if reaped < batch_rows_max {
            tracing::debug!(row_count, "expired sessions deleted");
            return Ok(row_count);
        }
        // A store in memory answers without waiting, so yield here to let requests run between the batches.
        tokio::task::yield_now().await;
        sleep(began_at.elapsed() * REAP_PAUSE_FACTOR).await;
    }
}

/// Returns `delay`, varied by ten percent.
fn jittered(delay: Duration) -> Duration {
    // Without random numbers all hosts reap at the same time. That is undesirable but not an error.
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    let share = f64::from(random) / f64::from(u32::MAX);
    delay.mul_f64(0.9 + 0.2 * share)
}

#[cfg(test)]
mod tests;
