//! What a host's log says of a run: how often guests ran, and whether there was anything to warn of. Knows the text format.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

/// Most lines that are kept of what is bad; the first tell most.
const BAD_LINES_MAX: usize = 1000;

/// A log, read.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Log {
    /// Requests.
    pub(super) n_requests: u64,
    /// Runs of guests for them; what is beyond the requests was run again after a conflict.
    pub(super) n_runs: u64,
    /// The lines of warnings and errors, and of requests that were not answered with 200.
    pub(super) bad: Vec<String>,
}

impl Log {
    /// Reads a file from its begin to its end.
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

    /// Both logs' figures together.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.n_requests += other.n_requests;
        self.n_runs += other.n_runs;
        self.bad.extend(other.bad);
        self
    }

    /// Runs of guests that were repetitions, of a thousand requests.
    pub(super) fn repeated_per_thousand(&self) -> f64 {
        let repeated = self.n_runs.saturating_sub(self.n_requests);
        repeated as f64 * 1e3 / self.n_requests.max(1) as f64
    }

    fn take(&mut self, line: &str) {
        // The time comes first.
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
    fn runs_and_warnings_are_told_from_the_rest() {
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
