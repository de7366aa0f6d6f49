//! The writing thread: takes the waiting jobs, runs them as one transaction, flushes once and answers all of them. Its
//! only contact with the async runtime are the replies that it sends.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, OnceLock};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use super::fault::{SqliteWriteError, is_disk_failure, is_disk_full, store_error, unavailable};
use super::file::{self, WriterParts};
use super::log::{self, CheckpointMode, CheckpointResult, WriteAheadLog};
use super::watch::DatabaseWatch;
use super::{origin, statements};
use cloakroom_base::limits::{
    SQLITE_CHECKPOINT_PAGES, SQLITE_TRANSACTION_ROWS_MAX, SQLITE_WATCH_INTERVAL,
};
use cloakroom_session::store::{Commit, StoreError, Touch};

/// The work that one call requests from the writer.
pub(crate) enum WriteRequest {
    Commits(Vec<Commit>),
    Touches(Vec<Touch>),
    Reap { rows_max: usize },
}

impl WriteRequest {
    fn row_count(&self) -> usize {
        match self {
            WriteRequest::Commits(commits) => commits.len(),
            WriteRequest::Touches(touches) => touches.len(),
            WriteRequest::Reap { rows_max } => *rows_max,
        }
    }
}

/// One call that waits in the queue.
pub(crate) struct WriteJob {
    pub(crate) work: WriteRequest,
    pub(crate) now_s: i64,
    pub(crate) claim: Arc<JobClaim>,
    /// Receives the number of rows that each statement changed.
    pub(crate) reply: oneshot::Sender<Result<Vec<usize>, SqliteWriteError>>,
}

/// The right to decide a job's outcome. It is taken once: by the writer that begins the job, or by the caller that
/// stops waiting.
#[derive(Default)]
pub(crate) struct JobClaim(AtomicBool);

impl JobClaim {
    /// Takes the claim and returns whether this call was the first to do so.
    pub(crate) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// The state that the writer shares with the store.
#[derive(Default)]
pub(crate) struct WriterShared {
    transactions: AtomicU64,
    halted: OnceLock<StoreError>,
}

impl WriterShared {
    /// Returns the reason if nothing is written any more.
    pub(crate) fn halted(&self) -> Option<StoreError> {
        self.halted.get().cloned()
    }

    pub(crate) fn transaction_count(&self) -> u64 {
        self.transactions.load(Ordering::Relaxed)
    }
}

/// The state of the writing thread.
pub(crate) struct SqliteWriter {
    connection: Connection,
    log: WriteAheadLog,
    watch: DatabaseWatch,
    /// The database file, to read its header.
    file: Arc<File>,
    shared: Arc<WriterShared>,
    jobs: Receiver<WriteJob>,
    /// Whether the next transaction may be the first in the log. That transaction must record to which database the log
    /// belongs ([`origin`]).
    is_log_new: bool,
    /// Number of pages in the log at which the next checkpoint is tried.
    checkpoint_at_pages: i64,
    /// Whether the last checkpoint failed. A failure is logged once, not at every attempt.
    is_checkpoint_failing: bool,
}

impl SqliteWriter {
    pub(crate) fn new(
        parts: WriterParts,
        shared: Arc<WriterShared>,
        jobs: Receiver<WriteJob>,
    ) -> Self {
        Self {
            connection: parts.connection,
            log: parts.log,
            watch: parts.watch,
            file: parts.file,
            shared,
            jobs,
            is_log_new: true,
            checkpoint_at_pages: SQLITE_CHECKPOINT_PAGES,
            is_checkpoint_failing: false,
        }
    }

    /// Writes until the queue is closed and empty, then leaves the database without a log. Checks the files while idle.
    pub(crate) fn run(mut self) {
        loop {
            match self.jobs.recv_timeout(SQLITE_WATCH_INTERVAL) {
                Ok(first) => {
                    let batch = self.batch(first);
                    self.execute(batch);
                    self.checkpoint_if_due();
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.is_in_place();
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if self.is_in_place()
            && let Err(error) = log::checkpoint(&self.connection, CheckpointMode::Restart)
        {
            tracing::warn!(%error, "the session database was closed without a checkpoint; the next start does it");
        }
    }

    /// Returns all jobs that wait by now, up to the limit. Skips jobs whose caller has stopped waiting.
    fn batch(&self, first: WriteJob) -> Vec<WriteJob> {
        let mut batch = Vec::new();
        let mut row_count = 0;
        let mut next = Some(first);
        while let Some(job) = next {
            if job.claim.take() {
                row_count += job.work.row_count();
                batch.push(job);
            }
            let is_full = row_count >= SQLITE_TRANSACTION_ROWS_MAX;
            next = if is_full {
                None
            } else {
                self.jobs.try_recv().ok()
            };
        }
        batch
    }

    fn execute(&mut self, batch: Vec<WriteJob>) {
        if batch.is_empty() {
            return;
        }
        // Costs a few system calls, little compared with a flush. It ensures that a commit into a file without a path
        // is never acknowledged.
        self.is_in_place();
        if let Some(error) = self.shared.halted() {
            refuse(batch, &SqliteWriteError::NotApplied(error));
            return;
        }
        match self.transact(&batch) {
            Ok(changed) => {
                for (job, rows_changed) in batch.into_iter().zip(changed) {
                    let _ = job.reply.send(Ok(rows_changed));
                }
            }
            // Nothing was applied, and a single job may be the cause (a corrupt page, a row that no longer fits). Retry
            // the jobs one by one.
            Err(SqliteWriteError::NotApplied(_))
                if batch.len() > 1 && self.shared.halted().is_none() =>
            {
                for job in batch {
                    self.execute(vec![job]);
                }
            }
            Err(error) => refuse(batch, &error),
        }
    }

    /// Runs a batch as one transaction. Returns the number of rows that each statement of each job changed.
    fn transact(&mut self, batch: &[WriteJob]) -> Result<Vec<Vec<usize>>, SqliteWriteError> {
        let stamp = self.is_log_new.then(|| origin::stamp(&self.file));
        match try_transact(&mut self.connection, batch, stamp) {
            Ok(changed) => {
                self.is_log_new = false;
                self.shared.transactions.fetch_add(1, Ordering::Relaxed);
                Ok(changed)
            }
            Err(TransactionProgress::BeforeCommit(error)) => {
                self.halt_if_disk_failed(&error);
                let error = store_error(&error, "writing sessions");
                Err(SqliteWriteError::NotApplied(error))
            }
            Err(TransactionProgress::AtCommit(error)) => {
                self.halt_if_disk_failed(&error);
                let is_surely_absent = is_disk_full(&error);
                let error = store_error(&error, "committing sessions");
                Err(if is_surely_absent {
                    SqliteWriteError::NotApplied(error)
                } else {
                    SqliteWriteError::Unknown(error)
                })
            }
        }
    }

    /// Copies the log into the database once the log is long enough. Runs after the commits were answered, so that no
    /// caller waits for it.
    fn checkpoint_if_due(&mut self) {
        if self.shared.halted().is_some() {
            return;
        }
        match self.try_checkpoint() {
            Ok(None) => {}
            Ok(Some(tried)) => {
                // Also after an incomplete checkpoint: if the reader that prevented completion ends, the next
                // transaction restarts the log.
                self.is_log_new = true;
                let left_pages = if tried.is_complete {
                    0
                } else {
                    tried.log_pages
                };
                self.checkpoint_at_pages = left_pages + SQLITE_CHECKPOINT_PAGES;
                self.is_checkpoint_failing = false;
                self.log.note(tried);
            }
            Err(error) => {
                self.halt_if_disk_failed(&error);
                self.checkpoint_at_pages += SQLITE_CHECKPOINT_PAGES;
                if !self.is_checkpoint_failing {
                    tracing::warn!(%error, "the session database's log cannot be copied into it; the log grows");
                }
                self.is_checkpoint_failing = true;
            }
        }
    }

    /// Tries a checkpoint if the log is long enough. Returns its result with the log's length before the checkpoint.
    fn try_checkpoint(&self) -> rusqlite::Result<Option<CheckpointResult>> {
        let connection = &self.connection;
        let log_pages = log::checkpoint(connection, CheckpointMode::Noop)?.log_pages;
        if log_pages < self.checkpoint_at_pages || !self.is_in_place() {
            return Ok(None);
        }
        // RESTART waits for readers, so that the next write starts at the beginning of the log. A long read by another
        // process (a backup) must not delay commits. The wait is therefore short, and the next attempt comes only after
        // many more pages.
        let done = file::with_short_wait(connection, || {
            log::checkpoint(connection, CheckpointMode::Restart)
        })?;
        Ok(Some(CheckpointResult { log_pages, ..done }))
    }

    /// Returns whether the database may be written, according to its files. If one of them is no longer at its path,
    /// halts all writes.
    fn is_in_place(&self) -> bool {
        if self.shared.halted().is_some() {
            return false;
        }
        let Some(fault) = self.watch.fault() else {
            return true;
        };
        self.halt(unavailable(&fault));
        false
    }

    fn halt_if_disk_failed(&self, error: &rusqlite::Error) {
        if is_disk_failure(error) {
            self.halt(store_error(
                error,
                "a write failed at the disk, refusing writes until restart",
            ));
        }
    }

    fn halt(&self, error: StoreError) {
        if self.shared.halted.set(error.clone()).is_ok() {
            tracing::error!(
                %error,
                "the session database is no longer written; sessions are read-only until the host is restarted"
            );
            // Closing would flush the log into the database. That is left to the next start, which reads the log again.
            let no_checkpoint = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
            if let Err(error) = self.connection.set_db_config(no_checkpoint, true) {
                tracing::error!(%error, "the session database may still be written when it is closed");
            }
        }
    }
}

/// How far a transaction got before it failed.
enum TransactionProgress {
    BeforeCommit(rusqlite::Error),
    AtCommit(rusqlite::Error),
}

fn try_transact(
    connection: &mut Connection,
    batch: &[WriteJob],
    stamp: Option<i32>,
) -> Result<Vec<Vec<usize>>, TransactionProgress> {
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(TransactionProgress::BeforeCommit)?;
    if let Some(stamp) = stamp {
        file::mark(&transaction, stamp).map_err(TransactionProgress::BeforeCommit)?;
    }
    let changed = batch
        .iter()
        .map(|job| perform(&transaction, job))
        .collect::<rusqlite::Result<Vec<_>>>()
        .map_err(TransactionProgress::BeforeCommit)?;
    transaction
        .commit()
        .map_err(TransactionProgress::AtCommit)?;
    Ok(changed)
}

fn perform(connection: &Connection, job: &WriteJob) -> rusqlite::Result<Vec<usize>> {
    let now_s = job.now_s;
    match &job.work {
        WriteRequest::Commits(commits) => {
            let changed = commits.iter();
            let changed = changed.map(|commit| statements::apply(connection, commit, now_s));
            changed.collect()
        }
        WriteRequest::Touches(touches) => {
            let changed = touches.iter();
            let changed = changed.map(|touch| statements::touch(connection, touch, now_s));
            changed.collect()
        }
        WriteRequest::Reap { rows_max } => {
            Ok(vec![statements::reap(connection, now_s, *rows_max)?])
        }
    }
}

fn refuse(batch: Vec<WriteJob>, error: &SqliteWriteError) {
    for job in batch {
        let _ = job.reply.send(Err(error.clone()));
    }
}

#[cfg(test)]
mod tests;
