//! The session as the guest sees it, and the limits that its changes must keep.

use std::sync::OnceLock;

use crate::grant::SessionGrant;
use crate::options::SessionOptions;
use crate::policy::SessionEnding;
use crate::record::{
    Charset, CookieAttributes, Document, SessionId, StoredCookieObject, is_reserved_key,
};

/// The limits on a session's size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionLimits {
    pub(crate) bytes_max: usize,
    pub(crate) keys_max: usize,
    pub(crate) key_bytes_max: usize,
    /// The characters that the store can hold.
    pub(crate) charset: Charset,
}

impl SessionLimits {
    pub(crate) fn of(options: &SessionOptions) -> Self {
        Self {
            bytes_max: options.session_bytes_max,
            keys_max: options.keys_max,
            key_bytes_max: options.key_bytes_max,
            charset: options.charset,
        }
    }

    /// Returns the smaller of these limits and those of the guest's grant.
    pub(crate) fn within(self, grant: &SessionGrant) -> Self {
        let least = |all: usize, own: Option<usize>| own.map_or(all, |own| own.min(all));
        Self {
            bytes_max: least(self.bytes_max, grant.session_bytes_max),
            keys_max: least(self.keys_max, grant.keys_max),
            ..self
        }
    }

    /// Returns whether guests may write a key of this name at all.
    pub(crate) fn allow_key(&self, key: &str) -> bool {
        (1..=self.key_bytes_max).contains(&key.len()) && !is_reserved_key(key)
    }
}

/// The session as the guest sees it: the base with the log applied.
#[derive(Clone)]
pub(crate) struct WorkingCopy {
    pub(crate) document: Document,
    pub(crate) ending: SessionEnding,
    /// Whether the guest called `destroy`, even if it continued with a new session.
    pub(crate) was_destroyed: bool,
    /// The id that the session moves to, because of `renew` or `regenerate`.
    pub(crate) new_id: Option<SessionId>,
    pub(crate) is_regenerated: bool,
    pub(crate) is_cookie_changed: bool,
    pub(crate) is_touched: bool,
}

impl WorkingCopy {
    pub(crate) fn new(document: Document) -> Self {
        Self {
            document,
            ending: SessionEnding::Alive,
            was_destroyed: false,
            new_id: None,
            is_regenerated: false,
            is_cookie_changed: false,
            is_touched: false,
        }
    }
}

/// The cookie of a session that this visit may create. Most visits create none, so its text is generated on demand.
pub(crate) struct FreshCookie {
    attributes: CookieAttributes,
    charset: Charset,
    stored: OnceLock<StoredCookieObject>,
}

impl FreshCookie {
    pub(crate) fn new(attributes: &CookieAttributes, charset: Charset) -> Self {
        Self {
            attributes: attributes.clone(),
            charset,
            stored: OnceLock::new(),
        }
    }

    pub(crate) fn get(&self) -> &StoredCookieObject {
        self.stored
            .get_or_init(|| StoredCookieObject::new(&self.attributes))
    }

    /// Returns a session with only this cookie.
    pub(crate) fn document(&self) -> Document {
        Document::new(self.get().clone()).held_in(self.charset)
    }
}
