//! When a request's answer must be there. It counts from the start of the guest, and stands still while the guest waits for its client.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The deadline of one request, all its runs together. Clones are the same deadline.
#[derive(Clone)]
pub struct Deadline(Arc<Mutex<Moment>>);

struct Moment {
    at: Instant,
    /// The limit that the first start counts from; `None` once it has counted.
    unstarted: Option<Duration>,
    /// Since when it stands still.
    paused: Option<Instant>,
}

impl Deadline {
    /// A deadline this long after the start, and after now while nothing has started.
    pub fn after(limit: Duration) -> Self {
        Self(Arc::new(Mutex::new(Moment {
            at: Instant::now() + limit,
            unstarted: Some(limit),
            paused: None,
        })))
    }

    /// The guest starts: the first start sets the deadline, further ones share it.
    pub fn start(&self) {
        let mut moment = self.lock();
        if let Some(limit) = moment.unstarted.take() {
            moment.at = Instant::now() + limit;
        }
    }

    /// Whether nothing has started yet.
    pub fn is_unstarted(&self) -> bool {
        self.lock().unstarted.is_some()
    }

    /// When it passes, if it stands still no longer.
    pub fn at(&self) -> Instant {
        let moment = self.lock();
        match moment.paused {
            Some(since) => moment.at + since.elapsed(),
            None => moment.at,
        }
    }

    /// Whether it has passed.
    pub fn has_passed(&self) -> bool {
        let at = self.at();
        Instant::now() >= at
    }

    /// Stands still from now on. The caller makes sure that the guest does not compute meanwhile.
    pub fn pause(&self) {
        self.lock().paused.get_or_insert_with(Instant::now);
    }

    /// Goes on, as much later as it stood still.
    pub fn resume(&self) {
        let mut moment = self.lock();
        if let Some(since) = moment.paused.take() {
            moment.at += since.elapsed();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Moment> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A deadline at a fixed time.
impl From<Instant> for Deadline {
    fn from(at: Instant) -> Self {
        Self(Arc::new(Mutex::new(Moment {
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

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_first_start_counts_and_later_ones_do_not() {
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
    fn it_stands_still_between_pause_and_resume_alone() {
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
