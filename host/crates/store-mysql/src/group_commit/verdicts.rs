//! Determines which rows a swap of many rows has changed, from the number of changed rows and from the rows' current
//! tokens. Knows no statements.
//!
//! The count does not say which rows were changed. A row that is read afterwards may have changed again or may be gone.
//! A verdict is given only if it is certain.
//!
//! If exactly one row shows neither the commit's token nor the one before it, the count decides it, because every other row is
//! known. With two such rows the outcome is ambiguous. The count can be trusted because a commit that is sent again is never
//! batched. The tokens are read on the same connection.

use cloakroom_session::record::{CommitToken, TokenHistory};

/// The token that a commit leaves on its row, and the newest token of its base.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SwapTrace {
    pub(crate) mine: CommitToken,
    pub(crate) before_mine: Option<CommitToken>,
}

/// The known outcome of one row's swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SwapFinding {
    Applied,
    NotApplied,
    /// The row is gone, has received more commits than it remembers, or was rewritten by another writer.
    Unknown,
}

/// Returns the outcome that the row itself shows. `tokens` are its current tokens, `None` if it is gone.
pub(crate) fn look(trace: SwapTrace, tokens: Option<&TokenHistory>) -> SwapFinding {
    let has = |token| tokens.is_some_and(|tokens| tokens.contains(token));
    if has(trace.mine) {
        SwapFinding::Applied
    } else if trace.before_mine.is_some_and(has) {
        // This commit's token is newer than the base's token, so the history would still contain it.
        SwapFinding::NotApplied
    } else {
        SwapFinding::Unknown
    }
}

/// Resolves unknown outcomes with the count: of the `swapped` rows, those whose tokens do not show the swap must be
/// among the unknown ones.
///
/// This is correct only if no commit in the statement was sent before. Otherwise a row may show the effect of an
/// earlier statement.
pub(crate) fn complete(swapped: u64, findings: &mut [SwapFinding]) {
    let count = |which: SwapFinding| findings.iter().filter(|f| **f == which).count() as u64;
    let (shown, unknown) = (count(SwapFinding::Applied), count(SwapFinding::Unknown));
    let all_unknown = match swapped.checked_sub(shown) {
        Some(0) => SwapFinding::NotApplied,
        Some(hidden) if hidden == unknown => SwapFinding::Applied,
        _ => return,
    };
    for finding in findings {
        if *finding == SwapFinding::Unknown {
            *finding = all_unknown;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::SwapFinding::{Applied, NotApplied, Unknown};
    use super::*;

    #[test]
    fn a_row_tells_by_its_tokens() {
        let [before, mine, later] = [(); 3].map(|()| CommitToken::generate());
        let trace = SwapTrace {
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
        let trace = SwapTrace {
            mine: CommitToken::generate(),
            before_mine: None,
        };
        assert_eq!(look(trace, Some(&TokenHistory::default())), Unknown);
    }

    #[test]
    fn a_count_decides_what_is_certain_and_no_more() {
        let completed = |swapped, mut findings: Vec<SwapFinding>| {
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
