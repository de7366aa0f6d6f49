//! Random bytes for names that are no secrets: requests and commits. Secrets and session ids come from the operating system
//! one by one.

use std::cell::RefCell;

/// What one system call brings: names for 64.
const SUPPLY: usize = 512;

thread_local! {
    /// Bytes of the operating system's that no name was made of yet.
    static UNUSED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Eight random bytes that were never given before.
pub(crate) fn name() -> [u8; 8] {
    UNUSED.with_borrow_mut(|unused| {
        if unused.is_empty() {
            unused.resize(SUPPLY, 0);
            getrandom::fill(unused).expect("the operating system gives random numbers");
        }
        let rest = unused.len() - 8;
        let name = unused[rest..].try_into().expect("eight bytes");
        unused.truncate(rest);
        name
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_name_is_given_twice() {
        let of_a_thread = || (0..1_000).map(|_| name()).collect::<Vec<_>>();
        let other = std::thread::spawn(of_a_thread);
        let all: HashSet<_> = (of_a_thread().into_iter())
            .chain(other.join().expect("no panic"))
            .collect();
        assert_eq!(all.len(), 2_000);
    }
}
