//! Which server helps out while the one in use gives no connection: one piece of news when that begins and one when it is over.
//! Knows no clock but the `Instant`s it is handed.

use std::time::{Duration, Instant};

/// Time without help after which it is over: in between a full server gives a connection now and then.
const QUIET: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Help {
    /// The helper, and when it helped last.
    last: Option<(usize, Instant)>,
}

impl Help {
    /// This server gave a connection in place of the one in use; true if that is news.
    pub(super) fn gives(&mut self, helper: usize, now: Instant) -> bool {
        let is_news = self.helper(now) != Some(helper);
        self.last = Some((helper, now));
        is_news
    }

    /// The server that helps out.
    pub(super) fn helper(&self, now: Instant) -> Option<usize> {
        let (helper, at) = self.last?;
        (now.saturating_duration_since(at) < QUIET).then_some(helper)
    }

    /// Whether it is over; true once.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        let is_over = self.last.is_some() && self.helper(now).is_none();
        if is_over {
            self.last = None;
        }
        is_over
    }

    /// Another server is in use.
    pub(super) fn ends(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_is_told_once_when_it_begins_and_once_when_it_is_over() {
        let (mut help, start) = (Help::default(), Instant::now());
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
