//! The guest's changes in order, bounded, and what each does to a session.

use std::collections::HashSet;

use crate::limits::{SESSION_LOG_BYTES_MAX, SESSION_LOG_OPS_MAX};
use crate::record::{Document, SessionId, as_integer, is_reserved_key};

use super::super::Error;
use super::super::policy::Ending;
use super::{FreshCookie, Limits, Working};

/// One change.
#[derive(Clone)]
pub(in crate::session) enum Op {
    /// Writes an entry. The value is JSON, checked.
    Set { key: String, value: String },
    /// Removes an entry.
    Delete { key: String },
    /// Adds to an integer; absent counts as 0.
    Add { key: String, delta: i64 },
    /// Removes all entries.
    Clear,
    /// Gives it this id.
    Renew { id: SessionId },
    /// Gives it this id and no entries.
    Regenerate { id: SessionId },
    /// Ends it.
    Destroy,
    /// Ends it for this request.
    Drop,
    /// Gives it a lifetime from `now_ms` on.
    SetMaxAge {
        max_age_ms: Option<i64>,
        now_ms: i64,
    },
    /// Starts its lifetime afresh.
    Touch { now_ms: i64 },
}

impl Op {
    /// # Errors
    /// Why it cannot be; then nothing changed.
    pub(super) fn apply(
        &self,
        working: &mut Working,
        limits: Limits,
        fresh_cookie: &FreshCookie,
    ) -> Result<(), Error> {
        match self {
            Self::Destroy => {
                working.ending = Ending::Destroyed;
                working.was_destroyed = true;
            }
            Self::Drop if working.ending == Ending::Alive => working.ending = Ending::Dropped,
            Self::Drop => {}
            Self::Regenerate { id } => {
                let was_destroyed = working.was_destroyed;
                *working = Working::new(fresh_cookie.document());
                working.was_destroyed = was_destroyed;
                working.new_id = Some(id.clone());
                working.is_regenerated = true;
            }
            _ if working.ending != Ending::Alive => {
                return Err(Error::Invalid(
                    "the session was ended by this request; only `regenerate` goes on".to_owned(),
                ));
            }
            Self::Set { key, value } => {
                check_key(key, limits)?;
                set_within(&mut working.document, key, value, limits)?;
            }
            Self::Delete { key } => {
                check_key(key, limits)?;
                working.document.delete(key);
            }
            Self::Add { key, delta } => {
                check_key(key, limits)?;
                let sum = sum(&working.document, key, *delta)?;
                set_within(&mut working.document, key, &sum.to_string(), limits)?;
            }
            Self::Clear => working.document.clear(),
            Self::Renew { id } => working.new_id = Some(id.clone()),
            Self::SetMaxAge { max_age_ms, now_ms } => {
                change_within(
                    &mut working.document,
                    limits,
                    LIFETIME_BYTES_MAX,
                    |document| set_lifetime(document, *max_age_ms, *now_ms),
                )?;
                working.is_cookie_changed = true;
            }
            Self::Touch { now_ms } => {
                let max_age_ms = working.document.cookie().attributes().original_max_age_ms;
                set_lifetime(&mut working.document, max_age_ms, *now_ms);
                working.is_touched = true;
            }
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        let texts = match self {
            Self::Set { key, value } => key.len() + value.len(),
            Self::Delete { key } | Self::Add { key, .. } => key.len(),
            _ => 0,
        };
        size_of::<Self>() + texts
    }
}

fn check_key(key: &str, limits: Limits) -> Result<(), Error> {
    if key.is_empty() || key.len() > limits.key_bytes_max {
        return Err(Error::Invalid(format!(
            "a key has 1 to {} bytes, this one has {}",
            limits.key_bytes_max,
            key.len()
        )));
    }
    if is_reserved_key(key) {
        return Err(Error::Invalid(format!(
            "the key `{key}` is reserved: express-session uses it itself"
        )));
    }
    Ok(())
}

fn sum(document: &Document, key: &str, delta: i64) -> Result<i64, Error> {
    let term = match document.get(key) {
        None => 0,
        Some(raw) => as_integer(raw)
            .ok_or_else(|| Error::Invalid(format!("the entry `{key}` is not an integer")))?,
    };
    term.checked_add(delta)
        .ok_or_else(|| Error::Invalid(format!("the sum for `{key}` does not fit in 64 bits")))
}

/// Sets an entry if the session stays within its limits, or shrinks: what another program made too large can be made smaller.
fn set_within(
    document: &mut Document,
    key: &str,
    value: &str,
    limits: Limits,
) -> Result<(), Error> {
    let is_new = document.get(key).is_none();
    if is_new && document.key_count() >= limits.keys_max {
        return Err(Error::Invalid(format!(
            "a session holds at most {} keys",
            limits.keys_max
        )));
    }
    let value = &*limits.charset.encode(value);
    // A key's byte is at most six in JSON: `\u0001`.
    let bytes_added_max = 6 * key.len() + value.len() + 8;
    change_within(document, limits, bytes_added_max, |document| {
        document.set(key, value);
    })
}

/// Changes a session that grows by at most `bytes_added_max`; nothing if it would pass its limit.
fn change_within(
    document: &mut Document,
    limits: Limits,
    bytes_added_max: usize,
    change: impl FnOnce(&mut Document),
) -> Result<(), Error> {
    let bytes_before = document.json_len();
    // Only where it could be too much is it tried on a copy.
    if bytes_before + bytes_added_max <= limits.bytes_max {
        change(document);
        return Ok(());
    }
    let mut changed = document.clone();
    change(&mut changed);
    let bytes = changed.json_len();
    if bytes > limits.bytes_max && bytes > bytes_before {
        return Err(Error::TooLarge(limits.bytes_max as u64));
    }
    *document = changed;
    Ok(())
}

/// No text of a lifetime and its end in a row is longer than this, their names included.
const LIFETIME_BYTES_MAX: usize = 128;

fn set_lifetime(document: &mut Document, max_age_ms: Option<i64>, now_ms: i64) {
    let mut cookie = document.cookie().clone();
    cookie.set_expiry(max_age_ms, max_age_ms.map(|ms| now_ms.saturating_add(ms)));
    document.set_cookie(cookie);
}

/// The changes of one segment, from the last commit on.
#[derive(Default)]
pub(super) struct Log {
    ops: Vec<Op>,
    bytes: usize,
    is_overflown: bool,
    /// The keys whose value is the log's own doing, whatever the row holds.
    decided: HashSet<String>,
    decides_all: bool,
}

impl Log {
    /// Adds a change that was done.
    pub(super) fn push(&mut self, op: Op) {
        if self.is_overflown {
            return;
        }
        match &op {
            Op::Set { key, .. } | Op::Delete { key } if !self.decides_all => {
                self.decided.insert(key.clone());
            }
            Op::Clear | Op::Regenerate { .. } | Op::Destroy | Op::Drop => {
                self.decides_all = true;
                self.decided.clear();
            }
            _ => {}
        }
        // A guest that fills in one value again and again needs one entry.
        if let (Some(Op::Set { key: last, .. }), Op::Set { key, .. }) = (self.ops.last(), &op)
            && last == key
        {
            self.bytes -= self.ops.pop().map_or(0, |last| last.bytes());
        }
        self.bytes += op.bytes();
        self.ops.push(op);
        if self.ops.len() > SESSION_LOG_OPS_MAX || self.bytes > SESSION_LOG_BYTES_MAX {
            // The working copy knows what is to be written; only another row cannot be reached any more.
            *self = Self {
                is_overflown: true,
                ..Self::default()
            };
        }
    }

    /// The changes in order; none if it is overflown.
    pub(super) fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// Whether it became too long to be applied to another row.
    pub(super) fn is_overflown(&self) -> bool {
        self.is_overflown
    }

    /// Whether what `key` holds now does not depend on the row.
    pub(super) fn decides(&self, key: &str) -> bool {
        self.decides_all || self.decided.contains(key)
    }

    /// Whether nothing that the guest can see depends on the row's entries.
    pub(super) fn decides_all(&self) -> bool {
        self.decides_all
    }

    /// Whether the guest changed anything but the end of the session's lifetime.
    pub(super) fn has_changes(&self) -> bool {
        let changes = |op: &Op| !matches!(op, Op::Touch { .. });
        self.is_overflown || self.ops.iter().any(changes)
    }

    /// Whether any change could have been refused on another row.
    pub(super) fn depends_on_base(&self) -> bool {
        let depends =
            |op: &Op| matches!(op, Op::Set { .. } | Op::Add { .. } | Op::SetMaxAge { .. });
        self.is_overflown || self.ops.iter().any(depends)
    }
}
