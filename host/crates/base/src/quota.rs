//! Totals that all peers share: connections, requests under way, and bytes that are held for clients.
//!
//! A quota refuses nothing while there is room. When a total is used up, other reservations are revoked (see `room`): first
//! bytes that their client has left untouched for long, then reservations that the peer with the largest usage holds for
//! clients that send or take nothing. The new reservation is refused only if no reservation can be revoked. A peer that
//! stalls thus loses what it stalls, even if it shares its address with an honest visitor.
//!
//! This module does not know connections. The owner of a reservation learns that it was revoked, and cuts the work that it was held for.
//!
//! `proxy = true` without `trusted_proxies` believes any peer and therefore has no influence on which client a request counts
//! for. Decision 12 in `host/docs/decisions` has the reasons.

mod charge;
mod reservation;
mod room;

pub use charge::{BodyCharge, ConnectionOutbox, UntakenBody, WeakBodyCharge, fields_bytes};
pub use reservation::{Reservation, RevocablePhase, Revoked};

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use slab::Slab;

use crate::limits;
use crate::telemetry::RateLimitedLines;
use reservation::{ReservationShared, RoomRequest};
use room::NothingToRevoke;

/// A resource with a total that all peers share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaResource {
    /// Open connections.
    Connections,
    /// Requests under way, until the guest is done and the rest of the answer is in memory.
    Requests,
    /// Bytes of request bodies that are kept before their guest runs, and for re-runs.
    RequestBytes,
    /// Bytes of answers that clients have not taken.
    ResponseBytes,
}

const RESOURCES: usize = 4;

impl QuotaResource {
    /// All resources.
    pub const ALL: [Self; RESOURCES] = [
        Self::Connections,
        Self::Requests,
        Self::RequestBytes,
        Self::ResponseBytes,
    ];

    /// Returns the key of the resource's total under `[server]`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Requests => "requests",
            Self::RequestBytes => "waiting_bodies",
            Self::ResponseBytes => "untaken",
        }
    }
}

/// The largest amount of each resource, over all peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaTotals {
    /// The total of [`QuotaResource::Connections`].
    pub connections: u64,
    /// The total of [`QuotaResource::Requests`].
    pub requests: u64,
    /// The total of [`QuotaResource::RequestBytes`].
    pub request_bytes: u64,
    /// The total of [`QuotaResource::ResponseBytes`].
    pub response_bytes: u64,
}

impl Default for QuotaTotals {
    fn default() -> Self {
        Self {
            connections: limits::CONNECTIONS_MAX,
            requests: limits::REQUESTS_MAX,
            request_bytes: limits::WAITING_BODIES_BYTES_MAX,
            response_bytes: limits::UNTAKEN_BYTES_MAX,
        }
    }
}

/// A client, as quotas distinguish clients: an IPv4 address, or the /64 network of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerKey(IpAddr);

impl PeerKey {
    /// Returns the key of an address. `::ffff:10.0.0.1` is the same peer as `10.0.0.1`.
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(
                address.to_bits() & !u128::from(u64::MAX),
            )),
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// There is no room: the total is used up, and no reservation may be revoked for the requesting peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host's total is used up")]
pub struct QuotaFull;

/// All totals, and the peers that use them.
#[derive(Debug)]
pub struct Quotas {
    totals: [QuotaTotal; RESOURCES],
    peers: Mutex<HashMap<PeerKey, Arc<PeerUsage>>>,
    /// Locked while room is made, so that two callers do not revoke reservations for the same room.
    making_room: [Mutex<NothingToRevoke>; RESOURCES],
    /// Orders reservations that began to wait in the same millisecond, and numbers sources and requests.
    sequence: AtomicU64,
    started: Instant,
}

#[derive(Debug)]
struct QuotaTotal {
    max: u64,
    used: AtomicU64,
    revoked: AtomicU64,
    refused: AtomicU64,
    /// Counts events after which a search may find more: reservations that began to wait, and reservations that ended.
    changes: AtomicU64,
    lines: RateLimitedLines<()>,
    logged: Mutex<QuotaLogState>,
}

/// The counts that the log has already reported for a total.
#[derive(Debug, Default)]
struct QuotaLogState {
    revoked: u64,
    refused: u64,
}

/// The reservations of one peer.
#[derive(Debug, Default)]
struct PeerUsage {
    /// The number of the peer's handles, including reservations. The last handle removes the peer from the table.
    handles: AtomicUsize,
    amounts: [AtomicU64; RESOURCES],
    /// The peer's reservations. A reservation removes itself when its last clone is dropped.
    entries: [Mutex<Slab<Weak<ReservationShared>>>; RESOURCES],
}

/// A handle of a peer. The peer is forgotten with its last handle and reservation.
pub struct QuotaPeer {
    quotas: Arc<Quotas>,
    usage: Arc<PeerUsage>,
    /// The source. It has no peer if the handle is exempt (a trusted proxy or a local socket): its reservations count and
    /// are never revoked.
    source: ClientConnection,
    /// The number of the request that the handle belongs to; 0 for none.
    request: u64,
}

/// A client's connection. Each request of a client behind a trusted proxy has its own source, because the proxy's
/// connections carry the requests of many clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientConnection {
    /// The client; `None` for all exempt ones.
    pub peer: Option<PeerKey>,
    /// Distinguishes the connections of a process.
    pub connection: u64,
}

impl Quotas {
    /// Creates quotas of which nothing is used.
    pub fn new(totals: QuotaTotals) -> Arc<Self> {
        let total = |max| QuotaTotal {
            max,
            used: AtomicU64::new(0),
            revoked: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            lines: RateLimitedLines::default(),
            logged: Mutex::default(),
        };
        Arc::new(Self {
            totals: [
                total(totals.connections),
                total(totals.requests),
                total(totals.request_bytes),
                total(totals.response_bytes),
            ],
            peers: Mutex::default(),
            making_room: Default::default(),
            sequence: AtomicU64::new(1),
            started: Instant::now(),
        })
    }

    /// Returns a handle of the peer at an address.
    pub fn peer(self: &Arc<Self>, address: IpAddr) -> QuotaPeer {
        let key = PeerKey::of(address);
        let mut peers = self.peers.lock();
        let usage = Arc::clone(peers.entry(key).or_default());
        usage.handles.fetch_add(1, Relaxed);
        drop(peers);
        QuotaPeer {
            quotas: Arc::clone(self),
            usage,
            source: self.source(Some(key)),
            request: 0,
        }
    }

    /// Returns a handle whose reservations are never revoked: for a trusted proxy's connection or a local socket.
    pub fn exempt(self: &Arc<Self>) -> QuotaPeer {
        QuotaPeer {
            quotas: Arc::clone(self),
            usage: Arc::new(PeerUsage {
                handles: AtomicUsize::new(1),
                ..PeerUsage::default()
            }),
            source: self.source(None),
            request: 0,
        }
    }

    fn source(&self, peer: Option<PeerKey>) -> ClientConnection {
        let connection = self.sequence.fetch_add(1, Relaxed);
        ClientConnection { peer, connection }
    }

    /// Returns the reserved amount of a resource.
    pub fn used(&self, resource: QuotaResource) -> u64 {
        self.total(resource).used.load(Relaxed)
    }

    /// Returns the total of a resource.
    pub fn max(&self, resource: QuotaResource) -> u64 {
        self.total(resource).max
    }

    /// Returns the number of reservations that were revoked since the start.
    pub fn revoked(&self, resource: QuotaResource) -> u64 {
        self.total(resource).revoked.load(Relaxed)
    }

    /// Returns the number of reservations that were refused since the start.
    pub fn refused(&self, resource: QuotaResource) -> u64 {
        self.total(resource).refused.load(Relaxed)
    }

    /// Returns the number of peers that hold a reservation or have an open handle.
    pub fn peers(&self) -> usize {
        self.peers.lock().len()
    }

    fn total(&self, resource: QuotaResource) -> &QuotaTotal {
        &self.totals[resource as usize]
    }

    fn reserve(
        &self,
        resource: QuotaResource,
        room_request: RoomRequest<'_>,
        amount: u64,
    ) -> Result<(), QuotaFull> {
        let total = self.total(resource);
        if !total.try_add(amount) {
            let mut nothing_to_revoke = self.making_room[resource as usize].lock();
            while !total.try_add(amount) {
                let now = Instant::now();
                if amount > total.max
                    || !self.find_room(resource, room_request, amount, now, &mut nothing_to_revoke)
                {
                    return Err(QuotaFull);
                }
                total.log_refusals(resource, now);
            }
        }
        room_request.peer.usage.amounts[resource as usize].fetch_add(amount, Relaxed);
        Ok(())
    }

    fn try_reserve(
        &self,
        resource: QuotaResource,
        peer: &QuotaPeer,
        amount: u64,
    ) -> Result<(), QuotaFull> {
        if !self.total(resource).try_add(amount) {
            return Err(QuotaFull);
        }
        peer.usage.amounts[resource as usize].fetch_add(amount, Relaxed);
        Ok(())
    }

    fn note_refusal(&self, resource: QuotaResource) {
        let total = self.total(resource);
        total.refused.fetch_add(1, Relaxed);
        total.log_refusals(resource, Instant::now());
    }

    fn give_back(&self, resource: QuotaResource, usage: &PeerUsage, amount: u64) {
        usage.amounts[resource as usize].fetch_sub(amount, Relaxed);
        self.total(resource).used.fetch_sub(amount, Relaxed);
    }
}

impl QuotaTotal {
    fn try_add(&self, amount: u64) -> bool {
        let add = |used: u64| used.checked_add(amount).filter(|sum| *sum <= self.max);
        self.used.fetch_update(Relaxed, Relaxed, add).is_ok()
    }

    /// Logs that the total is used up, at most once a minute.
    fn log_refusals(&self, resource: QuotaResource, now: Instant) {
        if self.lines.take_line((), now).is_none() {
            return;
        }
        let mut logged = self.logged.lock();
        let (revoked, refused) = (self.revoked.load(Relaxed), self.refused.load(Relaxed));
        tracing::warn!(
            key = %format_args!("server.{}", resource.key()),
            max = self.max,
            revoked = revoked - logged.revoked,
            refused = refused - logged.refused,
            "a total is used up: reservations of the clients that hold most of it are revoked",
        );
        *logged = QuotaLogState { revoked, refused };
    }
}

impl QuotaPeer {
    /// Reserves an amount. This may revoke reservations of larger peers.
    ///
    /// # Errors
    /// [`QuotaFull`]
    pub fn reserve(&self, resource: QuotaResource, amount: u64) -> Result<Reservation, QuotaFull> {
        self.reserve_again(resource, amount)
            .inspect_err(|QuotaFull| self.quotas.note_refusal(resource))
    }

    /// Like [`QuotaPeer::reserve`], for a caller that was refused before and waits. A refusal is not counted again.
    ///
    /// # Errors
    /// [`QuotaFull`]
    pub fn reserve_again(
        &self,
        resource: QuotaResource,
        amount: u64,
    ) -> Result<Reservation, QuotaFull> {
        let room_request = RoomRequest {
            peer: self,
            itself: None,
        };
        self.quotas.reserve(resource, room_request, amount)?;
        let mut entries = self.usage.entries[resource as usize].lock();
        let slot = entries.vacant_entry();
        let held = ReservationShared::new(self.clone(), resource, amount, slot.key());
        slot.insert(Arc::downgrade(&held));
        Ok(Reservation(held))
    }

    /// Returns the same peer for one of its requests. Reservations made with it are never revoked to make room for the same request.
    pub fn of_one_request(mut self) -> Self {
        self.request = self.quotas.sequence.fetch_add(1, Relaxed);
        self
    }

    /// Returns the quotas that this peer belongs to.
    pub fn quotas(&self) -> &Arc<Quotas> {
        &self.quotas
    }

    /// Returns whether the peer's reservations are never revoked.
    pub fn is_exempt(&self) -> bool {
        self.source.peer.is_none()
    }

    /// Returns whether the client holds any amount of a resource. An exempt peer counts only its own reservations.
    pub fn holds_any(&self, resource: QuotaResource) -> bool {
        self.usage.amounts[resource as usize].load(Relaxed) > 0
    }

    /// Returns the connection that the handle belongs to.
    pub fn source(&self) -> ClientConnection {
        self.source
    }
}

impl Clone for QuotaPeer {
    fn clone(&self) -> Self {
        self.usage.handles.fetch_add(1, Relaxed);
        Self {
            quotas: Arc::clone(&self.quotas),
            usage: Arc::clone(&self.usage),
            source: self.source,
            request: self.request,
        }
    }
}

impl Drop for QuotaPeer {
    fn drop(&mut self) {
        let Some(key) = self.source.peer else { return };
        if self.usage.handles.fetch_sub(1, AcqRel) > 1 {
            return;
        }
        let mut peers = self.quotas.peers.lock();
        // A peer of the same address may have been added and removed meanwhile, so the entry may be a different one.
        let is_unused = |usage: &Arc<PeerUsage>| {
            Arc::ptr_eq(usage, &self.usage) && usage.handles.load(Relaxed) == 0
        };
        if peers.get(&key).is_some_and(is_unused) {
            peers.remove(&key);
        }
    }
}

impl fmt::Debug for QuotaPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuotaPeer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
