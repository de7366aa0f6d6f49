//! Runs one statement until it is answered or further attempts are pointless: retries on another connection, on another
//! host, or after a deadlock. Never repeats a statement that may have been applied, unless the caller declares that
//! this is harmless.
//!
//! A transaction that was certainly rolled back is a conflict after three tries with growing pauses
//! (`CommitVerdict::RolledBack`): the session reads the row and goes on within its deadline. It differs from a swap that missed:
//! the row may be unchanged, so a deletion has not happened, and an earlier statement whose reply was lost may still take effect.
//! The errors 3100, 3101 and 1180 prove nothing, because a member that leaves its group answers 3101 for commits that the others
//! may have applied. The token decides; a table without tokens answers 503.

use std::time::{Duration, Instant};

use super::connection::{Statement, StatementResult};
use super::error::{StatementError, StatementErrorClass};
use super::pool::jitter;
use super::servers::{PooledConnection, ServerList};

/// Maximum number of attempts.
const ATTEMPTS_MAX: u32 = 3;
/// Longest pause before the first retry of a statement that was rolled back in favour of another transaction. The pause
/// before the next retry may be twice as long.
const PAUSE_MAX: Duration = Duration::from_millis(40);

/// When a statement may be sent again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryRule {
    /// Only if the previous attempt was certainly not applied: compare-and-swap.
    IfNotApplied,
    /// Like [`RetryRule::IfNotApplied`], but only after a failure of the link or the host. For statements with many rows:
    /// any other failure may be the fault of one row.
    IfNotForItsRows,
    /// Whatever the outcome of the previous attempt was: reads, touches, unconditional deletes.
    Always,
}

/// Runs a statement. The total time is bounded by the acquire, connect and statement timeouts together. No attempt
/// begins after one statement timeout has passed.
///
/// # Errors
/// Returns the error of the last attempt, or of the attempt that may have been applied if there was one.
pub(crate) async fn execute(
    hosts: &ServerList,
    statement: &Statement<'_>,
    repeat: RetryRule,
) -> Result<StatementResult, StatementError> {
    let started_at = Instant::now();
    let link = hosts.link().await?;
    let executed = execute_over(link, started_at, hosts, statement, repeat).await;
    executed.map(|(answer, _)| answer)
}

/// Like [`execute`], for callers that already have a link. Also returns the link that answered.
pub(crate) async fn execute_over<'a>(
    mut link: PooledConnection<'a>,
    started_at: Instant,
    hosts: &'a ServerList,
    statement: &Statement<'_>,
    repeat: RetryRule,
) -> Result<(StatementResult, PooledConnection<'a>), StatementError> {
    let mut undecided = None;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let fault = match link.run(statement).await {
            Ok(answer) => return Ok((answer, link)),
            Err(fault) => fault,
        };
        drop(link);
        let pause = matches!(
            fault.class,
            StatementErrorClass::Transient
                | StatementErrorClass::Stale
                | StatementErrorClass::RolledBackHere
        );
        if pause {
            hosts.deadlocks().inc();
        }
        let elapsed = started_at.elapsed();
        let is_last = attempts == ATTEMPTS_MAX
            || elapsed >= hosts.statement_timeout()
            || !is_worth_another(&fault, repeat, elapsed, hosts.statement_timeout());
        let fault = if undecided.is_some() || fault.is_undecided() {
            undecided.get_or_insert(fault).clone()
        } else {
            fault
        };
        if is_last {
            return Err(fault);
        }
        if pause {
            tokio::time::sleep(PAUSE_MAX.mul_f64(jitter() * f64::from(attempts))).await;
        }
        link = match hosts.link().await {
            Ok(link) => link,
            Err(fault) => return Err(undecided.unwrap_or(fault)),
        };
    }
}

fn is_worth_another(
    fault: &StatementError,
    repeat: RetryRule,
    elapsed: Duration,
    statement_timeout: Duration,
) -> bool {
    let may_repeat = match repeat {
        RetryRule::Always => true,
        RetryRule::IfNotApplied => !fault.is_undecided(),
        RetryRule::IfNotForItsRows => !fault.is_undecided() && !fault.may_be_for_a_row(),
    };
    may_repeat
        && match fault.class {
            StatementErrorClass::Transient
            | StatementErrorClass::Stale
            | StatementErrorClass::RolledBackHere
            | StatementErrorClass::HostUnfit => true,
            // Later, the second lock wait would exceed the statement timeout.
            StatementErrorClass::LockWait => elapsed < statement_timeout / 4,
            StatementErrorClass::LinkLost
            | StatementErrorClass::HostLeaving
            | StatementErrorClass::Undecided
            | StatementErrorClass::Reprepare => true,
            // The server is slow, so another attempt does not help.
            StatementErrorClass::TimedOut => false,
            StatementErrorClass::Duplicate
            | StatementErrorClass::TooLarge
            | StatementErrorClass::Refused
            | StatementErrorClass::Unavailable
            | StatementErrorClass::Broken => false,
        }
}
