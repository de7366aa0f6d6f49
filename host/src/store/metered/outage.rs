//! When a store fails and when it answers again: a piece of news for each change, none for each call. Knows calls that failed or did
//! not, neither what they asked nor why.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::{STORE_CALM_MAX, STORE_CALM_MIN};

/// What a call does. A store may refuse one of them and do the other: a disk that is full, a server that only reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Read,
    Write,
}

/// A change of the store's state.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The first call failed.
    Fails,
    /// What failed last was answered since, and for a while no call failed.
    AnswersAgain {
        /// Calls that failed meanwhile.
        failed_calls: u64,
        /// From the first failed call to the first answer after the last one.
        lasted: Duration,
    },
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outage {
    /// Whether one is under way: read for each call, without the lock.
    is_failing: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failing: Option<Failing>,
    /// How the last outage ended: when, and after how much calm.
    last: Option<(Instant, Duration)>,
}

#[derive(Debug)]
struct Failing {
    began_at: Instant,
    failed_calls: u64,
    /// Whether the last call of this side failed.
    reads_fail: bool,
    writes_fail: bool,
    /// Since when neither fails.
    answers_since: Option<Instant>,
    /// How long that has to last.
    calm: Duration,
}

impl Outage {
    /// Whether the store fails, as far as was told.
    pub(super) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    /// Takes note of a call that failed.
    pub(super) fn failed(&self, side: Side, now: Instant) -> Option<News> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let calm = state.calm(now);
        let is_new = state.failing.is_none();
        let failing = state.failing.get_or_insert(Failing {
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
        is_new.then_some(News::Fails)
    }

    /// Takes note of a call that did not fail. Nothing is lost where it is left out while [`Outage::is_failing`] is false.
    pub(super) fn answered(&self, side: Side, now: Instant) -> Option<News> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let failing = state.failing.as_mut()?;
        *failing.side(side) = false;
        if failing.reads_fail || failing.writes_fail {
            return None;
        }
        let since = *failing.answers_since.get_or_insert(now);
        if now.saturating_duration_since(since) < failing.calm {
            return None;
        }
        let news = News::AnswersAgain {
            failed_calls: failing.failed_calls,
            lasted: since.saturating_duration_since(failing.began_at),
        };
        state.last = Some((now, failing.calm));
        state.failing = None;
        self.is_failing.store(false, Ordering::Relaxed);
        Some(news)
    }
}

impl State {
    /// How long an outage that begins now has to be over before that is told.
    fn calm(&self, now: Instant) -> Duration {
        match self.last {
            Some((ended_at, calm)) if now.saturating_duration_since(ended_at) < STORE_CALM_MAX => {
                (calm * 2).min(STORE_CALM_MAX)
            }
            _ => STORE_CALM_MIN,
        }
    }
}

impl Failing {
    fn side(&mut self, side: Side) -> &mut bool {
        match side {
            Side::Read => &mut self.reads_fail,
            Side::Write => &mut self.writes_fail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn ten_thousand_failed_calls_are_two_pieces_of_news() {
        let outage = Outage::default();
        let start = Instant::now();
        assert_eq!(outage.failed(Side::Read, start), Some(News::Fails));
        for n in 1..10_000 {
            assert_eq!(outage.failed(Side::Read, start + MS * n), None);
        }
        assert!(outage.is_failing());
        let back = start + MS * 20_000;
        assert_eq!(outage.answered(Side::Read, back), None, "not calm yet");
        let news = outage.answered(Side::Read, back + STORE_CALM_MIN);
        let over = News::AnswersAgain {
            failed_calls: 10_000,
            lasted: MS * 20_000,
        };
        assert_eq!(news, Some(over));
        assert!(!outage.is_failing());
        let later = back + STORE_CALM_MIN * 2;
        assert_eq!(outage.answered(Side::Read, later), None);
    }

    #[test]
    fn reads_that_are_answered_do_not_end_an_outage_of_writes() {
        let outage = Outage::default();
        let start = Instant::now();
        assert_eq!(outage.failed(Side::Write, start), Some(News::Fails));
        for second in 1..100 {
            let now = start + Duration::from_secs(second);
            assert_eq!(outage.answered(Side::Read, now), None);
        }
        let back = start + Duration::from_secs(100);
        assert_eq!(outage.answered(Side::Write, back), None);
        let news = outage.answered(Side::Read, back + STORE_CALM_MIN);
        assert!(matches!(
            news,
            Some(News::AnswersAgain {
                failed_calls: 1,
                ..
            })
        ));
    }

    #[test]
    fn a_store_that_fails_every_other_second_is_told_ever_less() {
        let outage = Outage::default();
        let start = Instant::now();
        let mut told = 0;
        for half_second in 0..7_200_u32 {
            let now = start + MS * 500 * half_second;
            let news = match half_second % 4 {
                0 => outage.failed(Side::Read, now),
                _ => outage.answered(Side::Read, now),
            };
            told += usize::from(news.is_some());
        }
        assert!((2..10).contains(&told), "{told} in an hour");
    }

    #[test]
    fn an_hour_without_a_failure_makes_it_quick_again() {
        let outage = Outage::default();
        let mut now = Instant::now();
        for _ in 0..2 {
            assert_eq!(outage.failed(Side::Read, now), Some(News::Fails));
            assert_eq!(outage.answered(Side::Read, now), None);
            let news = outage.answered(Side::Read, now + STORE_CALM_MIN);
            assert!(news.is_some());
            now += Duration::from_secs(3_600);
        }
    }
}
