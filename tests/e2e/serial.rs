//! Transactions are serializable on the persistent stores: the host's own property test, run on these stores.
//!
//! `CLOAKROOM_TEST_SEED` (a number) replays a case, and `CLOAKROOM_TEST_CASES` sets the number of cases that run from there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloakroom_session::property::{BlindWriter, Settings, check};
use cloakroom_session::record::SessionId;
use cloakroom_session::store::{SessionStore, StoreFuture};
use cloakroom_store_sqlite as sqlite;
use cloakroom_store_sqlite::SqliteStore;
use cloakroom_tests::mariadb::{Database, Mariadb};

/// `make test-long` runs 10,000.
const CASES: usize = 500;

async fn transactions_are_serial(store: Arc<dyn SessionStore>, express: Arc<dyn BlindWriter>) {
    let settings = Settings::from_env(CASES, 16);
    let began = std::time::Instant::now();
    let report = check(store, express, settings).await;
    let report = report.unwrap_or_else(|error| panic!("{error}"));
    eprintln!("{settings:?}: {report:?} in {:?}", began.elapsed());
    if settings.is_whole() {
        report.assert_not_vacuous();
    }
}

/// A program other than the host that writes to the embedded store's file.
struct BesideSqlite(PathBuf);

impl BlindWriter for BesideSqlite {
    fn upsert<'a>(
        &'a self,
        id: &'a SessionId,
        data: Bytes,
        expires_at_s: i64,
    ) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let connection = rusqlite::Connection::open(&self.0).unwrap();
            connection.busy_timeout(Duration::from_secs(10)).unwrap();
            let text = std::str::from_utf8(&data).unwrap();
            let upsert = "INSERT INTO sessions (session_id, expires, data) VALUES (?1, ?2, ?3) \
                          ON CONFLICT (session_id) DO UPDATE SET expires = excluded.expires, data = excluded.data";
            connection
                .execute(upsert, (id.as_str(), expires_at_s, text))
                .unwrap();
        })
    }
}

#[tokio::test]
async fn transactions_on_sqlite_are_serial() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.sqlite");
    let store = SqliteStore::open(&sqlite::SqliteOptions::new(&path)).unwrap();
    transactions_are_serial(Arc::new(store), Arc::new(BesideSqlite(path))).await;
}

/// A program other than the host that writes to the table, as `set` of express-mysql-session does.
struct BesideMysql(mysql_async::Pool);

impl BlindWriter for BesideMysql {
    fn upsert<'a>(
        &'a self,
        id: &'a SessionId,
        data: Bytes,
        expires_at_s: i64,
    ) -> StoreFuture<'a, ()> {
        use mysql_async::prelude::Queryable as _;
        Box::pin(async move {
            let mut connection = self.0.get_conn().await.unwrap();
            let text = std::str::from_utf8(&data).unwrap();
            let upsert = "INSERT INTO sessions (session_id, expires, data) VALUES (?, ?, ?) \
                          ON DUPLICATE KEY UPDATE expires = VALUES(expires), data = VALUES(data)";
            connection
                .exec_drop(upsert, (id.as_str(), expires_at_s, text))
                .await
                .unwrap();
        })
    }
}

#[tokio::test]
async fn transactions_on_mysql_are_serial() {
    let database: Database = Mariadb::shared().await.fresh_database().await;
    let store = crate::mysql_store::connect(&crate::mysql_store::options(&database.url)).await;
    let pool = mysql_async::Pool::new(database.url.as_str());
    transactions_are_serial(Arc::new(store), Arc::new(BesideMysql(pool.clone()))).await;
    pool.disconnect().await.unwrap();
}
