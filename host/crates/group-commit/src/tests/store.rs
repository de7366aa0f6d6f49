//! A session store over the fake dialect, for the contract.

use std::fmt;

use cloakroom_session::record::{SessionId, SessionRecord};
use cloakroom_session::store::layer;
use cloakroom_session::store::{Commit, CommitVerdict, SessionStore, StoreError, StoreFuture};

use super::TestGroup;

/// Reads and commits through group commit, everything else on the table itself.
pub(crate) struct TestStore(pub(crate) TestGroup);

impl fmt::Debug for TestStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestStore")
    }
}

impl layer::StoreLayer for TestStore {
    fn inner(&self) -> &dyn SessionStore {
        &self.0.table.rows
    }

    fn load_many<'a>(
        &'a self,
        ids: &'a [SessionId],
        now_s: i64,
    ) -> StoreFuture<'a, Result<Vec<Option<SessionRecord>>, StoreError>> {
        Box::pin(self.0.group_commit.load_many(ids, now_s))
    }

    fn commit_many<'a>(
        &'a self,
        commits: &'a [Commit],
        now_s: i64,
    ) -> StoreFuture<'a, Vec<CommitVerdict>> {
        Box::pin(self.0.group_commit.commit_many(commits, now_s))
    }
}
