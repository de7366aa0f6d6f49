//! Rows as this host saw them last. A visit may start from such a snapshot instead of waiting for the store. A snapshot is
//! never trusted by itself: it is compared with the store before any part of the response leaves.
//!
//! The cache is bounded in bytes and evicts entries that have not been used for a long time. It does not use the store and
//! makes no decisions.
//!
//! The memory store needs no snapshots. Decision 5 in `host/docs/decisions` has the reasons.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::record::SessionId;
use crate::transaction::BaseRow;

/// The largest number of visits that ask the store first after a session's snapshots were found stale repeatedly. This
/// happens when another host, or Express, writes the session as well.
const FRESH_VISITS_MAX: u8 = 31;
/// The size of a typical session in bytes, used to size the cache's tables.
const TYPICAL_BYTES: u64 = 2 << 10;

/// The snapshots by session id. With a budget of zero bytes there is no cache.
pub(crate) struct Snapshots {
    cache: Option<Cache<SessionId, Snapshot, SnapshotWeighter>>,
    /// Held from reading an entry to replacing it. Without it, a late load replaces a newer row.
    writes: Mutex<()>,
}

/// A row as it was read, and the facts known about its session.
#[derive(Clone)]
pub(crate) struct Snapshot {
    pub(crate) base: Arc<BaseRow>,
    /// What the last visit did. Most sessions are either read repeatedly or written on every visit.
    pub(crate) last: LastVisit,
    /// The number of visits that will ask the store first if the snapshot is found stale once more.
    doubt: u8,
    /// The number of visits that still ask the store first now.
    fresh_visits: u8,
    /// Whether this process wrote the row.
    is_own: bool,
    /// When this process ended the session or gave it another id.
    ended_at: Option<Instant>,
}

/// The kind of access of a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastVisit {
    Read,
    Wrote,
}

/// How a row became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowKnowledge {
    /// The store returned it.
    Loaded,
    /// The store returned it, and it differs from the remembered row.
    Stale,
    /// It was just committed.
    Committed,
}

#[derive(Clone)]
struct SnapshotWeighter;

impl Weighter<SessionId, Snapshot> for SnapshotWeighter {
    fn weight(&self, _: &SessionId, snapshot: &Snapshot) -> u64 {
        snapshot.base.weight() as u64
    }
}

impl Snapshots {
    /// Creates a cache of at most about `bytes_max` bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max as u64;
        let items = usize::try_from(bytes_max / TYPICAL_BYTES).unwrap_or(usize::MAX);
        let cache = (bytes_max > 0)
            .then(|| Cache::with_weighter(items.max(16), bytes_max, SnapshotWeighter));
        Self {
            cache,
            writes: Mutex::new(()),
        }
    }

    /// Returns the snapshot that a visit may start from, if any.
    pub(crate) fn take(&self, id: &SessionId) -> Option<Snapshot> {
        let cache = self.cache.as_ref()?;
        let snapshot = cache.get(id).filter(|it| it.ended_at.is_none())?;
        if snapshot.fresh_visits == 0 {
            return Some(snapshot);
        }
        let _writing = self.writes.lock();
        let snapshot = cache.peek(id).filter(|it| it.ended_at.is_none())?;
        let fresh_visits = snapshot.fresh_visits.saturating_sub(1);
        let waited = Snapshot {
            fresh_visits,
            ..snapshot
        };
        cache.insert(id.clone(), waited);
        None
    }

    /// Remembers a row.
    pub(crate) fn keep(&self, base: &Arc<BaseRow>, known: RowKnowledge) {
        let Some(cache) = &self.cache else { return };
        let _writing = self.writes.lock();
        let before = cache.peek(&base.id);
        let is_older = |it: &Snapshot| {
            it.base.is_after(base) || (it.ended_at.is_some() && it.base.is_same(base))
        };
        if known == RowKnowledge::Loaded && before.as_ref().is_some_and(is_older) {
            // The row was read before this process wrote a newer one or ended the session.
            return;
        }
        let is_own = known == RowKnowledge::Committed
            || before
                .as_ref()
                .is_some_and(|it| it.is_own && it.base.is_same(base));
        if known == RowKnowledge::Stale && is_own {
            // Requests of this process overtake each other. This is no reason to distrust the snapshots.
            return;
        }
        let (last, doubt, fresh_visits) = before.map_or((LastVisit::Read, 0, 0), |before| {
            (before.last, before.doubt, before.fresh_visits)
        });
        let kept = match known {
            RowKnowledge::Loaded => (last, doubt, fresh_visits),
            RowKnowledge::Stale => {
                let doubt = (2 * doubt + 1).min(FRESH_VISITS_MAX);
                (last, doubt, doubt)
            }
            RowKnowledge::Committed => (LastVisit::Wrote, doubt, fresh_visits),
        };
        let snapshot = Snapshot {
            base: Arc::clone(base),
            last: kept.0,
            doubt: kept.1,
            fresh_visits: kept.2,
            is_own,
            ended_at: None,
        };
        cache.insert(base.id.clone(), snapshot);
    }

    /// Notes that the snapshot a visit started from matched the store. The next visit is expected to access the session in the same way.
    pub(crate) fn confirm(&self, id: &SessionId, last: LastVisit) {
        let Some(cache) = &self.cache else { return };
        let _writing = self.writes.lock();
        let is_news = |it: &Snapshot| it.ended_at.is_none() && (it.last != last || it.doubt > 0);
        if let Some(snapshot) = cache.peek(id).filter(is_news) {
            let doubt = snapshot.doubt / 2;
            let confirmed = Snapshot {
                last,
                doubt,
                ..snapshot
            };
            cache.insert(id.clone(), confirmed);
        }
    }

    /// Returns the newest row that this process knows, if it is `base` or was written after it and no other process writes the session.
    pub(crate) fn newest(&self, base: &BaseRow) -> Option<Arc<BaseRow>> {
        let known = self.cache.as_ref()?.peek(&base.id)?;
        let is_current = known.base.is_after(base) || known.base.is_same(base);
        (known.ended_at.is_none() && known.doubt == 0 && is_current).then_some(known.base)
    }

    /// Remembers that this process has ended the session or given it another id.
    pub(crate) fn end(&self, id: &SessionId) {
        let Some(cache) = &self.cache else { return };
        let _writing = self.writes.lock();
        if let Some(snapshot) = cache.peek(id) {
            let ended = Snapshot {
                ended_at: Some(Instant::now()),
                ..snapshot
            };
            cache.insert(id.clone(), ended);
        }
    }

    /// Returns whether this process has ended the session since `at`, as far as it remembers.
    pub(crate) fn ended_since(&self, id: &SessionId, at: Instant) -> bool {
        let known = self.cache.as_ref().and_then(|cache| cache.peek(id));
        known.is_some_and(|it| it.ended_at.is_some_and(|ended_at| ended_at >= at))
    }

    /// Forgets a session that is gone or whose row cannot be read.
    pub(crate) fn forget(&self, id: &SessionId) {
        let Some(cache) = &self.cache else { return };
        let _writing = self.writes.lock();
        if cache.peek(id).is_some_and(|it| it.ended_at.is_none()) {
            cache.remove(id);
        }
    }
}
