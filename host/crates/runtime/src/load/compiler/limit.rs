//! Limits concurrent compilations: a few at a time, and never the same code twice. This module knows nothing of compiling.

use std::collections::HashSet;

use parking_lot::{Condvar, Mutex};

/// The permits of all compilations.
#[derive(Debug)]
pub(crate) struct CompileLimit {
    under_way: Mutex<HashSet<String>>,
    ended: Condvar,
    at_once_max: usize,
}

/// A permit to compile one thing, held until dropped.
#[derive(Debug)]
pub(crate) struct CompilePermit<'a> {
    turns: &'a CompileLimit,
    name: String,
}

impl CompileLimit {
    pub(crate) fn new(at_once_max: usize) -> Self {
        Self {
            under_way: Mutex::default(),
            ended: Condvar::new(),
            at_once_max,
        }
    }

    /// Waits for a permit. Blocks. Every waiter gets one eventually, in no particular order.
    pub(crate) fn take(&self, name: &str) -> CompilePermit<'_> {
        let must_wait =
            |names: &mut HashSet<String>| names.len() >= self.at_once_max || names.contains(name);
        let mut under_way = self.under_way.lock();
        self.ended.wait_while(&mut under_way, must_wait);
        under_way.insert(name.to_owned());
        CompilePermit {
            turns: self,
            name: name.to_owned(),
        }
    }
}

impl Drop for CompilePermit<'_> {
    fn drop(&mut self) {
        self.turns.under_way.lock().remove(&self.name);
        self.turns.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn one_name_and_one_too_many_wait_until_a_turn_ends() {
        let turns = CompileLimit::new(2);
        let first = turns.take("a");
        std::thread::scope(|scope| {
            let (sender, entered) = mpsc::channel();
            let same = sender.clone();
            scope.spawn(|| {
                let turn = turns.take("a");
                same.send("same").unwrap();
                drop((turn, same));
            });
            let second = turns.take("b");
            scope.spawn(|| {
                let turn = turns.take("c");
                sender.send("third").unwrap();
                drop((turn, sender));
            });
            assert!(entered.try_recv().is_err(), "both wait");
            drop(second);
            assert_eq!(entered.recv(), Ok("third"), "the same one still waits");
            drop(first);
            assert_eq!(entered.recv(), Ok("same"));
        });
    }
}
