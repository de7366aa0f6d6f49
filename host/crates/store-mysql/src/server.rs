//! The kind of a server, derived from its own variables: a single MySQL or MariaDB server, a Galera node or a Group
//! Replication member. Also the setting with which a session of the store sees every earlier commit. Knows no driver.
//!
//! If the account may not set the causality, the host does not start and prints the `GRANT`: hosts at different nodes would
//! otherwise serve sessions that were logged out.

use std::collections::HashMap;
use std::fmt;

/// Reads the variables that identify a server. Uses `SHOW` and not `SELECT @@`: it omits names that the server does not
/// know, and a Galera node outside its cluster still answers it.
pub(crate) const VARIABLES: &str = "SHOW VARIABLES WHERE Variable_name IN ('version', 'read_only', 'super_read_only', \
     'innodb_read_only', 'transaction_read_only', 'tx_read_only', 'wsrep_on', 'wsrep_provider', 'wsrep_sync_wait', \
     'wsrep_reject_queries', 'group_replication_group_name', \
     'group_replication_consistency', 'group_replication_single_primary_mode')";
/// Reads the status of a Galera node.
pub(crate) const GALERA_STATUS: &str = "SHOW STATUS WHERE Variable_name IN ('wsrep_ready', 'wsrep_local_state', 'wsrep_cluster_status', \
     'wsrep_cluster_state_uuid')";
/// Reads the members of a group: for each one, whether it is this server, and its state.
pub(crate) const GROUP_MEMBERS: &str = "SELECT MEMBER_ID = @@server_uuid, MEMBER_STATE FROM performance_schema.replication_group_members";
/// The privilege that reading the table of members requires.
pub(crate) const MEMBERS_RIGHT: &str = "SELECT ON performance_schema.replication_group_members";
/// Reads whether the server takes writes now.
pub(crate) const READ_ONLY: &str =
    "SHOW VARIABLES WHERE Variable_name IN ('read_only', 'super_read_only', 'innodb_read_only')";

/// `wsrep_sync_wait` for all statements of the store: 1 covers reads, 2 updates and deletes, 4 inserts.
const SYNC_WAIT: u64 = 7;
/// Galera's number for a node that has all changes of its cluster.
const SYNCED: &str = "4";

/// A server's variables and status, by lower-case name.
#[derive(Debug, Default)]
pub(crate) struct ServerVariables(HashMap<String, String>);

/// The description of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerDescription {
    pub(crate) kind: ServerKind,
    /// Whether the server reports that it is a healthy member of its cluster. Always false for a single server.
    pub(crate) is_healthy_member: bool,
    /// Whether the server is configured as a group member but the account must not read its membership.
    is_state_unknown: bool,
    version: String,
    /// The server's own causality setting, if it is strong enough without a session setting.
    own_causality: Option<String>,
}

/// The kinds of servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ServerKind {
    /// A server that is not a member of a cluster. It may have replicas, or be a replica.
    Plain,
    /// A node of the Galera cluster with this state UUID.
    Galera { cluster: String },
    /// A member of the group of this name.
    Group {
        name: String,
        primaries: GroupPrimaries,
    },
}

/// How many members of a group take writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupPrimaries {
    One,
    All,
}

/// The statement that makes a session of the store see every earlier commit, and the remedy if it is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CausalReads {
    pub(crate) variable: &'static str,
    pub(crate) sql: String,
    /// The statement that an administrator may run instead.
    pub(crate) global: String,
}

/// The state of a group member, as the member sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupMemberState {
    /// The account must not read the table.
    Unknown,
    /// This member is ONLINE and sees a majority.
    Online,
    /// This member is not ONLINE or sees no majority.
    Unfit,
}

impl ServerVariables {
    pub(crate) fn add(&mut self, rows: impl IntoIterator<Item = (String, Option<String>)>) {
        let rows = rows.into_iter();
        let kept = rows.filter_map(|(name, value)| Some((name.to_ascii_lowercase(), value?)));
        self.0.extend(kept);
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.get(name)
            .is_some_and(|it| it.eq_ignore_ascii_case(value))
    }

    /// Returns the variable that reports that the server takes no writes. In MariaDB 12 the variable has more values
    /// than ON and OFF.
    pub(crate) fn read_only(&self) -> Option<&'static str> {
        // On a new connection, the last two (MySQL's and MariaDB's name) have the global value that the administrator
        // set.
        [
            "read_only",
            "super_read_only",
            "innodb_read_only",
            "transaction_read_only",
            "tx_read_only",
        ]
        .into_iter()
        .find(|name| {
            self.get(name)
                .is_some_and(|value| !matches!(value, "0" | "") && !self.is(name, "OFF"))
        })
    }

    /// Returns whether the server is a Galera node, whose status must be read.
    pub(crate) fn is_galera(&self) -> bool {
        let has_provider = !(self.is("wsrep_provider", "none") || self.is("wsrep_provider", ""));
        (self.is("wsrep_on", "ON") || self.is("wsrep_on", "1")) && has_provider
    }

    /// Returns whether the server is configured as a group member. The members must then be read.
    pub(crate) fn is_grouped(&self) -> bool {
        self.get("group_replication_group_name")
            .is_some_and(|name| !name.is_empty())
    }

    /// Returns the reason why a Galera node does not serve, or `None` if it serves.
    pub(crate) fn galera_fault(&self) -> Option<String> {
        if !self.is("wsrep_ready", "ON") {
            let status = self.get("wsrep_cluster_status").unwrap_or("unknown");
            return Some(format!(
                "the Galera node is not ready (wsrep_cluster_status is {status})"
            ));
        }
        let rejected = self.get("wsrep_reject_queries").unwrap_or("NONE");
        if !rejected.eq_ignore_ascii_case("NONE") {
            return Some(format!(
                "the Galera node takes no statements (wsrep_reject_queries is {rejected})"
            ));
        }
        None
    }

    /// Returns the current causality setting, or `None` for a single server, which needs none.
    pub(crate) fn causality_setting(&self) -> Option<String> {
        let name = match (self.is_galera(), self.is_grouped()) {
            (true, _) => "wsrep_sync_wait",
            (false, true) => "group_replication_consistency",
            (false, false) => return None,
        };
        Some(format!("{name} = {}", self.get(name).unwrap_or("unknown")))
    }

    /// Returns the statement with which a session sees every earlier commit, or `None` if the server's own value is
    /// already strong enough.
    ///
    /// # Errors
    /// Returns an error if the server has no such setting.
    pub(crate) fn causality(&self) -> Result<Option<CausalReads>, String> {
        if self.is_galera() {
            return Ok(self.galera_causality());
        }
        if self.is_grouped() {
            return self.group_causality();
        }
        Ok(None)
    }

    fn galera_causality(&self) -> Option<CausalReads> {
        let own = self.get("wsrep_sync_wait");
        let own: u64 = own.and_then(|value| value.parse().ok()).unwrap_or(0);
        (own & SYNC_WAIT != SYNC_WAIT).then(|| {
            let value = own | SYNC_WAIT;
            CausalReads {
                variable: "wsrep_sync_wait",
                sql: format!("SET SESSION wsrep_sync_wait = {value}"),
                global: format!("SET GLOBAL wsrep_sync_wait = {value}"),
            }
        })
    }

    fn group_causality(&self) -> Result<Option<CausalReads>, String> {
        let own = self.get("group_replication_consistency");
        let own = own.ok_or_else(|| {
            "Group Replication without group_replication_consistency cannot be asked for the latest rows: it needs MySQL 8.0.14"
                .to_owned()
        })?;
        let value = match own.to_ascii_uppercase().as_str() {
            "BEFORE" | "BEFORE_AND_AFTER" => return Ok(None),
            // Keep the stronger part of the administrator's setting.
            "AFTER" => "BEFORE_AND_AFTER",
            _ => "BEFORE",
        };
        Ok(Some(CausalReads {
            variable: "group_replication_consistency",
            sql: format!("SET SESSION group_replication_consistency = '{value}'"),
            global: format!("SET PERSIST group_replication_consistency = '{value}'"),
        }))
    }

    /// Returns the server that these facts describe.
    pub(crate) fn server(&self, membership: GroupMemberState) -> ServerDescription {
        let text = |name: &str| self.get(name).unwrap_or_default().to_owned();
        let is_strong = matches!(self.causality(), Ok(None));
        let (kind, is_healthy_member) = if self.is_galera() {
            let cluster = text("wsrep_cluster_state_uuid");
            let is_healthy = self.galera_fault().is_none()
                && self.is("wsrep_local_state", SYNCED)
                && self.is("wsrep_cluster_status", "Primary");
            (ServerKind::Galera { cluster }, is_healthy)
        } else if self.is_grouped() {
            let is_single = self.is("group_replication_single_primary_mode", "ON")
                || self.is("group_replication_single_primary_mode", "1");
            let kind = ServerKind::Group {
                name: text("group_replication_group_name"),
                primaries: match is_single {
                    true => GroupPrimaries::One,
                    false => GroupPrimaries::All,
                },
            };
            let is_healthy = membership == GroupMemberState::Online && self.read_only().is_none();
            (kind, is_healthy)
        } else {
            (ServerKind::Plain, false)
        };
        ServerDescription {
            is_state_unknown: matches!(kind, ServerKind::Group { .. })
                && membership == GroupMemberState::Unknown,
            kind,
            is_healthy_member,
            version: text("version"),
            own_causality: self.causality_setting().filter(|_| is_strong),
        }
    }
}

impl GroupMemberState {
    /// Derives the membership from the rows of [`GROUP_MEMBERS`].
    pub(crate) fn of(members: &[(bool, String)]) -> Self {
        let own = members.iter().find(|(is_own, _)| *is_own);
        let is_online = own.is_some_and(|(_, state)| state.eq_ignore_ascii_case("ONLINE"));
        let lost = members
            .iter()
            .filter(|(_, state)| state.eq_ignore_ascii_case("UNREACHABLE"))
            .count();
        match is_online && lost * 2 < members.len() {
            true => Self::Online,
            false => Self::Unfit,
        }
    }
}

impl ServerDescription {
    /// Returns whether both servers are members of one cluster, so that each has all commits that the other has
    /// acknowledged.
    pub(crate) fn shares_cluster_with(&self, other: &Self) -> bool {
        self.is_clustered() && other.is_clustered() && self.names_cluster_of(other)
    }

    /// Returns whether both servers are configured for one cluster. This is also true for a member that left its group.
    pub(crate) fn names_cluster_of(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (ServerKind::Galera { cluster: one }, ServerKind::Galera { cluster: other }) => {
                one == other && !one.is_empty()
            }
            (ServerKind::Group { name: one, .. }, ServerKind::Group { name: other, .. }) => {
                one == other
            }
            _ => false,
        }
    }

    /// Returns whether the server is known to be a member of a cluster.
    pub(crate) fn is_clustered(&self) -> bool {
        self.kind != ServerKind::Plain && !self.is_state_unknown
    }
}

/// Prints the description for the operator.
impl fmt::Display for ServerDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set_by_us = match &self.kind {
            ServerKind::Plain => "",
            ServerKind::Galera { .. } => "wsrep_sync_wait raised for the store's own sessions",
            ServerKind::Group { .. } => {
                "group_replication_consistency raised for the store's own sessions"
            }
        };
        match &self.kind {
            ServerKind::Plain => write!(f, "a single server")?,
            ServerKind::Galera { cluster } => write!(f, "a node of the Galera cluster {cluster}")?,
            ServerKind::Group { name, primaries } => {
                let mode = match primaries {
                    GroupPrimaries::One => "one primary",
                    GroupPrimaries::All => "several primaries",
                };
                write!(f, "a member of the group {name} with {mode}")?;
            }
        }
        write!(f, ", version {}", self.version)?;
        match (&self.own_causality, set_by_us) {
            (Some(own), _) => write!(f, ", {own}")?,
            (None, "") => {}
            (None, set_by_us) => write!(f, ", {set_by_us}")?,
        }
        match self.is_state_unknown {
            true => write!(
                f,
                ", treated as a single server, for the account may not see whether it is ONLINE: GRANT {MEMBERS_RIGHT}"
            ),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
