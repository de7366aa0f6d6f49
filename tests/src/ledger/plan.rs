//! The plan of the visitors, and the figures that they measure.

use std::time::Duration;

/// The number of visitors, the entrances, and the expected refusals.
#[derive(Clone, Debug)]
pub struct Plan {
    /// URLs without a path. The requests of a session go to all of them.
    pub entrances: Vec<String>,
    /// The number of concurrent sessions.
    pub visitors: usize,
    /// The longest time between a visitor's requests; the shortest is half of it.
    pub pause: Duration,
    /// The status codes that refuse a request and leave its outcome unknown.
    pub refusals: &'static [u16],
    /// Whether a connection may close without an answer. A load balancer closes it when its reused connection to a host breaks.
    pub loses_links: bool,
}

/// Counts since the visitors started or since the figures were last taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Requests that were answered 200.
    pub answered: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Logouts that were answered.
    pub logouts: u64,
    /// The longest time in which one visitor got no 200.
    pub gap_max: Duration,
}

impl Plan {
    /// Returns a plan of visitors without a pause that connect to the hosts directly.
    pub fn at(entrances: Vec<String>, visitors: usize) -> Self {
        Self {
            entrances,
            visitors,
            pause: Duration::ZERO,
            refusals: &[503],
            loses_links: false,
        }
    }

    /// Accepts also a load balancer's answers for a lost host as refusals, and connections that it closes.
    pub fn behind_a_balancer(mut self) -> Self {
        self.refusals = &[502, 503, 504];
        self.loses_links = true;
        self
    }

    /// Sets the time between two requests of a visitor.
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }
}

impl Figures {
    /// Returns a row of the book's table.
    pub fn row(&self, fault: &str) -> String {
        format!(
            "| {fault} | {:.1} s | {} | {} |",
            self.gap_max.as_secs_f64(),
            self.refused,
            self.answered
        )
    }
}
