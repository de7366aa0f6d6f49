//! Reads rows, touches them and deletes expired ones. Also makes the values by which a statement names a row.

use std::collections::HashMap;
use std::time::Instant;

use bytes::Bytes;
use mysql_async::{Row, Value};

use super::connection::Statement;
use super::error::{StatementError, StatementErrorClass, StatementProgress};
use super::execute::{RetryRule, execute, execute_over};
use super::servers::{PooledConnection, ServerList};
use super::sql::{ROWS_MAX, TableStatements};
use cloakroom_group_commit::RowsById;
use cloakroom_session::record::{SessionId, SessionRecord, TokenHistory};
use cloakroom_session::store::{StoreError, Touch};

/// Reads rows. There must not be more ids than one statement can name.
pub(crate) async fn load(
    connection: PooledConnection<'_>,
    started_at: Instant,
    servers: &ServerList,
    sql: &TableStatements,
    ids: &[&SessionId],
    now_s: i64,
) -> Result<RowsById<SessionRecord>, StatementError> {
    let (size, text) = sql.load(ids.len());
    let mut values = filled_up(ids.iter().map(|id| id_value(id)).collect(), size);
    values.push(Value::Int(now_s));
    let statement = Statement { text, values };
    let loaded = execute_over(
        connection,
        started_at,
        servers,
        &statement,
        RetryRule::Always,
    )
    .await;
    let mut found = HashMap::new();
    for row in loaded?.0.rows {
        found.extend(record_of(row)?);
    }
    Ok(found)
}

/// Reads the current tokens of rows, valid or not.
pub(crate) async fn tokens(
    connection: &mut PooledConnection<'_>,
    sql: &TableStatements,
    ids: &[&SessionId],
) -> Result<RowsById<TokenHistory>, StatementError> {
    let (size, text) = sql.tokens(ids.len());
    let values = filled_up(ids.iter().map(|id| id_value(id)).collect(), size);
    let rows = connection.run(&Statement { text, values }).await?.rows;
    let tokens_of = |row: Row| {
        let mut cells = row.unwrap().into_iter();
        let (id, token) = (bytes_of(cells.next()), bytes_of(cells.next()));
        Some((id?, TokenHistory::from_column(&token.unwrap_or_default())))
    };
    Ok(rows.into_iter().filter_map(tokens_of).collect())
}

/// Moves the expiry of rows that are still valid. There must not be more rows than one statement can touch.
pub(crate) async fn touch(
    servers: &ServerList,
    sql: &TableStatements,
    touches: &[&Touch],
    now_s: i64,
) -> Result<(), StoreError> {
    let (size, text) = sql.touch(touches.len());
    let last = touches.last().copied();
    let filled = || {
        touches
            .iter()
            .copied()
            .chain(last.into_iter().cycle())
            .take(size)
    };
    let ends = filled().flat_map(|it| [id_hex_value(&it.id), expires_value(it.expires_at_s)]);
    let ids = filled().map(|it| id_value(&it.id));
    let exact_ids = filled().map(|it| id_hex_value(&it.id));
    let now = std::iter::once(Value::Int(now_s));
    let values = ends.chain(ids).chain(exact_ids).chain(now).collect();
    let statement = Statement { text, values };
    let touched = execute(servers, &statement, RetryRule::Always).await;
    touched.map(|_| ()).map_err(|fault| fault.to_store_error())
}

/// Deletes expired rows by their keys, in key order, and checks the expiry again. This locks no range of the index.
pub(crate) async fn reap(
    servers: &ServerList,
    sql: &TableStatements,
    now_s: i64,
    rows_max: usize,
) -> Result<usize, StoreError> {
    let mut deleted = 0;
    while deleted < rows_max {
        let wanted = ROWS_MAX.min(rows_max - deleted);
        let (listed, taken) = (reap_batch(servers, sql, now_s, wanted).await)
            .map_err(|fault| fault.to_store_error())?;
        deleted += taken;
        // These were the last expired rows, or all of them were touched or deleted by another writer in the meantime.
        if listed < wanted || taken == 0 {
            break;
        }
    }
    Ok(deleted)
}

/// Returns the number of rows found and the number of rows deleted.
async fn reap_batch(
    servers: &ServerList,
    sql: &TableStatements,
    now_s: i64,
    wanted: usize,
) -> Result<(usize, usize), StatementError> {
    let now = Value::Int(now_s);
    let statement = Statement {
        text: &sql.list_expired,
        values: vec![now.clone(), Value::from(wanted)],
    };
    let rows = execute(servers, &statement, RetryRule::Always).await?.rows;
    let mut ids: Vec<Vec<u8>> = (rows.into_iter())
        .filter_map(|row| bytes_of(row.unwrap().into_iter().next()))
        .collect();
    if ids.is_empty() {
        return Ok((0, 0));
    }
    ids.sort_unstable();
    let listed = ids.len();
    let (size, text) = sql.delete_expired(listed);
    let mut values = filled_up(ids.into_iter().map(Value::Bytes).collect(), size);
    values.push(now);
    let answer = execute(servers, &Statement { text, values }, RetryRule::Always).await?;
    Ok((
        listed,
        usize::try_from(answer.affected_rows).unwrap_or(listed),
    ))
}

/// Repeats the last value until there are `size` values. Naming an id twice does not change the meaning of a list.
pub(crate) fn filled_up(mut values: Vec<Value>, size: usize) -> Vec<Value> {
    if let Some(last) = values.last().cloned() {
        values.resize(size, last);
    }
    values
}

/// Converts a loaded row to its id's bytes and its record. Returns `None` if the data is NULL, which Express treats as
/// no session.
fn record_of(row: Row) -> Result<Option<(Vec<u8>, SessionRecord)>, StatementError> {
    let mut cells = row.unwrap().into_iter();
    let (id, expires, data, token, created) = (
        bytes_of(cells.next()),
        cells.next(),
        cells.next(),
        bytes_of(cells.next()),
        cells.next(),
    );
    let id = id.ok_or_else(|| odd_column("id"))?;
    let expires_at_s = expires.as_ref().and_then(integer_of);
    let data = match data {
        Some(Value::NULL) => return Ok(None),
        data => bytes_of(data).ok_or_else(|| odd_column("data"))?,
    };
    let record = SessionRecord {
        data: Bytes::from(data),
        expires_at_s: expires_at_s.ok_or_else(|| odd_column("expiry"))?,
        tokens: TokenHistory::from_column(&token.unwrap_or_default()),
        created_at_s: created.as_ref().and_then(integer_of),
    };
    Ok(Some((id, record)))
}

fn bytes_of(cell: Option<Value>) -> Option<Vec<u8>> {
    match cell? {
        Value::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

fn integer_of(cell: &Value) -> Option<i64> {
    match cell {
        Value::Int(n) => Some(*n),
        Value::UInt(n) => i64::try_from(*n).ok(),
        Value::Bytes(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

fn odd_column(which: &str) -> StatementError {
    let detail = format!("the {which} column has a different type than Express's");
    StatementError::new(StatementErrorClass::Broken, StatementProgress::Sent, detail)
}

/// Returns the seconds as a value for the unsigned 32-bit column. A time after 2106 is clamped.
pub(crate) fn expires_value(at_s: i64) -> Value {
    Value::Int(at_s.clamp(0, i64::from(u32::MAX)))
}

pub(crate) fn id_value(id: &SessionId) -> Value {
    Value::from(id.as_str())
}

pub(crate) fn id_hex_value(id: &SessionId) -> Value {
    Value::from(hex(id.as_str().as_bytes()))
}

/// Returns bytes in upper-case hexadecimal, as the server writes them.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    let digits = bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]);
    digits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_times_are_clamped_to_the_range_of_the_column() {
        assert_eq!(expires_value(-1), Value::Int(0));
        assert_eq!(expires_value(1_800_000_000), Value::Int(1_800_000_000));
        assert_eq!(expires_value(i64::MAX), Value::Int(4_294_967_295));
    }

    #[test]
    fn a_short_list_is_filled_up_with_its_last_value() {
        let values = filled_up(vec![Value::Int(1), Value::Int(2)], 4);
        assert_eq!(values, [1, 2, 2, 2].map(Value::Int));
        assert!(filled_up(Vec::new(), 4).is_empty());
    }

    #[test]
    fn hexadecimal_is_written_in_upper_case_as_the_server_does() {
        assert_eq!(hex(&[0x00, 0x0f, 0xa5, 0xff]), "000FA5FF");
        assert_eq!(hex(&[]), "");
    }
}
