//! Limits concurrent compilations: a few at a time, and never the same code twice. This module knows nothing of compiling.

use std::collections::HashSet;

use parking_lot::{Condvar, Mutex};

/// The permits of all compilations.
#[derive(Debug)]
pub(crate) struct CompileLimit {
    compiling: Mutex<HashSet<String>>,
    ended: Condvar,
    at_once_max: usize,
}

/// A permit to compile one thing, held until dropped.
#[derive(Debug)]
pub(crate) struct CompilePermit<'a> {
    limit: &'a CompileLimit,
    name: String,
}

impl CompileLimit {
    pub(crate) fn new(at_once_max: usize) -> Self {
        Self {
            compiling: Mutex::default(),
            ended: Condvar::new(),
            at_once_max,
        }
    }

    /// Waits for a permit. Blocks. Every waiter gets one eventually, in no particular order.
    pub(crate) fn take(&self, name: &str) -> CompilePermit<'_> {
        let must_wait =
            |names: &mut HashSet<String>| names.len() >= self.at_once_max || names.contains(name);
        let mut compiling = self.compiling.lock();
        self.ended.wait_while(&mut compiling, must_wait);
        compiling.insert(name.to_owned());
        CompilePermit {
            limit: self,
            name: name.to_owned(),
        }
    }
}

impl Drop for CompilePermit<'_> {
    fn drop(&mut self) {
        self.limit.compiling.lock().remove(&self.name);
        self.limit.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_compilation_waits_for_one_of_the_same_name_and_for_a_free_place() {
        let limit = CompileLimit::new(2);
        let first = limit.take("a");
        std::thread::scope(|scope| {
            let (sender, entered) = mpsc::channel();
            let same = sender.clone();
            scope.spawn(|| {
                let permit = limit.take("a");
                same.send("same").unwrap();
                drop((permit, same));
            });
            let second = limit.take("b");
            scope.spawn(|| {
                let permit = limit.take("c");
                sender.send("third").unwrap();
                drop((permit, sender));
            });
            assert!(entered.try_recv().is_err(), "both wait");
            drop(second);
            assert_eq!(entered.recv(), Ok("third"), "the same one still waits");
            drop(first);
            assert_eq!(entered.recv(), Ok("same"));
        });
    }
}
