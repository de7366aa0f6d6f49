//! The possible content of one session, derived from the answers to its visitor.

use std::collections::BTreeSet;

/// The bounds of a session's counter: at least the answered increments, at most the requested ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    least: u64,
    most: u64,
}

/// An answer that cannot be correct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The answer lacks data of an earlier answer; a store that lost that commit would explain it.
    Lacks(String),
    /// Nothing explains the answer.
    False(String),
}

impl Wrong {
    /// Returns the description.
    pub fn text(&self) -> &str {
        match self {
            Self::Lacks(text) | Self::False(text) => text,
        }
    }
}

impl Account {
    /// Takes the sums answered to one or more concurrent increments, and the number of increments refused meanwhile.
    ///
    /// # Errors
    /// The reason why they cannot be correct.
    pub fn counted(&mut self, sums: &[u64], refused: usize) -> Result<(), Wrong> {
        let most = self.most + sums.len() as u64 + refused as u64;
        let (Some(&smallest), Some(&largest)) = (sums.iter().min(), sums.iter().max()) else {
            self.most = most;
            return Ok(());
        };
        if largest > most {
            let what = format!("{largest} was answered to {most} increments");
            return Err(Wrong::False(what));
        }
        if sums.iter().collect::<BTreeSet<_>>().len() < sums.len() {
            let what = format!("a sum was answered twice: {sums:?}");
            return Err(Wrong::Lacks(what));
        }
        if smallest <= self.least {
            let what = format!("{smallest} was answered after {}", self.least);
            return Err(Wrong::Lacks(what));
        }
        // An answered commit fences off all refused commits before it.
        *self = Self {
            least: largest,
            most: largest + refused as u64,
        };
        Ok(())
    }

    /// Takes the count answered to a read.
    ///
    /// # Errors
    /// The reason why it cannot be correct.
    pub fn read(&mut self, count: u64) -> Result<(), Wrong> {
        if count < self.least {
            let what = format!("{count} was read after {}", self.least);
            return Err(Wrong::Lacks(what));
        }
        if count > self.most {
            let what = format!("{count} was read after {} increments", self.most);
            return Err(Wrong::False(what));
        }
        self.least = count;
        Ok(())
    }
}
