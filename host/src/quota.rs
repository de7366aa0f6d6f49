//! Totals that all peers share: connections, requests under way, and bytes that are held for clients.
//!
//! A quota refuses nothing while there is room. When a total is used up, others give way (`room`): bytes that their client has left
//! for long, then what the peer with the largest usage holds for clients that send or take nothing. The new reservation is refused
//! only if there is none. So a peer that stalls pays with what it stalls, also where it shares its address with an honest visitor.
//! This module knows no connection: the owner of a reservation learns that it was revoked and cuts what it was held for.

mod charge;
mod reservation;
mod room;

pub use charge::{Charge, Outbox, Untaken, WeakCharge, fields_bytes};
pub use reservation::{Phase, Reservation, Revoked};

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use slab::Slab;

use crate::limits;
use crate::telemetry::Recurring;
use reservation::Held;
use room::{Asking, Barren};

/// What is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Open connections.
    Connections,
    /// Requests under way, until the guest is done and the rest of the answer is in memory.
    Requests,
    /// Bytes of request bodies that are kept before their guest runs, and for another run of it.
    RequestBytes,
    /// Bytes of answers that clients have not taken.
    ResponseBytes,
}

const RESOURCES: usize = 4;

impl Resource {
    /// All of them.
    pub const ALL: [Self; RESOURCES] = [
        Self::Connections,
        Self::Requests,
        Self::RequestBytes,
        Self::ResponseBytes,
    ];

    /// Its total's key under `[server]`.
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
pub struct Totals {
    /// See [`Resource::Connections`].
    pub connections: u64,
    /// See [`Resource::Requests`].
    pub requests: u64,
    /// See [`Resource::RequestBytes`].
    pub request_bytes: u64,
    /// See [`Resource::ResponseBytes`].
    pub response_bytes: u64,
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            connections: limits::CONNECTIONS_MAX,
            requests: limits::REQUESTS_MAX,
            request_bytes: limits::WAITING_BODIES_BYTES_MAX,
            response_bytes: limits::UNTAKEN_BYTES_MAX,
        }
    }
}

/// A client as far as quotas tell clients apart: an IPv4 address, or the /64 network of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerKey(IpAddr);

impl PeerKey {
    /// The key of an address. `::ffff:10.0.0.1` is the same peer as `10.0.0.1`.
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(
                address.to_bits() & !u128::from(u64::MAX),
            )),
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// No room: the total is used up, and no peer holds more than the asking one that could be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host's total is used up")]
pub struct Full;

/// All totals and the peers that use them.
#[derive(Debug)]
pub struct Quotas {
    totals: [Total; RESOURCES],
    peers: Mutex<HashMap<PeerKey, Arc<Usage>>>,
    /// Held while room is made, so that two callers do not revoke for the same room.
    making_room: [Mutex<Barren>; RESOURCES],
    /// Orders reservations that began to wait in the same millisecond, and numbers sources and requests.
    sequence: AtomicU64,
    started: Instant,
}

#[derive(Debug)]
struct Total {
    max: u64,
    used: AtomicU64,
    revoked: AtomicU64,
    refused: AtomicU64,
    /// Counts what may let a search find more: reservations that began to wait, and that ended.
    changes: AtomicU64,
    lines: Recurring<()>,
    told: Mutex<Told>,
}

/// What the log has said of a total.
#[derive(Debug, Default)]
struct Told {
    revoked: u64,
    refused: u64,
}

/// What one peer holds.
#[derive(Debug, Default)]
struct Usage {
    /// Handles of the peer, reservations included: the last one takes the peer out of the table.
    handles: AtomicUsize,
    amounts: [AtomicU64; RESOURCES],
    /// Its reservations. A reservation takes itself out when its last clone is dropped.
    entries: [Mutex<Slab<Weak<Held>>>; RESOURCES],
}

/// A peer's part in the quotas. The peer is forgotten with its last handle and reservation.
pub struct Peer {
    quotas: Arc<Quotas>,
    usage: Arc<Usage>,
    /// No peer where it is exempt, a trusted proxy or a local socket: its reservations count and are never revoked.
    source: Source,
    /// The request that it is the part of; 0 for none.
    request: u64,
}

/// A client's connection. Each request of a client behind a trusted proxy has one of its own, since the proxy's connections
/// carry the requests of many clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The client; `None` for all that are exempt.
    pub peer: Option<PeerKey>,
    /// Distinguishes the connections of a process.
    pub connection: u64,
}

impl Quotas {
    /// Quotas that nobody uses yet.
    pub fn new(totals: Totals) -> Arc<Self> {
        let total = |max| Total {
            max,
            used: AtomicU64::new(0),
            revoked: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            lines: Recurring::default(),
            told: Mutex::default(),
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

    /// The peer behind an address.
    pub fn peer(self: &Arc<Self>, address: IpAddr) -> Peer {
        let key = PeerKey::of(address);
        let mut peers = lock(&self.peers);
        let usage = Arc::clone(peers.entry(key).or_default());
        usage.handles.fetch_add(1, Relaxed);
        drop(peers);
        Peer {
            quotas: Arc::clone(self),
            usage,
            source: self.source(Some(key)),
            request: 0,
        }
    }

    /// A peer whose reservations are never revoked: a trusted proxy's connection, or a local socket's.
    pub fn exempt(self: &Arc<Self>) -> Peer {
        Peer {
            quotas: Arc::clone(self),
            usage: Arc::new(Usage {
                handles: AtomicUsize::new(1),
                ..Usage::default()
            }),
            source: self.source(None),
            request: 0,
        }
    }

    fn source(&self, peer: Option<PeerKey>) -> Source {
        let connection = self.sequence.fetch_add(1, Relaxed);
        Source { peer, connection }
    }

    /// How much of a resource is reserved.
    pub fn used(&self, resource: Resource) -> u64 {
        self.total(resource).used.load(Relaxed)
    }

    /// The most of a resource that can be reserved.
    pub fn max(&self, resource: Resource) -> u64 {
        self.total(resource).max
    }

    /// Reservations that were revoked since the start.
    pub fn revoked(&self, resource: Resource) -> u64 {
        self.total(resource).revoked.load(Relaxed)
    }

    /// Reservations that were refused since the start.
    pub fn refused(&self, resource: Resource) -> u64 {
        self.total(resource).refused.load(Relaxed)
    }

    /// Peers that hold something or have an open handle.
    pub fn peers(&self) -> usize {
        lock(&self.peers).len()
    }

    fn total(&self, resource: Resource) -> &Total {
        &self.totals[resource as usize]
    }

    fn reserve(&self, resource: Resource, asking: Asking<'_>, amount: u64) -> Result<(), Full> {
        let total = self.total(resource);
        if !total.try_add(amount) {
            let mut barren = lock(&self.making_room[resource as usize]);
            while !total.try_add(amount) {
                let now = Instant::now();
                if amount > total.max || !self.find_room(resource, asking, amount, now, &mut barren)
                {
                    return Err(Full);
                }
                total.tell(resource, now);
            }
        }
        asking.peer.usage.amounts[resource as usize].fetch_add(amount, Relaxed);
        Ok(())
    }

    fn try_reserve(&self, resource: Resource, peer: &Peer, amount: u64) -> Result<(), Full> {
        if !self.total(resource).try_add(amount) {
            return Err(Full);
        }
        peer.usage.amounts[resource as usize].fetch_add(amount, Relaxed);
        Ok(())
    }

    fn note_refusal(&self, resource: Resource) {
        let total = self.total(resource);
        total.refused.fetch_add(1, Relaxed);
        total.tell(resource, Instant::now());
    }

    fn give_back(&self, resource: Resource, usage: &Usage, amount: u64) {
        usage.amounts[resource as usize].fetch_sub(amount, Relaxed);
        self.total(resource).used.fetch_sub(amount, Relaxed);
    }
}

impl Total {
    fn try_add(&self, amount: u64) -> bool {
        let add = |used: u64| used.checked_add(amount).filter(|sum| *sum <= self.max);
        self.used.fetch_update(Relaxed, Relaxed, add).is_ok()
    }

    /// Logs that the total is used up, at most once a minute.
    fn tell(&self, resource: Resource, now: Instant) {
        if self.lines.take_line((), now).is_none() {
            return;
        }
        let mut told = lock(&self.told);
        let (revoked, refused) = (self.revoked.load(Relaxed), self.refused.load(Relaxed));
        tracing::warn!(
            key = %format_args!("server.{}", resource.key()),
            max = self.max,
            revoked = revoked - told.revoked,
            refused = refused - told.refused,
            "a total is used up: the clients that hold most of it give way",
        );
        *told = Told { revoked, refused };
    }
}

impl Peer {
    /// Reserves an amount, which may revoke reservations of larger peers.
    ///
    /// # Errors
    /// [`Full`]
    pub fn reserve(&self, resource: Resource, amount: u64) -> Result<Reservation, Full> {
        self.reserve_again(resource, amount)
            .inspect_err(|Full| self.quotas.note_refusal(resource))
    }

    /// As [`Peer::reserve`], for a caller that was refused before and waits: it is not counted once more.
    ///
    /// # Errors
    /// [`Full`]
    pub fn reserve_again(&self, resource: Resource, amount: u64) -> Result<Reservation, Full> {
        let asking = Asking {
            peer: self,
            itself: None,
        };
        self.quotas.reserve(resource, asking, amount)?;
        let mut entries = lock(&self.usage.entries[resource as usize]);
        let slot = entries.vacant_entry();
        let held = Held::new(self.clone(), resource, amount, slot.key());
        slot.insert(Arc::downgrade(&held));
        Ok(Reservation(held))
    }

    /// The same peer for one of its requests: what is reserved with it is never revoked for more of the same request.
    pub fn of_one_request(mut self) -> Self {
        self.request = self.quotas.sequence.fetch_add(1, Relaxed);
        self
    }

    /// The quotas that it is a peer of.
    pub fn quotas(&self) -> &Arc<Quotas> {
        &self.quotas
    }

    /// Whether its reservations are never revoked.
    pub fn is_exempt(&self) -> bool {
        self.source.peer.is_none()
    }

    /// Whether its client holds anything of a resource. One that is exempt has nothing in common with the others.
    pub fn holds_any(&self, resource: Resource) -> bool {
        self.usage.amounts[resource as usize].load(Relaxed) > 0
    }

    /// The connection that it is the part of.
    pub fn source(&self) -> Source {
        self.source
    }
}

impl Clone for Peer {
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

impl Drop for Peer {
    fn drop(&mut self) {
        let Some(key) = self.source.peer else { return };
        if self.usage.handles.fetch_sub(1, AcqRel) > 1 {
            return;
        }
        let mut peers = lock(&self.quotas.peers);
        // The address may have come back meanwhile, and gone again: its entry may be another one by then.
        let is_unused = |usage: &Arc<Usage>| {
            Arc::ptr_eq(usage, &self.usage) && usage.handles.load(Relaxed) == 0
        };
        if peers.get(&key).is_some_and(is_unused) {
            peers.remove(&key);
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these locks; a poisoned one would still guard consistent counts.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
