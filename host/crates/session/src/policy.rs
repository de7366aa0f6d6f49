//! The decision tables: what a visit writes at its end, what happens to the cookie, and how long a session lives. They are
//! pure functions: `shouldSave`, `shouldSetCookie`, `shouldTouch` and `shouldDestroy` of express-session, with this host's
//! exceptions.

use std::time::Duration;

use crate::options::{CookieOptions, SameSitePolicy, SecurePolicy, SessionOptions, TouchPolicy};
use crate::record::{CookieAttributes, SameSite};
use crate::visit::Visit;
use cloakroom_base::clock::round_to_seconds;

/// The facts about a session that the decisions depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentFacts {
    pub(crate) row_state: RowState,
    pub(crate) ending: SessionEnding,
    /// Whether the guest called `destroy`, even if it continued with a new session.
    pub(crate) was_destroyed: bool,
    pub(crate) trigger: CommitTrigger,
    /// Whether the id changes, because of `renew` or `regenerate`.
    pub(crate) moves: bool,
    /// Whether the guest asked for an empty new session, which is stored even if it stays empty.
    pub(crate) is_regenerated: bool,
    /// Whether the entries differ from the row's.
    pub(crate) is_modified: bool,
    /// Whether the guest changed the cookie's lifetime.
    pub(crate) is_cookie_changed: bool,
    /// Whether the guest made any change, even if the entries are the same as before.
    pub(crate) has_changes: bool,
    /// Whether a `save` of this run has written the row.
    pub(crate) is_saved: bool,
    /// Whether the session's cookie may be sent over this visit's link.
    pub(crate) is_deliverable: bool,
}

/// Whether the session has a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowState {
    /// There is no row yet.
    New,
    /// There was a row when it was read.
    Loaded,
    /// There was a row, and it vanished during the visit: nothing is stored, and no cookie is sent.
    Detached,
    /// There are several rows, and it is unknown which one is meant: nothing is stored, and a guest that writes is refused.
    Several,
}

/// Whether the guest has ended the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionEnding {
    /// The guest has not ended it.
    Alive,
    /// The guest called `destroy`.
    Destroyed,
    /// The guest called `unset` with the policy `keep`: this visit changes nothing.
    Dropped,
}

/// The facts about a commit that the session's transaction does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommitRequest {
    pub(crate) trigger: CommitTrigger,
    pub(crate) link: LinkSecurity,
    /// Whether a `save` of this run has written the row.
    pub(crate) is_saved: bool,
}

/// The event that a decision is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommitTrigger {
    /// The guest's `save`.
    Save,
    /// The response is about to be released.
    Release,
}

/// The write that a decision results in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowWrite {
    /// Writes nothing.
    Nothing,
    /// Leaves the row unchanged, but may move its expiry.
    Touch,
    /// Inserts the row.
    Create,
    /// Replaces the row.
    Replace,
    /// Replaces the row and gives it another id.
    Move,
    /// Deletes the row.
    Delete,
    /// Does not insert the row, because no client could ever present its cookie.
    Undeliverable,
    /// Writes nothing and refuses the visit, because it came with several sessions.
    Forbidden,
}

pub(crate) fn write(options: &SessionOptions, facts: &SegmentFacts) -> RowWrite {
    let is_asked =
        facts.trigger == CommitTrigger::Save || facts.is_modified || facts.is_cookie_changed;
    match (facts.row_state, facts.ending) {
        (RowState::Detached, _) | (_, SessionEnding::Dropped) => RowWrite::Nothing,
        (RowState::New | RowState::Several, SessionEnding::Destroyed) => RowWrite::Nothing,
        (RowState::Loaded, SessionEnding::Destroyed) => RowWrite::Delete,
        // Without a row, removing entries makes no difference, so the guest's calls decide.
        (RowState::Several, SessionEnding::Alive) if is_asked || facts.has_changes => {
            RowWrite::Forbidden
        }
        (RowState::Several, SessionEnding::Alive) => RowWrite::Nothing,
        (RowState::New, SessionEnding::Alive) => {
            let is_kept = is_asked || facts.is_regenerated || options.save_uninitialized;
            match (is_kept, facts.is_deliverable) {
                (false, _) => RowWrite::Nothing,
                (true, true) => RowWrite::Create,
                (true, false) => RowWrite::Undeliverable,
            }
        }
        // The visitor cannot receive the new id. A row under the new id would be an orphan, and keeping the row under the
        // old id would leave a security hole.
        (RowState::Loaded, SessionEnding::Alive) if facts.moves && !facts.is_deliverable => {
            RowWrite::Delete
        }
        (RowState::Loaded, SessionEnding::Alive) if facts.moves => RowWrite::Move,
        (RowState::Loaded, SessionEnding::Alive) => {
            let is_resaved =
                options.resave && !facts.is_saved && facts.trigger == CommitTrigger::Release;
            if is_asked || is_resaved {
                RowWrite::Replace
            } else {
                RowWrite::Touch
            }
        }
    }
}

/// The change to the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CookieFate {
    /// Leaves the decision of an earlier `save` in place.
    AsBefore,
    /// Sets the cookie.
    Set,
    /// Makes the browser drop the cookie.
    Expire,
    /// Sends nothing, whatever a `save` decided.
    Keep,
}

/// The cookie that the request presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PresentedCookie {
    /// None of our cookies.
    Absent,
    /// A cookie that names no session: it is badly signed, or there are several.
    Bad,
    /// A valid cookie without a valid row.
    Dead,
    /// A valid cookie with a row that cannot be read.
    Corrupt,
    /// A valid cookie with its row.
    Good,
}

/// Decides the change to the cookie. `written` is the result of [`write`].
pub(crate) fn cookie(
    options: &SessionOptions,
    facts: &SegmentFacts,
    written: RowWrite,
    presented: PresentedCookie,
    about: CookieFacts,
) -> CookieFate {
    let expire = if options.expire_on_destroy {
        CookieFate::Expire
    } else {
        CookieFate::Keep
    };
    match written {
        RowWrite::Delete if facts.ending == SessionEnding::Destroyed => expire,
        RowWrite::Delete | RowWrite::Undeliverable | RowWrite::Forbidden => CookieFate::Keep,
        RowWrite::Create | RowWrite::Move => CookieFate::Set,
        RowWrite::Replace | RowWrite::Touch if !facts.is_deliverable => CookieFate::AsBefore,
        RowWrite::Replace | RowWrite::Touch => {
            let is_changed = about.has_max_age && about.was_modified;
            let is_due = options.rolling || is_changed || facts.is_cookie_changed;
            if is_due || about.is_set_pending {
                CookieFate::Set
            } else {
                CookieFate::AsBefore
            }
        }
        RowWrite::Nothing => match (facts.row_state, facts.ending, presented) {
            _ if facts.is_saved => CookieFate::AsBefore,
            (RowState::New, _, PresentedCookie::Dead) => expire,
            (
                RowState::New,
                SessionEnding::Destroyed,
                PresentedCookie::Bad | PresentedCookie::Corrupt,
            ) => expire,
            _ => CookieFate::AsBefore,
        },
    }
}

/// The facts about the run that [`cookie`] needs in addition to those of its last segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CookieFacts {
    /// Whether the session's cookie has its own lifetime.
    pub(crate) has_max_age: bool,
    /// Whether any commit of the run, including this one, changed entries.
    pub(crate) was_modified: bool,
    /// Whether a `save` has decided to set the cookie.
    pub(crate) is_set_pending: bool,
}

/// The end of a session that is written now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expiry {
    /// The end of the cookie, which is also stored in its JSON. `None` means when the browser is closed.
    pub(crate) cookie_at_ms: Option<i64>,
    /// The row's last valid second.
    pub(crate) row_at_s: i64,
}

/// The largest expiry of a row: the column is an unsigned 32-bit integer.
const ROW_SECONDS_MAX: i64 = u32::MAX as i64;

pub(crate) fn expiry(
    options: &SessionOptions,
    max_age_ms: Option<i64>,
    created_at_s: Option<i64>,
    now_ms: i64,
) -> Expiry {
    let lifetime_ms = max_age_ms.unwrap_or(millis(options.idle_expiration));
    let last_ms = last_moment_ms(options, created_at_s.unwrap_or(round_to_seconds(now_ms)));
    let ends_at_ms = now_ms.saturating_add(lifetime_ms).min(last_ms);
    Expiry {
        cookie_at_ms: max_age_ms.map(|_| ends_at_ms),
        row_at_s: round_to_seconds(ends_at_ms).clamp(0, ROW_SECONDS_MAX),
    }
}

/// Returns whether a session with this lifetime, written now, has an end that fits into a row.
pub(crate) fn is_max_age_possible(max_age_ms: i64, now_ms: i64) -> bool {
    let ends_at_ms = now_ms.checked_add(max_age_ms);
    ends_at_ms.is_some_and(|ms| (0..=ROW_SECONDS_MAX).contains(&round_to_seconds(ms)))
}

/// Returns whether the absolute lifetime is over.
pub(crate) fn is_outlived(options: &SessionOptions, created_at_s: Option<i64>, now_s: i64) -> bool {
    created_at_s.is_some_and(|at| round_to_seconds(last_moment_ms(options, at)) < now_s)
}

fn last_moment_ms(options: &SessionOptions, created_at_s: i64) -> i64 {
    let lifetime = options.absolute_lifetime.map(millis);
    lifetime.map_or(i64::MAX, |ms| {
        created_at_s.saturating_mul(1000).saturating_add(ms)
    })
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The longest time that a throttled touch may let a row's expiry lag behind.
const TOUCH_LAG_MAX: Duration = Duration::from_secs(60);

/// Returns whether the expiry of a row that is not written should be moved from `from_s` to `to_s`. A touch never shortens
/// a session's life.
pub(crate) fn touches(
    options: &SessionOptions,
    max_age_ms: Option<i64>,
    from_s: i64,
    to_s: i64,
    asked: TouchRequested,
) -> bool {
    let lifetime_ms = max_age_ms.unwrap_or(millis(options.idle_expiration));
    let lag_ms = (lifetime_ms / 20).min(millis(TOUCH_LAG_MAX));
    let moves_by_ms = to_s.saturating_sub(from_s).saturating_mul(1000);
    let is_due = match (options.touch, asked) {
        (TouchPolicy::Never, _) => false,
        (TouchPolicy::Always, _) | (TouchPolicy::Throttled, TouchRequested::ByGuest) => true,
        (TouchPolicy::Throttled, TouchRequested::No) => moves_by_ms > lag_ms,
    };
    is_due && to_s > from_s
}

/// Whether the guest called `touch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TouchRequested {
    /// The guest did not call it; the visit itself counts as a use.
    No,
    /// The guest called it.
    ByGuest,
}

/// Returns the cookie of a session that is created now.
pub(crate) fn new_cookie(
    options: &CookieOptions,
    link: LinkSecurity,
    now_ms: i64,
) -> CookieAttributes {
    let fixed_ms = options
        .expires_at_ms
        .map(|at_ms| at_ms.saturating_sub(now_ms));
    let max_age_ms = options.max_age.map(millis).or(fixed_ms);
    let secure = match options.secure {
        SecurePolicy::Always => true,
        SecurePolicy::Never => false,
        SecurePolicy::Auto => link == LinkSecurity::Secure,
    };
    let same_site = options.same_site.map(|option| match (option, link) {
        (SameSitePolicy::Strict, _) => SameSite::Strict,
        (SameSitePolicy::Lax, _) | (SameSitePolicy::Auto, LinkSecurity::Plain) => SameSite::Lax,
        (SameSitePolicy::None, _) | (SameSitePolicy::Auto, LinkSecurity::Secure) => SameSite::None,
    });
    CookieAttributes {
        original_max_age_ms: max_age_ms,
        expires_at_ms: max_age_ms.map(|ms| now_ms.saturating_add(ms)),
        path: options.path.clone(),
        domain: options.domain.clone(),
        http_only: options.http_only,
        secure,
        same_site,
        partitioned: options.partitioned,
        priority: options.priority,
    }
}

/// The security of the visitor's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkSecurity {
    /// TLS, or treated as TLS.
    Secure,
    /// Any other link.
    Plain,
}

impl LinkSecurity {
    pub(crate) fn of(visit: &Visit) -> Self {
        if visit.is_secure {
            Self::Secure
        } else {
            Self::Plain
        }
    }
}
