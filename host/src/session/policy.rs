//! The decision tables: what is written and what becomes of the cookie at the end of a visit, and how long a session lives.
//! Pure functions; express-session's `shouldSave`, `shouldSetCookie`, `shouldTouch` and `shouldDestroy`, with this host's exceptions.

use std::time::Duration;

use super::Visit;
use super::options::{CookieOptions, Options, SameSiteOption, Secure, TouchPolicy};
use crate::clock::round_to_seconds;
use crate::record::{CookieAttributes, SameSite};

/// What is known of a session when its fate is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) standing: Standing,
    pub(super) ending: Ending,
    /// Whether the guest has ended the session and gone on with a new one.
    pub(super) was_destroyed: bool,
    pub(super) trigger: Trigger,
    /// Whether the id changes: `renew`, `regenerate`.
    pub(super) moves: bool,
    /// Whether the guest asked for an empty new session, which is stored even if it stays empty.
    pub(super) is_regenerated: bool,
    /// Whether the entries differ from the row's.
    pub(super) is_modified: bool,
    /// Whether the guest changed the cookie's lifetime.
    pub(super) is_cookie_changed: bool,
    /// Whether the guest changed anything at all, though the entries may be as before.
    pub(super) has_changes: bool,
    /// Whether a `save` of this run has written the row.
    pub(super) is_saved: bool,
    /// Whether the session's cookie may be sent over this visit's link.
    pub(super) is_deliverable: bool,
}

/// Whether there is a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Not yet.
    New,
    /// There was one when it was read.
    Loaded,
    /// There was one, and it vanished under the visit: nothing is stored, no cookie is sent.
    Detached,
    /// There are several, and nothing tells which one is meant: nothing is stored, and a guest that writes is refused.
    Several,
}

/// Whether the guest has ended the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// No.
    Alive,
    /// By `destroy`.
    Destroyed,
    /// By `unset` under `keep`: this visit changes nothing.
    Dropped,
}

/// What makes the host decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trigger {
    /// The guest's `save`.
    Save,
    /// The response is to be released.
    Release,
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Write {
    /// Nothing.
    Nothing,
    /// No change; the expiry may move.
    Touch,
    /// The row is inserted.
    Create,
    /// The row is replaced.
    Replace,
    /// The row is replaced and gets another id.
    Move,
    /// The row is deleted.
    Delete,
    /// The row is not inserted because nobody could ever present its cookie.
    Undeliverable,
    /// Nothing, and the visit is refused: it came with several sessions.
    Forbidden,
}

pub(super) fn write(options: &Options, facts: &Facts) -> Write {
    let is_asked = facts.trigger == Trigger::Save || facts.is_modified || facts.is_cookie_changed;
    match (facts.standing, facts.ending) {
        (Standing::Detached, _) | (_, Ending::Dropped) => Write::Nothing,
        (Standing::New | Standing::Several, Ending::Destroyed) => Write::Nothing,
        (Standing::Loaded, Ending::Destroyed) => Write::Delete,
        // Without a row no entry differs when a guest removes some: what it asked for decides.
        (Standing::Several, Ending::Alive) if is_asked || facts.has_changes => Write::Forbidden,
        (Standing::Several, Ending::Alive) => Write::Nothing,
        (Standing::New, Ending::Alive) => {
            let is_kept = is_asked || facts.is_regenerated || options.save_uninitialized;
            match (is_kept, facts.is_deliverable) {
                (false, _) => Write::Nothing,
                (true, true) => Write::Create,
                (true, false) => Write::Undeliverable,
            }
        }
        // Under a new id that the visitor cannot be told, the row would be an orphan; under the old one, a hole.
        (Standing::Loaded, Ending::Alive) if facts.moves && !facts.is_deliverable => Write::Delete,
        (Standing::Loaded, Ending::Alive) if facts.moves => Write::Move,
        (Standing::Loaded, Ending::Alive) => {
            let is_resaved = options.resave && !facts.is_saved && facts.trigger == Trigger::Release;
            if is_asked || is_resaved {
                Write::Replace
            } else {
                Write::Touch
            }
        }
    }
}

/// What becomes of the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CookieFate {
    /// What a `save` decided stays decided.
    AsBefore,
    /// It is set.
    Set,
    /// The browser drops it.
    Expire,
    /// Nothing is sent, whatever a `save` decided.
    Keep,
}

/// What the request came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ticket {
    /// No cookie of ours.
    Absent,
    /// One that names no session: badly signed, or several.
    Bad,
    /// A good one, and no valid row.
    Dead,
    /// A good one, and a row that cannot be read.
    Corrupt,
    /// A good one with its row.
    Good,
}

/// `written` is what [`write`] said; `has_max_age` is the session's, `was_modified` says whether any commit of this run
/// changed entries, `is_set_pending` whether a `save` has decided to set the cookie.
pub(super) fn cookie(
    options: &Options,
    facts: &Facts,
    written: Write,
    ticket: Ticket,
    about: CookieFacts,
) -> CookieFate {
    let expire = if options.expire_on_destroy {
        CookieFate::Expire
    } else {
        CookieFate::Keep
    };
    match written {
        Write::Delete if facts.ending == Ending::Destroyed => expire,
        Write::Delete | Write::Undeliverable | Write::Forbidden => CookieFate::Keep,
        Write::Create | Write::Move => CookieFate::Set,
        Write::Replace | Write::Touch if !facts.is_deliverable => CookieFate::AsBefore,
        Write::Replace | Write::Touch => {
            let is_changed = about.has_max_age && about.was_modified;
            let is_due = options.rolling || is_changed || facts.is_cookie_changed;
            if is_due || about.is_set_pending {
                CookieFate::Set
            } else {
                CookieFate::AsBefore
            }
        }
        Write::Nothing => match (facts.standing, facts.ending, ticket) {
            _ if facts.is_saved => CookieFate::AsBefore,
            (Standing::New, _, Ticket::Dead) => expire,
            (Standing::New, Ending::Destroyed, Ticket::Bad | Ticket::Corrupt) => expire,
            _ => CookieFate::AsBefore,
        },
    }
}

/// What [`cookie`] must know of the run beside its last segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CookieFacts {
    /// Whether the session's cookie has a lifetime of its own.
    pub(super) has_max_age: bool,
    /// Whether any commit of the run, this one included, changes entries.
    pub(super) was_modified: bool,
    /// Whether a `save` has decided to set the cookie.
    pub(super) is_set_pending: bool,
}

/// When a session written now ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expiry {
    /// The cookie's and its JSON's end; `None`: with the browser.
    pub(super) cookie_at_ms: Option<i64>,
    /// The row's last valid second.
    pub(super) row_at_s: i64,
}

/// The column is an unsigned 32-bit integer.
const ROW_SECONDS_MAX: i64 = u32::MAX as i64;

pub(super) fn expiry(
    options: &Options,
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

/// Whether a session with this lifetime, written now, has an end that a row can hold.
pub(super) fn is_max_age_possible(max_age_ms: i64, now_ms: i64) -> bool {
    let ends_at_ms = now_ms.checked_add(max_age_ms);
    ends_at_ms.is_some_and(|ms| (0..=ROW_SECONDS_MAX).contains(&round_to_seconds(ms)))
}

/// Whether the absolute lifetime is over.
pub(super) fn is_outlived(options: &Options, created_at_s: Option<i64>, now_s: i64) -> bool {
    created_at_s.is_some_and(|at| round_to_seconds(last_moment_ms(options, at)) < now_s)
}

fn last_moment_ms(options: &Options, created_at_s: i64) -> i64 {
    let lifetime = options.absolute_lifetime.map(millis);
    lifetime.map_or(i64::MAX, |ms| {
        created_at_s.saturating_mul(1000).saturating_add(ms)
    })
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Longest time by which a throttled touch lets a row's expiry lag behind.
const TOUCH_LAG_MAX: Duration = Duration::from_secs(60);

/// Whether the expiry of a row that is not written is to be moved from `from_s` to `to_s`. A touch never shortens a life.
pub(super) fn touches(
    options: &Options,
    max_age_ms: Option<i64>,
    from_s: i64,
    to_s: i64,
    asked: Asked,
) -> bool {
    let lifetime_ms = max_age_ms.unwrap_or(millis(options.idle_expiration));
    let lag_ms = (lifetime_ms / 20).min(millis(TOUCH_LAG_MAX));
    let moves_by_ms = to_s.saturating_sub(from_s).saturating_mul(1000);
    let is_due = match (options.touch, asked) {
        (TouchPolicy::Never, _) => false,
        (TouchPolicy::Always, _) | (TouchPolicy::Throttled, Asked::ByGuest) => true,
        (TouchPolicy::Throttled, Asked::No) => moves_by_ms > lag_ms,
    };
    is_due && to_s > from_s
}

/// Whether the guest called `touch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// No: every visit touches.
    No,
    /// Yes.
    ByGuest,
}

/// The cookie of a session that is created now.
pub(super) fn new_cookie(options: &CookieOptions, link: Link, now_ms: i64) -> CookieAttributes {
    let fixed_ms = options
        .expires_at_ms
        .map(|at_ms| at_ms.saturating_sub(now_ms));
    let max_age_ms = options.max_age.map(millis).or(fixed_ms);
    let secure = match options.secure {
        Secure::Always => true,
        Secure::Never => false,
        Secure::Auto => link == Link::Secure,
    };
    let same_site = options.same_site.map(|option| match (option, link) {
        (SameSiteOption::Strict, _) => SameSite::Strict,
        (SameSiteOption::Lax, _) | (SameSiteOption::Auto, Link::Plain) => SameSite::Lax,
        (SameSiteOption::None, _) | (SameSiteOption::Auto, Link::Secure) => SameSite::None,
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

/// What the visitor's link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// TLS, or believed to be.
    Secure,
    /// Anything else.
    Plain,
}

impl Link {
    pub(super) fn of(visit: &Visit) -> Self {
        if visit.is_secure {
            Self::Secure
        } else {
            Self::Plain
        }
    }
}
