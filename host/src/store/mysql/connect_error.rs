//! Why the store could not start, told so that the operator knows which setting to look at. Knows no setting's name.

/// Why [`super::MysqlStore::connect`] gave up. `Display` is for the operator: it may name hosts, accounts, tables and SQL
/// that helps, never a password.
#[derive(Clone, Debug, thiserror::Error)]
#[error("session store: {detail}{}{remedy}", if .remedy.is_empty() { "" } else { ": " })]
pub struct ConnectError {
    /// What has to be otherwise.
    pub culprit: Culprit,
    /// What is wrong.
    pub detail: String,
    /// What helps, where the store knows it: the SQL to run, mostly.
    pub remedy: String,
}

/// What has to be otherwise before the store can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Culprit {
    /// Nothing that we were told: no server answers, or none of them takes writes just now. It may get better by itself.
    Reach,
    /// The account: its name, its password, from where and how it may log in.
    Account,
    /// The database: it does not exist, or is not the account's.
    Database,
    /// Encryption: one side insists on it, or the server's certificate is not to be trusted.
    Tls,
    /// The table: it is missing, not the account's, or cannot keep sessions.
    Table,
    /// The table's columns are not those that were named.
    Columns,
}

impl ConnectError {
    pub(super) fn new(
        culprit: Culprit,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            culprit,
            detail: detail.into(),
            remedy: remedy.into(),
        }
    }
}
