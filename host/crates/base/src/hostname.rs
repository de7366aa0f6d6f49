//! Checks that a text is short enough to be parsed as a host. The host parser decodes Punycode in a time that grows with
//! the square of a label's length, and accepts labels of thousands of bytes. The names that clients and guests send are
//! therefore bounded here before they are parsed.

use crate::limits::{HOST_CHARS_MAX, HOST_LABEL_CHARS_MAX};

/// Returns whether a host, without a port, is within the length limits of hosts. An IPv6 address is in brackets.
///
/// Counts the characters of the text as written. A percent sign and its two digits are three characters, and decoding can
/// only reduce that number. A percent-encoded dot joins two labels, which are then bounded as one.
pub fn is_bounded(host: &str) -> bool {
    // A character has one to four bytes, so the characters of a very long text need not be counted.
    if host.len() > 4 * HOST_CHARS_MAX || host.chars().count() > HOST_CHARS_MAX {
        return false;
    }
    let is_bounded = |label: &str| label.chars().count() <= HOST_LABEL_CHARS_MAX;
    host.starts_with('[') || host.split('.').all(is_bounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns labels of these lengths, joined by dots.
    fn labels(lengths: &[usize]) -> String {
        let labels: Vec<_> = lengths.iter().map(|length| "a".repeat(*length)).collect();
        labels.join(".")
    }

    #[test]
    fn hostnames_up_to_the_longest_valid_length_are_accepted() {
        for host in [
            String::new(),
            labels(&[63]),
            labels(&[63, 63, 63, 63]),
            format!("{}.", labels(&[63, 63, 63, 62])),
            "[2001:db8:1111:2222:3333:4444:5555:6666]".to_owned(),
            "\u{e9}".repeat(63),
        ] {
            assert!(is_bounded(&host), "{host}");
        }
    }

    #[test]
    fn hostnames_beyond_the_longest_valid_length_are_refused() {
        for host in [
            labels(&[64]),
            labels(&[1, 64, 1]),
            labels(&[63, 63, 63, 62, 1]),
            format!("xn--{}", "a".repeat(2_000)),
            "%61".repeat(22),
            format!("[{}]", ":".repeat(254)),
            "\u{e9}".repeat(64),
            "\u{1f600}.".repeat(200),
            "a.".repeat(1 << 20),
        ] {
            assert!(!is_bounded(&host), "{} bytes", host.len());
        }
    }
}
