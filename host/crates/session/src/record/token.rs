//! Commit tokens. Each commit by Cloakroom leaves its token on the row, so that an interrupted commit can be recognized later.

use bytes::Bytes;

use cloakroom_base::random;

/// Number of tokens that a row keeps.
const TOKENS_MAX: usize = 4;

/// Eight random bytes that identify one commit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CommitToken([u8; 8]);

impl CommitToken {
    /// Generates a random token.
    pub fn generate() -> Self {
        Self(random::name())
    }
}

/// The content of the column `cloakroom_token VARBINARY(32)`: the tokens of the row's last commits, newest first, at most four.
///
/// If another program wrote the column, it may contain anything. Such a value is kept unchanged, because the next commit
/// compares it, but it identifies no commit.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct TokenHistory {
    column: Bytes,
}

impl TokenHistory {
    /// Takes the column's content. Bytes that are not up to four whole tokens are a foreign value and count as no history.
    pub fn from_column(column: &[u8]) -> Self {
        Self {
            column: Bytes::copy_from_slice(column),
        }
    }

    /// Returns the column's content, byte for byte.
    pub fn as_column(&self) -> &[u8] {
        &self.column
    }

    /// Returns the history after one more commit. It drops the fifth token and any foreign value.
    pub fn push(&self, token: CommitToken) -> Self {
        let kept = self.tokens().iter().take(TOKENS_MAX - 1);
        Self {
            column: std::iter::once(&token.0)
                .chain(kept)
                .flatten()
                .copied()
                .collect(),
        }
    }

    /// Returns whether `token` is among the last four.
    pub fn contains(&self, token: CommitToken) -> bool {
        self.tokens().contains(&token.0)
    }

    /// Returns the token of the last commit.
    pub fn newest(&self) -> Option<CommitToken> {
        self.tokens().first().copied().map(CommitToken)
    }

    /// Returns whether another commit would drop the oldest token.
    pub fn is_full(&self) -> bool {
        self.tokens().len() == TOKENS_MAX
    }

    fn tokens(&self) -> &[[u8; 8]] {
        match self.column.as_chunks() {
            (tokens, []) if tokens.len() <= TOKENS_MAX => tokens,
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_four_tokens_are_kept_newest_first() {
        let tokens: Vec<_> = (0..5).map(|_| CommitToken::generate()).collect();
        let history = tokens
            .iter()
            .fold(TokenHistory::default(), |h, t| h.push(*t));
        assert!(history.is_full());
        assert_eq!(history.newest(), Some(tokens[4]));
        assert!(!history.contains(tokens[0]));
        assert!(tokens[1..].iter().all(|t| history.contains(*t)));
        assert_eq!(TokenHistory::from_column(history.as_column()), history);
    }

    #[test]
    fn a_foreign_column_is_kept_as_it_is_and_is_no_history() {
        let token = CommitToken::generate();
        for column in [&b"abc"[..], &[1; 40]] {
            let foreign = TokenHistory::from_column(column);
            assert_eq!(foreign.as_column(), column);
            assert!(foreign.newest().is_none() && !foreign.is_full());
            assert!(!foreign.contains(CommitToken([1; 8])));
            let ours = TokenHistory::default().push(token);
            assert_eq!(foreign.push(token), ours, "a clean history follows");
        }
    }
}
