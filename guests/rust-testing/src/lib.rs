//! Hosts and visitors for a guest's tests. Knows the control interface that `cloakroom test` offers, and no guest.
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

/// A host of the project's guests and routes, with a store in memory and a clock of its own, that ends when this is dropped.
#[derive(Debug)]
pub struct Host {
    control: Arc<Control>,
}

/// A session as it is stored.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Session {
    /// Its entries, without the `cookie` of Express's row.
    pub data: Value,
    /// When it ends, in milliseconds since 1970-01-01T00:00:00Z by the host's clock.
    pub expires_ms: i64,
}

/// What the host has done since it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Counts {
    /// Requests answered.
    pub requests: u64,
    /// Runs of a guest: more than requests where some ran again.
    pub runs: u64,
    /// Sessions committed.
    pub commits: u64,
    /// Commits that found the session changed.
    pub conflicts: u64,
    /// Conflicts that were settled by applying the changes to the newer session.
    pub reapplies: u64,
    /// Conflicts that were settled by running the guest again.
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

    /// A visitor who was never here, with a cookie jar of their own.
    pub fn visitor(&self) -> Visitor {
        Visitor::new(Arc::clone(&self.control))
    }

    /// A visitor whose session holds these entries already: `json!({ "user": "ada" })`.
    ///
    /// # Panics
    /// If the data is no session: no object, or too large.
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

    /// Moves the clock on: sessions and cookies may end.
    ///
    /// # Panics
    /// If the host does not answer.
    pub fn advance(&self, time: Duration) {
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.control
            .tell("POST", "/clock", &json!({ "advance_ms": milliseconds }));
    }

    /// The clock, in milliseconds since 1970-01-01T00:00:00Z.
    ///
    /// # Panics
    /// If the host does not answer.
    pub fn now_ms(&self) -> i64 {
        self.control.now_ms()
    }

    /// Right before the next commit of a stored session, a rival request of the same session commits this entry. Of several
    /// rivals each has a commit of its own, in their order.
    ///
    /// # Panics
    /// If the value is no JSON.
    pub fn rival_sets(&self, key: &str, value: impl Serialize) {
        let value = serde_json::to_value(value).expect("a value that is JSON");
        let rival = json!({ "set": { key: value } });
        self.control.tell("POST", "/rivals", &rival);
    }

    /// As [`rival_sets`](Self::rival_sets); the rival removes this entry.
    ///
    /// # Panics
    /// If the host does not answer.
    pub fn rival_deletes(&self, key: &str) {
        self.control
            .tell("POST", "/rivals", &json!({ "delete": [key] }));
    }

    /// As [`rival_sets`](Self::rival_sets); the rival ends the session, as a logout does.
    ///
    /// # Panics
    /// If the host does not answer.
    pub fn rival_destroys(&self) {
        self.control
            .tell("POST", "/rivals", &json!({ "destroy": true }));
    }

    /// The store answers nothing from now on.
    ///
    /// # Panics
    /// If the host does not answer.
    pub fn store_down(&self) {
        self.control.tell("PUT", "/store", &json!({ "up": false }));
    }

    /// The store answers again.
    ///
    /// # Panics
    /// If the host does not answer.
    pub fn store_up(&self) {
        self.control.tell("PUT", "/store", &json!({ "up": true }));
    }

    /// Puts the only guest's configured file in place of what serves, as a swap under way does; returns its version.
    ///
    /// # Panics
    /// If the component is refused; the panic says why.
    pub fn swap(&self) -> u64 {
        self.swapped(&json!({}))
    }

    /// Puts another component in place of a guest; returns its version. The file's path is taken from the project's folder.
    ///
    /// # Panics
    /// If the component is refused; the panic says why.
    pub fn swap_guest(&self, guest: &str, component: &str) -> u64 {
        self.swapped(&json!({ "guest": guest, "component": component }))
    }

    /// All stored sessions.
    ///
    /// # Panics
    /// If the host does not answer.
    pub fn sessions(&self) -> Vec<Session> {
        self.control.ask("GET", "/sessions", &Value::Null)
    }

    /// What the host has done so far.
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
