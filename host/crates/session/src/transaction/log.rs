//! The guest's changes in order, up to a bound, and the effect of each on a session.

use std::collections::HashSet;

use crate::record::{Document, SessionId, as_integer, is_reserved_key};
use cloakroom_base::limits::{SESSION_LOG_BYTES_MAX, SESSION_LOG_OPS_MAX};

use super::working_copy::{FreshCookie, SessionLimits, WorkingCopy};
use crate::error::SessionError;
use crate::policy::SessionEnding;

/// One change to a session.
#[derive(Clone)]
pub(crate) enum ChangeOp {
    /// Writes an entry. The value is valid JSON.
    Set { key: String, value: String },
    /// Removes an entry.
    Delete { key: String },
    /// Adds to an integer. An absent entry counts as 0.
    Add { key: String, delta: i64 },
    /// Removes all entries.
    Clear,
    /// Gives the session this id.
    Renew { id: SessionId },
    /// Gives the session this id and removes all entries.
    Regenerate { id: SessionId },
    /// Ends the session.
    Destroy,
    /// Ends the session for this request only.
    Drop,
    /// Gives the session a lifetime that starts at `now_ms`.
    SetMaxAge {
        max_age_ms: Option<i64>,
        now_ms: i64,
    },
    /// Restarts the session's lifetime.
    Touch { now_ms: i64 },
}

impl ChangeOp {
    /// Applies the change.
    ///
    /// # Errors
    /// The reason why the change is refused. Nothing has changed then.
    pub(crate) fn apply(
        &self,
        working: &mut WorkingCopy,
        limits: SessionLimits,
        fresh_cookie: &FreshCookie,
    ) -> Result<(), SessionError> {
        match self {
            Self::Destroy => {
                working.ending = SessionEnding::Destroyed;
                working.was_destroyed = true;
            }
            Self::Drop if working.ending == SessionEnding::Alive => {
                working.ending = SessionEnding::Dropped
            }
            Self::Drop => {}
            Self::Regenerate { id } => {
                let was_destroyed = working.was_destroyed;
                *working = WorkingCopy::new(fresh_cookie.document());
                working.was_destroyed = was_destroyed;
                working.new_id = Some(id.clone());
                working.is_regenerated = true;
            }
            _ if working.ending != SessionEnding::Alive => {
                return Err(SessionError::Invalid(
                    "the session was ended by this request; only `regenerate` can start a new one"
                        .to_owned(),
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

fn check_key(key: &str, limits: SessionLimits) -> Result<(), SessionError> {
    if key.is_empty() || key.len() > limits.key_bytes_max {
        return Err(SessionError::Invalid(format!(
            "a key has 1 to {} bytes, this one has {}",
            limits.key_bytes_max,
            key.len()
        )));
    }
    if is_reserved_key(key) {
        return Err(SessionError::Invalid(format!(
            "the key `{key}` is reserved: express-session uses it itself"
        )));
    }
    Ok(())
}

fn sum(document: &Document, key: &str, delta: i64) -> Result<i64, SessionError> {
    let term = match document.get(key) {
        None => 0,
        Some(raw) => as_integer(raw)
            .ok_or_else(|| SessionError::Invalid(format!("the entry `{key}` is not an integer")))?,
    };
    term.checked_add(delta).ok_or_else(|| {
        SessionError::Invalid(format!("the sum for `{key}` does not fit in 64 bits"))
    })
}

/// Sets an entry if the session stays within its limits or shrinks. A session that another program made too large can thus
/// be made smaller.
fn set_within(
    document: &mut Document,
    key: &str,
    value: &str,
    limits: SessionLimits,
) -> Result<(), SessionError> {
    let is_new = document.get(key).is_none();
    if is_new && document.key_count() >= limits.keys_max {
        return Err(SessionError::Invalid(format!(
            "a session holds at most {} keys",
            limits.keys_max
        )));
    }
    let value = &*limits.charset.encode(value);
    // A byte of a key takes at most six bytes in JSON: `\u0001`.
    let bytes_added_max = 6 * key.len() + value.len() + 8;
    change_within(document, limits, bytes_added_max, |document| {
        document.set(key, value);
    })
}

/// Applies a change by which the session grows by at most `bytes_added_max`. Changes nothing if the session would exceed its limit.
fn change_within(
    document: &mut Document,
    limits: SessionLimits,
    bytes_added_max: usize,
    change: impl FnOnce(&mut Document),
) -> Result<(), SessionError> {
    let bytes_before = document.json_len();
    // Only a change that may exceed the limit is tried on a copy.
    if bytes_before + bytes_added_max <= limits.bytes_max {
        change(document);
        return Ok(());
    }
    let mut changed = document.clone();
    change(&mut changed);
    let bytes = changed.json_len();
    if bytes > limits.bytes_max && bytes > bytes_before {
        return Err(SessionError::TooLarge(limits.bytes_max as u64));
    }
    *document = changed;
    Ok(())
}

/// An upper bound on the text of a lifetime and its end in a row, including their names.
const LIFETIME_BYTES_MAX: usize = 128;

fn set_lifetime(document: &mut Document, max_age_ms: Option<i64>, now_ms: i64) {
    let mut cookie = document.cookie().clone();
    cookie.set_expiry(max_age_ms, max_age_ms.map(|ms| now_ms.saturating_add(ms)));
    document.set_cookie(cookie);
}

/// The changes of one segment: those since the last commit.
#[derive(Default)]
pub(crate) struct ChangeLog {
    ops: Vec<ChangeOp>,
    bytes: usize,
    is_overflown: bool,
    /// The keys whose value the log determines, whatever the row contains.
    decided: HashSet<String>,
    decides_all: bool,
}

impl ChangeLog {
    /// Adds a change that was applied.
    pub(crate) fn push(&mut self, op: ChangeOp) {
        if self.is_overflown {
            return;
        }
        match &op {
            ChangeOp::Set { key, .. } | ChangeOp::Delete { key } if !self.decides_all => {
                self.decided.insert(key.clone());
            }
            ChangeOp::Clear | ChangeOp::Regenerate { .. } | ChangeOp::Destroy | ChangeOp::Drop => {
                self.decides_all = true;
                self.decided.clear();
            }
            _ => {}
        }
        // A guest that writes the same key repeatedly needs only one log entry.
        if let (Some(ChangeOp::Set { key: last, .. }), ChangeOp::Set { key, .. }) =
            (self.ops.last(), &op)
            && last == key
        {
            self.bytes -= self.ops.pop().map_or(0, |last| last.bytes());
        }
        self.bytes += op.bytes();
        self.ops.push(op);
        if self.ops.len() > SESSION_LOG_OPS_MAX || self.bytes > SESSION_LOG_BYTES_MAX {
            // The working copy still contains the data to be written. The changes just can no longer be applied to another row.
            *self = Self {
                is_overflown: true,
                ..Self::default()
            };
        }
    }

    /// Returns the changes in order; none if the log has overflowed.
    pub(crate) fn ops(&self) -> &[ChangeOp] {
        &self.ops
    }

    /// Returns whether the log became too long to be applied to another row.
    pub(crate) fn is_overflown(&self) -> bool {
        self.is_overflown
    }

    /// Returns whether the current value of `key` is independent of the row.
    pub(crate) fn decides(&self, key: &str) -> bool {
        self.decides_all || self.decided.contains(key)
    }

    /// Returns whether everything that the guest can see is independent of the row's entries.
    pub(crate) fn decides_all(&self) -> bool {
        self.decides_all
    }

    /// Returns whether the guest changed anything other than the end of the session's lifetime.
    pub(crate) fn has_changes(&self) -> bool {
        let changes = |op: &ChangeOp| !matches!(op, ChangeOp::Touch { .. });
        self.is_overflown || self.ops.iter().any(changes)
    }

    /// Returns whether any change could have been refused on another row.
    pub(crate) fn depends_on_base(&self) -> bool {
        let depends = |op: &ChangeOp| {
            matches!(
                op,
                ChangeOp::Set { .. } | ChangeOp::Add { .. } | ChangeOp::SetMaxAge { .. }
            )
        };
        self.is_overflown || self.ops.iter().any(depends)
    }
}
