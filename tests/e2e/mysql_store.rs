//! The MySQL store on real MariaDB servers: the contract of all stores, and the features specific to MySQL.

mod collation;
mod contract;
mod group_commit;
mod outage;
mod refusals;
mod schema;
mod servers;
mod start;

use bytes::Bytes;
use cloakroom_session::record::{CommitToken, SessionId, SessionRecord, TokenHistory};
use cloakroom_session::store::{
    Commit, CommitVerdict, RowChange, RowVersion, SessionStore, StoreErrorKind,
};
use cloakroom_store_mysql::{MysqlOptions, MysqlStore, ServerAddress};
use cloakroom_tests::mariadb::Database;
use secrecy::SecretString;

/// The current time in these tests' calls, in seconds since the epoch.
pub(crate) const NOW_S: i64 = 1_800_000_000;

/// Returns options for the one server in a test's URL.
pub(crate) fn options(url: &str) -> MysqlOptions {
    let url = mysql_async::Opts::from_url(url).unwrap();
    let host = ServerAddress {
        name: url.ip_or_hostname().to_owned(),
        port: url.tcp_port(),
    };
    let named = |part: Option<&str>| part.unwrap().to_owned();
    let mut options = MysqlOptions::new(vec![host], named(url.user()), named(url.db_name()));
    options.password = url.pass().map(SecretString::from);
    options
}

/// Returns options for a list of servers on these ports of 127.0.0.1.
fn with_hosts(database: &Database, ports: &[u16]) -> MysqlOptions {
    let mut options = options(&database.url);
    options.hosts = (ports.iter())
        .map(|port| ServerAddress {
            name: "127.0.0.1".to_owned(),
            port: *port,
        })
        .collect();
    options
}

pub(crate) async fn connect(options: &MysqlOptions) -> MysqlStore {
    match MysqlStore::connect(options).await {
        Ok(store) => store,
        Err(error) => panic!("{error}"),
    }
}

pub(crate) fn record(data: &str) -> SessionRecord {
    SessionRecord {
        data: Bytes::copy_from_slice(data.as_bytes()),
        expires_at_s: NOW_S + 3600,
        tokens: TokenHistory::default().push(CommitToken::generate()),
        created_at_s: Some(NOW_S),
    }
}

fn update(base: &SessionRecord, data: &str) -> RowChange {
    RowChange::Update {
        base: RowVersion::of(base),
        record: SessionRecord {
            data: Bytes::copy_from_slice(data.as_bytes()),
            tokens: base.tokens.push(CommitToken::generate()),
            ..base.clone()
        },
        new_id: None,
    }
}

async fn commit(store: &dyn SessionStore, id: &SessionId, change: RowChange) -> CommitVerdict {
    let commit = Commit {
        id: id.clone(),
        change,
    };
    store.commit_many(&[commit], NOW_S).await.remove(0)
}

async fn load(store: &dyn SessionStore, id: &SessionId) -> Option<SessionRecord> {
    let rows = store.load_many(std::slice::from_ref(id), NOW_S).await;
    rows.unwrap().remove(0)
}

/// Creates a row. Returns its id and the record that the store reads back.
async fn created(store: &dyn SessionStore, data: &str) -> (SessionId, SessionRecord) {
    let id = SessionId::generate();
    let verdict = commit(store, &id, RowChange::Create(record(data))).await;
    assert_committed(&verdict);
    let row = load(store, &id).await.unwrap();
    (id, row)
}

#[track_caller]
fn assert_committed(verdict: &CommitVerdict) {
    assert!(matches!(verdict, CommitVerdict::Committed), "{verdict:?}");
}

#[track_caller]
fn assert_conflict(verdict: &CommitVerdict) {
    assert!(matches!(verdict, CommitVerdict::Conflict), "{verdict:?}");
}

#[track_caller]
fn assert_ambiguous(verdict: &CommitVerdict) {
    assert!(
        matches!(verdict, CommitVerdict::Ambiguous(_)),
        "{verdict:?}"
    );
}

#[track_caller]
fn assert_failed(verdict: &CommitVerdict, kind: StoreErrorKind) {
    match verdict {
        CommitVerdict::Failed(error) => assert_eq!(error.kind, kind, "{error}"),
        other => panic!("{other:?}"),
    }
}
