//! A thread that reads rows over a connection that cannot write. Shares only the queue with other threads.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::fault::store_error;
use super::statements;
use cloakroom_session::record::{SessionId, SessionRecord};
use cloakroom_session::store::StoreError;

/// One call of `load_many`.
pub(crate) struct ReadJob {
    pub(crate) ids: Vec<SessionId>,
    pub(crate) now_s: i64,
    pub(crate) reply: oneshot::Sender<Result<Vec<Option<SessionRecord>>, StoreError>>,
}

/// The state of one reading thread.
pub(crate) struct SqliteReader {
    connection: Connection,
    jobs: Arc<Mutex<Receiver<ReadJob>>>,
}

impl SqliteReader {
    pub(crate) fn new(connection: Connection, jobs: Arc<Mutex<Receiver<ReadJob>>>) -> Self {
        Self { connection, jobs }
    }

    /// Reads until the queue is closed and empty.
    pub(crate) fn run(self) {
        while let Some(job) = self.next() {
            // The caller may have given up.
            if job.reply.is_closed() {
                continue;
            }
            let result = self
                .read(&job)
                .map_err(|error| store_error(&error, "reading sessions"));
            let _ = job.reply.send(result);
        }
    }

    fn read(&self, job: &ReadJob) -> rusqlite::Result<Vec<Option<SessionRecord>>> {
        // Read several rows from one snapshot: between two separate reads, a session could move from one id to another.
        let _moment = match job.ids.len() {
            0 | 1 => None,
            _ => Some(self.connection.unchecked_transaction()?),
        };
        let rows = job.ids.iter();
        let rows = rows.map(|id| statements::load(&self.connection, id, job.now_s));
        rows.collect()
    }

    /// Waits for a job while holding the lock. The other reader then waits for the lock and not for the queue, which
    /// makes no difference to it.
    fn next(&self) -> Option<ReadJob> {
        let jobs = self.jobs.lock();
        jobs.recv().ok()
    }
}
