//! Examines an embedded store's file. Writes nothing, and a host may use the file meanwhile.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use rustix::fs::{Access, access};

use super::scan::SqliteScan;
use cloakroom_base::limits::{CHECK_LATENCY_READS, SQLITE_CHECK_LATENCY_WARN};
use cloakroom_session::store::examine::ExamineFinding;

impl SqliteScan {
    /// Examines schema, charset, privileges, causality, latency and clock, in this order, with one finding each.
    ///
    /// Cancel safety: reads; dropping it changes nothing.
    pub async fn examine(&self) -> Vec<ExamineFinding> {
        vec![
            self.schema().await,
            self.charset().await,
            self.privileges(),
            ExamineFinding::good(
                "causality",
                "one file on this machine: each read sees all committed writes",
            ),
            self.latency().await,
            ExamineFinding::good("clock", "the store uses the clock of this machine"),
        ]
    }

    async fn schema(&self) -> ExamineFinding {
        let columns = self.read(|connection| {
            let mut statement =
                connection.prepare("SELECT name FROM pragma_table_info('sessions')")?;
            let names = statement.query_map([], |row| row.get::<_, String>(0))?;
            names.collect::<rusqlite::Result<Vec<_>>>()
        });
        let columns = match columns.await {
            Ok(columns) => columns,
            Err(error) => return broken("schema", &error.detail),
        };
        let expected = [
            "session_id",
            "expires",
            "data",
            "cloakroom_token",
            "cloakroom_created",
        ];
        let is_there = |name: &&str| columns.iter().any(|column| column == *name);
        let missing: Vec<_> = expected.into_iter().filter(|it| !is_there(it)).collect();
        if missing.is_empty() {
            return ExamineFinding::good("schema", "the table `sessions` has all columns");
        }
        let found = format!("the table `sessions` lacks {}", missing.join(", "));
        broken("schema", &found)
    }

    async fn charset(&self) -> ExamineFinding {
        let encoding = self.read(|connection| {
            connection.query_row("PRAGMA encoding", [], |row| row.get::<_, String>(0))
        });
        match encoding.await {
            Ok(encoding) if encoding == "UTF-8" => ExamineFinding::good("charset", "UTF-8"),
            Ok(encoding) => {
                let found = format!("the database is encoded in {encoding}");
                let remedy = "copy the sessions into a new file with `cloakroom store copy`";
                ExamineFinding::fault("charset", found, remedy)
            }
            Err(error) => broken("charset", &error.detail),
        }
    }

    fn privileges(&self) -> ExamineFinding {
        let shown = self.path().display();
        // Not by opening the file: closing any descriptor of the database releases SQLite's locks of this process.
        if let Err(error) = access(self.path(), Access::READ_OK | Access::WRITE_OK) {
            let found = format!("this user may not write {shown}: {error}");
            let remedy = "run the command as the user of the host, or give this user the right";
            return ExamineFinding::fault("privileges", found, remedy);
        }
        let mode = fs::metadata(self.path()).map_or(0, |found| found.permissions().mode());
        if mode & 0o077 != 0 {
            let found = format!("other users of this machine may read {shown}");
            return ExamineFinding::warning("privileges", found, format!("chmod 600 {shown}"));
        }
        ExamineFinding::good("privileges", "only this user may read and write the file")
    }

    async fn latency(&self) -> ExamineFinding {
        let mut took = Vec::new();
        for _ in 0..CHECK_LATENCY_READS {
            let started_at = Instant::now();
            let read = self.read(|connection| {
                connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| {
                    row.get::<_, i64>(0)
                })
            });
            if let Err(error) = read.await {
                return broken("latency", &error.detail);
            }
            took.push(started_at.elapsed());
        }
        took.sort_unstable();
        let (median, longest) = (took[took.len() / 2], took[took.len() - 1]);
        let found = format!(
            "a read takes {} ms, at most {} ms of {CHECK_LATENCY_READS} reads",
            in_ms(median),
            in_ms(longest)
        );
        if median > SQLITE_CHECK_LATENCY_WARN {
            let remedy = "keep the file on a local disk, not on a network file system";
            return ExamineFinding::warning("latency", found, remedy);
        }
        ExamineFinding::good("latency", found)
    }
}

fn broken(subject: &'static str, found: &str) -> ExamineFinding {
    let remedy = "restore the file from a backup, or name another file";
    ExamineFinding::fault(subject, found, remedy)
}

fn in_ms(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}
