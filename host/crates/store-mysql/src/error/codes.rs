//! The servers' error numbers: those of MySQL up to 9, MariaDB, Galera, Group Replication and TiDB. Maps each number to
//! its class, the culprit at start, the meaning and the remedy. Knows no driver and repeats no server's text.

use super::StatementErrorClass;
use crate::connect_error::ConnectErrorClass;

/// Returns the class of a server's error by its number, or by its SQLSTATE if the number is unknown.
pub(crate) fn class_of(code: u16, state: &str) -> StatementErrorClass {
    match code {
        // Deadlock, which Galera also reports for a failed certification; write conflicts (TiDB).
        1213 | 8002 | 8022 | 9007 => StatementErrorClass::Transient,
        // Group Replication rolled back at the commit: the certification failed, or the member is leaving the group.
        3101 => StatementErrorClass::RolledBackHere,
        1020 => StatementErrorClass::Stale,
        1205 => StatementErrorClass::LockWait,
        1062 | 1586 => StatementErrorClass::Duplicate,
        1243 | 1615 => StatementErrorClass::Reprepare,
        // Read-only (server, transaction or disk), locked for a backup, outside its cluster, offline.
        1223 | 1290 | 1792 | 1836 | 1047 | 3032 => StatementErrorClass::ServerUnfit,
        // Shutting down, killed, idle for too long, network problem on the server's side. 3100: a replication hook
        // failed while the statement committed, and the group may already have its change.
        1053 | 1152 | 1158..=1161 | 1184 | 1927 | 3100 | 3169 | 4031 => {
            StatementErrorClass::ServerLeaving
        }
        // Failed during the commit; interrupted; ran too long; TiDB's "result undetermined".
        1180 | 1317 | 1969 | 3024 | 8501 => StatementErrorClass::Undecided,
        1118 | 1153 | 1197 | 1406 | 8025 => StatementErrorClass::TooLarge,
        // Too many connections, out of memory, disk full, storage engine failure, too many prepared statements.
        1021 | 1026 | 1030 | 1037 | 1038 | 1040 | 1041 | 1114 | 1129 | 1203 | 1226 | 1461 => {
            StatementErrorClass::Unavailable
        }
        // A column cannot hold the value or requires a value; a CHECK fails; the text is not valid JSON for a JSON
        // column; Group Replication does not accept the table.
        1048 | 1264 | 1265 | 1292 | 1364 | 1366 | 3098 | 3140 | 3819 | 3854 | 3988 | 4025 => {
            StatementErrorClass::Refused
        }
        // A data exception, a violated constraint, or the refusal of a trigger (`SIGNAL`).
        _ if ["22", "23", "45"]
            .iter()
            .any(|class| state.starts_with(class)) =>
        {
            StatementErrorClass::Refused
        }
        _ => StatementErrorClass::Broken,
    }
}

/// Returns which kind of setting a server's error at start is about, if its number determines that.
pub(crate) fn culprit_of(code: u16) -> Option<ConnectErrorClass> {
    match code {
        // Access denied; host not allowed; password expired; account locked (MySQL, MariaDB).
        1045 | 1698 | 1130 | 1820 | 1862 | 3118 | 4151 => Some(ConnectErrorClass::Account),
        // Access to the database denied; no database selected; unknown database.
        1044 | 1046 | 1049 => Some(ConnectErrorClass::Database),
        3159 => Some(ConnectErrorClass::Tls),
        _ => None,
    }
}

/// Returns whether the server's own text for this error names only accounts, tables, columns and options.
pub(crate) fn is_harmless_text(code: u16) -> bool {
    matches!(
        code,
        1040 | 1044
            | 1045
            | 1046
            | 1047
            | 1048
            | 1049
            | 1054
            | 1129
            | 1130
            | 1142
            | 1143
            | 1146
            | 1226
            | 1264
            | 1290
            | 1364
            | 1698
            | 1836
            | 3819
            | 4025
    )
}

/// Returns Cloakroom's text for an error whose own text may hold an id or data.
pub(crate) fn meaning(code: u16) -> Option<&'static str> {
    Some(match code {
        1020 => "the row changed while the statement ran",
        1205 => "the row stayed locked for too long",
        1213 => "deadlock",
        1062 | 1586 => "the id exists",
        1180 => "the server failed while it committed",
        1265 | 1292 => "a value does not fit its column",
        1366 | 3854 | 3988 => "a text does not fit its column's character set",
        1406 => "the data does not fit its column",
        1153 => "the row is larger than max_allowed_packet",
        1021 | 1114 => "the server's disk or table is full",
        1053 => "the server is shutting down",
        3024 => "the statement ran longer than max_execution_time",
        3098 => {
            "Group Replication refuses the table, because it has no primary key or its engine is not InnoDB"
        }
        3100 => "Group Replication failed while the server committed",
        3101 => "another member changed the row first, or this member leaves its group",
        3118 => "the account is locked",
        3140 => "the JSON column refuses the text",
        3159 => "the server accepts encrypted connections only",
        _ => return None,
    })
}

/// Returns the remedy to show to the operator.
pub(crate) fn remedy(code: u16) -> Option<&'static str> {
    Some(match code {
        1048 | 1364 => "give the column a default or allow NULL there",
        1264 => "make the column an int unsigned or a bigint",
        1366 | 3854 | 3988 => "change the column to utf8mb4, then restart",
        1406 => "change the column to mediumtext or longtext",
        1153 => "raise max_allowed_packet on the server",
        3098 => "give the table a primary key and ENGINE=InnoDB",
        3118 => "run ALTER USER ... ACCOUNT UNLOCK",
        3140 => "change the column to mediumtext",
        3159 => {
            "set tls = true, or tls = { ca_file = \"ca.pem\" } for an authority that is not public"
        }
        3819 | 4025 => "change the constraint, or remove it",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permanent_refusals_are_distinguished_from_transient_errors() {
        for code in [1048, 1264, 1364, 1366, 3098, 3140, 3819, 3988, 4025] {
            assert_eq!(
                class_of(code, "HY000"),
                StatementErrorClass::Refused,
                "{code}"
            );
            assert!(remedy(code).is_some(), "{code}");
            assert!(meaning(code).is_some() || is_harmless_text(code), "{code}");
        }
        for (code, state) in [(1452, "23000"), (1644, "45000"), (1690, "22003")] {
            assert_eq!(
                class_of(code, state),
                StatementErrorClass::Refused,
                "{code}"
            );
        }
        assert_eq!(class_of(1062, "23000"), StatementErrorClass::Duplicate);
        assert_eq!(class_of(1406, "22001"), StatementErrorClass::TooLarge);
        assert_eq!(class_of(1146, "42S02"), StatementErrorClass::Broken);
    }

    #[test]
    fn certain_rollbacks_are_distinguished_from_undecided_outcomes() {
        assert_eq!(class_of(1213, "40001"), StatementErrorClass::Transient);
        assert_eq!(class_of(3101, "40000"), StatementErrorClass::RolledBackHere);
        assert_eq!(class_of(1020, "HY000"), StatementErrorClass::Stale);
        assert_eq!(class_of(1180, "HY000"), StatementErrorClass::Undecided);
        assert_eq!(class_of(3100, "HY000"), StatementErrorClass::ServerLeaving);
    }
}
