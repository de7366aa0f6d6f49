//! Tracks which server helps out while the server in use gives no connection. Reports each period of help once when it
//! begins and once when it ends. Knows no clock other than the `Instant`s that are passed in.

use std::time::{Duration, Instant};

/// Time without help after which the period is over. A full server gives a connection now and then, so a short pause
/// does not end the period.
const QUIET: Duration = Duration::from_secs(30);

/// The current period of help, if there is one.
#[derive(Debug, Default)]
pub(crate) struct ServerHelp {
    /// The helping server and the time when it helped last.
    last: Option<(usize, Instant)>,
}

impl ServerHelp {
    /// Records that this server gave a connection in place of the server in use. Returns true if the operator must be
    /// notified.
    pub(crate) fn gives(&mut self, helper: usize, now: Instant) -> bool {
        let is_news = self.helper(now) != Some(helper);
        self.last = Some((helper, now));
        is_news
    }

    /// Returns the server that helps out.
    pub(crate) fn helper(&self, now: Instant) -> Option<usize> {
        let (helper, at) = self.last?;
        (now.saturating_duration_since(at) < QUIET).then_some(helper)
    }

    /// Returns true once when the period of help is over.
    pub(crate) fn is_over(&mut self, now: Instant) -> bool {
        let is_over = self.last.is_some() && self.helper(now).is_none();
        if is_over {
            self.last = None;
        }
        is_over
    }

    /// Ends the period because another server is in use.
    pub(crate) fn ends(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_is_told_once_when_it_begins_and_once_when_it_is_over() {
        let (mut help, start) = (ServerHelp::default(), Instant::now());
        assert!(!help.is_over(start));
        assert!(help.gives(1, start));
        for s in 1..100 {
            let now = start + Duration::from_secs(s);
            assert!(!help.gives(1, now) && !help.is_over(now));
        }
        let last = start + Duration::from_secs(99);
        assert!(help.gives(2, last), "another one");
        assert_eq!(help.helper(last), Some(2));
        assert!(help.is_over(last + QUIET) && !help.is_over(last + QUIET));
        assert_eq!(help.helper(last + QUIET), None);

        assert!(help.gives(2, last));
        help.ends();
        assert!(!help.is_over(last + QUIET));
    }
}
