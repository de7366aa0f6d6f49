//! The store and its table: created, found, altered, unusual, or unusable.

use cloakroom_session::record::SessionId;
use cloakroom_session::store::{RowChange, SessionStore as _, StoreErrorKind};
use cloakroom_store_mysql::{
    ConnectErrorClass, Identifier, MysqlConnectError, MysqlOptions, MysqlStore,
};
use cloakroom_tests::mariadb::{Database, Mariadb};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

use super::contract::EXPRESS_TABLE;
use super::{
    NOW_S, assert_committed, assert_conflict, assert_failed, commit, connect, created, load,
    options, record, update,
};

/// Returns a fresh database and an administrator's connection that uses it.
async fn database() -> (Database, Conn) {
    let mariadb = Mariadb::shared().await;
    let database = mariadb.fresh_database().await;
    let mut admin = mariadb.admin().await;
    let used = admin.query_drop(format!("USE {}", database.name)).await;
    used.unwrap();
    (database, admin)
}

async fn column_names(admin: &mut Conn) -> Vec<String> {
    let columns = "SELECT COLUMN_NAME FROM information_schema.COLUMNS \
                   WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'sessions' ORDER BY ORDINAL_POSITION";
    admin.query(columns).await.unwrap()
}

async fn refusal(options: &MysqlOptions) -> MysqlConnectError {
    let refused = MysqlStore::connect(options).await;
    refused.expect_err("this table cannot be used")
}

const EXPRESS_COLUMNS: [&str; 3] = ["session_id", "expires", "data"];
const OUR_COLUMNS: [&str; 5] = [
    "session_id",
    "expires",
    "data",
    "cloakroom_token",
    "cloakroom_created",
];

#[tokio::test]
async fn a_missing_table_is_made_with_our_columns_and_an_index_on_expires() {
    let (database, mut admin) = database().await;
    let store = connect(&options(&database.url)).await;
    assert!(store.keeps_tokens());
    assert_eq!(column_names(&mut admin).await, OUR_COLUMNS);
    let plan: Option<mysql_async::Row> = admin
        .query_first("EXPLAIN SELECT session_id FROM sessions WHERE expires < 5")
        .await
        .unwrap();
    let key: Option<String> = plan.unwrap().get("key").unwrap();
    assert_eq!(key.as_deref(), Some("cloakroom_expires"));
}

#[tokio::test]
async fn an_existing_table_is_altered_only_where_that_is_allowed() {
    let (database, mut admin) = database().await;
    admin.query_drop(EXPRESS_TABLE).await.unwrap();
    let mut options = options(&database.url);

    let store = connect(&options).await;
    assert!(!store.keeps_tokens());
    let (id, row) = created(&store, r#"{"cookie":{},"n":1}"#).await;
    assert!(row.tokens.newest().is_none() && row.created_at_s.is_none());
    assert_eq!(column_names(&mut admin).await, EXPRESS_COLUMNS);

    options.alter_table = true;
    for _ in 0..2 {
        let store = connect(&options).await;
        assert!(store.keeps_tokens());
        assert_eq!(column_names(&mut admin).await, OUR_COLUMNS);
        assert_eq!(load(&store, &id).await, Some(row.clone()));
    }
    let verdict = commit(
        &connect(&options).await,
        &id,
        update(&row, "{\"cookie\":{}}"),
    )
    .await;
    assert_committed(&verdict);
}

#[tokio::test]
async fn hosts_that_alter_the_same_table_at_once_all_start() {
    let (database, mut admin) = database().await;
    admin.query_drop(EXPRESS_TABLE).await.unwrap();
    let mut options = options(&database.url);
    options.alter_table = true;
    let starts = (0..4).map(|_| connect(&options));
    for store in futures_util::future::join_all(starts).await {
        assert!(store.keeps_tokens());
    }
    assert_eq!(column_names(&mut admin).await, OUR_COLUMNS);
}

#[tokio::test]
async fn an_account_that_may_only_read_and_write_rows_is_enough() {
    let (database, mut admin) = database().await;
    connect(&options(&database.url)).await;
    let name = &database.name;
    for sql in [
        format!("CREATE USER least_{name}@'%' IDENTIFIED BY 'secret'"),
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {name}.sessions TO least_{name}@'%'"),
    ] {
        admin.query_drop(sql).await.unwrap();
    }
    let url = format!(
        "mysql://least_{name}:secret@127.0.0.1:{}/{name}",
        database.port
    );
    let store = connect(&options(&url)).await;
    assert!(store.keeps_tokens());
    let (id, row) = created(&store, r#"{"cookie":{}}"#).await;
    assert_committed(&commit(&store, &id, update(&row, "{\"cookie\":{} }")).await);
    assert_eq!(store.reap(1_000, 10).await.unwrap(), 0);
    assert_committed(&commit(&store, &id, RowChange::Delete { base: None }).await);

    admin
        .query_drop("ALTER TABLE sessions DROP COLUMN cloakroom_created")
        .await
        .unwrap();
    let mut altering = options(&url);
    altering.alter_table = true;
    let error = refusal(&altering).await;
    assert_eq!(error.culprit, ConnectErrorClass::Table);
    assert!(
        error.remedy.contains("ALTER TABLE `sessions` ADD COLUMN"),
        "{error}"
    );
}

#[tokio::test]
async fn a_table_that_is_missing_and_may_not_be_made_is_refused_with_the_sql_for_it() {
    let (database, _admin) = database().await;
    let mut options = options(&database.url);
    options.create_database_table = false;
    let error = refusal(&options).await;
    assert_eq!(error.culprit, ConnectErrorClass::Table);
    assert!(
        error
            .remedy
            .contains("CREATE TABLE IF NOT EXISTS `sessions`"),
        "{error}"
    );
    assert!(error.remedy.contains("create_database_table"), "{error}");
}

#[tokio::test]
async fn a_table_without_expresss_columns_or_without_a_key_is_refused() {
    let (database, mut admin) = database().await;
    let options = options(&database.url);
    admin
        .query_drop("CREATE TABLE sessions (session_id varchar(128), data text)")
        .await
        .unwrap();
    let error = refusal(&options).await;
    assert_eq!(error.culprit, ConnectErrorClass::Columns);
    assert!(error.detail.contains("no column `expires`"), "{error}");
    admin
        .query_drop("ALTER TABLE sessions ADD COLUMN expires int unsigned NOT NULL")
        .await
        .unwrap();
    let error = refusal(&options).await;
    assert!(
        error.remedy.contains("ADD PRIMARY KEY (`session_id`)"),
        "{error}"
    );
}

#[tokio::test]
async fn names_of_table_and_columns_are_taken_from_the_options() {
    let (database, mut admin) = database().await;
    let mut options = options(&database.url);
    options.schema.table = Identifier::new("select").unwrap();
    options.schema.session_id = Identifier::new("the-id").unwrap();
    options.schema.expires = Identifier::new("until").unwrap();
    options.schema.data = Identifier::new("json").unwrap();
    let store = connect(&options).await;
    let (id, row) = created(&store, r#"{"cookie":{}}"#).await;
    assert_committed(&commit(&store, &id, update(&row, "{\"cookie\":{} }")).await);
    let rows: Option<(String, i64)> = admin
        .query_first("SELECT json, until FROM `select` WHERE `the-id` IS NOT NULL")
        .await
        .unwrap();
    assert_eq!(rows, Some(("{\"cookie\":{} }".to_owned(), NOW_S + 3600)));
}

#[tokio::test]
async fn rows_written_by_express_are_read_and_swapped_and_cause_conflicts() {
    let (database, mut admin) = database().await;
    let store = connect(&options(&database.url)).await;
    let id = SessionId::generate();
    let written = r#"{"cookie":{"path":"/"},"name":"Zoë 😆","lone":"\ud83d","odd":1e400}"#;
    let upsert = "INSERT INTO `sessions` (`session_id`, `expires`, `data`) VALUES (?, ?, ?) \
                  ON DUPLICATE KEY UPDATE `expires` = VALUES(`expires`), `data` = VALUES(`data`)";
    admin
        .exec_drop(upsert, (id.as_str(), NOW_S + 5, written))
        .await
        .unwrap();

    let row = load(&store, &id).await.unwrap();
    assert_eq!(row.data, written.as_bytes());
    assert!(row.tokens.newest().is_none());

    assert_committed(&commit(&store, &id, update(&row, r#"{"cookie":{},"n":1}"#)).await);
    let ours = load(&store, &id).await.unwrap();
    // Express writes the data and leaves Cloakroom's token unchanged.
    admin
        .exec_drop(upsert, (id.as_str(), NOW_S + 5, written))
        .await
        .unwrap();
    assert_conflict(&commit(&store, &id, update(&ours, r#"{"cookie":{},"n":2}"#)).await);
    assert_eq!(load(&store, &id).await.unwrap().data, written.as_bytes());
}

#[tokio::test]
async fn a_token_column_that_may_be_null_is_no_obstacle() {
    let (database, mut admin) = database().await;
    let ddl = EXPRESS_TABLE.replace(
        "PRIMARY KEY",
        "`cloakroom_token` varbinary(32) NULL, PRIMARY KEY",
    );
    admin.query_drop(ddl).await.unwrap();
    let store = connect(&options(&database.url)).await;
    assert!(store.keeps_tokens());
    let id = SessionId::generate();
    let insert = "INSERT INTO sessions (session_id, expires, data) VALUES (?, ?, ?)";
    let values = (id.as_str(), NOW_S + 5, r#"{"cookie":{}}"#);
    admin.exec_drop(insert, values).await.unwrap();

    let row = load(&store, &id).await.unwrap();
    assert!(row.tokens.newest().is_none());
    assert_committed(&commit(&store, &id, update(&row, r#"{"cookie":{},"n":1}"#)).await);
    assert_conflict(&commit(&store, &id, update(&row, r#"{"cookie":{},"n":2}"#)).await);
    assert!(load(&store, &id).await.unwrap().tokens.newest().is_some());
}

#[tokio::test]
async fn null_data_are_no_session_and_can_be_deleted() {
    let (database, mut admin) = database().await;
    let store = connect(&options(&database.url)).await;
    let id = SessionId::generate();
    let insert = "INSERT INTO sessions (session_id, expires, data) VALUES (?, ?, NULL)";
    admin.exec_drop(insert, (id.as_str(), NOW_S)).await.unwrap();
    assert_eq!(load(&store, &id).await, None);
    assert_conflict(&commit(&store, &id, RowChange::Create(record("{}"))).await);
    assert_committed(&commit(&store, &id, RowChange::Delete { base: None }).await);
    let rows: Option<u64> = admin
        .query_first("SELECT COUNT(*) FROM sessions")
        .await
        .unwrap();
    assert_eq!(rows, Some(0));
}

#[tokio::test]
async fn json_blob_and_latin1_columns_serve_as_well() {
    for column in ["json", "longblob", "text CHARACTER SET latin1"] {
        let (database, mut admin) = database().await;
        let ddl = EXPRESS_TABLE.replace("mediumtext COLLATE utf8mb4_bin", column);
        admin.query_drop(ddl).await.unwrap();
        let store = connect(&options(&database.url)).await;
        let data = r#"{"cookie":{},"name":"Zoë"}"#;
        let (id, row) = created(&store, data).await;
        assert_eq!(row.data, data.as_bytes(), "{column}");
        let next = r#"{"cookie":{},"name":"Zoé"}"#;
        assert_committed(&commit(&store, &id, update(&row, next)).await);
        assert_conflict(&commit(&store, &id, update(&row, next)).await);
        assert_eq!(
            load(&store, &id).await.unwrap().data,
            next.as_bytes(),
            "{column}"
        );
    }
}

#[tokio::test]
async fn data_too_long_for_the_column_fail_alone_and_are_never_cut() {
    let (database, mut admin) = database().await;
    // The table of express-mysql-session before 2.1.2.
    let ddl = EXPRESS_TABLE.replace("mediumtext", "text");
    admin.query_drop(ddl).await.unwrap();
    let store = connect(&options(&database.url)).await;
    let (id, row) = created(&store, r#"{"cookie":{}}"#).await;
    let long = format!(r#"{{"cookie":{{}},"x":"{}"}}"#, "x".repeat(70_000));
    let verdict = commit(&store, &id, update(&row, &long)).await;
    assert_failed(&verdict, StoreErrorKind::TooLarge);
    assert_eq!(load(&store, &id).await, Some(row));
}

#[tokio::test]
async fn a_table_dropped_under_us_is_an_error_until_it_is_back() {
    let (database, mut admin) = database().await;
    let store = connect(&options(&database.url)).await;
    let (id, row) = created(&store, r#"{"cookie":{}}"#).await;
    admin
        .query_drop("RENAME TABLE sessions TO away")
        .await
        .unwrap();
    let verdict = commit(&store, &id, update(&row, r#"{"cookie":{},"n":1}"#)).await;
    assert_failed(&verdict, StoreErrorKind::Broken);
    assert!(
        store
            .load_many(std::slice::from_ref(&id), NOW_S)
            .await
            .is_err()
    );
    admin
        .query_drop("RENAME TABLE away TO sessions")
        .await
        .unwrap();
    assert_eq!(load(&store, &id).await, Some(row));
}
