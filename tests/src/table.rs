//! Direct access to a session table, as another program has it: rows are read and written without the host's rules.

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, OptsBuilder};

use crate::express;
use crate::mariadb::Database;

/// One row of `sessions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// `session_id`.
    pub id: String,
    /// `expires`, in seconds since the epoch.
    pub expires: u32,
    /// `data`.
    pub data: String,
}

impl Database {
    async fn connection(&self) -> Conn {
        let options = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.port)
            .user(Some(&self.user))
            .pass(Some(&self.password))
            .db_name(Some(&self.name))
            .prefer_socket(false);
        Conn::new(options).await.expect("the database answers")
    }

    /// Returns every row.
    pub async fn sessions(&self) -> Vec<Row> {
        let mut connection = self.connection().await;
        let select = "SELECT session_id, expires, data FROM sessions ORDER BY session_id";
        let rows = connection
            .query_map(select, |(id, expires, data)| Row { id, expires, data })
            .await;
        connection
            .disconnect()
            .await
            .expect("the connection ends in order");
        rows.expect("the table is there")
    }

    /// Writes a row without a version check, as Express does.
    pub async fn overwrite(&self, id: &str, data: &str, expires: u32) {
        let mut connection = self.connection().await;
        let upsert = "INSERT INTO sessions (session_id, expires, data) VALUES (?, ?, ?) \
                      ON DUPLICATE KEY UPDATE expires = VALUES(expires), data = VALUES(data)";
        connection
            .exec_drop(upsert, (id, expires, data))
            .await
            .expect("the row is written");
        connection
            .disconnect()
            .await
            .expect("the connection ends in order");
    }

    /// Returns the names of a table's columns, in order.
    pub async fn columns(&self, table: &str) -> Vec<String> {
        let mut connection = self.connection().await;
        let rows: Vec<mysql_async::Row> = connection
            .query(format!("SHOW COLUMNS FROM {table}"))
            .await
            .expect("the table is there");
        connection
            .disconnect()
            .await
            .expect("the connection ends in order");
        rows.iter()
            .map(|row| row.get::<String, _>(0).expect("a name"))
            .collect()
    }

    /// Returns the address of the database for the Express peer.
    pub fn for_express(&self) -> express::Database {
        express::Database {
            port: self.port,
            user: self.user.clone(),
            password: self.password.clone(),
            name: self.name.clone(),
        }
    }
}
