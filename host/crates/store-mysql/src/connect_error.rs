//! Errors at the start of the store, described so that the operator knows which kind of setting to check. Knows no
//! setting's name.

/// Error returned by [`super::MysqlStore::connect`]. Its `Display` text is for the operator: it may name hosts,
/// accounts, tables and helpful SQL, but never a password.
#[derive(Clone, Debug, thiserror::Error)]
#[error("session store: {detail}{}{remedy}", if .remedy.is_empty() { "" } else { ": " })]
pub struct MysqlConnectError {
    /// The thing that must be corrected.
    pub culprit: ConnectErrorClass,
    /// Description of the problem.
    pub detail: String,
    /// The remedy, if the store knows one: usually the SQL to run.
    pub remedy: String,
}

/// The thing that must be corrected before the store can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectErrorClass {
    /// No known setting: no server answers, or none of them takes writes at the moment. The problem may go away without
    /// a change.
    Reach,
    /// The account: its name, its password, or the host and method with which it may log in.
    Account,
    /// The database: it does not exist, or the account has no access to it.
    Database,
    /// Encryption: one side requires it, or the server's certificate is not trusted.
    Tls,
    /// The table: it is missing, the account has no access to it, or it cannot store sessions.
    Table,
    /// The table's columns differ from the configured ones.
    Columns,
}

impl MysqlConnectError {
    pub(crate) fn new(
        culprit: ConnectErrorClass,
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
