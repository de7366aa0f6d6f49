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
    pub(crate) token: CommitToken,
    pub(crate) base_token: Option<CommitToken>,
}

/// The known outcome of one row's swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SwapFinding {
    Applied,
    NotApplied,
    /// The row is gone, has received more commits than it remembers, or was rewritten by another writer.
    Unknown,
}

impl SwapTrace {
    /// Returns the outcome that the row itself shows. `tokens` are its current tokens, `None` if it is gone.
    pub(crate) fn finding(self, tokens: Option<&TokenHistory>) -> SwapFinding {
        let has = |token| tokens.is_some_and(|tokens| tokens.contains(token));
        if has(self.token) {
            SwapFinding::Applied
        } else if self.base_token.is_some_and(has) {
            // This commit's token is newer than the base's token, so the history would still contain it.
            SwapFinding::NotApplied
        } else {
            SwapFinding::Unknown
        }
    }
}

/// Resolves unknown outcomes with the count: of the `swapped` rows, those whose tokens do not show the swap must be
/// among the unknown ones.
///
/// This is correct only if no commit in the statement was sent before. Otherwise a row may show the effect of an
/// earlier statement.
pub(crate) fn resolve_by_count(swapped: u64, findings: &mut [SwapFinding]) {
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
    fn tokens_show_whether_a_row_was_swapped() {
        let [before, token, later] = [(); 3].map(|()| CommitToken::generate());
        let trace = SwapTrace {
            token,
            base_token: Some(before),
        };
        let of = |tokens: &[CommitToken]| {
            (tokens.iter()).fold(TokenHistory::default(), |history, t| history.push(*t))
        };
        let finding = |tokens: &[CommitToken]| trace.finding(Some(&of(tokens)));
        assert_eq!(finding(&[before, token]), Applied);
        assert_eq!(finding(&[before, token, later]), Applied);
        assert_eq!(finding(&[before]), NotApplied);
        assert_eq!(finding(&[before, later]), NotApplied);
        assert_eq!(
            finding(&[later]),
            Unknown,
            "rewritten, or too many commits since"
        );
        assert_eq!(finding(&[]), Unknown, "rewritten by another program");
        assert_eq!(trace.finding(None), Unknown, "gone");
    }

    #[test]
    fn without_a_base_token_an_absent_token_shows_nothing() {
        let trace = SwapTrace {
            token: CommitToken::generate(),
            base_token: None,
        };
        assert_eq!(trace.finding(Some(&TokenHistory::default())), Unknown);
    }

    #[test]
    fn a_count_decides_only_certain_outcomes() {
        let resolved = |swapped, mut findings: Vec<SwapFinding>| {
            resolve_by_count(swapped, &mut findings);
            findings
        };
        assert_eq!(
            resolved(1, vec![Applied, NotApplied, Unknown]),
            [Applied, NotApplied, NotApplied],
            "the tokens show the one swapped row"
        );
        assert_eq!(
            resolved(2, vec![Applied, NotApplied, Unknown]),
            [Applied, NotApplied, Applied],
            "only the unknown row is left"
        );
        assert_eq!(
            resolved(2, vec![Applied, Unknown, Unknown]),
            [Applied, Unknown, Unknown],
            "one of the two, and the count does not say which"
        );
        assert_eq!(
            resolved(1, vec![Applied, Applied, Unknown]),
            [Applied, Applied, Unknown],
            "more tokens show a swap than the count: it decides nothing"
        );
    }
}
