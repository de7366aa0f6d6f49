//! Sessions in one SQLite file on the host's machine: durable, without a server to run. Knows rows and its own threads.
//! SQLite's calls block, so they never run on an async thread.
//!
//! One thread writes with adaptive group commit: all jobs that wait when a transaction is done go into the next
//! transaction and share its flush. No job waits for a timer. Two threads read. The write-ahead log is grown at start,
//! because flushing existing blocks takes a tenth of the time of flushing appended ones.

mod examine;
mod fault;
mod file;
mod log;
mod open_error;
mod origin;
mod reader;
mod scan;
mod statements;
mod watch;
mod writer;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

pub use self::open_error::SqliteOpenError;
pub use self::scan::{ScanError, SqliteScan};

use self::fault::{SqliteWriteError, unavailable};
use self::reader::{ReadJob, SqliteReader};
use self::writer::{JobClaim, SqliteWriter, WriteJob, WriteRequest, WriterShared};
use cloakroom_base::limits::{SQLITE_QUEUE_CALLS_MAX, SQLITE_TIMEOUT, SQLITE_WAL_BYTES};
use cloakroom_session::record::{SessionId, SessionRecord};
use cloakroom_session::store::{
    Commit, CommitVerdict, RowChange, SessionStore, StoreError, StoreFuture, Touch,
};

/// Number of reading threads, each with a separate connection.
const READERS: usize = 2;

/// The options of an embedded store.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// The database file. The file and its directory are created if missing. SQLite keeps `-wal` and `-shm` files next
    /// to it, and the store keeps a `.lock` file.
    pub path: PathBuf,
    /// Time limit for a call, including its wait in the queue.
    pub timeout: Duration,
    /// Size in bytes to which the write-ahead log is grown at start. With 0 it grows on demand.
    pub wal_bytes: u64,
    /// Maximum number of calls that wait for the writer, and separately for the readers. Further calls are refused at
    /// once.
    pub queue_calls_max: usize,
}

impl SqliteOptions {
    /// Returns the default options for the database at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            timeout: SQLITE_TIMEOUT,
            wal_bytes: SQLITE_WAL_BYTES,
            queue_calls_max: SQLITE_QUEUE_CALLS_MAX,
        }
    }
}

/// The embedded store.
///
/// An acknowledged commit survives a crash of the process and a power failure (`synchronous=FULL`). If the disk fails a
/// write or a flush, the store does not retry. It refuses all later writes until it is opened again, and continues to
/// serve reads. It does the same if one of its files was removed or replaced, which is checked before each transaction
/// and once a second.
///
/// Dropping the store blocks until all queued writes are done, then copies the log into the database.
pub struct SqliteStore {
    writes: Option<SyncSender<WriteJob>>,
    reads: Option<SyncSender<ReadJob>>,
    readers: Vec<JoinHandle<()>>,
    writer: Option<JoinHandle<()>>,
    shared: Arc<WriterShared>,
    timeout: Duration,
    /// Held until the threads have ended (fields are dropped after `drop`), so that only one host uses the file.
    _locks: file::DatabaseLocks,
}

impl SqliteStore {
    /// Opens the database, creates missing files and starts the threads. Blocks while the log is grown.
    ///
    /// # Errors
    /// Returns an error if the file cannot be created, read or written, is in use by another host, has another
    /// database's log next to it, or is not a database of this store.
    pub fn open(options: &SqliteOptions) -> Result<Self, SqliteOpenError> {
        let (database, locks) = file::open(options)?;
        let shared = Arc::new(WriterShared::default());
        let mut store = Self {
            writes: None,
            reads: None,
            readers: Vec::new(),
            writer: None,
            shared: shared.clone(),
            timeout: options.timeout,
            _locks: locks,
        };

        let (reads, read_jobs) = mpsc::sync_channel(options.queue_calls_max);
        store.reads = Some(reads);
        let read_jobs = Arc::new(parking_lot::Mutex::new(read_jobs));
        for _ in 0..READERS {
            let reader = SqliteReader::new(database.connect_reader()?, read_jobs.clone());
            let thread = start("sqlite-reader", move || reader.run())?;
            store.readers.push(thread);
        }

        let (writes, write_jobs) = mpsc::sync_channel(options.queue_calls_max);
        store.writes = Some(writes);
        let writer = SqliteWriter::new(database.into_writer(), shared, write_jobs);
        store.writer = Some(start("sqlite-writer", move || writer.run())?);
        Ok(store)
    }

    /// Returns the number of transactions that the writer has committed. It is lower than the number of commits if
    /// commits share transactions.
    pub fn transaction_count(&self) -> u64 {
        self.shared.transaction_count()
    }

    /// Sends work to the writer and waits for it. Returns the number of rows that each of its statements changed.
    async fn write(&self, work: WriteRequest, now_s: i64) -> Result<Vec<usize>, SqliteWriteError> {
        if let Some(error) = self.shared.halted() {
            return Err(SqliteWriteError::NotApplied(error));
        }
        let (reply, answer) = oneshot::channel();
        let claim = Arc::new(JobClaim::default());
        let job = WriteJob {
            work,
            now_s,
            claim: claim.clone(),
            reply,
        };
        send(self.writes.as_ref(), job).map_err(SqliteWriteError::NotApplied)?;
        let error = match timeout(self.timeout, answer).await {
            Ok(Ok(result)) => return result,
            Ok(Err(_)) => unavailable("the writer of the session database has stopped"),
            Err(_) => unavailable("the session database did not answer in time"),
        };
        // The side that takes the claim decides: if it is taken here, the writer has not begun the job and never will.
        Err(if claim.take() {
            SqliteWriteError::NotApplied(error)
        } else {
            SqliteWriteError::Unknown(error)
        })
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        // A thread ends when its queue is closed and empty. The writer's connection must be closed last, because
        // closing the last connection removes the log.
        self.reads = None;
        self.readers.drain(..).for_each(join);
        self.writes = None;
        self.writer.take().into_iter().for_each(join);
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("transaction_count", &self.transaction_count())
            .finish_non_exhaustive()
    }
}

impl SessionStore for SqliteStore {
    fn load_many<'a>(
        &'a self,
        ids: &'a [SessionId],
        now_s: i64,
    ) -> StoreFuture<'a, Result<Vec<Option<SessionRecord>>, StoreError>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let job = ReadJob {
                ids: ids.to_vec(),
                now_s,
                reply,
            };
            send(self.reads.as_ref(), job)?;
            match timeout(self.timeout, answer).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(unavailable("a reader of the session database has stopped")),
                Err(_) => Err(unavailable("the session database did not answer in time")),
            }
        })
    }

    fn commit_many<'a>(
        &'a self,
        commits: &'a [Commit],
        now_s: i64,
    ) -> StoreFuture<'a, Vec<CommitVerdict>> {
        Box::pin(async move {
            let work = WriteRequest::Commits(commits.to_vec());
            match self.write(work, now_s).await {
                Ok(changed) => commits.iter().zip(changed).map(verdict).collect(),
                Err(SqliteWriteError::NotApplied(error)) => {
                    let failed = || CommitVerdict::Failed(error.clone());
                    commits.iter().map(|_| failed()).collect()
                }
                Err(SqliteWriteError::Unknown(error)) => {
                    let ambiguous = || CommitVerdict::Ambiguous(error.clone());
                    commits.iter().map(|_| ambiguous()).collect()
                }
            }
        })
    }

    fn touch_many<'a>(
        &'a self,
        touches: &'a [Touch],
        now_s: i64,
    ) -> StoreFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let work = WriteRequest::Touches(touches.to_vec());
            self.write(work, now_s).await?;
            Ok(())
        })
    }

    fn reap(&self, now_s: i64, rows_max: usize) -> StoreFuture<'_, Result<usize, StoreError>> {
        Box::pin(async move {
            let changed = self.write(WriteRequest::Reap { rows_max }, now_s).await?;
            Ok(changed.into_iter().sum())
        })
    }

    fn keeps_tokens(&self) -> bool {
        true
    }

    fn halted(&self) -> Option<StoreError> {
        self.shared.halted()
    }
}

fn verdict((commit, rows_changed): (&Commit, usize)) -> CommitVerdict {
    match (&commit.change, rows_changed) {
        (RowChange::Delete { base: None }, _) | (_, 1..) => CommitVerdict::Committed,
        (_, 0) => CommitVerdict::Conflict,
    }
}

fn start(
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, SqliteOpenError> {
    let thread = std::thread::Builder::new().name(name.into());
    thread.spawn(run).map_err(SqliteOpenError::Thread)
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the session database had panicked");
    }
}

fn send<T>(queue: Option<&SyncSender<T>>, job: T) -> Result<(), StoreError> {
    let stopped = || unavailable("the session database is closed");
    match queue.ok_or_else(stopped)?.try_send(job) {
        Ok(()) => Ok(()),
        Err(TrySendError::Full(_)) => {
            Err(unavailable("too many calls wait for the session database"))
        }
        Err(TrySendError::Disconnected(_)) => Err(stopped()),
    }
}

#[cfg(test)]
mod tests;
