//! How room is made when a total is used up: which reservations are revoked, and in which order. A search that found none
//! is remembered, so that a flood of refusals does not need a search for each.
//!
//! Of bytes, those that their client has left for five seconds are revoked first, of any client: otherwise many clients that
//! stall a little each would outlast one that moves. Then the client that holds most loses its oldest reservation that waits for
//! it. No reservation gives way to another of the same request. A connection for which nothing gives way is closed. It waits
//! before that only if its client has no other connection, and then takes a place that would be free for any client, so no client
//! behind it in the system's queue could have had one. A request that waits for an instance or its session's lock gives way to a
//! client that holds less, or to a connection of its own client that holds less.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::Instant;

use super::reservation::{ReservationShared, RoomRequest, is_queued};
use super::{ClientConnection, PeerKey, PeerUsage, QuotaResource, Quotas};
use crate::limits;

impl RoomRequest<'_> {
    /// Returns the amount that the peer would hold if it received `amount`. Exempt peers have no share of their own.
    fn wanted(&self, resource: QuotaResource, amount: u64) -> u64 {
        match self.peer.source.peer {
            Some(_) => self.peer.usage.amounts[resource as usize].load(Relaxed) + amount,
            None => 0,
        }
    }

    /// Returns whether a reservation belongs to the request for room. Revoking it would end the very work that room is made for.
    fn is_part(&self, held: &ReservationShared) -> bool {
        let is_itself = self.itself.is_some_and(|itself| std::ptr::eq(itself, held));
        is_itself || (self.peer.request != 0 && held.request() == self.peer.request)
    }
}

/// A reservation that may be revoked, with its `waiting` value when it was found.
struct Victim {
    waiting: u64,
    held: Arc<ReservationShared>,
}

/// The memory of a search that found nothing to revoke, with the data to decide for which peers a new search would find nothing either.
#[derive(Debug, Default)]
pub(crate) struct NothingToRevoke {
    since: Option<Instant>,
    /// The total's count of changes before the search.
    changes: u64,
    /// The most that a peer with a waiting reservation holds. A peer that wants more finds nothing to revoke with other peers.
    others: Option<u64>,
    /// The reservations that peers would find with themselves.
    own: HashMap<PeerKey, OwnReservations>,
}

/// The waiting reservations of one peer.
#[derive(Debug, Default)]
struct OwnReservations {
    has_waiting: bool,
    /// The largest number of reservations of a connection that has a queued one.
    queued_most: usize,
    /// The number of reservations by connection.
    counts: HashMap<u64, usize>,
}

impl NothingToRevoke {
    fn is_fresh(&self, changes: u64, now: Instant) -> bool {
        let is_recent =
            |since| now.saturating_duration_since(since) < limits::NOTHING_TO_REVOKE_TIME;
        self.changes == changes && self.since.is_some_and(is_recent)
    }

    /// Returns whether a search for this source would find nothing.
    fn holds_for(&self, source: ClientConnection, wanted: u64) -> bool {
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
    /// Like [`Quotas::make_room`], but without a search if a recent one has found nothing.
    pub(crate) fn find_room(
        &self,
        resource: QuotaResource,
        room_request: RoomRequest<'_>,
        amount: u64,
        now: Instant,
        nothing_to_revoke: &mut NothingToRevoke,
    ) -> bool {
        let changes = self.total(resource).changes.load(Acquire);
        let (source, wanted) = (
            room_request.peer.source,
            room_request.wanted(resource, amount),
        );
        let is_fresh = nothing_to_revoke.is_fresh(changes, now);
        if is_fresh && nothing_to_revoke.holds_for(source, wanted) {
            return false;
        }
        if self.make_room(resource, room_request, amount, now) {
            return true;
        }
        if !is_fresh || nothing_to_revoke.others.is_some_and(|most| most >= wanted) {
            *nothing_to_revoke = NothingToRevoke {
                since: Some(now),
                changes,
                others: self.most_with_waiting(resource, now),
                own: HashMap::new(),
            };
        }
        if let Some(key) = source.peer {
            nothing_to_revoke
                .own
                .insert(key, room_request.peer.usage.own(resource));
        }
        false
    }

    /// Revokes reservations. For bytes, first come those that have waited for long, regardless of their peer; then those of
    /// the largest peers. Within each group, the oldest are revoked first. Returns false if nothing was revoked.
    pub(crate) fn make_room(
        &self,
        resource: QuotaResource,
        room_request: RoomRequest<'_>,
        amount: u64,
        now: Instant,
    ) -> bool {
        let mut peers = self.holders(resource);
        // A flood of connections needs room for each one. Each search revokes some more reservations, so that few searches are needed.
        let spare = self.total(resource).max / 256;
        if is_bytes(resource) {
            let mut stalled = Vec::new();
            for (_, usage) in &peers {
                usage.stalled(resource, self.stalled_before(now), &mut stalled);
            }
            if revoke(stalled, room_request, amount, spare) {
                return true;
            }
        }
        peers.sort_by_key(|(held, _)| Reverse(*held));
        let wanted = room_request.wanted(resource, amount);
        for group in peers.chunk_by(|a, b| a.0 == b.0) {
            let mut victims = Vec::new();
            for (held, usage) in group {
                let is_own = Arc::ptr_eq(usage, &room_request.peer.usage);
                if is_own || *held >= wanted {
                    let own = is_own.then_some(room_request.peer.source);
                    usage.revocable(resource, own, &mut victims);
                }
            }
            if revoke(victims, room_request, amount, spare) {
                return true;
            }
        }
        false
    }

    /// Returns the peers that hold the resource, with their amounts.
    fn holders(&self, resource: QuotaResource) -> Vec<(u64, Arc<PeerUsage>)> {
        let peers = self.peers.lock();
        let held = |usage: &PeerUsage| usage.amounts[resource as usize].load(Relaxed);
        peers
            .values()
            .map(|usage| (held(usage), Arc::clone(usage)))
            .filter(|(held, _)| *held > 0)
            .collect()
    }

    /// Returns the largest amount of a peer that has a reservation which may be revoked for others.
    fn most_with_waiting(&self, resource: QuotaResource, now: Instant) -> Option<u64> {
        let before = self.stalled_before(now);
        let most = self
            .holders(resource)
            .into_iter()
            .filter_map(|(held, usage)| {
                let all = usage.all(resource);
                let is_stalled =
                    is_bytes(resource) && all.iter().any(|held| held.is_stalled(before));
                let waits = || all.iter().any(|held| held.waiting().is_some());
                // A stalled reservation may be revoked for any peer.
                match is_stalled {
                    true => Some(u64::MAX),
                    false => waits().then_some(held),
                }
            });
        most.max()
    }

    /// Returns the time before which a wait for a client must have begun to count as stalled.
    fn stalled_before(&self, now: Instant) -> u64 {
        let stall = u64::try_from(limits::UNTAKEN_STALL_MIN.as_millis()).unwrap_or(u64::MAX);
        self.millis(now).saturating_sub(stall)
    }
}

/// Returns whether the resource counts bytes. A part of such a reservation is useful while another part moves.
fn is_bytes(resource: QuotaResource) -> bool {
    matches!(
        resource,
        QuotaResource::RequestBytes | QuotaResource::ResponseBytes
    )
}

/// Revokes the oldest reservations until there is room and some spare. Returns false if nothing was freed.
fn revoke(
    mut victims: Vec<Victim>,
    room_request: RoomRequest<'_>,
    amount: u64,
    spare: u64,
) -> bool {
    victims.retain(|victim| !room_request.is_part(&victim.held));
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

impl PeerUsage {
    /// Returns the peer's reservations. If one of them ends meanwhile, it is dropped after the lock is released, because it
    /// locks the table to remove itself.
    fn all(&self, resource: QuotaResource) -> Vec<Arc<ReservationShared>> {
        self.entries[resource as usize]
            .lock()
            .iter()
            .filter_map(|(_, held)| held.upgrade())
            .collect()
    }

    /// Finds the reservations that have waited for their client since before `before`.
    fn stalled(&self, resource: QuotaResource, before: u64, found: &mut Vec<Victim>) {
        let all = self.all(resource).into_iter();
        found.extend(
            all.filter(|held| held.is_stalled(before))
                .filter_map(|held| {
                    let waiting = held.waiting()?;
                    Some(Victim { waiting, held })
                }),
        );
    }

    /// Finds the reservations that may be revoked. Queued ones are not revoked for requests of the same peer, except for a
    /// request on a connection (`own`) that has fewer reservations than theirs.
    fn revocable(
        &self,
        resource: QuotaResource,
        own: Option<ClientConnection>,
        found: &mut Vec<Victim>,
    ) {
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

    fn own(&self, resource: QuotaResource) -> OwnReservations {
        let all = self.all(resource);
        let counts = counts(&all);
        let mut own = OwnReservations::default();
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
        OwnReservations { counts, ..own }
    }
}

/// Counts the reservations of each connection.
fn counts(all: &[Arc<ReservationShared>]) -> HashMap<u64, usize> {
    let mut counts = HashMap::new();
    for held in all.iter().filter(|held| !held.is_revoked()) {
        *counts.entry(held.connection()).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests;
