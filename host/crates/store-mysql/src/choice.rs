//! Chooses the server to use. Pure logic that is fed with failures and server descriptions. Knows no driver, and no
//! clock other than the `Instant`s that are passed in.
//!
//! The server in use stays in use until it fails. The kinds of the servers then decide which server may be used next
//! and whether an earlier server is used again. The members of a cluster agree on all commits. Once a member of a
//! cluster has been used, no server outside that cluster is used. A single server that was left after a failure may
//! hold commits that its replica never received, or lack commits of its replica. Only the operator's prefer-first
//! command brings such a server back.
//!
//! A server that called itself read-only has not failed, so roles may change under the host. A member of a group whose state the
//! account may not read counts as a single server.

use std::time::{Duration, Instant};

use super::server::ServerDescription;

/// How long an earlier server of the list must be healthy without interruption before it is used again.
const RETURN_AFTER_MIN: Duration = Duration::from_secs(30);
/// The upper bound of this time for a server that repeatedly fails soon after its return.
const RETURN_AFTER_MAX: Duration = Duration::from_secs(600);
/// If a server is left within this time of its return, the next return requires twice the healthy time.
const RETURN_IS_SOON: Duration = Duration::from_secs(300);

/// The choice of the server in use.
#[derive(Debug)]
pub(crate) struct ServerChoice {
    current: usize,
    /// Number of changes of `current`. The result of a search that began before a change must not cause another change.
    switches: u64,
    /// A member of the cluster in use, once one has been used. From then on every server must belong to this cluster.
    cluster: Option<ServerDescription>,
    /// Without a cluster: the servers that were left after a failure, or passed over because of one.
    barred: Vec<bool>,
    /// Whether the next search asks the other servers first, because the rows of the server in use seem to be locked.
    is_locked: bool,
    failback: FailbackTimer,
}

/// Why a server was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerFailure {
    /// The server reports that it takes no writes, or it is outside of its cluster or of the cluster in use.
    Unfit,
    /// The server gives no connection: it has too many, or no time was left to wait for one.
    Full,
    /// Any other failure: no answer, a broken connection, locked rows or a wrong password.
    Failed,
}

/// One request's search for a server that serves.
#[derive(Debug)]
pub(crate) struct ServerSearch {
    switches: u64,
    order: Vec<usize>,
    tried: Vec<(usize, ServerFailure)>,
    avoids_locked: bool,
}

/// The consequence of a server that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServingOutcome {
    /// The server is in use or is a member of the cluster in use: nothing changes.
    Serves,
    /// This server is in use from now on.
    Adopted,
    /// This server is the fallback of the full server in use, which stays in use.
    Fallback,
    /// The server must not be used: it lacks, or may lack, commits that the cluster has acknowledged.
    Foreign,
    /// Another server has been in use since the search began: the search must start again.
    Moved,
}

/// Decides when an earlier server of the list is used again. The server must be healthy for a while, and for longer
/// each time that it is left soon after its return.
#[derive(Debug)]
struct FailbackTimer {
    candidate: Option<FailbackCandidate>,
    needed: Duration,
    returned_at: Option<Instant>,
}

#[derive(Debug)]
struct FailbackCandidate {
    index: usize,
    healthy_since: Instant,
}

impl ServerSearch {
    /// Returns the servers in the order in which they are asked.
    pub(crate) fn order(&self) -> Vec<usize> {
        self.order.clone()
    }

    /// Returns whether the search began because the rows of the server in use seem to be locked. That server is then
    /// asked last.
    pub(crate) fn avoids_locked(&self) -> bool {
        self.avoids_locked
    }

    /// Records that a server was tried and did not serve.
    pub(crate) fn tried(&mut self, index: usize, failure: ServerFailure) {
        self.tried.push((index, failure));
    }
}

impl ServerChoice {
    /// Creates the choice for this many servers, with the first one in use.
    pub(crate) fn new(servers: usize) -> Self {
        Self {
            current: 0,
            switches: 0,
            cluster: None,
            barred: vec![false; servers],
            is_locked: false,
            failback: FailbackTimer {
                candidate: None,
                needed: RETURN_AFTER_MIN,
                returned_at: None,
            },
        }
    }

    pub(crate) fn current(&self) -> usize {
        self.current
    }

    /// Returns whether only the operator's prefer-first command brings this server back.
    pub(crate) fn is_barred(&self, index: usize) -> bool {
        self.barred[index]
    }

    /// Returns a member of the cluster in use.
    pub(crate) fn cluster(&self) -> Option<&ServerDescription> {
        self.cluster.as_ref()
    }

    /// Starts a request's search: first the server in use, then the other permitted servers in list order. All hosts that
    /// leave a server thereby move to the same one.
    pub(crate) fn search(&mut self) -> ServerSearch {
        let others = (0..self.barred.len()).filter(|i| *i != self.current && !self.barred[*i]);
        let mut order: Vec<_> = std::iter::once(self.current).chain(others).collect();
        // One such search is enough. If no other server takes over, the locked server stays in use, because it can at
        // least serve reads.
        let avoids_locked = std::mem::take(&mut self.is_locked) && order.len() > 1;
        let mut tried = Vec::new();
        if avoids_locked {
            order.rotate_left(1);
            tried.push((self.current, ServerFailure::Failed));
        }
        ServerSearch {
            switches: self.switches,
            order,
            tried,
            avoids_locked,
        }
    }

    /// Records that the rows of the server in use seem to be locked.
    pub(crate) fn suspect_locked(&mut self) {
        self.is_locked = true;
    }

    /// Records the description of the server in use. A cluster member proves its membership at each connection, so no
    /// server stays barred once a cluster is known.
    pub(crate) fn learn(&mut self, server: &ServerDescription) {
        if self.cluster.is_none() && server.is_clustered() {
            self.cluster = Some(server.clone());
            self.barred.fill(false);
        }
    }

    /// Records that a server serves after others were tried without success.
    ///
    /// A server that is only full stays in use; the next server is its fallback.
    pub(crate) fn found(
        &mut self,
        index: usize,
        server: &ServerDescription,
        search: &ServerSearch,
        now: Instant,
    ) -> ServingOutcome {
        if self.is_foreign(index, server) {
            return ServingOutcome::Foreign;
        }
        if index == self.current {
            self.learn(server);
            return ServingOutcome::Serves;
        }
        let left = search
            .tried
            .iter()
            .find(|(index, _)| *index == self.current);
        let Some((_, failure)) = left.filter(|_| search.switches == self.switches) else {
            // Every member of the cluster has all commits that the server in use has acknowledged.
            return match self.cluster.is_some() {
                true => ServingOutcome::Serves,
                false => ServingOutcome::Moved,
            };
        };
        if *failure == ServerFailure::Full {
            // The fallback must have all commits that the full server acknowledged. The list names one cluster.
            if !server.is_clustered() {
                return ServingOutcome::Foreign;
            }
            self.learn(server);
            return ServingOutcome::Fallback;
        }
        self.learn(server);
        for (index, failure) in &search.tried {
            self.barred[*index] |= *failure == ServerFailure::Failed && self.cluster.is_none();
        }
        self.failback.left(now);
        self.uses(index);
        ServingOutcome::Adopted
    }

    /// Returns whether the server is outside of the cluster in use. Always false for a list of one server: there is no
    /// second server that could receive diverging writes.
    fn is_foreign(&self, index: usize, server: &ServerDescription) -> bool {
        let Some(cluster) = self.cluster.as_ref().filter(|_| self.barred.len() > 1) else {
            return false;
        };
        match index == self.current {
            // The server in use stays in use even if it reports less than before: the account may have lost the
            // privilege to read its state.
            true => !server.names_cluster_of(cluster),
            false => !server.shares_cluster_with(cluster),
        }
    }

    fn uses(&mut self, index: usize) {
        self.current = index;
        self.switches += 1;
        self.is_locked = false;
    }

    /// Returns the servers that precede the server in use in the list.
    pub(crate) fn earlier(&self) -> std::ops::Range<usize> {
        0..self.current
    }

    /// Records the check of an earlier server and returns true if that server is in use from now on. `is_healthy` means
    /// that the server reports itself as a healthy member of the cluster in use.
    pub(crate) fn record_check(&mut self, index: usize, is_healthy: bool, now: Instant) -> bool {
        if index >= self.current || !self.failback.is_due(index, is_healthy, now) {
            return false;
        }
        self.uses(index);
        true
    }

    /// Applies the operator's prefer-first command: the first server of the list is in use regardless of its kind, and
    /// no server stays barred.
    pub(crate) fn prefer_first(&mut self, first: &ServerDescription) {
        self.uses(0);
        self.barred.fill(false);
        self.failback.candidate = None;
        self.cluster = None;
        self.learn(first);
    }
}

impl FailbackTimer {
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
            // A server earlier in the list is already on its way back.
            return false;
        }
        if !is_healthy {
            if (self.candidate.as_ref()).is_some_and(|it| it.index == index) {
                self.candidate = None;
            }
            return false;
        }
        if (self.candidate.as_ref()).is_none_or(|it| it.index != index) {
            self.candidate = Some(FailbackCandidate {
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
