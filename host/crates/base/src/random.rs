//! Random bytes for names that are not secret: those of requests and commits. Secrets and session ids are read from the
//! operating system individually.

use std::cell::RefCell;

/// The number of bytes that one system call reads: enough for 64 names.
const BUFFER_BYTES: usize = 512;

thread_local! {
    /// Bytes from the operating system that have not been used yet.
    static UNUSED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Returns eight random bytes that were not returned before.
pub fn name() -> [u8; 8] {
    UNUSED.with_borrow_mut(|unused| {
        if unused.is_empty() {
            unused.resize(BUFFER_BYTES, 0);
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
    fn random_names_are_unique() {
        let of_a_thread = || (0..1_000).map(|_| name()).collect::<Vec<_>>();
        let other = std::thread::spawn(of_a_thread);
        let all: HashSet<_> = (of_a_thread().into_iter())
            .chain(other.join().expect("no panic"))
            .collect();
        assert_eq!(all.len(), 2_000);
    }
}
