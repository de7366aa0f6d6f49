//! How room is made where a total is used up: which reservations give way, and in which order. Also what is remembered of a search
//! that found none, so that a flood of refusals costs no search each.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::Instant;

use super::reservation::{Held, is_queued};
use super::{Peer, PeerKey, Quotas, Resource, Source, Usage, lock};
use crate::limits;

/// Who asks for room.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) peer: &'a Peer,
    /// The reservation that is to grow.
    pub(super) itself: Option<&'a Held>,
}

impl Asking<'_> {
    /// What it would hold with so much more. Those that are exempt have no share of their own.
    fn wanted(&self, resource: Resource, amount: u64) -> u64 {
        match self.peer.source.peer {
            Some(_) => self.peer.usage.amounts[resource as usize].load(Relaxed) + amount,
            None => 0,
        }
    }

    /// Whether a reservation belongs to what asks: that would end what it makes room for.
    fn is_part(&self, held: &Held) -> bool {
        let is_itself = self.itself.is_some_and(|itself| std::ptr::eq(itself, held));
        is_itself || (self.peer.request != 0 && held.request() == self.peer.request)
    }
}

/// A reservation that may be revoked, as it was found.
struct Victim {
    waiting: u64,
    held: Arc<Held>,
}

/// That a search found nothing to revoke, and for whom another one would find nothing either.
#[derive(Debug, Default)]
pub(super) struct Barren {
    since: Option<Instant>,
    /// The total's count of changes before the search.
    changes: u64,
    /// The most that a peer holds of which something waits: who wants more finds nothing with others.
    others: Option<u64>,
    /// What peers would find with themselves.
    own: HashMap<PeerKey, Own>,
}

/// What one peer's own reservations wait for.
#[derive(Debug, Default)]
struct Own {
    has_waiting: bool,
    /// The most reservations of one connection that has a queued one.
    queued_most: usize,
    /// Reservations by connection.
    counts: HashMap<u64, usize>,
}

impl Barren {
    fn is_fresh(&self, changes: u64, now: Instant) -> bool {
        let is_recent = |since| now.saturating_duration_since(since) < limits::QUOTA_BARREN;
        self.changes == changes && self.since.is_some_and(is_recent)
    }

    /// Whether a search for this one would find nothing.
    fn holds_for(&self, source: Source, wanted: u64) -> bool {
        let finds_own = |key: PeerKey| {
            self.own.get(&key).is_none_or(|own| {
                let count = own.counts.get(&source.connection).copied();
                own.has_waiting || own.queued_most > count.unwrap_or_default() + 1
            })
        };
        self.others.is_none_or(|most| most < wanted) && !source.peer.is_some_and(finds_own)
    }
}

impl Quotas {
    /// As [`Quotas::make_room`], without a search where one has found nothing just now.
    pub(super) fn find_room(
        &self,
        resource: Resource,
        asking: Asking<'_>,
        amount: u64,
        now: Instant,
        barren: &mut Barren,
    ) -> bool {
        let changes = self.total(resource).changes.load(Acquire);
        let (source, wanted) = (asking.peer.source, asking.wanted(resource, amount));
        let is_fresh = barren.is_fresh(changes, now);
        if is_fresh && barren.holds_for(source, wanted) {
            return false;
        }
        if self.make_room(resource, asking, amount, now) {
            return true;
        }
        if !is_fresh || barren.others.is_some_and(|most| most >= wanted) {
            *barren = Barren {
                since: Some(now),
                changes,
                others: self.most_with_waiting(resource, now),
                own: HashMap::new(),
            };
        }
        if let Some(key) = source.peer {
            barren.own.insert(key, asking.peer.usage.own(resource));
        }
        false
    }

    /// Revokes reservations: of bytes first those that have waited for long, whoever holds them; then those of the largest peers.
    /// Of either the oldest go first. False where none may be revoked for this one.
    pub(super) fn make_room(
        &self,
        resource: Resource,
        asking: Asking<'_>,
        amount: u64,
        now: Instant,
    ) -> bool {
        let mut peers = self.holders(resource);
        // A flood of connections makes room for each: some more are revoked with each search, so that few searches are needed.
        let spare = self.total(resource).max / 256;
        if is_bytes(resource) {
            let mut stalled = Vec::new();
            for (_, usage) in &peers {
                usage.stalled(resource, self.stalled_before(now), &mut stalled);
            }
            if revoke(stalled, asking, amount, spare) {
                return true;
            }
        }
        peers.sort_by_key(|(held, _)| Reverse(*held));
        let wanted = asking.wanted(resource, amount);
        for group in peers.chunk_by(|a, b| a.0 == b.0) {
            let mut victims = Vec::new();
            for (held, usage) in group {
                let is_own = Arc::ptr_eq(usage, &asking.peer.usage);
                if is_own || *held >= wanted {
                    let own = is_own.then_some(asking.peer.source);
                    usage.revocable(resource, own, &mut victims);
                }
            }
            if revoke(victims, asking, amount, spare) {
                return true;
            }
        }
        false
    }

    /// The peers that hold something, and how much.
    fn holders(&self, resource: Resource) -> Vec<(u64, Arc<Usage>)> {
        let peers = lock(&self.peers);
        let held = |usage: &Usage| usage.amounts[resource as usize].load(Relaxed);
        peers
            .values()
            .map(|usage| (held(usage), Arc::clone(usage)))
            .filter(|(held, _)| *held > 0)
            .collect()
    }

    /// The most that a peer holds of which something may be revoked for others.
    fn most_with_waiting(&self, resource: Resource, now: Instant) -> Option<u64> {
        let before = self.stalled_before(now);
        let most = self
            .holders(resource)
            .into_iter()
            .filter_map(|(held, usage)| {
                let all = usage.all(resource);
                let is_stalled =
                    is_bytes(resource) && all.iter().any(|held| held.is_stalled(before));
                let waits = || all.iter().any(|held| held.waiting().is_some());
                // What has stalled is revoked for anybody.
                match is_stalled {
                    true => Some(u64::MAX),
                    false => waits().then_some(held),
                }
            });
        most.max()
    }

    /// What began to wait for its client before this has stalled.
    fn stalled_before(&self, now: Instant) -> u64 {
        let stall = u64::try_from(limits::UNTAKEN_STALL_MIN.as_millis()).unwrap_or(u64::MAX);
        self.millis(now).saturating_sub(stall)
    }
}

/// Whether a part of such a reservation is of use while another part moves.
fn is_bytes(resource: Resource) -> bool {
    matches!(resource, Resource::RequestBytes | Resource::ResponseBytes)
}

/// Revokes the oldest until there is room, and somewhat more. False if nothing was freed.
fn revoke(mut victims: Vec<Victim>, asking: Asking<'_>, amount: u64, spare: u64) -> bool {
    victims.retain(|victim| !asking.is_part(&victim.held));
    victims.sort_by_key(|victim| victim.waiting);
    let mut freed = 0;
    for victim in victims {
        let wanted = if is_queued(victim.waiting) {
            amount
        } else {
            amount + spare
        };
        if freed >= wanted {
            break;
        }
        freed += victim.held.revoke(victim.waiting).unwrap_or(0);
    }
    freed > 0
}

impl Usage {
    /// Its reservations. One that ends meanwhile is dropped behind the lock: it takes itself out of the table.
    fn all(&self, resource: Resource) -> Vec<Arc<Held>> {
        lock(&self.entries[resource as usize])
            .iter()
            .filter_map(|(_, held)| held.upgrade())
            .collect()
    }

    /// Finds the reservations that have waited for their client since before `before`.
    fn stalled(&self, resource: Resource, before: u64, found: &mut Vec<Victim>) {
        let all = self.all(resource).into_iter();
        found.extend(
            all.filter(|held| held.is_stalled(before))
                .filter_map(|held| {
                    let waiting = held.waiting()?;
                    Some(Victim { waiting, held })
                }),
        );
    }

    /// Finds the reservations that may be revoked. Those that are queued are not revoked for the peer's own requests, except
    /// for one of a connection, `own`, that has fewer than theirs.
    fn revocable(&self, resource: Resource, own: Option<Source>, found: &mut Vec<Victim>) {
        let all = self.all(resource);
        let counts = own.map(|_| counts(&all)).unwrap_or_default();
        let count = |connection| counts.get(&connection).copied().unwrap_or(0);
        found.extend(all.iter().filter_map(|held| {
            let waiting = held.waiting()?;
            let is_kept = is_queued(waiting)
                && own.is_some_and(|own| count(held.connection()) <= count(own.connection) + 1);
            (!is_kept).then(|| Victim {
                waiting,
                held: Arc::clone(held),
            })
        }));
    }

    fn own(&self, resource: Resource) -> Own {
        let all = self.all(resource);
        let counts = counts(&all);
        let mut own = Own::default();
        for held in &all {
            match held.waiting() {
                Some(waiting) if is_queued(waiting) => {
                    let count = counts.get(&held.connection()).copied();
                    own.queued_most = own.queued_most.max(count.unwrap_or_default());
                }
                Some(_) => own.has_waiting = true,
                None => {}
            }
        }
        Own { counts, ..own }
    }
}

/// How many each connection has.
fn counts(all: &[Arc<Held>]) -> HashMap<u64, usize> {
    let mut counts = HashMap::new();
    for held in all.iter().filter(|held| !held.is_revoked()) {
        *counts.entry(held.connection()).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests;
