//! Who visits, and the figures that come of it.

use std::time::Duration;

/// How many visitors there are, where they go, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// URLs without a path; a session goes to all of them.
    pub entrances: Vec<String>,
    /// How many sessions there are at a time.
    pub visitors: usize,
    /// The time between a visitor's requests, at most; at least half of it.
    pub pause: Duration,
    /// The statuses that refuse a request without a word about what became of it.
    pub refusals: &'static [u16],
    /// Whether a link may end without an answer: a balancer closes it where a reused link to a host breaks.
    pub loses_links: bool,
}

/// What happened since the visitors came or since it was asked for before.
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
    /// Visitors without a pause at hosts that are reached straight.
    pub fn at(entrances: Vec<String>, visitors: usize) -> Self {
        Self {
            entrances,
            visitors,
            pause: Duration::ZERO,
            refusals: &[503],
            loses_links: false,
        }
    }

    /// Takes a balancer's answers for a lost host as refusals, too, and links that it closes.
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
    /// A line of the book's table.
    pub fn row(&self, fault: &str) -> String {
        format!(
            "| {fault} | {:.1} s | {} | {} |",
            self.gap_max.as_secs_f64(),
            self.refused,
            self.answered
        )
    }
}
