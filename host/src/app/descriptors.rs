//! File descriptors: what the host may open at once, and what it does where the system allows less. Outgoing connections and
//! those of visitors each have a share of their own, so that neither can take the other's, and the rest is kept for all else.

use std::fmt;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::failure::Failure;
use crate::config::{Backend, Config, ServerSettings};
use crate::limits::{ADMIN_CONNECTIONS_MAX, COMPILES_AT_ONCE_MAX, LOOKUPS_MAX};

/// Reserve for short-lived and rare descriptors: the log, signals, pollers, watched folders, files that are read.
const RESERVE: u64 = 64;
/// Of one look-up of a name: the resolver's socket, and a file of its configuration.
const PER_LOOKUP: u64 = 3;
/// Of one compilation: its files and the child's pipes.
const PER_COMPILE: u64 = 8;
/// Of one guest: the code of some versions.
const PER_GUEST: u64 = 8;
/// Of the embedded database: three connections with a file and a log each, and the lock.
const PER_SQLITE: u64 = 16;
/// With fewer connections for visitors a host is of no use.
const CONNECTIONS_MIN: u64 = 16;

/// What the host may have open at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Needs {
    /// Connections of visitors.
    connections: u64,
    /// Connections of guests to other servers.
    outbound: u64,
    /// All else.
    others: u64,
}

/// How many of each there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shares {
    connections: u64,
    outbound: u64,
}

/// Raises the system's limit as far as it is needed and allowed. Where that is not far enough, the returned
/// bounds of connections are lower than the configured ones, and a line in the log says so.
///
/// # Errors
/// When not even a host with few visitors could be served.
pub(super) fn provide(config: &Config) -> Result<ServerSettings, Failure> {
    let needs = Needs::of(config, already_open());
    let limit = raise(needs.total());
    let shares = needs.within(limit).ok_or_else(|| Failure {
        problem: format!(
            "the limit of {limit} file descriptors is too small: {} are kept for the store, the admin interface and files",
            needs.others
        ),
        remedy: format!(
            "allow {} (ulimit -Hn, LimitNOFILE= of systemd)",
            needs.total()
        ),
    })?;
    let mut server = config.server.clone();
    let outcome = Outcome {
        limit,
        needs,
        shares,
    };
    if shares != needs.shares() {
        tracing::warn!("{outcome}");
    }
    server.totals.connections = shares.connections;
    server.outbound_connections_max = usize::try_from(shares.outbound).unwrap_or(usize::MAX);
    Ok(server)
}

impl Needs {
    fn of(config: &Config, already_open: u64) -> Self {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let store = match &config.store.backend {
            Backend::Memory => 0,
            Backend::Sqlite(_) => PER_SQLITE,
            Backend::Mysql(mysql) => {
                // One of each to look at a server that is not in use.
                let per_server = count(mysql.connection_limit).saturating_add(1);
                count(mysql.hosts.len().max(1)).saturating_mul(per_server)
            }
        };
        let admin = match config.admin {
            Some(_) => ADMIN_CONNECTIONS_MAX,
            None => 0,
        };
        let parts = [
            RESERVE,
            already_open,
            store,
            admin,
            count(LOOKUPS_MAX) * PER_LOOKUP,
            count(COMPILES_AT_ONCE_MAX) * PER_COMPILE,
            count(config.guests.len()) * PER_GUEST,
        ];
        Self {
            connections: config.server.totals.connections,
            outbound: count(config.server.outbound_connections_max),
            others: parts.into_iter().fold(0, u64::saturating_add),
        }
    }

    fn total(&self) -> u64 {
        self.others
            .saturating_add(self.connections)
            .saturating_add(self.outbound)
    }

    /// All that was asked for.
    fn shares(&self) -> Shares {
        Shares {
            connections: self.connections,
            outbound: self.outbound,
        }
    }

    /// The shares that fit into the limit, in the proportion of the configured bounds.
    fn within(&self, limit: u64) -> Option<Shares> {
        let room = limit.checked_sub(self.others)?;
        let wanted = self.connections.saturating_add(self.outbound);
        if wanted <= room {
            return Some(self.shares());
        }
        let for_outbound = room.checked_sub(CONNECTIONS_MIN.min(self.connections))?;
        let part = u128::from(room) * u128::from(self.outbound) / u128::from(wanted);
        let part = u64::try_from(part).unwrap_or(u64::MAX);
        let outbound = part.max(1).min(for_outbound);
        (outbound > 0).then_some(Shares {
            connections: room - outbound,
            outbound,
        })
    }
}

/// The log line for a limit that is too small.
struct Outcome {
    limit: u64,
    needs: Needs,
    shares: Shares,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            limit,
            needs,
            shares,
        } = self;
        write!(
            f,
            "the limit of {limit} file descriptors is too small: [server] connections is lowered from {} to {}, \
             outbound_connections from {} to {}; raise the limit to {} (ulimit -Hn, LimitNOFILE= of systemd), or lower these keys",
            needs.connections,
            shares.connections,
            needs.outbound,
            shares.outbound,
            needs.total(),
        )
    }
}

/// Descriptors that are open, some of them inherited.
fn already_open() -> u64 {
    let listed = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    u64::try_from(listed).unwrap_or(u64::MAX)
}

/// The limit, raised to `wanted` if it was lower and that is allowed.
fn raise(wanted: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let Some(current) = current else {
        return u64::MAX;
    };
    let target = wanted.min(maximum.unwrap_or(u64::MAX));
    if target <= current {
        return current;
    }
    let raised = Rlimit {
        current: Some(target),
        maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => target,
        Err(error) => {
            tracing::warn!(%error, "the limit of file descriptors cannot be raised");
            current
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: Needs = Needs {
        connections: 4096,
        outbound: 512,
        others: 250,
    };

    #[test]
    fn all_is_given_where_it_fits() {
        assert_eq!(NEEDS.within(NEEDS.total()), Some(NEEDS.shares()));
        assert_eq!(NEEDS.within(u64::MAX), Some(NEEDS.shares()));
    }

    /// For every limit: all descriptors that the host may open at once fit into it.
    #[test]
    fn what_is_given_fits_into_the_limit() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..10_000 {
            let needs = Needs {
                connections: random.u64(1..10_000),
                outbound: random.u64(1..10_000),
                others: random.u64(0..1_000),
            };
            let limit = random.u64(0..20_000);
            let Some(shares) = needs.within(limit) else {
                let least = needs.others + CONNECTIONS_MIN.min(needs.connections) + 1;
                assert!(limit < least, "{needs:?} {limit}");
                continue;
            };
            assert!(shares.connections + shares.outbound + needs.others <= limit);
            assert!(shares.connections <= needs.connections && shares.outbound <= needs.outbound);
            assert!(shares.connections >= CONNECTIONS_MIN.min(needs.connections));
            assert!(shares.outbound >= 1);
        }
    }

    #[test]
    fn what_does_not_fit_is_said_with_the_keys_and_the_limit() {
        let outcome = Outcome {
            limit: 1024,
            needs: NEEDS,
            shares: NEEDS.within(1024).unwrap(),
        };
        let text = outcome.to_string();
        for part in [
            "limit of 1024",
            "connections is lowered from 4096 to 688",
            "outbound_connections from 512 to 86",
            "raise the limit to 4858 (ulimit -Hn, LimitNOFILE=",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(NEEDS.within(255), None);
    }
}
