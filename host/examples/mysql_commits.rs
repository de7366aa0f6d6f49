//! Measures commits and loads per second of the MySQL store:
//! `cargo run -p cloakroom --example mysql_commits mysql://USER:PASSWORD@HOST:PORT/DATABASE [SECONDS]`.
//!
//! Each caller reads or updates its own rows, one at a time, as requests do. Each run adds 20,000 rows to the `sessions`
//! table of the database. Use a separate database on a server with the same durability settings as in production, and empty
//! the table between runs. Otherwise later runs measure the server's disk.
#![allow(
    clippy::print_stdout,
    reason = "it is a measurement: its output is its purpose"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cloakroom_session::record::{CommitToken, SessionId, SessionRecord, TokenHistory};
use cloakroom_session::store::{Commit, CommitVerdict, RowChange, RowVersion, SessionStore};
use cloakroom_store_mysql::{MysqlOptions, MysqlStore, ServerAddress};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts};
use secrecy::SecretString;
use tokio::task::JoinSet;

const ROWS: usize = 20_000;
const NOW_S: i64 = 1_800_000_000;

/// The operation that each caller repeats.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Load,
    Commit,
    /// A load and then a commit: the cost of a request that writes.
    LoadAndCommit,
}

type Row = (SessionId, SessionRecord);

#[tokio::main]
async fn main() -> Result<()> {
    let usage = "usage: mysql_commits mysql://USER:PASSWORD@HOST:PORT/DATABASE [SECONDS]";
    let url = std::env::args().nth(1).context(usage)?;
    let seconds = std::env::args().nth(2).map(|text| text.parse());
    let time = Duration::from_secs_f64(seconds.transpose().context(usage)?.unwrap_or(5.0));
    let server = Opts::from_url(&url)?;
    let store = Arc::new(MysqlStore::connect(&options(&server)?).await?);
    let rows = fill(&store).await?;
    let mut admin = Conn::new(server).await?;
    for kind in [Kind::Commit, Kind::Load, Kind::LoadAndCommit] {
        for caller_count in [1, 8, 64, 256] {
            measure(&store, &mut admin, &rows, kind, caller_count, time).await?;
        }
    }
    admin.disconnect().await?;
    store.shutdown().await;
    Ok(())
}

fn options(server: &Opts) -> Result<MysqlOptions> {
    let host = ServerAddress {
        name: server.ip_or_hostname().to_owned(),
        port: server.tcp_port(),
    };
    let user = server.user().context("the URL names no user")?.to_owned();
    let database = server.db_name().context("the URL names no database")?;
    let mut options = MysqlOptions::new(vec![host], user, database.to_owned());
    options.password = server.pass().map(SecretString::from);
    Ok(options)
}

async fn measure(
    store: &Arc<MysqlStore>,
    admin: &mut Conn,
    rows: &[SessionId],
    kind: Kind,
    caller_count: usize,
    time: Duration,
) -> Result<()> {
    let mut callers = Vec::new();
    for ids in rows.chunks(rows.len() / caller_count).take(caller_count) {
        let mut found = Vec::new();
        for ids in ids.chunks(500) {
            found.extend(store.load_many(ids, NOW_S).await?);
        }
        let found = found.into_iter().map(|row| row.context("a row is gone"));
        let rows: Vec<Row> = ids
            .iter()
            .cloned()
            .zip(found.collect::<Result<Vec<_>>>()?)
            .collect();
        callers.push(rows);
    }
    let statements_before = statements(admin).await?;
    let started = Instant::now();
    let mut running = JoinSet::new();
    for rows in callers {
        running.spawn(work_in_turn(store.clone(), kind, rows, started + time));
    }
    let mut latencies = Vec::new();
    while let Some(done) = running.join_next().await {
        latencies.extend(done??);
    }
    let elapsed_s = started.elapsed().as_secs_f64();
    let statement_count = statements(admin).await? - statements_before;
    latencies.sort_unstable();
    let at = |share: f64| latencies[(latencies.len() as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{:<13} {caller_count:>3} in flight: {:>6.0}/s, {:>6.0} statements/s, p50 {:.2} ms, p99 {:.2} ms",
        format!("{kind:?}"),
        latencies.len() as f64 / elapsed_s,
        statement_count as f64 / elapsed_s,
        at(0.5),
        at(0.99),
    );
    Ok(())
}

/// Returns the number of statements that the server has executed for all clients.
async fn statements(admin: &mut Conn) -> Result<u64> {
    let counted = "SHOW GLOBAL STATUS WHERE Variable_name IN ('Com_select', 'Com_update')";
    let rows: Vec<(String, u64)> = admin.query(counted).await?;
    Ok(rows.iter().map(|(_, count)| count).sum())
}

async fn fill(store: &MysqlStore) -> Result<Vec<SessionId>> {
    let ids: Vec<_> = (0..ROWS).map(|_| SessionId::generate()).collect();
    for ids in ids.chunks(500) {
        let create = |id: &SessionId| Commit {
            id: id.clone(),
            change: RowChange::Create(SessionRecord {
                data: format!(r#"{{"cookie":{{}},"text":"{}"}}"#, "x".repeat(485)).into(),
                expires_at_s: NOW_S + 3600,
                tokens: TokenHistory::default().push(CommitToken::generate()),
                created_at_s: Some(NOW_S),
            }),
        };
        let commits: Vec<_> = ids.iter().map(create).collect();
        let verdicts = store.commit_many(&commits, NOW_S).await;
        ensure!(
            verdicts
                .iter()
                .all(|v| matches!(v, CommitVerdict::Committed))
        );
    }
    Ok(ids)
}

async fn work_in_turn(
    store: Arc<MysqlStore>,
    kind: Kind,
    mut rows: Vec<Row>,
    until: Instant,
) -> Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    for n in 0.. {
        let started = Instant::now();
        if started >= until {
            break;
        }
        let row_count = rows.len();
        let row = &mut rows[n % row_count];
        if matches!(kind, Kind::Load | Kind::LoadAndCommit) {
            load(&store, row).await?;
        }
        if matches!(kind, Kind::Commit | Kind::LoadAndCommit) {
            update(&store, row).await?;
        }
        latencies.push(started.elapsed());
    }
    Ok(latencies)
}

async fn load(store: &MysqlStore, (id, row): &mut Row) -> Result<()> {
    let mut found = store.load_many(std::slice::from_ref(id), NOW_S).await?;
    let found = found.pop().flatten().context("a row is gone")?;
    ensure!(found == *row, "a row is not what was committed");
    Ok(())
}

async fn update(store: &MysqlStore, (id, row): &mut Row) -> Result<()> {
    let record = SessionRecord {
        tokens: row.tokens.push(CommitToken::generate()),
        ..row.clone()
    };
    let commit = Commit {
        id: id.clone(),
        change: RowChange::Update {
            base: RowVersion::of(row),
            record: record.clone(),
            new_id: None,
        },
    };
    let verdicts = store.commit_many(&[commit], NOW_S).await;
    ensure!(
        matches!(verdicts[..], [CommitVerdict::Committed]),
        "{verdicts:?}"
    );
    *row = record;
    Ok(())
}
