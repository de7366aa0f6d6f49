//! Reads a host's log: how often guests ran, and whether there were warnings. Knows the log's text format.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

/// The largest number of bad lines that are kept. The first ones are the most useful.
const BAD_LINES_MAX: usize = 1000;

/// The counts and bad lines of a log.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Log {
    /// The number of requests.
    pub(super) n_requests: u64,
    /// The number of guest runs. Runs beyond the number of requests were repeated after a conflict.
    pub(super) n_runs: u64,
    /// Warnings, errors, and requests that were not answered with 200.
    pub(super) bad: Vec<String>,
}

impl Log {
    /// Reads a whole file.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let mut log = Self::default();
        let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
        let mut line = Vec::new();
        while file.read_until(b'\n', &mut line)? > 0 {
            log.take(&String::from_utf8_lossy(&line));
            line.clear();
        }
        Ok(log)
    }

    /// Returns the sum of both logs.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.n_requests += other.n_requests;
        self.n_runs += other.n_runs;
        self.bad.extend(other.bad);
        self
    }

    /// Returns the number of repeated runs per thousand requests.
    pub(super) fn repeated_per_thousand(&self) -> f64 {
        let repeated = self.n_runs.saturating_sub(self.n_requests);
        repeated as f64 * 1e3 / self.n_requests.max(1) as f64
    }

    fn take(&mut self, line: &str) {
        // The first field is the time.
        let level = line.split_ascii_whitespace().nth(1);
        let is_access = line.contains("cloakroom::access:");
        let is_bad =
            matches!(level, Some("WARN" | "ERROR")) || is_access && !line.contains(" status=200 ");
        if is_bad && self.bad.len() < BAD_LINES_MAX {
            self.bad.push(line.trim_end().to_owned());
        }
        if !is_access {
            return;
        }
        self.n_requests += 1;
        let attempts = line.split_once(" attempts=").map(|(_, rest)| rest);
        let digits = attempts.and_then(|rest| rest.split(' ').next());
        self.n_runs += digits.and_then(|d| d.parse().ok()).unwrap_or(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_bad_lines_are_counted_in_a_log() {
        let mut log = Log::default();
        log.take("2026-01-01T00:00:00Z  INFO cloakroom::guest: loaded a guest\n");
        log.take("cloakroom 0.1.0 serves, no WARN here\n");
        log.take("2026-01-01T00:00:00Z  INFO request{id=1}: cloakroom::access: request status=200 attempts=3 bytes=1\n");
        log.take("2026-01-01T00:00:00Z  INFO request{id=1}: cloakroom::access: request status=200 attempts=1 bytes=1\n");
        log.take("2026-01-01T00:00:00Z  WARN cloakroom::store: the store is slow\n");
        log.take("2026-01-01T00:00:00Z  INFO request{id=1}: cloakroom::access: request status=503 attempts=1 bytes=1\n");
        assert_eq!((log.n_requests, log.n_runs), (3, 5));
        assert_eq!(log.repeated_per_thousand().round(), 667.0);
        assert_eq!(log.bad.len(), 2);
    }
}
