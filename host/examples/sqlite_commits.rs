//! Measures durable commits per second of the embedded store: `cargo run -p cloakroom --example sqlite_commits [DIRECTORY]`.
//!
//! Each caller updates its own rows, one commit at a time, as requests do. The write-ahead log is measured both as created and grown.
#![allow(
    clippy::print_stdout,
    reason = "it is a measurement: its output is its purpose"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cloakroom_session::record::{CommitToken, SessionId, SessionRecord, TokenHistory};
use cloakroom_session::store::{Commit, CommitVerdict, RowChange, RowVersion, SessionStore};
use cloakroom_store_sqlite::{SqliteOptions, SqliteStore};
use tokio::task::JoinSet;

const ROWS: usize = 20_000;
const MEASURED: Duration = Duration::from_secs(5);
const NOW_S: i64 = 1_800_000_000;

#[tokio::main]
async fn main() -> Result<()> {
    let directory = std::env::args_os().nth(1);
    let directory = directory.map_or_else(|| PathBuf::from("target/measure"), PathBuf::from);
    for wal_bytes in [0, 16 << 20, 64 << 20] {
        for caller_count in [1, 16, 64, 256] {
            measure(&directory, wal_bytes, caller_count).await?;
        }
    }
    Ok(())
}

async fn measure(directory: &Path, wal_bytes: u64, caller_count: usize) -> Result<()> {
    // An existing directory may contain real sessions, so only a new one is created, and removed afterwards.
    let directory = directory.join(format!("run-{}", std::process::id()));
    ensure!(!directory.exists(), "{} exists", directory.display());
    let options = SqliteOptions {
        wal_bytes,
        ..SqliteOptions::new(directory.join("sessions.db"))
    };
    let opening = Instant::now();
    let store = Arc::new(SqliteStore::open(&options)?);
    let opened_after = opening.elapsed();
    let rows = fill(&store).await?;

    let transactions_before = store.transaction_count();
    let started = Instant::now();
    let mut callers = JoinSet::new();
    for rows in rows.chunks(rows.len() / caller_count) {
        callers.spawn(update_in_turn(
            store.clone(),
            rows.to_vec(),
            started + MEASURED,
        ));
    }
    let mut latencies = Vec::new();
    while let Some(done) = callers.join_next().await {
        latencies.extend(done??);
    }
    let elapsed_s = started.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |share: f64| latencies[(latencies.len() as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "log grown to {:>2} MiB, {caller_count:>3} in flight: {:>6.0} commits/s, {:>5.0} transactions/s, p50 {:.2} ms, \
         p99 {:.2} ms; opened in {opened_after:.0?}",
        wal_bytes >> 20,
        latencies.len() as f64 / elapsed_s,
        (store.transaction_count() - transactions_before) as f64 / elapsed_s,
        at(0.5),
        at(0.99),
    );
    drop(store);
    std::fs::remove_dir_all(directory).context("removing the measured database")
}

async fn fill(store: &SqliteStore) -> Result<Vec<(SessionId, SessionRecord)>> {
    let record = SessionRecord {
        data: format!(r#"{{"cookie":{{}},"text":"{}"}}"#, "x".repeat(485)).into(),
        expires_at_s: NOW_S + 3600,
        tokens: TokenHistory::default().push(CommitToken::generate()),
        created_at_s: Some(NOW_S),
    };
    let rows: Vec<_> = (0..ROWS)
        .map(|_| (SessionId::generate(), record.clone()))
        .collect();
    for rows in rows.chunks(500) {
        let commits: Vec<_> = rows
            .iter()
            .map(|(id, record)| Commit {
                id: id.clone(),
                change: RowChange::Create(record.clone()),
            })
            .collect();
        let verdicts = store.commit_many(&commits, NOW_S).await;
        ensure!(
            verdicts
                .iter()
                .all(|v| matches!(v, CommitVerdict::Committed))
        );
    }
    Ok(rows)
}

async fn update_in_turn(
    store: Arc<SqliteStore>,
    mut rows: Vec<(SessionId, SessionRecord)>,
    until: Instant,
) -> Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    for n in 0.. {
        if Instant::now() >= until {
            break;
        }
        let row_count = rows.len();
        let (id, row) = &mut rows[n % row_count];
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
        let started = Instant::now();
        let verdicts = store.commit_many(&[commit], NOW_S).await;
        latencies.push(started.elapsed());
        ensure!(
            matches!(verdicts[..], [CommitVerdict::Committed]),
            "{verdicts:?}"
        );
        *row = record;
    }
    Ok(latencies)
}
