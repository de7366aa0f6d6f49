//! Group commit: reads and commits of many requests are sent together in one statement.

mod batch_queue;
mod commits;
mod contended;
mod loads;
mod queue;
mod unresolved;
mod verdicts;

pub(crate) use batch_queue::BatchQueue;
pub(crate) use commits::CommitJob;
pub(crate) use contended::ContendedRows;
pub(crate) use loads::LoadJob;
pub(crate) use unresolved::UnresolvedCommits;
