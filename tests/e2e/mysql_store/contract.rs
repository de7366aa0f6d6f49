//! The contract of all stores, on MariaDB with several kinds of tables and servers.

use std::sync::Arc;

use cloakroom_session::store::SessionStore;
use cloakroom_session::store::contract::check_all;
use cloakroom_store_mysql::MysqlOptions;
use cloakroom_tests::mariadb::Mariadb;
use mysql_async::prelude::Queryable as _;

use super::{connect, options};

/// The table that express-mysql-session creates.
pub(super) const EXPRESS_TABLE: &str = "CREATE TABLE IF NOT EXISTS `sessions` (
  `session_id` varchar(128) COLLATE utf8mb4_bin NOT NULL,
  `expires` int(11) unsigned NOT NULL,
  `data` mediumtext COLLATE utf8mb4_bin,
  PRIMARY KEY (`session_id`)
) ENGINE=InnoDB";

async fn check(options: &MysqlOptions, keeps_tokens: bool) {
    let store: Arc<dyn SessionStore> = Arc::new(connect(options).await);
    assert_eq!(store.keeps_tokens(), keeps_tokens);
    check_all(async || store.clone()).await;
}

/// Creates a database on the shared server in which this table exists, and returns its options.
async fn with_table(ddl: &str) -> MysqlOptions {
    let mariadb = Mariadb::shared().await;
    let database = mariadb.fresh_database().await;
    let mut admin = mariadb.admin().await;
    admin
        .query_drop(format!("USE {}", database.name))
        .await
        .unwrap();
    admin.query_drop(ddl).await.unwrap();
    options(&database.url)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_on_our_own_table() {
    let database = Mariadb::shared().await.fresh_database().await;
    check(&options(&database.url), true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_on_expresss_table_left_as_it_is() {
    check(&with_table(EXPRESS_TABLE).await, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_on_expresss_table_given_our_columns() {
    let mut options = with_table(EXPRESS_TABLE).await;
    options.alter_table = true;
    check(&options, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_where_ids_and_data_compare_without_case() {
    let ddl = EXPRESS_TABLE.replace("utf8mb4_bin", "utf8mb4_general_ci");
    let mut options = with_table(&ddl).await;
    check(&options, false).await;
    options.alter_table = true;
    check(&options, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_on_a_server_with_odd_settings() {
    let mariadb = Mariadb::start_with(&[
        "--autocommit=0",
        "--sql-mode=NO_BACKSLASH_ESCAPES,ANSI_QUOTES",
        "--transaction-isolation=SERIALIZABLE",
        "--innodb-snapshot-isolation=ON",
        "--character-set-server=latin1",
        "--default-time-zone=+05:45",
    ])
    .await;
    let database = mariadb.fresh_database().await;
    check(&options(&database.url), true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_over_one_connection_of_the_unix_socket() {
    let mariadb = Mariadb::shared().await;
    let database = mariadb.fresh_database().await;
    let mut options = options(&database.url);
    options.hosts.clear();
    options.socket = Some(mariadb.socket());
    options.connection_limit = 1;
    check(&options, true).await;
}
