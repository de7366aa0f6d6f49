//! Hosts and visitors for the tests of a guest. This crate knows the control interface of `cloakroom test`, and no particular guest.
//!
#![doc = include_str!("../README.md")]

mod answer;
mod control;
mod jar;
mod visitor;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use control::Control;

pub use answer::Answer;
pub use visitor::{Request, Visitor};

/// A host with the project's guests and routes, a store in memory and its own clock. The host ends when this is dropped.
#[derive(Debug)]
pub struct Host {
    control: Arc<Control>,
}

/// A stored session.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Session {
    /// The entries, without the `cookie` of Express's row.
    pub data: Value,
    /// The expiry time, in milliseconds since 1970-01-01T00:00:00Z by the host's clock.
    pub expires_ms: i64,
}

/// The host's counters since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Counts {
    /// Answered requests.
    pub requests: u64,
    /// Runs of guests. There are more runs than requests where guests ran again.
    pub runs: u64,
    /// Commits of sessions.
    pub commits: u64,
    /// Commits that found the session changed.
    pub conflicts: u64,
    /// Conflicts that the host resolved by applying the changes to the newer session.
    pub reapplies: u64,
    /// Conflicts that the host resolved by running the guest again.
    pub reruns: u64,
}

impl Host {
    /// Starts a host.
    ///
    /// # Panics
    /// Without `cloakroom test`, or if the host does not start.
    pub fn start() -> Self {
        let control = Arc::new(Control::start());
        Self { control }
    }

    /// Returns a visitor without cookies, with a separate cookie jar.
    pub fn visitor(&self) -> Visitor {
        Visitor::new(Arc::clone(&self.control))
    }

    /// Returns a visitor with a stored session that contains these entries: `json!({ "user": "ada" })`.
    ///
    /// # Panics
    /// If the data is not an object or too large for a session.
    pub fn visitor_with(&self, data: Value) -> Visitor {
        #[derive(Deserialize)]
        struct Stored {
            cookie: String,
        }
        let body = json!({ "data": data });
        let stored: Stored = self.control.ask("POST", "/sessions", &body);
        let visitor = self.visitor();
        visitor.take_cookie(&stored.cookie);
        visitor
    }

    /// Advances the clock, so that sessions and cookies may expire.
    ///
    /// # Panics
    /// If the host does not answer.
    pub fn advance(&self, time: Duration) {
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.control
            .tell("POST", "/clock", &json!({ "advance_ms": milliseconds }));
    }

    /// Returns the time of the clock, in milliseconds since 1970-01-01T00:00:00Z.
    ///
    /// # Panics
    /// If the host does not answer.
    pub fn now_ms(&self) -> i64 {
        self.control.now_ms()
    }

    /// Adds a rival request of the same session, which commits this entry right before the next commit of a stored session. Each of several
    /// rivals precedes a commit of its own, in order.
    ///
    /// # Panics
    /// If the value cannot be converted to JSON, or the host does not answer.
    pub fn rival_sets(&self, key: &str, value: impl Serialize) {
        let value = serde_json::to_value(value).expect("a value that is JSON");
        let rival = json!({ "set": { key: value } });
        self.control.tell("POST", "/rivals", &rival);
    }

    /// Like [`rival_sets`](Self::rival_sets), but the rival removes this entry.
    ///
    /// # Panics
    /// If the host does not answer.
    pub fn rival_deletes(&self, key: &str) {
        self.control
            .tell("POST", "/rivals", &json!({ "delete": [key] }));
    }

    /// Like [`rival_sets`](Self::rival_sets), but the rival ends the session, as a logout does.
    ///
    /// # Panics
    /// If the host does not answer.
    pub fn rival_destroys(&self) {
        self.control
            .tell("POST", "/rivals", &json!({ "destroy": true }));
    }

    /// Makes the store unreachable.
    ///
    /// # Panics
    /// If the host does not answer.
    pub fn store_down(&self) {
        self.control.tell("PUT", "/store", &json!({ "up": false }));
    }

    /// Makes the store reachable again.
    ///
    /// # Panics
    /// If the host does not answer.
    pub fn store_up(&self) {
        self.control.tell("PUT", "/store", &json!({ "up": true }));
    }

    /// Swaps in the configured file of the only guest, as a swap under load does. Returns the version.
    ///
    /// # Panics
    /// If the component is refused. The panic shows the reason.
    pub fn swap(&self) -> u64 {
        self.swapped(&json!({}))
    }

    /// Swaps in another component for a guest. Returns the version. The path of the file is relative to the project's folder.
    ///
    /// # Panics
    /// If the component is refused. The panic shows the reason.
    pub fn swap_guest(&self, guest: &str, component: &str) -> u64 {
        self.swapped(&json!({ "guest": guest, "component": component }))
    }

    /// Returns all stored sessions.
    ///
    /// # Panics
    /// If the host does not answer.
    pub fn sessions(&self) -> Vec<Session> {
        self.control.ask("GET", "/sessions", &Value::Null)
    }

    /// Returns the host's counters since its start.
    ///
    /// # Panics
    /// If the host does not answer.
    pub fn counts(&self) -> Counts {
        self.control.ask("GET", "/counts", &Value::Null)
    }

    fn swapped(&self, what: &Value) -> u64 {
        #[derive(Deserialize)]
        struct Swapped {
            version: u64,
        }
        let swapped: Swapped = self.control.ask("POST", "/swap", what);
        swapped.version
    }
}
