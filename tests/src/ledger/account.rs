//! What one session may hold, from what its visitor was answered.

use std::collections::BTreeSet;

/// What a session may hold: at least what was answered, at most what was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    least: u64,
    most: u64,
}

/// An answer that cannot be true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It lacks what was answered before: a store that lost that answer would explain it.
    Lacks(String),
    /// Nothing explains it.
    False(String),
}

impl Wrong {
    /// It, in words.
    pub fn text(&self) -> &str {
        match self {
            Self::Lacks(text) | Self::False(text) => text,
        }
    }
}

impl Account {
    /// Takes the sums that one or more increments at once were answered, and how many others were refused meanwhile.
    ///
    /// # Errors
    /// What is wrong with them.
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
        // A commit that was answered fences all that were refused before it.
        *self = Self {
            least: largest,
            most: largest + refused as u64,
        };
        Ok(())
    }

    /// Takes what a read was answered.
    ///
    /// # Errors
    /// What is wrong with it.
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
