//! One request of a round: how it is made, and the facts that are known about it afterwards.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue};

use super::super::super::{
    CookieChange, SessionGrant, TransactionOutcome, TransactionRefusal, UnsetPolicy, Visit,
    VisitStart,
};
use super::super::model::Opening;
use super::super::script::{Call, Guest, Rng, Said, Trap, pause, script};
use super::super::serial::{Cookie, Event, What};
use super::{COOKIE_NAME, Case};
use crate::cookie::{KeyRing, PresentedCookies, take_from};
use crate::record::SessionId;

/// The observed behaviour of a request.
pub(crate) struct Told {
    pub(crate) opening: Opening,
    pub(crate) cookie: Cookie,
    pub(crate) events: Vec<Event>,
    pub(crate) refusal: Option<TransactionRefusal>,
    pub(crate) text: String,
}

impl Case {
    pub(crate) fn visit<'a>(
        &'a self,
        number: usize,
        shared: &SessionId,
        rng: &mut Rng,
    ) -> impl Future<Output = Told> + use<'a> {
        let mut rng = rng.fork();
        let has_cookie = rng.chance(95);
        let visit = Visit {
            presented: presented(&self.keys, has_cookie.then_some(shared)),
            host: "localhost".to_owned(),
            path: "/".to_owned(),
            is_secure: false,
            grant: Arc::new(SessionGrant::write()),
            deadline: (Instant::now() + Duration::from_secs(600)).into(),
            start: match rng.chance(10) {
                true => VisitStart::Exclusive,
                false => VisitStart::Optimistic,
            },
            reservation: None,
        };
        let mut guest = Guest {
            script: script(&mut rng),
            body_is_gone: rng.chance(3),
            has_effect: false,
            runs: 0,
            lines: Vec::new(),
            time: Arc::clone(&self.time),
            pauses: self.pauses,
            rng: rng.fork(),
        };
        let manager = Arc::clone(&self.managers[rng.below(self.managers.len())]);
        async move {
            pause(&mut rng, self.pauses).await;
            let from = self.now();
            let task = tokio::spawn(async move {
                let outcome = manager.transact(visit, &mut guest).await;
                (outcome, guest)
            });
            let (outcome, guest) = task.await.expect("a transaction does not panic");
            let to = self.now();
            self.told(number, has_cookie, outcome, guest, (from, to))
        }
    }

    fn told(
        &self,
        number: usize,
        has_cookie: bool,
        outcome: TransactionOutcome<(), Trap>,
        guest: Guest,
        (from, to): (u64, u64),
    ) -> Told {
        let text = format!(
            "request {number} @{from}..{to}: {:?}, cookie: {has_cookie}, runs {}, {outcome:?}, said {:?}",
            guest.script, guest.runs, guest.lines
        );
        let (cookie, refusal, is_answered) = match outcome {
            TransactionOutcome::Answered { cookie, .. } => (cookie, None, true),
            TransactionOutcome::Failed { cookie, failure } => {
                assert_eq!(failure, Trap::ByScript, "{text}");
                (cookie, None, false)
            }
            TransactionOutcome::Refused { refusal, cookie } => (cookie, Some(refusal), false),
        };
        let end = match (is_answered, refusal) {
            (true, _) => End::Happened,
            (false, Some(TransactionRefusal::StoreUnavailable)) => End::Doubtful,
            (false, _) => End::Undone,
        };
        let is_untouched = self.faulty.faults.fail_percent > 0 && cookie == CookieChange::Keep;
        Told {
            opening: match (has_cookie, guest.runs) {
                (false, _) => Opening::WithoutCookie,
                (true, 0 | 1) => Opening::First,
                (true, _) => Opening::Again,
            },
            cookie: self.cookie(cookie),
            events: events(
                number,
                &guest,
                end,
                (from, to),
                is_untouched,
                self.options.unset,
            ),
            refusal,
            text,
        }
    }

    fn cookie(&self, change: CookieChange) -> Cookie {
        match change {
            CookieChange::Keep => Cookie::Keep,
            CookieChange::Expire { .. } => Cookie::Expire,
            CookieChange::WithDuplicates { .. } => panic!("a request has one cookie"),
            CookieChange::Set { value, attributes } => {
                let id = self.keys.verify(&value).expect("our own signature");
                Cookie::Set(id, attributes.original_max_age_ms, attributes.expires_at_ms)
            }
        }
    }
}

/// Whether the last segment of a request happened.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Happened,
    Doubtful,
    Undone,
}

impl Told {
    pub(crate) fn is_refused(&self) -> bool {
        matches!(
            self.refusal,
            Some(TransactionRefusal::Conflict | TransactionRefusal::BodyGone)
        )
    }

    /// Removes doubtful segments if no reply was lost: a refused request changed nothing then. The exception is a logout,
    /// which may have deleted its own row before the store failed on the row that its cookie names.
    pub(crate) fn drop_doubt_unless(&mut self, may_be_lost: bool) {
        let is_logout = |event: &Event| matches!(event.what, What::RemoveUnseen { is_doubtful, .. } if is_doubtful);
        if may_be_lost || self.events.iter().any(is_logout) {
            return;
        }
        self.events.retain(
            |event| !matches!(event.what, What::Segment { is_doubtful, .. } if is_doubtful),
        );
    }
}

/// Returns a request's segments, each of which ends at a successful `save` or at the end of the request.
fn events(
    visit: usize,
    guest: &Guest,
    end: End,
    (from, to): (u64, u64),
    is_untouched: bool,
    unset: UnsetPolicy,
) -> Vec<Event> {
    let mut events = Vec::new();
    let (mut lines, mut begun) = (Vec::new(), from);
    let mut fails_at_save = false;
    // Whether the session was destroyed, even if the guest continued with a new one.
    let (mut is_dropped, mut is_ended, mut is_destroyed) = (false, false, false);
    for line in &guest.lines {
        match &line.call {
            Call::Unset if unset == UnsetPolicy::Keep => is_dropped = !is_ended,
            Call::Destroy | Call::Unset => {
                (is_dropped, is_ended, is_destroyed) = (false, true, true)
            }
            Call::Regenerate => (is_dropped, is_ended) = (false, false),
            Call::Reload if line.said == Said::Done => (is_dropped, is_destroyed) = (false, false),
            _ => {}
        }
        match (&line.call, &line.said) {
            // Nothing is saved, and earlier reads still count.
            (Call::Save, Said::Done) if is_dropped => {}
            (Call::Save, Said::Done) => {
                events.push(Event {
                    from: begun,
                    to: line.done_at,
                    what: What::Segment {
                        visit,
                        lines: std::mem::take(&mut lines),
                        is_save: true,
                        is_doubtful: false,
                    },
                });
                let is_doubtful = false;
                let what = What::RemoveUnseen { visit, is_doubtful };
                let (from, to) = (begun, line.done_at);
                events.extend(is_destroyed.then_some(Event { from, to, what }));
                begun = line.made_at;
            }
            (Call::Save, Said::Unavailable) => fails_at_save = true,
            _ => lines.push(line.clone()),
        }
    }
    // A guest that makes no call does not need the store, and its cookie stays unchanged.
    if guest.lines.is_empty() && is_untouched {
        return events;
    }
    let reload_failed = lines.iter().any(|line| line.said == Said::Unavailable);
    if end == End::Undone || reload_failed {
        return events;
    }
    events.push(Event {
        from: begun,
        to,
        what: What::Segment {
            visit,
            lines,
            is_save: fails_at_save,
            is_doubtful: end == End::Doubtful,
        },
    });
    let is_doubtful = end == End::Doubtful;
    let what = What::RemoveUnseen { visit, is_doubtful };
    let from = begun;
    events.extend(is_destroyed.then_some(Event { from, to, what }));
    events
}

fn presented(keys: &KeyRing, id: Option<&SessionId>) -> PresentedCookies {
    let mut headers = HeaderMap::new();
    if let Some(id) = id {
        let cookie = format!("{COOKIE_NAME}={}", keys.sign(id));
        let cookie = HeaderValue::from_str(&cookie).expect("a signed value is a header's");
        headers.insert(http::header::COOKIE, cookie);
    }
    take_from(&mut headers, COOKIE_NAME)
}
