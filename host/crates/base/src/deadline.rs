//! The deadline of a request's answer. It counts from the start of the guest, and is paused while the guest waits for its client.
//!
//! The deadline begins with the guest's start, because the queue before it has a limit of its own. A run waits for its client
//! from a read that found nothing until the source wakes the reader, and only while the run has no turn to compute. So a guest
//! that computes, or that forgets its read, gains no time. A body that does not move fails by its rate.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The deadline of one request, for all its runs together. Clones share the deadline.
#[derive(Clone)]
pub struct Deadline(Arc<Mutex<DeadlineState>>);

struct DeadlineState {
    at: Instant,
    /// The limit that counts from the first start; `None` once the guest has started.
    unstarted: Option<Duration>,
    /// The time at which the deadline was paused, if it is paused.
    paused: Option<Instant>,
}

impl Deadline {
    /// Creates a deadline `limit` after the first start. Until that start, it is `limit` from now.
    pub fn after(limit: Duration) -> Self {
        Self(Arc::new(Mutex::new(DeadlineState {
            at: Instant::now() + limit,
            unstarted: Some(limit),
            paused: None,
        })))
    }

    /// Notes that the guest starts. The first start sets the deadline; later starts do not change it.
    pub fn start(&self) {
        let mut moment = self.0.lock();
        if let Some(limit) = moment.unstarted.take() {
            moment.at = Instant::now() + limit;
        }
    }

    /// Returns whether the guest has not started yet.
    pub fn is_unstarted(&self) -> bool {
        self.0.lock().unstarted.is_some()
    }

    /// Returns the time at which the deadline passes, provided that it is not paused from now on.
    pub fn at(&self) -> Instant {
        let moment = self.0.lock();
        match moment.paused {
            Some(since) => moment.at + since.elapsed(),
            None => moment.at,
        }
    }

    /// Returns whether the deadline has passed.
    pub fn has_passed(&self) -> bool {
        let at = self.at();
        Instant::now() >= at
    }

    /// Pauses the deadline. The caller ensures that the guest does not compute meanwhile.
    pub fn pause(&self) {
        self.0.lock().paused.get_or_insert_with(Instant::now);
    }

    /// Resumes the deadline, which is moved by the length of the pause.
    pub fn resume(&self) {
        let mut moment = self.0.lock();
        if let Some(since) = moment.paused.take() {
            moment.at += since.elapsed();
        }
    }
}

/// Creates a deadline at a fixed time.
impl From<Instant> for Deadline {
    fn from(at: Instant) -> Self {
        Self(Arc::new(Mutex::new(DeadlineState {
            at,
            unstarted: None,
            paused: None,
        })))
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Deadline").field(&self.at()).finish()
    }
}

/// Error with which a request's body ends when its client sends it too slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request's body arrives too slowly")]
pub struct BodyTooSlow;

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn only_the_first_start_sets_the_deadline() {
        let deadline = Deadline::after(MINUTE);
        let before = deadline.at();
        std::thread::sleep(Duration::from_millis(2));
        deadline.start();
        let started = deadline.at();
        assert!(started > before);
        std::thread::sleep(Duration::from_millis(2));
        deadline.start();
        assert_eq!(deadline.at(), started);
    }

    #[test]
    fn a_deadline_moves_only_between_pause_and_resume() {
        let deadline = Deadline::from(Instant::now() + MINUTE);
        let before = deadline.at();
        deadline.pause();
        std::thread::sleep(Duration::from_millis(5));
        deadline.pause();
        assert!(deadline.at() >= before + Duration::from_millis(5));
        deadline.resume();
        let after = deadline.at();
        assert!(after >= before + Duration::from_millis(5));
        deadline.resume();
        assert_eq!(deadline.at(), after);
    }

    #[test]
    fn a_deadline_that_passed_before_a_pause_has_passed_during_it() {
        let deadline = Deadline::from(Instant::now());
        deadline.pause();
        assert!(deadline.has_passed());
        deadline.resume();
        assert!(deadline.has_passed());
    }
}
