//! One case: its options, its store, its rounds of requests that run at once, and what is known of them afterwards.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::super::{
    CookieChange, Grant, Options, Outcome, Refusal, Secure, SessionManager, Start, TouchPolicy,
    Unset, Visit,
};
use super::faults::{Faults, FaultyStore, Link};
use super::model::{Content, Name, Opening, Row, World};
use super::script::{Call, Guest, KEYS, Rng, Said, Trap, pause, script};
use super::serial::{Cookie, Event, History, What, is_serial};
use super::{BlindWriter, Report};
use crate::clock::Clock;
use crate::cookie::{KeyRing, Presented, Secret, take_from};
use crate::record::{
    CommitToken, CookieAttributes, Document, SessionId, SessionRecord, StoredCookie, TokenHistory,
};
use crate::store::{Change, Commit, SessionStore, Verdict};

const NOW_MS: i64 = 1_795_000_000_000;
const IDLE: Duration = Duration::from_secs(1_000);
const COOKIE_NAME: &str = "sid";

/// Who and what takes part.
struct Case {
    store: Arc<dyn SessionStore>,
    express: Arc<dyn BlindWriter>,
    faulty: Arc<FaultyStore>,
    managers: Vec<Arc<SessionManager>>,
    options: Options,
    clock: Clock,
    keys: KeyRing,
    time: Arc<AtomicU64>,
    jumps: bool,
    blind_writes: bool,
    pauses: usize,
}

/// What a request did.
struct Told {
    opening: Opening,
    cookie: Cookie,
    events: Vec<Event>,
    refusal: Option<Refusal>,
    text: String,
}

pub(super) async fn case(
    store: Arc<dyn SessionStore>,
    express: Arc<dyn BlindWriter>,
    mut rng: Rng,
) -> Result<Report, String> {
    let case = Case::new(store, express, &mut rng);
    let mut shared = SessionId::generate();
    case.make_row(&shared, &mut rng).await;
    let mut report = Report::default();
    let mut done: HashSet<SessionId> = HashSet::new();
    let rounds = 1 + rng.below(2);
    for _ in 0..rounds {
        let tolds = case.round(&shared, &done, &mut rng, &mut report).await?;
        let (ids, _) = case.faulty.ids();
        done = ids;
        let next = tolds.iter().find_map(|told| match &told.cookie {
            Cookie::Set(id, ..) => Some(id.clone()),
            _ => None,
        });
        shared = next.unwrap_or(shared);
    }
    report.cases = 1;
    for manager in &case.managers {
        let counters = manager.counters();
        report.conflicts += counters.conflicts.get();
        report.reapplies += counters.reapplies.get();
        report.reruns += counters.reruns.get();
    }
    (report.lost_replies, report.failures) = case.faulty.faults_made();
    report.cases_with_conflict = usize::from(report.conflicts > 0);
    Ok(report)
}

fn options(rng: &mut Rng, jumps: bool) -> Options {
    let mut options = Options {
        resave: rng.chance(10),
        rolling: rng.chance(20),
        save_uninitialized: rng.chance(10),
        unset: rng.pick(&[Unset::Keep, Unset::Destroy]),
        expire_on_destroy: rng.chance(80),
        idle_expiration: IDLE,
        touch: match jumps {
            true => TouchPolicy::Never,
            false => rng.pick(&[
                TouchPolicy::Never,
                TouchPolicy::Throttled,
                TouchPolicy::Always,
            ]),
        },
        keys_max: rng.pick(&[2, 256]),
        ..Options::default()
    };
    options.cookie.secure = Secure::Never;
    options.cookie.max_age = rng.pick(&[None, Some(Duration::from_secs(500))]);
    options
}

impl Case {
    fn new(store: Arc<dyn SessionStore>, express: Arc<dyn BlindWriter>, rng: &mut Rng) -> Self {
        let jumps = rng.chance(25);
        let options = options(rng, jumps);
        let clock = Clock::manual(NOW_MS);
        let pauses = rng.pick(&[1, 3, 6]);
        let blind_writes = rng.chance(30);
        let faults = Faults {
            lost_percent: rng.pick(&[0, 0, 10, 30]),
            may_land_late: rng.chance(50),
            rows_may_return: blind_writes,
            fail_percent: rng.pick(&[0, 0, 0, 5]),
            may_start_late: !jumps,
            pauses,
        };
        let faulty = FaultyStore::new(Arc::clone(&store), clock.clone(), faults, rng.fork());
        let keys = || {
            let secret = Secret::new(b"a secret of more than thirty-two bytes".to_vec());
            KeyRing::new(vec![secret]).expect("a secret")
        };
        let manager = |_| {
            let link = Arc::new(Link(Arc::clone(&faulty)));
            SessionManager::new(options.clone(), keys(), link, clock.clone())
        };
        Self {
            managers: (0..1 + rng.below(2)).map(manager).collect(),
            store,
            express,
            options,
            clock,
            keys: keys(),
            time: Arc::default(),
            jumps,
            blind_writes,
            pauses,
            faulty,
        }
    }

    /// A first row: ours, one of Express, or none.
    async fn make_row(&self, id: &SessionId, rng: &mut Rng) {
        let max_age_ms = rng.pick(&[None, Some(60_000), Some(2_000_000)]);
        let (data, expires_at_s) = self.row_text(max_age_ms, rng);
        match rng.below(10) {
            0 => {}
            1 | 2 => {
                self.express.upsert(id, data, expires_at_s).await;
            }
            _ => {
                let record = SessionRecord {
                    data,
                    expires_at_s,
                    tokens: TokenHistory::default().push(CommitToken::generate()),
                    created_at_s: Some(self.clock.now_s()),
                };
                let commit = Commit {
                    id: id.clone(),
                    change: Change::Create(record),
                };
                let verdicts = self.store.commit_many(&[commit], self.clock.now_s()).await;
                assert!(matches!(verdicts[..], [Verdict::Committed]), "{verdicts:?}");
            }
        }
    }

    fn row_text(&self, max_age_ms: Option<i64>, rng: &mut Rng) -> (Bytes, i64) {
        let now_ms = self.clock.now_ms();
        let cookie = StoredCookie::new(&CookieAttributes {
            original_max_age_ms: max_age_ms,
            expires_at_ms: max_age_ms.map(|ms| now_ms + ms),
            ..CookieAttributes::default()
        });
        let mut document = Document::new(cookie);
        for key in KEYS {
            if rng.chance(40) {
                document.set(key, rng.pick(&["0", "1", "\"x\""]));
            }
        }
        let lifetime_ms = max_age_ms.unwrap_or(IDLE.as_millis() as i64);
        (
            document.to_bytes(),
            crate::clock::round_to_seconds(now_ms + lifetime_ms),
        )
    }

    async fn read(&self, id: &SessionId) -> Option<SessionRecord> {
        let rows = self
            .store
            .load_many(std::slice::from_ref(id), self.clock.now_s())
            .await;
        rows.expect("the store behind the faults works").remove(0)
    }

    async fn round(
        &self,
        shared: &SessionId,
        done: &HashSet<SessionId>,
        rng: &mut Rng,
        report: &mut Report,
    ) -> Result<Vec<Told>, String> {
        let before = self.read(shared).await.map(|record| row(&record));
        let world = self.world(before.clone());
        let lost_before = self.faulty.faults_made().0;
        let count = 2 + rng.below(3);
        let visits = (0..count).map(|n| self.visit(n, shared, rng));
        let visits = futures_util::future::join_all(visits.collect::<Vec<_>>());
        let bystander = self.bystander(shared, rng);
        let (mut tolds, bystander) = futures_util::join!(visits, bystander);
        for manager in &self.managers {
            manager.shutdown().await;
        }
        self.faulty.forget_unsettled();
        while !self.faulty.is_finished() {
            tokio::task::yield_now().await;
        }
        let may_be_lost = self.faulty.faults_made().0 > lost_before;
        for told in &mut tolds {
            told.drop_doubt_unless(may_be_lost);
        }
        report.rounds += 1;
        report.requests += count;
        report.refused += tolds.iter().filter(|told| told.is_refused()).count() as u64;
        let history = self.history(shared, done, &tolds, &bystander).await;
        let mut start = world;
        for _ in &tolds {
            start.add_visit(&self.options);
        }
        if is_serial(&history, start, &self.options) {
            return Ok(tolds);
        }
        Err(self.story(before, &tolds, &bystander, &history))
    }

    fn world(&self, before: Option<Row>) -> World {
        let rows = before.map(|row| (Name::Shared, row)).into_iter();
        World {
            now_ms: self.clock.now_ms(),
            rows: BTreeMap::from_iter(rows),
            visits: Vec::new(),
        }
    }

    async fn history(
        &self,
        shared: &SessionId,
        done: &HashSet<SessionId>,
        tolds: &[Told],
        bystander: &[Event],
    ) -> History {
        let (ids, lost) = self.faulty.ids();
        let mut rows = HashMap::new();
        for id in ids.iter().filter(|id| !done.contains(id)).chain([shared]) {
            if let Some(record) = self.read(id).await {
                rows.insert(
                    id.clone(),
                    (row(&record), lost.contains(id) && id != shared),
                );
            }
        }
        let mut actors: Vec<_> = tolds.iter().map(|told| told.events.clone()).collect();
        actors.push(bystander.to_vec());
        History {
            actors,
            visits: tolds
                .iter()
                .map(|told| (told.opening, told.cookie.clone()))
                .collect(),
            shared: shared.clone(),
            shared_name: self.keys.fingerprint(shared),
            rows,
            compares_cookie_ends: !self.jumps,
            compares_row_ends: self.options.touch == TouchPolicy::Never,
        }
    }

    fn story(
        &self,
        before: Option<Row>,
        tolds: &[Told],
        bystander: &[Event],
        history: &History,
    ) -> String {
        let options = &self.options;
        let requests: Vec<&str> = tolds.iter().map(|told| told.text.as_str()).collect();
        let rows: Vec<_> = history
            .rows
            .iter()
            .map(|(id, row)| (*id == history.shared, row))
            .collect();
        format!(
            "no order explains it.\nresave {} rolling {} uninitialized {} unset {:?} expire {}\
             \x20max age {:?} touch {:?} keys {}\nfaults: {:?}\nmanagers: {}\n\
             before: {before:?}\n{}\nbeside: {bystander:?}\n\
             rows (is shared, (row, may be lost)): {rows:?}",
            options.resave,
            options.rolling,
            options.save_uninitialized,
            options.unset,
            options.expire_on_destroy,
            options.cookie.max_age,
            options.touch,
            options.keys_max,
            self.faulty.faults,
            self.managers.len(),
            requests.join("\n"),
        )
    }

    fn now(&self) -> u64 {
        self.time.fetch_add(1, Ordering::SeqCst)
    }

    /// What happens beside the requests: blind writes, the clock.
    fn bystander<'a>(
        &'a self,
        shared: &'a SessionId,
        rng: &mut Rng,
    ) -> impl Future<Output = Vec<Event>> + use<'a> {
        let mut rng = rng.fork();
        async move {
            let mut events = Vec::new();
            if self.jumps && rng.chance(70) {
                pause(&mut rng, 20).await;
                events.push(self.jump(&mut rng).await);
            }
            if self.blind_writes {
                events.push(self.blind_write(shared, &mut rng).await);
            }
            events
        }
    }

    async fn jump(&self, rng: &mut Rng) -> Event {
        let ms = rng.pick(&[5_000, 100_000, 10_000_000]);
        while !self.faulty.is_quiet() {
            tokio::task::yield_now().await;
        }
        let from = self.now();
        self.clock.advance(ms);
        Event {
            from,
            to: self.now(),
            what: What::Passed(ms),
        }
    }

    async fn blind_write(&self, shared: &SessionId, rng: &mut Rng) -> Event {
        let read = self.read(shared).await.filter(|_| rng.chance(70));
        pause(rng, 25).await;
        let _held = self.faulty.hold();
        let (fixed, expires_at_s) = self.row_text(None, rng);
        let data = match read {
            Some(record) => {
                let mut document = Document::parse(&record.data).expect("a session's row");
                document.set(rng.pick(&KEYS), rng.pick(&["0", "5", "\"e\""]));
                document.to_bytes()
            }
            None => fixed,
        };
        let from = self.now();
        if rng.chance(15) {
            let commit = Commit {
                id: shared.clone(),
                change: Change::Delete { base: None },
            };
            self.store.commit_many(&[commit], self.clock.now_s()).await;
            return Event {
                from,
                to: self.now(),
                what: What::Remove,
            };
        }
        self.express
            .upsert(shared, data.clone(), expires_at_s)
            .await;
        let written = SessionRecord {
            data,
            expires_at_s,
            tokens: TokenHistory::default(),
            created_at_s: None,
        };
        Event {
            from,
            to: self.now(),
            what: What::Upsert(row(&written)),
        }
    }

    fn visit<'a>(
        &'a self,
        number: usize,
        shared: &SessionId,
        rng: &mut Rng,
    ) -> impl Future<Output = Told> + use<'a> {
        let mut rng = rng.fork();
        let has_cookie = rng.chance(95);
        let visit = Visit {
            presented: presented(&self.keys, has_cookie.then_some(shared)),
            path: "/".to_owned(),
            is_secure: false,
            grant: Arc::new(Grant::write()),
            deadline: Instant::now() + Duration::from_secs(600),
            start: match rng.chance(10) {
                true => Start::Exclusive,
                false => Start::Optimistic,
            },
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
        outcome: Outcome<(), Trap>,
        guest: Guest,
        (from, to): (u64, u64),
    ) -> Told {
        let text = format!(
            "request {number} @{from}..{to}: {:?}, cookie: {has_cookie}, runs {}, {outcome:?}, said {:?}",
            guest.script, guest.runs, guest.lines
        );
        let (cookie, refusal, is_answered) = match outcome {
            Outcome::Answered { cookie, .. } => (cookie, None, true),
            Outcome::Failed { cookie, failure } => {
                assert_eq!(failure, Trap::ByScript, "{text}");
                (cookie, None, false)
            }
            Outcome::Refused { refusal, cookie } => (cookie, Some(refusal), false),
        };
        let end = match (is_answered, refusal) {
            (true, _) => End::Happened,
            (false, Some(Refusal::StoreUnavailable)) => End::Doubtful,
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
            CookieChange::Set { value, attributes } => {
                let id = self.keys.verify(&value).expect("our own signature");
                Cookie::Set(id, attributes.original_max_age_ms, attributes.expires_at_ms)
            }
        }
    }
}

/// What became of what a request did last.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Happened,
    Doubtful,
    Undone,
}

impl Told {
    fn is_refused(&self) -> bool {
        matches!(self.refusal, Some(Refusal::Conflict | Refusal::BodyGone))
    }

    /// Without a lost reply nothing is in doubt: what was refused did not happen.
    fn drop_doubt_unless(&mut self, may_be_lost: bool) {
        let is_doubtful = |event: &Event| {
            matches!(
                event.what,
                What::Segment {
                    is_doubtful: true,
                    ..
                }
            )
        };
        self.events
            .retain(|event| may_be_lost || !is_doubtful(event));
    }
}

/// A request's segments: from each `save` that was done to the next.
fn events(
    visit: usize,
    guest: &Guest,
    end: End,
    (from, to): (u64, u64),
    is_untouched: bool,
    unset: Unset,
) -> Vec<Event> {
    let mut events = Vec::new();
    let (mut lines, mut begun) = (Vec::new(), from);
    let mut fails_at_save = false;
    let (mut is_dropped, mut is_destroyed) = (false, false);
    for line in &guest.lines {
        match &line.call {
            Call::Unset if unset == Unset::Keep => is_dropped = !is_destroyed,
            Call::Destroy | Call::Unset => (is_dropped, is_destroyed) = (false, true),
            Call::Regenerate => (is_dropped, is_destroyed) = (false, false),
            Call::Reload => is_dropped = false,
            _ => {}
        }
        match (&line.call, &line.said) {
            // Nothing is saved, and what was read goes on to count.
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
                begun = line.made_at;
            }
            (Call::Save, Said::Unavailable) => fails_at_save = true,
            _ => lines.push(line.clone()),
        }
    }
    // A guest that makes no call goes on without a store, and its cookie stays as it is.
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
    events
}

fn presented(keys: &KeyRing, id: Option<&SessionId>) -> Presented {
    let mut headers = HeaderMap::new();
    if let Some(id) = id {
        let cookie = format!("{COOKIE_NAME}={}", keys.sign(id));
        let cookie = HeaderValue::from_str(&cookie).expect("a signed value is a header's");
        headers.insert(http::header::COOKIE, cookie);
    }
    take_from(&mut headers, COOKIE_NAME)
}

fn row(record: &SessionRecord) -> Row {
    let document = Document::parse(&record.data).expect("a session's row");
    let entry = |key: String| {
        let value = document.get(&key).expect("a listed key").to_owned();
        (key, value)
    };
    let attributes = document.cookie().attributes();
    Row {
        content: Content {
            entries: document.keys().into_iter().map(entry).collect(),
            max_age_ms: attributes.original_max_age_ms,
            cookie_ends_at_ms: attributes.expires_at_ms,
        },
        expires_at_s: record.expires_at_s,
    }
}
