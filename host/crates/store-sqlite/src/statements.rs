//! The SQL of the embedded store: its schema and one statement per kind of change. Knows connections but no threads.
//!
//! The columns have the same names and meanings as in the MySQL table. `data` is TEXT, so that `sqlite3` and its JSON
//! functions show it. It is bound as bytes and never decoded, so any bytes are returned unchanged. Values are always
//! bound, never part of the SQL text.

use bytes::Bytes;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, params};

use cloakroom_session::record::{SessionId, SessionRecord, TokenHistory};
use cloakroom_session::store::{Commit, RowChange, RowVersion, Touch};

/// The version of the schema, kept in `PRAGMA user_version`.
pub(crate) const SCHEMA_VERSION: i64 = 1;

/// STRICT enforces the types. WITHOUT ROWID stores a session as one tree entry. TEXT keys are compared byte by byte.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS sessions (
        session_id TEXT NOT NULL PRIMARY KEY,
        expires INTEGER NOT NULL,
        data TEXT NOT NULL,
        cloakroom_token BLOB NOT NULL DEFAULT x'',
        cloakroom_created INTEGER NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS sessions_expires ON sessions (expires);
";

pub(crate) const LOAD: &str = "
    SELECT data, expires, cloakroom_token, cloakroom_created FROM sessions
    WHERE session_id = ?1 AND expires >= ?2";

const CREATE: &str = "
    INSERT INTO sessions (session_id, expires, data, cloakroom_token, cloakroom_created)
    VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (session_id) DO NOTHING";

const UPDATE: &str = "
    UPDATE sessions SET expires = ?5, data = ?6, cloakroom_token = ?7,
        cloakroom_created = coalesce(cloakroom_created, ?8)
    WHERE session_id = ?1 AND expires >= ?2 AND cloakroom_token = ?3 AND data = ?4";

/// OR IGNORE: if the new id exists, no row changes. Without it, the whole transaction, which other commits share, would
/// fail.
const MOVE: &str = "
    UPDATE OR IGNORE sessions SET expires = ?5, data = ?6, cloakroom_token = ?7,
        cloakroom_created = coalesce(cloakroom_created, ?8), session_id = ?9
    WHERE session_id = ?1 AND expires >= ?2 AND cloakroom_token = ?3 AND data = ?4";

const DELETE: &str = "DELETE FROM sessions WHERE session_id = ?1";

const DELETE_IF_STILL: &str = "
    DELETE FROM sessions
    WHERE session_id = ?1 AND expires >= ?2 AND cloakroom_token = ?3 AND data = ?4";

const TOUCH: &str = "
    UPDATE sessions SET expires = ?3 WHERE session_id = ?1 AND expires >= ?2 AND expires <> ?3";

const REAP: &str = "
    DELETE FROM sessions WHERE session_id IN
        (SELECT session_id FROM sessions WHERE expires < ?1 ORDER BY expires LIMIT ?2)";

/// Reads one row that is valid at `now_s`.
pub(crate) fn load(
    connection: &Connection,
    id: &SessionId,
    now_s: i64,
) -> rusqlite::Result<Option<SessionRecord>> {
    let mut statement = connection.prepare_cached(LOAD)?;
    let row = statement.query_row(params![id.as_str(), now_s], read_record);
    row.optional()
}

/// Applies one change. Returns the number of rows it changed, 0 or 1.
pub(crate) fn apply(
    connection: &Connection,
    commit: &Commit,
    now_s: i64,
) -> rusqlite::Result<usize> {
    let id = commit.id.as_str();
    match &commit.change {
        RowChange::Create(record) => connection.prepare_cached(CREATE)?.execute(params![
            id,
            record.expires_at_s,
            BoundText(&record.data),
            record.tokens.as_column(),
            record.created_at_s,
        ]),
        RowChange::Update {
            base,
            record,
            new_id,
        } => update(connection, &commit.id, base, record, new_id.as_ref(), now_s),
        RowChange::Delete { base: None } => connection.prepare_cached(DELETE)?.execute([id]),
        RowChange::Delete { base: Some(base) } => {
            let mut statement = connection.prepare_cached(DELETE_IF_STILL)?;
            let tokens = base.tokens.as_column();
            statement.execute(params![id, now_s, tokens, BoundText(&base.data)])
        }
    }
}

/// Moves the expiry of one row that is valid at `now_s`.
pub(crate) fn touch(connection: &Connection, touch: &Touch, now_s: i64) -> rusqlite::Result<usize> {
    let mut statement = connection.prepare_cached(TOUCH)?;
    statement.execute(params![touch.id.as_str(), now_s, touch.expires_at_s])
}

/// Deletes at most `rows_max` rows that expired before `now_s`, the oldest first.
pub(crate) fn reap(
    connection: &Connection,
    now_s: i64,
    rows_max: usize,
) -> rusqlite::Result<usize> {
    let rows_max = i64::try_from(rows_max).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(REAP)?;
    statement.execute(params![now_s, rows_max])
}

fn update(
    connection: &Connection,
    id: &SessionId,
    base: &RowVersion,
    record: &SessionRecord,
    new_id: Option<&SessionId>,
    now_s: i64,
) -> rusqlite::Result<usize> {
    let (id, base_tokens, base_data) =
        (id.as_str(), base.tokens.as_column(), BoundText(&base.data));
    let (tokens, data) = (record.tokens.as_column(), BoundText(&record.data));
    let (expires_at_s, created_at_s) = (record.expires_at_s, record.created_at_s);
    match new_id {
        None => connection.prepare_cached(UPDATE)?.execute(params![
            id,
            now_s,
            base_tokens,
            base_data,
            expires_at_s,
            data,
            tokens,
            created_at_s,
        ]),
        Some(new_id) => connection.prepare_cached(MOVE)?.execute(params![
            id,
            now_s,
            base_tokens,
            base_data,
            expires_at_s,
            data,
            tokens,
            created_at_s,
            new_id.as_str(),
        ]),
    }
}

fn read_record(row: &Row<'_>) -> rusqlite::Result<SessionRecord> {
    let data = row.get_ref(0)?.as_bytes()?;
    let tokens = row.get_ref(2)?.as_bytes()?;
    Ok(SessionRecord {
        data: Bytes::copy_from_slice(data),
        expires_at_s: row.get(1)?,
        tokens: TokenHistory::from_column(tokens),
        created_at_s: row.get(3)?,
    })
}

/// Bytes that are bound as TEXT without validation.
struct BoundText<'a>(&'a Bytes);

impl ToSql for BoundText<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0)))
    }
}
