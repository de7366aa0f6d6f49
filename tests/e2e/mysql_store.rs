//! The MySQL store on a real MariaDB server.

use cloakroom_tests::chaos_proxy::ChaosProxy;
use cloakroom_tests::mariadb::Mariadb;
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

#[tokio::test]
async fn a_lost_reply_leaves_the_statement_done() {
    let database = Mariadb::shared().await.fresh_database().await;
    let proxy = ChaosProxy::to_port(database.port).await;
    let url = format!("{}?prefer_socket=false", database.url_through(proxy.port()));
    let mut connection = Conn::from_url(&url).await.unwrap();
    connection
        .query_drop("CREATE TABLE t (n INT)")
        .await
        .unwrap();

    proxy.lose_next_reply("insert");
    let lost = connection.exec_drop("INSERT INTO t VALUES (?)", (1,)).await;
    assert!(lost.is_err());
    assert_eq!(proxy.losses(), 1);

    let mut connection = Conn::from_url(&url).await.unwrap();
    let rows: Option<u64> = connection
        .query_first("SELECT COUNT(*) FROM t")
        .await
        .unwrap();
    assert_eq!(rows, Some(1));
}

#[tokio::test]
async fn a_killed_server_comes_back_with_its_rows() {
    let mariadb = Mariadb::start().await;
    let database = mariadb.fresh_database().await;
    let mut connection = Conn::from_url(&database.url).await.unwrap();
    connection
        .query_drop("CREATE TABLE t (n INT)")
        .await
        .unwrap();
    connection
        .query_drop("INSERT INTO t VALUES (1)")
        .await
        .unwrap();

    mariadb.kill().await;
    assert!(Conn::from_url(&database.url).await.is_err());
    mariadb.start_again().await;

    let mut connection = Conn::from_url(&database.url).await.unwrap();
    let rows: Option<u64> = connection
        .query_first("SELECT COUNT(*) FROM t")
        .await
        .unwrap();
    assert_eq!(rows, Some(1));
}
