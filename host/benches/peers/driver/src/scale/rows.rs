//! Fills the session table that a host has created. Knows the table. Does not know the load.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::host::{Host, Spec};
use super::lab::Lab;
use crate::load::{Load, Size, Target};
use crate::visitor::Answers;

/// The longest time until the inserted rows are on disk.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(300);
/// An idle server has at most this many changed pages, and at most this many transactions whose old row versions still exist.
const DIRTY_PAGES_MAX: u64 = 50;
const HISTORY_MAX: u64 = 1000;
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Whether rows are valid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Life {
    /// Valid for some more hours.
    Valid,
    /// Expired for at least an hour.
    Expired,
}

/// Creates the database of this name again, starts a host to create the table, and fills the table.
pub(super) fn make(lab: &Lab, database: &str, n_rows: u64) -> anyhow::Result<()> {
    lab.mariadb.make_database(database)?;
    let host = Host::start(lab, &Spec::counter_on_mysql(lab, database))?;
    let size = Size {
        connections: 1,
        sessions: 1,
    };
    // This creates the row that all others copy.
    Load::connect(&Target::one(host.address(), Answers::Counter), size)?.visit_all()?;
    host.stop()?;
    add(lab, database, n_rows - 1, Life::Valid)?;
    ensure!(count(lab, database, "1")? == n_rows, "rows are missing");
    settle(lab, database)
}

/// Adds `n_rows` copies of a row under new ids, in the order of the key. The ids of a `life` are the same in each call.
pub(super) fn add(lab: &Lab, database: &str, n_rows: u64, life: Life) -> anyhow::Result<()> {
    let (kind, expires) = match life {
        // Spread over some hours, so that the index on this column has more than one entry.
        Life::Valid => ("valid", "@expires - seq % 7200"),
        Life::Expired => ("expired", "UNIX_TIMESTAMP() - 3600 - seq % 7200"),
    };
    eprintln!(" filling {database}: {n_rows} {kind} rows");
    lab.mariadb.query(&format!(
        "USE {database};
         SELECT expires, data, cloakroom_token, cloakroom_created
             INTO @expires, @data, @token, @created FROM sessions WHERE expires > UNIX_TIMESTAMP() LIMIT 1;
         INSERT INTO sessions (session_id, expires, data, cloakroom_token, cloakroom_created)
             SELECT SUBSTRING(REPLACE(REPLACE(TO_BASE64(UNHEX(SHA2(CONCAT('{kind}', seq), 256))), '+', '-'), '/', '_'), 1, 32) AS id,
                 {expires}, @data, @token, @created
             FROM seq_1_to_{n_rows} ORDER BY id"
    ))?;
    Ok(())
}

/// Returns the number of rows that match a condition.
pub(super) fn count(lab: &Lab, database: &str, condition: &str) -> anyhow::Result<u64> {
    let statement = format!("SELECT COUNT(*) FROM {database}.sessions WHERE {condition}");
    Ok(lab.mariadb.query(&statement)?.parse()?)
}

/// Waits until all changes are on disk and deleted rows are purged, so that neither affects the measurement.
pub(super) fn settle(lab: &Lab, database: &str) -> anyhow::Result<()> {
    lab.mariadb
        .query(&format!("ANALYZE TABLE {database}.sessions"))?;
    lab.mariadb
        .query("SET GLOBAL innodb_max_dirty_pages_pct = 0")?;
    let began_at = Instant::now();
    while status(lab, "Innodb_buffer_pool_pages_dirty")? > DIRTY_PAGES_MAX
        || status(lab, "Innodb_history_list_length")? > HISTORY_MAX
    {
        let in_time = began_at.elapsed() < SETTLE_TIME_MAX;
        ensure!(in_time, "MariaDB does not become idle");
        std::thread::sleep(LOOK_INTERVAL);
    }
    lab.mariadb
        .query("SET GLOBAL innodb_max_dirty_pages_pct = DEFAULT")?;
    Ok(())
}

/// Returns one of MariaDB's status counters.
pub(super) fn status(lab: &Lab, name: &str) -> anyhow::Result<u64> {
    let said = lab
        .mariadb
        .query(&format!("SHOW GLOBAL STATUS LIKE '{name}'"))?;
    let value = said.split_ascii_whitespace().nth(1);
    Ok(value
        .with_context(|| format!("MariaDB has no {name}"))?
        .parse()?)
}
