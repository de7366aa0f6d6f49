//! Applies one row's change as one compare-and-swap statement and derives the verdict.

use mysql_async::Value;
use sha2::{Digest as _, Sha256};

use super::connection::Statement;
use super::error::{StatementError, StatementErrorClass};
use super::execute::{RetryRule, execute};
use super::rows::{expires_value, filled_up, hex, id_hex_value, id_value};
use super::schema::TableColumns;
use super::servers::ServerList;
use super::sql::TableStatements;
use cloakroom_group_commit::{RowInsert, RowSwap};
use cloakroom_session::record::{SessionId, SessionRecord, TokenHistory};
use cloakroom_session::store::{Commit, CommitVerdict, RowChange, RowVersion};

/// The context of the commits of one call.
pub(crate) struct CommitContext<'a> {
    pub(crate) servers: &'a ServerList,
    pub(crate) sql: &'a TableStatements,
    pub(crate) columns: TableColumns,
    pub(crate) now_s: i64,
}

impl CommitContext<'_> {
    pub(crate) async fn commit(&self, commit: &Commit) -> CommitVerdict {
        let Commit { id, change } = commit;
        match change {
            RowChange::Create(record) => {
                let mut values = vec![id_value(id)];
                values.extend(self.record_values(record));
                verdict_on(&self.swap(id, &self.sql.insert, values).await)
            }
            RowChange::Update {
                base,
                record,
                new_id: None,
            } => {
                let mut values = self.record_values(record);
                values.extend(self.base_values(id, base));
                let swapped = self.swap(id, &self.sql.update, values).await;
                if matches!(swapped, Ok(0)) && self.may_change_nothing(base, record) {
                    return self.confirm(id, base).await;
                }
                verdict_on(&swapped)
            }
            RowChange::Update {
                base,
                record,
                new_id: Some(new_id),
            } => {
                let mut values = vec![id_value(new_id)];
                values.extend(self.record_values(record));
                values.extend(self.base_values(id, base));
                verdict_on(&self.swap(id, &self.sql.renew, values).await)
            }
            RowChange::Delete { base: Some(base) } => {
                let values = self.base_values(id, base);
                verdict_on(&self.swap(id, &self.sql.delete_base, values).await)
            }
            RowChange::Delete { base: None } => {
                let statement = Statement {
                    text: &self.sql.delete,
                    values: vec![id_value(id), id_hex_value(id)],
                };
                // Ids are never reused, so deleting twice has the same effect as deleting once.
                let deleted = execute(self.servers, &statement, RetryRule::Always).await;
                self.servers.note_change(id, deleted.as_ref().map(|_| ()));
                match deleted {
                    Ok(_) => CommitVerdict::Committed,
                    Err(fault) => verdict_of(&fault),
                }
            }
        }
    }

    /// Builds one statement that swaps each of these rows if it still equals its base. No row may occur twice.
    pub(crate) fn update_many(&self, rows: &[RowSwap<'_>]) -> Statement<'_> {
        if let [RowSwap { id, base, record }] = rows {
            let mut values = self.record_values(record);
            values.extend(self.base_values(id, base));
            let text = &self.sql.update;
            return Statement { text, values };
        }
        let (size, text) = self.sql.update_many(rows.len());
        let keys = filled_up(rows.iter().map(|row| id_hex_value(row.id)).collect(), size);
        let mut values = Vec::new();
        let mut add_cases = |of_rows: Vec<Value>| {
            for (key, value) in keys.iter().zip(of_rows) {
                values.extend([key.clone(), value]);
            }
        };
        let records: Vec<_> = (rows.iter())
            .map(|row| self.record_values(row.record))
            .collect();
        for column in 0..records[0].len() {
            let of_rows = records.iter().map(|values| values[column].clone());
            // The first matching `WHEN` applies, so padding is never evaluated. `NULL` avoids a copy of the last row's
            // data.
            add_cases(
                of_rows
                    .chain(std::iter::repeat(Value::NULL))
                    .take(size)
                    .collect(),
            );
        }
        let bases = rows.iter().map(|row| {
            let (token, hash) = (hex(row.base.tokens.as_column()), data_hash(row.base));
            Value::from(token + &hash)
        });
        let bases = filled_up(bases.collect(), size);
        let ids = filled_up(rows.iter().map(|row| id_value(row.id)).collect(), size);
        values.extend(ids);
        for (key, base) in keys.into_iter().zip(bases) {
            values.extend([key, base]);
        }
        values.push(Value::Int(self.now_s));
        Statement { text, values }
    }

    /// Builds one statement that inserts these rows. Their number must be one that [`TableStatements::insert_many`] supports.
    pub(crate) fn insert_many(&self, rows: &[RowInsert<'_>]) -> Statement<'_> {
        let (_, text) = self.sql.insert_many(rows.len());
        let mut values = Vec::new();
        for RowInsert { id, record } in rows {
            values.push(id_value(id));
            values.extend(self.record_values(record));
        }
        Statement { text, values }
    }

    /// Returns the number of rows that the statement changed: one or zero.
    async fn swap(
        &self,
        id: &SessionId,
        text: &str,
        values: Vec<Value>,
    ) -> Result<u64, StatementError> {
        let statement = Statement { text, values };
        let swapped = execute(self.servers, &statement, RetryRule::IfNotApplied).await;
        self.servers.note_change(id, swapped.as_ref().map(|_| ()));
        swapped.map(|answer| answer.affected_rows)
    }

    /// Returns whether the update could leave the row unchanged, so that a server that counts changed rows reports
    /// zero. This is possible only without a token column.
    fn may_change_nothing(&self, base: &RowVersion, record: &SessionRecord) -> bool {
        !self.columns.has_token && base.data == record.data
    }

    /// Decides an update that changed zero rows: it succeeded if the row still equals its base.
    async fn confirm(&self, id: &SessionId, base: &RowVersion) -> CommitVerdict {
        let statement = Statement {
            text: &self.sql.find_base,
            values: self.base_values(id, base),
        };
        match execute(self.servers, &statement, RetryRule::Always).await {
            Ok(answer) if answer.rows.is_empty() => CommitVerdict::Conflict,
            Ok(_) => CommitVerdict::Committed,
            // A read applies nothing, and the update had changed nothing.
            Err(fault) => CommitVerdict::Failed(fault.to_store_error()),
        }
    }

    /// `expires, data[, token][, created]`
    fn record_values(&self, record: &SessionRecord) -> Vec<Value> {
        let mut values = vec![
            expires_value(record.expires_at_s),
            Value::Bytes(record.data.to_vec()),
        ];
        if self.columns.has_token {
            values.push(token_value(&record.tokens));
        }
        if self.columns.has_created {
            values.push(record.created_at_s.map_or(Value::NULL, expires_value));
        }
        values
    }

    /// `id, hex(id)[, base token], hash(base data), now`
    fn base_values(&self, id: &SessionId, base: &RowVersion) -> Vec<Value> {
        let mut values = vec![id_value(id), id_hex_value(id)];
        if self.columns.has_token {
            values.push(token_value(&base.tokens));
        }
        values.push(Value::from(data_hash(base)));
        values.push(Value::Int(self.now_s));
        values
    }
}

fn verdict_on(swapped: &Result<u64, StatementError>) -> CommitVerdict {
    match swapped {
        Ok(0) => CommitVerdict::Conflict,
        Ok(_) => CommitVerdict::Committed,
        Err(fault) => verdict_of(fault),
    }
}

/// Returns the verdict on a change whose statement failed.
pub(crate) fn verdict_of(fault: &StatementError) -> CommitVerdict {
    if fault.is_undecided() {
        return CommitVerdict::Ambiguous(fault.to_store_error());
    }
    match fault.class {
        StatementErrorClass::Duplicate => CommitVerdict::Conflict,
        StatementErrorClass::Stale | StatementErrorClass::Transient => {
            CommitVerdict::RolledBack(fault.to_store_error())
        }
        _ => CommitVerdict::Failed(fault.to_store_error()),
    }
}

fn data_hash(base: &RowVersion) -> String {
    hex(&Sha256::digest(&base.data))
}

fn token_value(tokens: &TokenHistory) -> Value {
    Value::from(hex(tokens.as_column()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StatementProgress;

    #[test]
    fn a_rollback_is_distinguished_from_a_conflict() {
        let verdict = |class| verdict_of(&StatementError::new(class, StatementProgress::Sent, ""));
        assert!(matches!(
            verdict(StatementErrorClass::Duplicate),
            CommitVerdict::Conflict
        ));
        for class in [StatementErrorClass::Stale, StatementErrorClass::Transient] {
            assert!(
                matches!(verdict(class), CommitVerdict::RolledBack(_)),
                "{class:?}"
            );
        }
        for class in [
            StatementErrorClass::Undecided,
            StatementErrorClass::RolledBackHere,
        ] {
            assert!(
                matches!(verdict(class), CommitVerdict::Ambiguous(_)),
                "{class:?}"
            );
        }
        for class in [
            StatementErrorClass::LockWait,
            StatementErrorClass::Refused,
            StatementErrorClass::Broken,
        ] {
            assert!(
                matches!(verdict(class), CommitVerdict::Failed(_)),
                "{class:?}"
            );
        }
    }
}
