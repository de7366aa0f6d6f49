//! Detects when a store starts to fail and when it answers again. Reports each change once, not each call. Knows only
//! whether calls failed, not their content or the reason.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use cloakroom_base::limits::{STORE_CALM_MAX, STORE_CALM_MIN};

/// The kind of a call. A store may refuse one kind and serve the other, as with a full disk or a read-only server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreSide {
    Read,
    Write,
}

/// A change of the store's state.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OutageChange {
    /// The first call failed.
    Fails,
    /// The kind of call that failed last was answered since then, and no call failed for a while.
    AnswersAgain {
        /// Number of calls that failed during the outage.
        failed_calls: u64,
        /// Time from the first failed call to the first answer after the last failed call.
        lasted: Duration,
    },
}

/// Tracks whether a store is failing.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    /// Whether an outage is in progress. Read for each call without taking the lock.
    is_failing: AtomicBool,
    state: Mutex<OutageState>,
}

#[derive(Debug, Default)]
struct OutageState {
    failing: Option<FailingState>,
    /// The end of the last outage and its required calm time.
    last: Option<(Instant, Duration)>,
}

#[derive(Debug)]
struct FailingState {
    began_at: Instant,
    failed_calls: u64,
    /// Whether the last call of this side failed.
    reads_fail: bool,
    writes_fail: bool,
    /// Since when neither side fails.
    answers_since: Option<Instant>,
    /// How long `answers_since` must last before the outage is over.
    calm: Duration,
}

impl Outage {
    /// Returns whether the store is failing, according to the recorded calls.
    pub(crate) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    /// Records a failed call.
    pub(crate) fn failed(&self, side: StoreSide, now: Instant) -> Option<OutageChange> {
        let mut state = self.state.lock();
        let calm = state.calm(now);
        let is_new = state.failing.is_none();
        let failing = state.failing.get_or_insert(FailingState {
            began_at: now,
            failed_calls: 0,
            reads_fail: false,
            writes_fail: false,
            answers_since: None,
            calm,
        });
        failing.failed_calls += 1;
        *failing.side(side) = true;
        failing.answers_since = None;
        self.is_failing.store(true, Ordering::Relaxed);
        is_new.then_some(OutageChange::Fails)
    }

    /// Records a successful call. Callers may skip this while [`Outage::is_failing`] is false.
    pub(crate) fn answered(&self, side: StoreSide, now: Instant) -> Option<OutageChange> {
        let mut state = self.state.lock();
        let failing = state.failing.as_mut()?;
        *failing.side(side) = false;
        if failing.reads_fail || failing.writes_fail {
            return None;
        }
        let since = *failing.answers_since.get_or_insert(now);
        if now.saturating_duration_since(since) < failing.calm {
            return None;
        }
        let news = OutageChange::AnswersAgain {
            failed_calls: failing.failed_calls,
            lasted: since.saturating_duration_since(failing.began_at),
        };
        state.last = Some((now, failing.calm));
        state.failing = None;
        self.is_failing.store(false, Ordering::Relaxed);
        Some(news)
    }
}

impl OutageState {
    /// Returns how long the store must answer without a failure before an outage that begins now is reported as over.
    fn calm(&self, now: Instant) -> Duration {
        match self.last {
            Some((ended_at, calm)) if now.saturating_duration_since(ended_at) < STORE_CALM_MAX => {
                (calm * 2).min(STORE_CALM_MAX)
            }
            _ => STORE_CALM_MIN,
        }
    }
}

impl FailingState {
    fn side(&mut self, side: StoreSide) -> &mut bool {
        match side {
            StoreSide::Read => &mut self.reads_fail,
            StoreSide::Write => &mut self.writes_fail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_outage_is_reported_once_at_its_start_and_once_at_its_end() {
        let outage = Outage::default();
        let start = Instant::now();
        assert_eq!(
            outage.failed(StoreSide::Read, start),
            Some(OutageChange::Fails)
        );
        for n in 1..10_000 {
            assert_eq!(outage.failed(StoreSide::Read, start + MS * n), None);
        }
        assert!(outage.is_failing());
        let back = start + MS * 20_000;
        assert_eq!(outage.answered(StoreSide::Read, back), None, "not calm yet");
        let news = outage.answered(StoreSide::Read, back + STORE_CALM_MIN);
        let over = OutageChange::AnswersAgain {
            failed_calls: 10_000,
            lasted: MS * 20_000,
        };
        assert_eq!(news, Some(over));
        assert!(!outage.is_failing());
        let later = back + STORE_CALM_MIN * 2;
        assert_eq!(outage.answered(StoreSide::Read, later), None);
    }

    #[test]
    fn reads_that_are_answered_do_not_end_an_outage_of_writes() {
        let outage = Outage::default();
        let start = Instant::now();
        assert_eq!(
            outage.failed(StoreSide::Write, start),
            Some(OutageChange::Fails)
        );
        for second in 1..100 {
            let now = start + Duration::from_secs(second);
            assert_eq!(outage.answered(StoreSide::Read, now), None);
        }
        let back = start + Duration::from_secs(100);
        assert_eq!(outage.answered(StoreSide::Write, back), None);
        let news = outage.answered(StoreSide::Read, back + STORE_CALM_MIN);
        assert!(matches!(
            news,
            Some(OutageChange::AnswersAgain {
                failed_calls: 1,
                ..
            })
        ));
    }

    #[test]
    fn repeated_outages_are_reported_less_and_less_often() {
        let outage = Outage::default();
        let start = Instant::now();
        let mut told = 0;
        for half_second in 0..7_200_u32 {
            let now = start + MS * 500 * half_second;
            let news = match half_second % 4 {
                0 => outage.failed(StoreSide::Read, now),
                _ => outage.answered(StoreSide::Read, now),
            };
            told += usize::from(news.is_some());
        }
        assert!((2..10).contains(&told), "{told} in an hour");
    }

    #[test]
    fn after_an_hour_without_failure_outages_are_reported_promptly_again() {
        let outage = Outage::default();
        let mut now = Instant::now();
        for _ in 0..2 {
            assert_eq!(
                outage.failed(StoreSide::Read, now),
                Some(OutageChange::Fails)
            );
            assert_eq!(outage.answered(StoreSide::Read, now), None);
            let news = outage.answered(StoreSide::Read, now + STORE_CALM_MIN);
            assert!(news.is_some());
            now += Duration::from_secs(3_600);
        }
    }
}
