//! Waiting: until something is the case, with a longest time, and for a fixed time, with a reason.
//!
//! The only file of the end-to-end tests that may sleep (`tests/tidy`). A test that sleeps until something has probably happened fails on a
//! busy machine and wastes time on a quiet one. It waits until the event has happened instead.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Error, Result, anyhow};
use tokio::time;

/// The shortest and the longest time between two attempts.
const INTERVAL_MIN: Duration = Duration::from_millis(1);
const INTERVAL_MAX: Duration = Duration::from_millis(100);
/// An interval is the time waited so far divided by this, so that a wait takes at most 5 % longer than necessary.
const WAITED_PER_INTERVAL: u32 = 20;

/// Repeats `attempt` until it succeeds, and returns its result. `what` completes the sentence "waited until ...". The error of an
/// attempt is the state that it found: `anyhow::ensure!` without a message shows the compared values.
///
/// # Panics
/// After `time_max`. The panic shows `what` and the last error.
pub async fn wait_until<T>(
    what: &str,
    time_max: Duration,
    attempt: impl AsyncFnMut() -> Result<T>,
) -> T {
    let found = try_wait_until(what, time_max, attempt).await;
    found.unwrap_or_else(|error| panic!("{error}"))
}

/// Like [`wait_until`], for a caller that adds to the message or goes on.
///
/// # Errors
/// The text of the panic of [`wait_until`].
pub async fn try_wait_until<T>(
    what: &str,
    time_max: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let mut wait = Wait::new(what, time_max);
    loop {
        match time::timeout(wait.time_left(), attempt()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) => wait.note(error)?,
            Err(_) => return Err(wait.failure("the last attempt did not end")),
        }
        time::sleep(wait.interval()).await;
    }
}

/// Like [`wait_until`], but blocks the thread.
///
/// # Panics
/// In the same cases as [`wait_until`].
pub fn block_until<T>(what: &str, time_max: Duration, attempt: impl FnMut() -> Result<T>) -> T {
    let found = try_block_until(what, time_max, attempt);
    found.unwrap_or_else(|error| panic!("{error}"))
}

/// Like [`try_wait_until`], but blocks the thread.
///
/// # Errors
/// In the same cases as [`try_wait_until`].
pub fn try_block_until<T>(
    what: &str,
    time_max: Duration,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    let mut wait = Wait::new(what, time_max);
    loop {
        match attempt() {
            Ok(found) => return Ok(found),
            Err(error) => wait.note(error)?,
        }
        thread::sleep(wait.interval());
    }
}

/// Waits for a time that belongs to the test: a client's pace, the duration of a load or a fault, a session's lifetime, or a time in which
/// something must not happen. The reason is for the reader of the test.
pub async fn pause(duration: Duration, _reason: &str) {
    time::sleep(duration).await;
}

/// A wait that has begun.
struct Wait<'a> {
    what: &'a str,
    began_at: Instant,
    time_max: Duration,
    seen: String,
}

impl<'a> Wait<'a> {
    fn new(what: &'a str, time_max: Duration) -> Self {
        Self {
            what,
            began_at: Instant::now(),
            time_max,
            seen: "nothing yet".to_owned(),
        }
    }

    fn time_left(&self) -> Duration {
        self.time_max.saturating_sub(self.began_at.elapsed())
    }

    fn interval(&self) -> Duration {
        let interval = self.began_at.elapsed() / WAITED_PER_INTERVAL;
        interval.clamp(INTERVAL_MIN, INTERVAL_MAX)
    }

    /// Keeps the error of an attempt. Fails when the time is over.
    fn note(&mut self, error: Error) -> Result<()> {
        self.seen = format!("{error:#}");
        match self.time_left() {
            Duration::ZERO => Err(self.failure("the last attempt failed")),
            _ => Ok(()),
        }
    }

    fn failure(&self, end: &str) -> Error {
        let Self {
            what,
            time_max,
            seen,
            ..
        } = self;
        anyhow!("waited {time_max:?} until {what}: {end}; last seen: {seen}")
    }
}
