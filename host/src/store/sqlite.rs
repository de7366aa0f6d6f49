//! Sessions in one SQLite file beside the host: durable, no server to run. Knows rows and its own threads; SQLite's calls block,
//! so they never run on an async thread.
//!
//! One thread writes, with adaptive group commit: whatever waits when the last transaction is done goes into the next
//! one and shares its flush, and nothing ever waits for a timer. Two threads read. The write-ahead log is grown at start,
//! because a flush of blocks that exist takes a tenth of the time of a flush of an appended one.

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

pub use self::open_error::OpenError;
pub use self::scan::{ScanError, SqliteScan};

use self::fault::{WriteError, unavailable};
use self::reader::{ReadJob, Reader};
use self::writer::{Claim, Shared, Work, WriteJob, Writer};
use super::{Change, Commit, SessionStore, StoreError, StoreFuture, Touch, Verdict};
use crate::limits::{SQLITE_QUEUE_CALLS_MAX, SQLITE_TIMEOUT, SQLITE_WAL_BYTES};
use crate::record::{SessionId, SessionRecord};

/// Threads that read, each with a connection of its own.
const READERS: usize = 2;

/// What an embedded store is opened with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The database file; it and its directory are created if missing. SQLite keeps `-wal` and `-shm` files beside it, we a `.lock`.
    pub path: PathBuf,
    /// Longest that a call may take, the wait for its turn included.
    pub timeout: Duration,
    /// Size to which the write-ahead log is grown at start, in bytes; 0 lets it grow as it is needed.
    pub wal_bytes: u64,
    /// Calls that may wait for the writer, and as many for the readers; one more is refused at once.
    pub queue_calls_max: usize,
}

impl Options {
    /// The defaults for the database at `path`.
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
/// A commit that was answered survives a crash of the process and a loss of power (`synchronous=FULL`). When the disk fails a
/// write or a flush, nothing is tried again: the store refuses all later writes until it is opened anew, and goes on reading. So it
/// does when one of its files was removed or replaced, which is looked for before each transaction and once a second.
///
/// Dropping it blocks until everything that was handed to the writer is written, then copies the log into the database.
pub struct SqliteStore {
    writes: Option<SyncSender<WriteJob>>,
    reads: Option<SyncSender<ReadJob>>,
    readers: Vec<JoinHandle<()>>,
    writer: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    timeout: Duration,
    /// Held until the threads are gone (fields are dropped after `drop`): one host per file.
    _locks: file::Locks,
}

impl SqliteStore {
    /// Opens the database, creating what is missing, and starts its threads. Blocks for the time it takes to grow the log.
    ///
    /// # Errors
    /// When the file cannot be made, read or written, is in use by another host, has another database's log beside it, or is not
    /// this store's database.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        let (database, locks) = file::open(options)?;
        let shared = Arc::new(Shared::default());
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
        let read_jobs = Arc::new(std::sync::Mutex::new(read_jobs));
        for _ in 0..READERS {
            let reader = Reader::new(database.connect_reader()?, read_jobs.clone());
            let thread = start("sqlite-reader", move || reader.run())?;
            store.readers.push(thread);
        }

        let (writes, write_jobs) = mpsc::sync_channel(options.queue_calls_max);
        store.writes = Some(writes);
        let writer = Writer::new(database.into_writer(), shared, write_jobs);
        store.writer = Some(start("sqlite-writer", move || writer.run())?);
        Ok(store)
    }

    /// How many transactions the writer has committed: fewer than commits when commits travel together.
    pub fn transaction_count(&self) -> u64 {
        self.shared.transaction_count()
    }

    /// Hands work to the writer and waits; answers how many rows each of its statements changed.
    async fn write(&self, work: Work, now_s: i64) -> Result<Vec<usize>, WriteError> {
        if let Some(error) = self.shared.halted() {
            return Err(WriteError::NotApplied(error));
        }
        let (reply, answer) = oneshot::channel();
        let claim = Arc::new(Claim::default());
        let job = WriteJob {
            work,
            now_s,
            claim: claim.clone(),
            reply,
        };
        send(self.writes.as_ref(), job).map_err(WriteError::NotApplied)?;
        let error = match timeout(self.timeout, answer).await {
            Ok(Ok(result)) => return result,
            Ok(Err(_)) => unavailable("the writer of the session database has stopped"),
            Err(_) => unavailable("the session database did not answer in time"),
        };
        // Who takes the claim decides: a job that we take back was never begun, and never will be.
        Err(if claim.take() {
            WriteError::NotApplied(error)
        } else {
            WriteError::Unknown(error)
        })
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        // A thread ends when its queue is closed and empty. The writer's connection is closed last: the last one removes the log.
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
    ) -> StoreFuture<'a, Vec<Verdict>> {
        Box::pin(async move {
            let work = Work::Commits(commits.to_vec());
            match self.write(work, now_s).await {
                Ok(changed) => commits.iter().zip(changed).map(verdict).collect(),
                Err(WriteError::NotApplied(error)) => {
                    let failed = || Verdict::Failed(error.clone());
                    commits.iter().map(|_| failed()).collect()
                }
                Err(WriteError::Unknown(error)) => {
                    let ambiguous = || Verdict::Ambiguous(error.clone());
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
            let work = Work::Touches(touches.to_vec());
            self.write(work, now_s).await?;
            Ok(())
        })
    }

    fn reap(&self, now_s: i64, rows_max: usize) -> StoreFuture<'_, Result<usize, StoreError>> {
        Box::pin(async move {
            let changed = self.write(Work::Reap { rows_max }, now_s).await?;
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

fn verdict((commit, rows_changed): (&Commit, usize)) -> Verdict {
    match (&commit.change, rows_changed) {
        (Change::Delete { base: None }, _) | (_, 1..) => Verdict::Committed,
        (_, 0) => Verdict::Conflict,
    }
}

fn start(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    let thread = std::thread::Builder::new().name(name.into());
    thread.spawn(run).map_err(OpenError::Thread)
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
