//! One case: its options, its store, its rounds of concurrent requests, and the facts that are known about them afterwards.

mod bystander;
mod request;
mod rows;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::super::{SecurePolicy, SessionManager, SessionOptions, TouchPolicy, UnsetPolicy};
use super::faults::{Faults, FaultyStore, Link};
use super::model::{Name, Row, World};
use super::script::Rng;
use super::serial::{Cookie, Event, History, is_serial};
use super::{BlindWriter, Report};
use crate::cookie::{KeyRing, Secret};
use crate::record::{SessionId, SessionRecord};
use crate::store::SessionStore;
use cloakroom_base::clock::Clock;
use request::Told;
use rows::row;

const NOW_MS: i64 = 1_795_000_000_000;
const IDLE: Duration = Duration::from_secs(1_000);
const COOKIE_NAME: &str = "sid";

/// The participants of a case.
struct Case {
    store: Arc<dyn SessionStore>,
    express: Arc<dyn BlindWriter>,
    faulty: Arc<FaultyStore>,
    managers: Vec<Arc<SessionManager>>,
    options: SessionOptions,
    clock: Clock,
    keys: KeyRing,
    time: Arc<AtomicU64>,
    jumps: bool,
    blind_writes: bool,
    pauses: usize,
}

pub(crate) async fn case(
    store: Arc<dyn SessionStore>,
    express: Arc<dyn BlindWriter>,
    mut rng: Rng,
) -> Result<Report, String> {
    let case = Case::new(store, express, &mut rng);
    let mut shared = SessionId::generate();
    case.make_row(&shared, &mut rng).await;
    let mut report = Report::default();
    let mut done: HashSet<SessionId> = HashSet::new();
    let rounds = 1 + rng.below(3);
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
        report.folded_commits += counters.folded_commits.get();
        report.reruns += counters.reruns.get();
        report.snapshots += counters.snapshots.get();
        report.stale_snapshots += counters.stale_snapshots.get();
    }
    (report.lost_replies, report.failures) = case.faulty.faults_made();
    report.cases_with_conflict = usize::from(report.conflicts > 0);
    Ok(report)
}

fn options(rng: &mut Rng, jumps: bool) -> SessionOptions {
    let mut options = SessionOptions {
        resave: rng.chance(10),
        rolling: rng.chance(20),
        save_uninitialized: rng.chance(10),
        unset: rng.pick(&[UnsetPolicy::Keep, UnsetPolicy::Destroy]),
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
        snapshots_bytes_max: rng.pick(&[0, 1 << 20]),
        ..SessionOptions::default()
    };
    options.cookie.secure = SecurePolicy::Never;
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
        let history = self
            .history(shared, done, &tolds, &bystander, may_be_lost)
            .await;
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
        may_be_lost: bool,
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
            may_begin_anew: self.options.snapshots_bytes_max > 0,
            compares_cookie_ends: !self.jumps,
            // A commit that is sent again after a lost reply contains the time of its planning, not the time at which it succeeded.
            compares_row_ends: self.options.touch == TouchPolicy::Never
                && !(self.jumps && may_be_lost),
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
             \x20max age {:?} touch {:?} keys {} snapshots {}\nfaults: {:?}\nmanagers: {}\n\
             before: {before:?}\n{}\ncookies: {:?}\nbeside: {bystander:?}\n\
             rows (is shared, (row, may be lost)): {rows:?}",
            options.resave,
            options.rolling,
            options.save_uninitialized,
            options.unset,
            options.expire_on_destroy,
            options.cookie.max_age,
            options.touch,
            options.keys_max,
            options.snapshots_bytes_max,
            self.faulty.faults,
            self.managers.len(),
            requests.join("\n"),
            history.visits,
        )
    }

    fn now(&self) -> u64 {
        self.time.fetch_add(1, Ordering::SeqCst)
    }
}
