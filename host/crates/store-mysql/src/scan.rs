//! Lists the rows of the table in key order, for store copies.

use mysql_async::Value;

use super::connection::Statement;
use super::execute::{RetryRule, execute};
use super::options::SchemaNames;
use super::{MysqlShared, MysqlStore};
use cloakroom_session::record::{Charset, SessionId, SessionRecord};
use cloakroom_session::store::scan::{OwnColumns, ScanCursor, ScanPage, StoreScan};
use cloakroom_session::store::{SessionStore as _, StoreError, StoreFuture};

/// Returns the listing statement, with the parameters `after, now, rows`. Order and comparison both use the column's
/// collation.
fn ids_after(names: &SchemaNames) -> String {
    let SchemaNames {
        table,
        session_id: id,
        expires,
        data,
    } = names;
    format!(
        "SELECT {id} FROM {table} WHERE {id} > ? AND {expires} >= ? AND {data} IS NOT NULL ORDER BY {id} LIMIT ?"
    )
}

impl MysqlShared {
    /// Runs a read-only statement and returns the cells of its rows.
    pub(crate) async fn ask(
        &self,
        text: &str,
        values: Vec<Value>,
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        let statement = Statement { text, values };
        let answer = execute(&self.hosts, &statement, RetryRule::Always).await;
        let answer = answer.map_err(|fault| fault.to_store_error())?;
        Ok(answer.rows.into_iter().map(|row| row.unwrap()).collect())
    }
}

impl StoreScan for MysqlStore {
    fn ids_after<'a>(
        &'a self,
        after: &'a ScanCursor,
        rows_max: usize,
        now_s: i64,
    ) -> StoreFuture<'a, Result<ScanPage, StoreError>> {
        Box::pin(async move {
            let text = ids_after(&self.shared.names);
            let values = vec![
                Value::Bytes(after.as_bytes().to_vec()),
                Value::Int(now_s),
                Value::from(rows_max),
            ];
            let rows = self.shared.ask(&text, values).await?;
            let key = |cells: Vec<Value>| match cells.into_iter().next() {
                Some(Value::Bytes(key)) => Some(key),
                _ => None,
            };
            Ok(ScanPage::of(
                rows.into_iter().filter_map(key).collect(),
                rows_max,
            ))
        })
    }

    fn rows<'a>(
        &'a self,
        ids: &'a [SessionId],
        now_s: i64,
    ) -> StoreFuture<'a, Result<Vec<Option<SessionRecord>>, StoreError>> {
        self.load_many(ids, now_s)
    }

    fn count(&self, now_s: i64) -> StoreFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            let SchemaNames { table, expires, .. } = &self.shared.names;
            let text = format!("SELECT COUNT(*) FROM {table} WHERE {expires} >= ?");
            let rows = self.shared.ask(&text, vec![Value::Int(now_s)]).await?;
            Ok(match rows.first().and_then(|cells| cells.first()) {
                Some(Value::Int(count)) => u64::try_from(*count).unwrap_or(0),
                Some(Value::UInt(count)) => *count,
                _ => 0,
            })
        })
    }

    fn own_columns(&self) -> OwnColumns {
        OwnColumns {
            tokens: self.shared.columns.has_token,
            created: self.shared.columns.has_created,
        }
    }

    fn charset(&self) -> Charset {
        self.shared.columns.charset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listing_goes_on_behind_the_last_key() {
        assert_eq!(
            ids_after(&SchemaNames::default()),
            "SELECT `session_id` FROM `sessions` WHERE `session_id` > ? AND `expires` >= ? AND `data` IS NOT NULL \
             ORDER BY `session_id` LIMIT ?"
        );
    }
}
