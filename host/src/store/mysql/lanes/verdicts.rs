//! Which rows a swap of many has changed, told from how many it changed and from the tokens that the rows have now. Knows no
//! statements.
//!
//! A count says how many and not which; a row read afterwards may have gone on, or be gone. A verdict is given only where
//! it is certain.

use crate::record::{CommitToken, TokenHistory};

/// What a commit leaves on its row, and what it found there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trace {
    pub(super) mine: CommitToken,
    pub(super) before_mine: Option<CommitToken>,
}

/// What is known of one row's swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    Applied,
    NotApplied,
    /// The row is gone, or it has moved on by more commits than it remembers, or somebody wrote it anew.
    Unknown,
}

/// What the row tells by itself: `tokens` are its tokens now, none if it is gone.
pub(super) fn look(trace: Trace, tokens: Option<&TokenHistory>) -> Finding {
    let has = |token| tokens.is_some_and(|tokens| tokens.contains(token));
    if has(trace.mine) {
        Finding::Applied
    } else if trace.before_mine.is_some_and(has) {
        // Mine would stand in front of it.
        Finding::NotApplied
    } else {
        Finding::Unknown
    }
}

/// What the count adds: of the `swapped` rows, those that do not show it are among those of which nothing is known.
///
/// It holds where no commit in the statement had been sent before: else one may show what an earlier statement did.
pub(super) fn complete(swapped: u64, findings: &mut [Finding]) {
    let count = |which: Finding| findings.iter().filter(|f| **f == which).count() as u64;
    let (shown, unknown) = (count(Finding::Applied), count(Finding::Unknown));
    let all_unknown = match swapped.checked_sub(shown) {
        Some(0) => Finding::NotApplied,
        Some(hidden) if hidden == unknown => Finding::Applied,
        _ => return,
    };
    for finding in findings {
        if *finding == Finding::Unknown {
            *finding = all_unknown;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Finding::{Applied, NotApplied, Unknown};
    use super::*;

    #[test]
    fn a_row_tells_by_its_tokens() {
        let [before, mine, later] = [(); 3].map(|()| CommitToken::generate());
        let trace = Trace {
            mine,
            before_mine: Some(before),
        };
        let of = |tokens: &[CommitToken]| {
            (tokens.iter()).fold(TokenHistory::default(), |history, t| history.push(*t))
        };
        let look = |tokens: &[CommitToken]| look(trace, Some(&of(tokens)));
        assert_eq!(look(&[before, mine]), Applied);
        assert_eq!(look(&[before, mine, later]), Applied);
        assert_eq!(look(&[before]), NotApplied);
        assert_eq!(look(&[before, later]), NotApplied);
        assert_eq!(look(&[later]), Unknown, "written anew, or gone on");
        assert_eq!(look(&[]), Unknown, "written anew by somebody else");
        assert_eq!(super::look(trace, None), Unknown, "gone");
    }

    #[test]
    fn a_row_without_tokens_before_says_nothing_by_their_absence() {
        let trace = Trace {
            mine: CommitToken::generate(),
            before_mine: None,
        };
        assert_eq!(look(trace, Some(&TokenHistory::default())), Unknown);
    }

    #[test]
    fn a_count_decides_what_is_certain_and_no_more() {
        let completed = |swapped, mut findings: Vec<Finding>| {
            complete(swapped, &mut findings);
            findings
        };
        assert_eq!(
            completed(1, vec![Applied, NotApplied, Unknown]),
            [Applied, NotApplied, NotApplied],
            "the one that was swapped shows it"
        );
        assert_eq!(
            completed(2, vec![Applied, NotApplied, Unknown]),
            [Applied, NotApplied, Applied],
            "there is no other that it could be"
        );
        assert_eq!(
            completed(2, vec![Applied, Unknown, Unknown]),
            [Applied, Unknown, Unknown],
            "one of the two, nobody knows which"
        );
        assert_eq!(
            completed(1, vec![Applied, Applied, Unknown]),
            [Applied, Applied, Unknown],
            "more show it than were swapped: the count says nothing"
        );
    }
}
