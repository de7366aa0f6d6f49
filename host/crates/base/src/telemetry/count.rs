//! Numbers of things, as messages name them.

use std::fmt::Display;

/// A number and its noun: `1 guest`, `2 guests`. The noun is one that takes an `s`.
pub fn counted<N>(count: N, noun: &str) -> String
where
    N: Display + PartialEq + From<u8>,
{
    let plural = if count == N::from(1) { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_count_of_one_is_singular() {
        assert_eq!(counted(0_u64, "guest"), "0 guests");
        assert_eq!(counted(1_usize, "guest"), "1 guest");
        assert_eq!(counted(2_u32, "guest"), "2 guests");
    }
}
