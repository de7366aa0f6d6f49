//! One statement, until it is answered or there is no point in trying: on another connection, on another host, once more
//! after a deadlock. Never repeats a statement that may have been applied unless it is told that this does no harm.

use std::time::{Duration, Instant};

use super::error::{Class, Fault};
use super::hosts::{Hosts, Link, jitter};
use super::link::{Answer, Statement};

/// Attempts in all.
const ATTEMPTS_MAX: u32 = 3;
/// Longest pause before a statement that was rolled back for another transaction is sent again; twice that before the next one.
const PAUSE_MAX: Duration = Duration::from_millis(40);

/// When a statement may be sent again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// When the first was certainly not applied: compare-and-swap.
    IfNotApplied,
    /// As [`Repeat::IfNotApplied`], but only where the link or the host was to blame: what many rows share, of which one may be.
    IfNotForItsRows,
    /// Whatever became of the first: reads, touches, unconditional deletes.
    Always,
}

/// Runs a statement; bounded by the acquire, connect and statement timeouts together, with no attempt begun after one
/// statement timeout has passed.
///
/// # Errors
/// What became of the last attempt, or of the one that may have been applied if there was one.
pub(super) async fn execute(
    hosts: &Hosts,
    statement: &Statement<'_>,
    repeat: Repeat,
) -> Result<Answer, Fault> {
    let started_at = Instant::now();
    let link = hosts.link().await?;
    let executed = execute_over(link, started_at, hosts, statement, repeat).await;
    executed.map(|(answer, _)| answer)
}

/// As [`execute`], for who has a link already and may want the one that answered.
pub(super) async fn execute_over<'a>(
    mut link: Link<'a>,
    started_at: Instant,
    hosts: &'a Hosts,
    statement: &Statement<'_>,
    repeat: Repeat,
) -> Result<(Answer, Link<'a>), Fault> {
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
            Class::Transient | Class::Stale | Class::RolledBackHere
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
    fault: &Fault,
    repeat: Repeat,
    elapsed: Duration,
    statement_timeout: Duration,
) -> bool {
    let may_repeat = match repeat {
        Repeat::Always => true,
        Repeat::IfNotApplied => !fault.is_undecided(),
        Repeat::IfNotForItsRows => !fault.is_undecided() && !fault.may_be_for_a_row(),
    };
    may_repeat
        && match fault.class {
            Class::Transient | Class::Stale | Class::RolledBackHere | Class::HostUnfit => true,
            // Else the second wait would outlast our own patience.
            Class::LockWait => elapsed < statement_timeout / 4,
            Class::LinkLost | Class::HostLeaving | Class::Undecided | Class::Reprepare => true,
            // The server is slow: more of the same does not help.
            Class::TimedOut => false,
            Class::Duplicate
            | Class::TooLarge
            | Class::Refused
            | Class::Unavailable
            | Class::Broken => false,
        }
}
