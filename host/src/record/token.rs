//! Commit tokens: the mark that each of our commits leaves on its row, by which an interrupted commit is recognised later.

/// Eight random bytes that name one commit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CommitToken([u8; 8]);

impl CommitToken {
    /// A fresh token.
    pub fn generate() -> Self {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
        Self(bytes)
    }
}

/// The tokens of a row's last commits, newest first, at most four: the column `cloakroom_token VARBINARY(32)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct TokenHistory {
    bytes: [u8; 32],
    len: u8,
}

impl TokenHistory {
    /// Reads the column; bytes that are not whole tokens are a foreign value and count as no history.
    pub fn from_column(column: &[u8]) -> Self {
        let mut bytes = [0; 32];
        if column.len() > 32 || !column.len().is_multiple_of(8) {
            return Self::default();
        }
        bytes[..column.len()].copy_from_slice(column);
        Self {
            bytes,
            len: column.len() as u8,
        }
    }

    /// What the column holds.
    pub fn as_column(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The history after one more commit; the fifth token falls out.
    pub fn push(&self, token: CommitToken) -> Self {
        let kept = usize::from(self.len).min(24);
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&token.0);
        bytes[8..8 + kept].copy_from_slice(&self.bytes[..kept]);
        Self {
            bytes,
            len: (8 + kept) as u8,
        }
    }

    /// Whether `token` is among the last four.
    pub fn contains(&self, token: CommitToken) -> bool {
        self.as_column().chunks_exact(8).any(|t| t == token.0)
    }

    /// The last commit's token.
    pub fn newest(&self) -> Option<CommitToken> {
        self.as_column().first_chunk::<8>().map(|t| CommitToken(*t))
    }

    /// Whether a further commit would drop the oldest token.
    pub fn is_full(&self) -> bool {
        self.len == 32
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
    fn a_foreign_column_is_no_history() {
        assert_eq!(TokenHistory::from_column(b"abc"), TokenHistory::default());
        assert_eq!(TokenHistory::from_column(&[1; 40]), TokenHistory::default());
    }
}
