//! Maps the driver's errors and the servers' error numbers to their meaning for a statement: whether it ran, whether to
//! retry, and on which server. This module never repeats a server's text that could hold an id or data (`Duplicate
//! entry '<id>'`).
//!
//! A permanent refusal is not an outage. A row that the table never takes is `Refused` (500). A missing grant or table is
//! `Broken` (503). They are told apart by the error's number, else by its SQLSTATE.

mod codes;

use std::io;
use std::time::Duration;

use mysql_async::{DriverError, Error, IoError, ServerError};

use super::connect_error::{ConnectErrorClass, MysqlConnectError};
use cloakroom_session::store::{StoreError, StoreErrorKind};
use codes::{class_of, culprit_of, is_harmless_text, meaning, remedy};

/// A failure of a statement or a connection attempt.
#[derive(Clone, Debug)]
pub(crate) struct StatementError {
    /// The meaning of the failure.
    pub(crate) class: StatementErrorClass,
    /// Whether the statement had been sent when it failed.
    pub(crate) progress: StatementProgress,
    /// Details for the operator's log. A caller that knows the server's name prepends it.
    pub(crate) detail: String,
    /// Where the statement ran; `None` if it did not get that far.
    pub(crate) origin: Option<ServerEpoch>,
    /// The thing to correct, reported only if the store cannot start.
    culprit: ConnectErrorClass,
}

/// The period of a server of the list between two moments at which all of its connections were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServerEpoch {
    pub(crate) server: usize,
    pub(crate) generation: u64,
}

/// The meaning of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatementErrorClass {
    /// Certainly rolled back in favour of another transaction (a deadlock, or a failed certification of Galera). The
    /// same statement may succeed at once. If retries fail until the time limit, it is a conflict.
    Transient,
    /// Rolled back on this member of a group. A failed certification is final on all members. However, a member that
    /// leaves its group reports the same error for transactions that the other members may have applied. The row's
    /// tokens decide between the two.
    RolledBackHere,
    /// Rolled back because the row changed during the statement (MariaDB's snapshot isolation). Handled like
    /// [`StatementErrorClass::Transient`].
    Stale,
    /// Rolled back after a wait for a row lock.
    LockWait,
    /// Rolled back: the primary key exists.
    Duplicate,
    /// Not run: the server no longer knows the prepared statement.
    Reprepare,
    /// Not run, and this server will not run it: it is read-only or not in its cluster. Another server may run it.
    ServerUnfit,
    /// The server is shutting down or has dropped this connection. The statement may have run.
    ServerLeaving,
    /// The connection broke. A statement that had been sent may have run.
    ConnectionLost,
    /// No answer within the time limit. A statement that had been sent may have run.
    TimedOut,
    /// The server does not report whether the statement ran.
    Undecided,
    /// Not run: the row is too large.
    TooLarge,
    /// Not run, and a retry cannot succeed: a column cannot hold the value, or a constraint of the table forbids it.
    Refused,
    /// Not run: the server is overloaded, or out of space or connections.
    Unavailable,
    /// Not run: the schema, a privilege, the password or the statement is wrong.
    Broken,
}

/// How far a statement got before it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatementProgress {
    /// The statement was not sent.
    NotSent,
    /// The statement was sent, completely or in part.
    Sent,
}

/// Error of the store's own check after connecting, which rejects a read-only server.
#[derive(Debug, thiserror::Error)]
#[error("the server is read-only")]
pub(crate) struct ReadOnlyServer;

impl StatementError {
    pub(crate) fn new(
        class: StatementErrorClass,
        progress: StatementProgress,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            class,
            progress,
            detail: detail.into(),
            origin: None,
            culprit: match class {
                StatementErrorClass::Broken
                | StatementErrorClass::TooLarge
                | StatementErrorClass::Refused => ConnectErrorClass::Table,
                _ => ConnectErrorClass::Reach,
            },
        }
    }

    /// Replaces the culprit that the class implies.
    fn of(self, culprit: ConnectErrorClass) -> Self {
        Self { culprit, ..self }
    }

    pub(crate) fn timed_out(progress: StatementProgress, after: Duration) -> Self {
        let detail = format!("no answer within {} ms", after.as_millis());
        Self::new(StatementErrorClass::TimedOut, progress, detail)
    }

    pub(crate) fn from_driver(error: &Error, progress: StatementProgress) -> Self {
        match error {
            Error::Server(error) => Self::from_server(error, progress),
            Error::Io(IoError::Io(error)) => Self::from_io(error, progress),
            // Occurs only while connecting: an unreadable CA file or an invalid server name.
            Error::Io(IoError::Tls(error)) => Self::new(
                StatementErrorClass::Broken,
                progress,
                format!("TLS: {error}"),
            )
            .of(ConnectErrorClass::Tls),
            Error::Driver(error) => Self::from_protocol(error, progress),
            Error::Other(error) if error.is::<ReadOnlyServer>() => Self::new(
                StatementErrorClass::ServerUnfit,
                StatementProgress::NotSent,
                error.to_string(),
            ),
            Error::Other(_) | Error::Url(_) => Self::new(
                StatementErrorClass::Broken,
                progress,
                "the driver refused its options",
            ),
        }
    }

    fn from_server(error: &ServerError, progress: StatementProgress) -> Self {
        let ServerError { code, state, .. } = error;
        let mut detail = format!("server error {code} ({state})");
        if is_harmless_text(*code) {
            detail.push_str(": ");
            detail.push_str(&error.message);
        } else if let Some(meaning) = meaning(*code) {
            detail.push_str(": ");
            detail.push_str(meaning);
        }
        if let Some(remedy) = remedy(*code) {
            detail.push_str(": ");
            detail.push_str(remedy);
        }
        let fault = Self::new(class_of(*code, state), progress, detail);
        match culprit_of(*code) {
            Some(culprit) => fault.of(culprit),
            None => fault,
        }
    }

    fn from_io(error: &io::Error, progress: StatementProgress) -> Self {
        // The codec's own error. The driver wraps it, so that only its text is left.
        if error.kind() == io::ErrorKind::Other && error.to_string().contains("max_allowed_packet")
        {
            let detail = "the row is larger than the server's max_allowed_packet";
            return Self::new(
                StatementErrorClass::TooLarge,
                StatementProgress::NotSent,
                detail,
            );
        }
        // A TLS handshake fails with this error if the certificate is not trusted.
        if progress == StatementProgress::NotSent && error.kind() == io::ErrorKind::InvalidData {
            let detail = format!("TLS: {error}");
            return Self::new(StatementErrorClass::Broken, progress, detail)
                .of(ConnectErrorClass::Tls);
        }
        // Only a write fails with `BrokenPipe`: the server never received the whole statement.
        let progress = match error.kind() {
            io::ErrorKind::BrokenPipe => StatementProgress::NotSent,
            _ => progress,
        };
        Self::new(
            StatementErrorClass::ConnectionLost,
            progress,
            error.to_string(),
        )
    }

    fn from_protocol(error: &DriverError, progress: StatementProgress) -> Self {
        let (class, detail) = match error {
            DriverError::ConnectionClosed => (
                StatementErrorClass::ConnectionLost,
                "the server closed the link",
            ),
            DriverError::PacketTooLarge => (
                StatementErrorClass::TooLarge,
                "the row is too large to send",
            ),
            DriverError::NoClientSslFlagFromServer => (
                StatementErrorClass::Broken,
                "TLS is required and the server has none",
            ),
            DriverError::UnknownAuthPlugin { .. }
            | DriverError::MysqlOldPasswordDisabled
            | DriverError::CleartextPluginDisabled => (
                StatementErrorClass::Broken,
                "the account logs in by a method that is not supported",
            ),
            DriverError::LocalInfile(_) => (
                StatementErrorClass::Undecided,
                "the server asked for a local file, which is refused",
            ),
            // The exchange is out of step, so the outcome of the statement is unknown.
            _ => (
                StatementErrorClass::ConnectionLost,
                "the server's answer violates the protocol",
            ),
        };
        let fault = Self::new(class, progress, detail);
        match error {
            DriverError::NoClientSslFlagFromServer => fault.of(ConnectErrorClass::Tls),
            _ if class == StatementErrorClass::Broken => fault.of(ConnectErrorClass::Account),
            _ => fault,
        }
    }

    /// Merges the faults of several servers. The result is broken only if all of them are (for example by a wrong
    /// password). Otherwise the problem may go away without a change.
    pub(crate) fn of_all(faults: &[Self]) -> Self {
        let details: Vec<_> = faults.iter().map(|f| f.detail.as_str()).collect();
        let detail = details.join("; ");
        match faults.first() {
            Some(first)
                if faults
                    .iter()
                    .all(|f| f.class == StatementErrorClass::Broken) =>
            {
                Self::new(
                    StatementErrorClass::Broken,
                    StatementProgress::NotSent,
                    detail,
                )
                .of(first.culprit)
            }
            _ => Self::new(
                StatementErrorClass::ConnectionLost,
                StatementProgress::NotSent,
                detail,
            ),
        }
    }

    /// Prepends the server's name.
    pub(crate) fn at(mut self, server: &str) -> Self {
        self.detail = format!("{server}: {}", self.detail);
        self
    }

    /// Records where the statement ran.
    pub(crate) fn of_origin(self, origin: ServerEpoch) -> Self {
        let origin = Some(origin);
        Self { origin, ..self }
    }

    /// Returns whether the statement may have been applied, or may still be applied.
    pub(crate) fn is_undecided(&self) -> bool {
        let may_have_run = matches!(
            self.class,
            StatementErrorClass::RolledBackHere
                | StatementErrorClass::ServerLeaving
                | StatementErrorClass::ConnectionLost
                | StatementErrorClass::TimedOut
                | StatementErrorClass::Undecided
        );
        may_have_run && self.progress == StatementProgress::Sent
    }

    /// Returns whether one of the statement's rows may have caused the failure, so that the other rows may be retried
    /// without it. Such a statement was not applied, if it runs on one server.
    pub(crate) fn may_be_for_a_row(&self) -> bool {
        matches!(
            self.class,
            StatementErrorClass::Transient
                | StatementErrorClass::Stale
                | StatementErrorClass::LockWait
                | StatementErrorClass::Duplicate
                | StatementErrorClass::TooLarge
                | StatementErrorClass::Refused
                | StatementErrorClass::Unavailable
                | StatementErrorClass::Broken
        )
    }

    /// Converts the fault to the error that the operator sees at start.
    pub(crate) fn to_connect_error(&self) -> MysqlConnectError {
        MysqlConnectError::new(self.culprit, self.detail.clone(), "")
    }

    /// Converts the fault to the error that the request receives.
    pub(crate) fn to_store_error(&self) -> StoreError {
        let kind = match self.class {
            StatementErrorClass::TooLarge => StoreErrorKind::TooLarge,
            StatementErrorClass::Refused => StoreErrorKind::Refused,
            StatementErrorClass::Broken => StoreErrorKind::Broken,
            _ => StoreErrorKind::Unavailable,
        };
        StoreError {
            kind,
            detail: self.detail.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: u16, message: &str) -> Error {
        Error::Server(ServerError {
            code,
            message: message.to_owned(),
            state: "HY000".to_owned(),
        })
    }

    #[test]
    fn a_server_text_that_may_hold_an_id_is_not_repeated() {
        for code in [1062, 1064, 1366, 1406, 1292, 4242] {
            let error = server(code, "Duplicate entry 'Zm9vYmFy' for key 'PRIMARY'");
            let fault = StatementError::from_driver(&error, StatementProgress::Sent);
            assert!(!fault.detail.contains("Zm9vYmFy"), "{}", fault.detail);
            assert!(fault.detail.contains(&code.to_string()));
        }
    }

    #[test]
    fn only_errors_that_leave_the_outcome_open_are_undecided() {
        let is_undecided =
            |error: Error, progress| StatementError::from_driver(&error, progress).is_undecided();
        for code in [1213, 1020, 1205, 1062, 1290, 1836, 1406, 1146, 1040] {
            assert!(
                !is_undecided(server(code, ""), StatementProgress::Sent),
                "{code}"
            );
        }
        for code in [1180, 3100, 3101, 1053, 1317, 1927] {
            assert!(
                is_undecided(server(code, ""), StatementProgress::Sent),
                "{code}"
            );
            assert!(
                !is_undecided(server(code, ""), StatementProgress::NotSent),
                "{code}"
            );
        }
        let reset = || Error::from(io::Error::from(io::ErrorKind::ConnectionReset));
        assert!(is_undecided(reset(), StatementProgress::Sent));
        assert!(!is_undecided(reset(), StatementProgress::NotSent));
        let never_written = Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(!is_undecided(never_written, StatementProgress::Sent));
        assert!(is_undecided(
            DriverError::ConnectionClosed.into(),
            StatementProgress::Sent
        ));
        assert!(
            StatementError::timed_out(StatementProgress::Sent, Duration::from_secs(1))
                .is_undecided()
        );
    }

    #[test]
    fn at_start_the_setting_at_fault_is_named_unless_a_server_may_come_back() {
        let fault =
            |code| StatementError::from_driver(&server(code, ""), StatementProgress::NotSent);
        let culprit = |code| fault(code).to_connect_error().culprit;
        assert_eq!(culprit(1045), ConnectErrorClass::Account);
        assert_eq!(culprit(1049), ConnectErrorClass::Database);
        assert_eq!(culprit(3159), ConnectErrorClass::Tls);
        assert_eq!(culprit(1142), ConnectErrorClass::Table);
        assert_eq!(culprit(1290), ConnectErrorClass::Reach);
        assert_eq!(culprit(1040), ConnectErrorClass::Reach);
        let of_all =
            |faults: &[StatementError]| StatementError::of_all(faults).to_connect_error().culprit;
        assert_eq!(
            of_all(&[fault(1045), fault(1049)]),
            ConnectErrorClass::Account
        );
        assert_eq!(
            of_all(&[fault(1045), fault(1053)]),
            ConnectErrorClass::Reach
        );
        assert_eq!(of_all(&[]), ConnectErrorClass::Reach);
    }

    #[test]
    fn server_errors_are_mapped_to_store_error_kinds() {
        let kind = |code| {
            let fault = StatementError::from_driver(&server(code, ""), StatementProgress::Sent);
            fault.to_store_error().kind
        };
        assert_eq!(kind(1205), StoreErrorKind::Unavailable);
        assert_eq!(kind(1290), StoreErrorKind::Unavailable);
        assert_eq!(kind(1406), StoreErrorKind::TooLarge);
        assert_eq!(kind(1366), StoreErrorKind::Refused);
        assert_eq!(kind(1146), StoreErrorKind::Broken);
        assert_eq!(kind(1045), StoreErrorKind::Broken);
    }
}
