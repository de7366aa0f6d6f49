//! File descriptors: how many the host may open, and how it reduces its limits if the system allows fewer. Outbound connections
//! and connections of visitors have separate shares, so that neither can use up the other's. The rest is reserved for
//! everything else.

use std::fmt;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{Config, ServerSettings};
use crate::failure::StartFailure;
use cloakroom_base::limits::{ADMIN_CONNECTIONS_MAX, COMPILES_AT_ONCE_MAX, LOOKUPS_MAX};

/// Reserve for short-lived and rare descriptors: the log, signals, pollers, watched directories and files being read.
const RESERVE: u64 = 64;
/// Descriptors per DNS lookup: the resolver's socket and a file of its configuration.
const PER_LOOKUP: u64 = 3;
/// Descriptors per compilation: its files and the pipes of the child process.
const PER_COMPILE: u64 = 8;
/// Descriptors per guest: the compiled code of several versions.
const PER_GUEST: u64 = 8;
/// The host does not start with fewer visitor connections, unless fewer are configured.
const CONNECTIONS_MIN: u64 = 16;

/// The number of descriptors that the host may have open at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DescriptorNeeds {
    /// Connections from visitors.
    connections: u64,
    /// Outbound connections of guests.
    outbound: u64,
    /// All other descriptors.
    others: u64,
}

/// The number of connections of each kind that the limit allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DescriptorShares {
    connections: u64,
    outbound: u64,
}

/// Raises the system's descriptor limit as far as needed and allowed. If the limit is still too low, the returned connection
/// limits are lower than the configured ones, and a warning is logged.
///
/// # Errors
/// Returns an error if the limit is too low even for a host with few visitors.
pub(crate) fn provide(config: &Config) -> Result<ServerSettings, StartFailure> {
    let needs = DescriptorNeeds::of(config, already_open());
    let limit = raise(needs.total());
    let shares = needs.within(limit).ok_or_else(|| StartFailure {
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
    let outcome = DescriptorWarning {
        limit,
        needs,
        shares,
    };
    if shares != needs.shares() {
        tracing::warn!("{outcome}");
    }
    server.totals.connections = shares.connections;
    server.runtime.outbound_connections_max =
        usize::try_from(shares.outbound).unwrap_or(usize::MAX);
    Ok(server)
}

impl DescriptorNeeds {
    fn of(config: &Config, already_open: u64) -> Self {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let admin = match config.admin {
            Some(_) => ADMIN_CONNECTIONS_MAX,
            None => 0,
        };
        let parts = [
            RESERVE,
            already_open,
            config.store.backend.descriptors(),
            admin,
            count(LOOKUPS_MAX) * PER_LOOKUP,
            count(COMPILES_AT_ONCE_MAX) * PER_COMPILE,
            count(config.guests.len()) * PER_GUEST,
        ];
        Self {
            connections: config.server.totals.connections,
            outbound: count(config.server.runtime.outbound_connections_max),
            others: parts.into_iter().fold(0, u64::saturating_add),
        }
    }

    fn total(&self) -> u64 {
        self.others
            .saturating_add(self.connections)
            .saturating_add(self.outbound)
    }

    /// Returns the configured numbers of connections.
    fn shares(&self) -> DescriptorShares {
        DescriptorShares {
            connections: self.connections,
            outbound: self.outbound,
        }
    }

    /// Returns the numbers of connections that fit into the limit, in the proportion of the configured ones.
    fn within(&self, limit: u64) -> Option<DescriptorShares> {
        let room = limit.checked_sub(self.others)?;
        let wanted = self.connections.saturating_add(self.outbound);
        if wanted <= room {
            return Some(self.shares());
        }
        let for_outbound = room.checked_sub(CONNECTIONS_MIN.min(self.connections))?;
        let part = u128::from(room) * u128::from(self.outbound) / u128::from(wanted);
        let part = u64::try_from(part).unwrap_or(u64::MAX);
        let outbound = part.max(1).min(for_outbound);
        (outbound > 0).then_some(DescriptorShares {
            connections: room - outbound,
            outbound,
        })
    }
}

/// The warning for a limit that is too low.
struct DescriptorWarning {
    limit: u64,
    needs: DescriptorNeeds,
    shares: DescriptorShares,
}

impl fmt::Display for DescriptorWarning {
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

/// Counts the open descriptors, including inherited ones.
fn already_open() -> u64 {
    let listed = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    u64::try_from(listed).unwrap_or(u64::MAX)
}

/// Raises the limit to `wanted`, if it is lower and the system allows it. Returns the limit that now applies.
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

    const NEEDS: DescriptorNeeds = DescriptorNeeds {
        connections: 4096,
        outbound: 512,
        others: 250,
    };

    #[test]
    fn all_descriptors_are_granted_if_the_limit_allows_them() {
        assert_eq!(NEEDS.within(NEEDS.total()), Some(NEEDS.shares()));
        assert_eq!(NEEDS.within(u64::MAX), Some(NEEDS.shares()));
    }

    /// For every limit, all descriptors that the host may open at once fit into it.
    #[test]
    fn the_granted_descriptors_never_exceed_the_limit() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..10_000 {
            let needs = DescriptorNeeds {
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
    fn lowered_shares_are_reported_with_their_keys_and_the_descriptor_limit() {
        let outcome = DescriptorWarning {
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
