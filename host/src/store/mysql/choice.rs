//! The choice of the server that is used: pure logic, told of failures and findings. Knows no driver and no clock but the
//! `Instant`s it is handed.
//!
//! The server in use stays in use until it fails. The kinds of the servers decide which one may be used then, and whether an earlier
//! one is used again: the members of a cluster agree on all commits, and once one of them was used no server outside of it is. A single
//! server that was left after a failure may hold commits that its replica never received, or lack commits of its replica, so only the
//! operator's word brings it back.

use std::time::{Duration, Instant};

use super::server::Server;

/// How long an earlier server of the list has to be healthy without a break before it is used again.
const RETURN_AFTER_MIN: Duration = Duration::from_secs(30);
/// The same for a server that was left soon after each return.
const RETURN_AFTER_MAX: Duration = Duration::from_secs(600);
/// A server that is left within this time of its return has to be healthy for twice as long before the next one.
const RETURN_IS_SOON: Duration = Duration::from_secs(300);

/// See the module.
#[derive(Debug)]
pub(super) struct Choice {
    current: usize,
    /// Counts the changes of `current`: what a walk found out before one is no reason for another one.
    turn: u64,
    /// A member of the cluster that is used, once one was. From then on a server has to be of this cluster.
    cluster: Option<Server>,
    /// Without a cluster: those that were left after a failure, or passed over because of one.
    barred: Vec<bool>,
    /// Whether the next walk asks the other servers first, as the rows of the one in use seem to be locked.
    is_locked: bool,
    returns: Returns,
}

/// Why a server was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server says itself that it takes no writes, or is outside of its cluster or of the one that is used.
    Unfit,
    /// The server gives no connection: it has too many, or there was no time left to wait for one.
    Full,
    /// Anything else: no answer, a broken link, locked rows, a wrong password.
    Failed,
}

/// One request's way along the servers.
#[derive(Debug)]
pub(super) struct Walk {
    turn: u64,
    order: Vec<usize>,
    tried: Vec<(usize, Failure)>,
    is_from_locked: bool,
}

/// The consequence of a server that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It is in use, or a member of the cluster that is: nothing changes.
    Serves,
    /// This server is in use from now on.
    Adopted,
    /// This server helps out, and the one in use stays.
    HelpsOut,
    /// It may not be used: it lacks what the cluster has acknowledged, or may do so.
    Foreign,
    /// Another server is in use since the walk began: it has to begin anew.
    Moved,
}

/// When an earlier server of the list is used again: it has to be healthy for a while, and longer each time that it is left soon
/// after its return.
#[derive(Debug)]
struct Returns {
    candidate: Option<Candidate>,
    needed: Duration,
    returned_at: Option<Instant>,
}

#[derive(Debug)]
struct Candidate {
    index: usize,
    healthy_since: Instant,
}

impl Walk {
    /// The servers in the order in which they are asked.
    pub(super) fn order(&self) -> Vec<usize> {
        self.order.clone()
    }

    /// Whether it began because the rows of the server in use seem to be locked, which is therefore asked last.
    pub(super) fn is_from_locked(&self) -> bool {
        self.is_from_locked
    }

    /// A server was asked in vain.
    pub(super) fn tried(&mut self, index: usize, failure: Failure) {
        self.tried.push((index, failure));
    }
}

impl Choice {
    /// The first of so many servers is in use.
    pub(super) fn new(servers: usize) -> Self {
        Self {
            current: 0,
            turn: 0,
            cluster: None,
            barred: vec![false; servers],
            is_locked: false,
            returns: Returns {
                candidate: None,
                needed: RETURN_AFTER_MIN,
                returned_at: None,
            },
        }
    }

    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// Whether only the operator's word brings this server back.
    pub(super) fn is_barred(&self, index: usize) -> bool {
        self.barred[index]
    }

    /// A member of the cluster that is used.
    pub(super) fn cluster(&self) -> Option<&Server> {
        self.cluster.as_ref()
    }

    /// A request sets out: to the server in use, then to the others that may be used as the list has them, so that all hosts
    /// that leave a server meet at the same one.
    pub(super) fn walk(&mut self) -> Walk {
        let others = (0..self.barred.len()).filter(|i| *i != self.current && !self.barred[*i]);
        let mut order: Vec<_> = std::iter::once(self.current).chain(others).collect();
        // One walk is enough: where no other server takes over, the locked one goes on, for it reads at least.
        let is_from_locked = std::mem::take(&mut self.is_locked) && order.len() > 1;
        let mut tried = Vec::new();
        if is_from_locked {
            order.rotate_left(1);
            tried.push((self.current, Failure::Failed));
        }
        Walk {
            turn: self.turn,
            order,
            tried,
            is_from_locked,
        }
    }

    /// The rows of the server in use seem to be locked.
    pub(super) fn suspect_locked(&mut self) {
        self.is_locked = true;
    }

    /// The server in use has said what it is. Whoever is of a cluster proves it at each connection, so nobody is barred then.
    pub(super) fn learn(&mut self, server: &Server) {
        if self.cluster.is_none() && server.is_clustered() {
            self.cluster = Some(server.clone());
            self.barred.fill(false);
        }
    }

    /// A server serves after others were tried in vain.
    ///
    /// A server that is only full is not left: the next one helps out.
    pub(super) fn found(
        &mut self,
        index: usize,
        server: &Server,
        walk: &Walk,
        now: Instant,
    ) -> Found {
        if self.is_foreign(index, server) {
            return Found::Foreign;
        }
        if index == self.current {
            self.learn(server);
            return Found::Serves;
        }
        let left = walk.tried.iter().find(|(index, _)| *index == self.current);
        let Some((_, failure)) = left.filter(|_| walk.turn == self.turn) else {
            // Any member has all that the one in use has acknowledged.
            return match self.cluster.is_some() {
                true => Found::Serves,
                false => Found::Moved,
            };
        };
        if *failure == Failure::Full {
            // The helper must have all that the full server acknowledged. The list names one cluster.
            if !server.is_clustered() {
                return Found::Foreign;
            }
            self.learn(server);
            return Found::HelpsOut;
        }
        self.learn(server);
        for (index, failure) in &walk.tried {
            self.barred[*index] |= *failure == Failure::Failed && self.cluster.is_none();
        }
        self.returns.left(now);
        self.uses(index);
        Found::Adopted
    }

    /// Whether the server is outside of the cluster that is used. A list of one server has no other side to write to.
    fn is_foreign(&self, index: usize, server: &Server) -> bool {
        let Some(cluster) = self.cluster.as_ref().filter(|_| self.barred.len() > 1) else {
            return false;
        };
        match index == self.current {
            // It goes on where it tells less than it did: the account may have lost the right to ask.
            true => !server.names_cluster_of(cluster),
            false => !server.shares_cluster_with(cluster),
        }
    }

    fn uses(&mut self, index: usize) {
        self.current = index;
        self.turn += 1;
        self.is_locked = false;
    }

    /// The servers that stand before the one in use.
    pub(super) fn earlier(&self) -> std::ops::Range<usize> {
        0..self.current
    }

    /// An earlier server was looked at; true if it is in use from now on. `is_healthy` is the server's own word that it is a
    /// healthy member of the cluster that is used.
    pub(super) fn looked_at(&mut self, index: usize, is_healthy: bool, now: Instant) -> bool {
        if index >= self.current || !self.returns.is_due(index, is_healthy, now) {
            return false;
        }
        self.uses(index);
        true
    }

    /// The operator's word: the first server of the list is in use whatever it is, and what was left may be used again.
    pub(super) fn prefer_first(&mut self, first: &Server) {
        self.uses(0);
        self.barred.fill(false);
        self.returns.candidate = None;
        self.cluster = None;
        self.learn(first);
    }
}

impl Returns {
    fn left(&mut self, now: Instant) {
        let is_soon = self
            .returned_at
            .is_some_and(|at| now.saturating_duration_since(at) < RETURN_IS_SOON);
        self.needed = match is_soon {
            true => RETURN_AFTER_MAX.min(self.needed * 2),
            false => RETURN_AFTER_MIN,
        };
        self.candidate = None;
        self.returned_at = None;
    }

    fn is_due(&mut self, index: usize, is_healthy: bool, now: Instant) -> bool {
        let is_other = (self.candidate.as_ref()).is_some_and(|it| it.index < index);
        if is_other {
            // An earlier one is on its way back.
            return false;
        }
        if !is_healthy {
            if (self.candidate.as_ref()).is_some_and(|it| it.index == index) {
                self.candidate = None;
            }
            return false;
        }
        if (self.candidate.as_ref()).is_none_or(|it| it.index != index) {
            self.candidate = Some(Candidate {
                index,
                healthy_since: now,
            });
        }
        let healthy_since = (self.candidate.as_ref()).map_or(now, |it| it.healthy_since);
        let is_due = now.saturating_duration_since(healthy_since) >= self.needed;
        if is_due {
            self.candidate = None;
            self.returned_at = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests;
