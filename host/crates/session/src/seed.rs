//! Sessions that no visit created, for tests that need a session before their first request. Does not store them.

use crate::options::SessionOptions;
use crate::policy::{self, LinkSecurity};
use crate::record::{
    CommitToken, Document, SessionId, SessionRecord, StoredCookieObject, TokenHistory, check_value,
    is_reserved_key,
};
use crate::shared::SessionShared;
use crate::store::{Commit, RowChange};
use cloakroom_base::clock::round_to_seconds;

/// A session that is not stored yet. It contains a credential and a visitor's data, so it does not implement `Debug`.
pub struct SessionSeed {
    /// The commit that stores the session.
    pub commit: Commit,
    /// The signed value of the session's cookie.
    pub cookie: String,
}

/// Why the entries do not form a session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    /// No guest could write this key.
    #[error("`{key}` is not a valid session key: {reason}")]
    Key {
        /// The key.
        key: String,
        /// The reason.
        reason: String,
    },
    /// No guest could write this value.
    #[error("the value of `{key}` is {reason}")]
    Value {
        /// The key of the value.
        key: String,
        /// The problem with the value.
        reason: String,
    },
    /// There are too many keys.
    #[error("{keys} keys; a session may have {keys_max}")]
    TooManyKeys {
        /// The number of keys.
        keys: usize,
        /// The largest allowed number.
        keys_max: usize,
    },
    /// The session is too large.
    #[error("{bytes} bytes; a session may have {bytes_max}")]
    TooLarge {
        /// Its size, in bytes.
        bytes: usize,
        /// The largest allowed size, in bytes.
        bytes_max: usize,
    },
}

/// Creates a session from keys and JSON texts, as a guest would have filled it now for a visitor without TLS.
///
/// # Errors
/// [`SeedError`] if a guest's write would have been refused.
pub(crate) fn seed<'a>(
    shared: &SessionShared,
    entries: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<SessionSeed, SeedError> {
    let options = &shared.options;
    let now_ms = shared.clock.now_ms();
    let now_s = round_to_seconds(now_ms);
    let attributes = policy::new_cookie(&options.cookie, LinkSecurity::Plain, now_ms);
    let max_age_ms = attributes.original_max_age_ms;
    let expiry = policy::expiry(options, max_age_ms, Some(now_s), now_ms);
    let mut cookie = StoredCookieObject::new(&attributes);
    cookie.set_expiry(max_age_ms, expiry.cookie_at_ms);
    let mut document = Document::new(cookie).held_in(options.charset);
    for (key, value) in entries {
        check_key(options, key)?;
        let value = check_value(value).map_err(|reason| SeedError::Value {
            key: key.to_owned(),
            reason,
        })?;
        document.set(key, value);
    }
    let (keys, keys_max) = (document.key_count(), options.keys_max);
    if keys > keys_max {
        return Err(SeedError::TooManyKeys { keys, keys_max });
    }
    let (bytes, bytes_max) = (document.json_len(), options.session_bytes_max);
    if bytes > bytes_max {
        return Err(SeedError::TooLarge { bytes, bytes_max });
    }
    let id = SessionId::generate();
    let record = SessionRecord {
        data: document.to_bytes(),
        expires_at_s: expiry.row_at_s,
        tokens: TokenHistory::default().push(CommitToken::generate()),
        created_at_s: Some(now_s),
    };
    Ok(SessionSeed {
        cookie: shared.sign(&id),
        commit: Commit {
            id,
            change: RowChange::Create(record),
        },
    })
}

fn check_key(options: &SessionOptions, key: &str) -> Result<(), SeedError> {
    let bytes_max = options.key_bytes_max;
    let reason = if key.is_empty() {
        "it is empty".to_owned()
    } else if is_reserved_key(key) {
        "it is reserved".to_owned()
    } else if key.len() > bytes_max {
        format!("it has {} bytes and may have {bytes_max}", key.len())
    } else {
        return Ok(());
    };
    Err(SeedError::Key {
        key: key.to_owned(),
        reason,
    })
}
