//! Changes that travel together: one `UPDATE` that swaps each row if it still is what was read, or one `INSERT`; and who is
//! told what afterwards.

use std::time::Instant;

use futures_util::{StreamExt as _, stream};

use super::queue::Travels;
use super::verdicts::{Finding, Trace, complete, look};
use super::{Job, Seat, unavailable};
use crate::record::{SessionId, TokenHistory};
use crate::store::mysql::commit::verdict_of;
use crate::store::mysql::error::{Class, Fault};
use crate::store::mysql::execute::{Repeat, execute_over};
use crate::store::mysql::hosts::Link;
use crate::store::mysql::link::{Answer, Statement};
use crate::store::mysql::{Shared, interrupted, rows};
use crate::store::{Change, Commit, StoreError, Verdict};

/// One row's change, of a kind that can travel with others.
pub(in crate::store::mysql) struct CommitJob {
    commit: Commit,
    now_s: i64,
    kind: Kind,
    is_contested: bool,
}

#[derive(Clone, Copy)]
enum Kind {
    Create,
    Swap(Trace),
}

impl CommitJob {
    /// None for what goes alone: what moves or deletes its row; what leaves no token to tell it by; and what may have been
    /// sent before.
    pub(in crate::store::mysql) fn new(
        shared: &Shared,
        commit: &Commit,
        now_s: i64,
    ) -> Option<Self> {
        let kind = match &commit.change {
            Change::Create(_) => Kind::Create,
            Change::Update {
                base,
                record,
                new_id: None,
            } if shared.sql.swaps_many() => Kind::Swap(Trace {
                mine: record.tokens.newest()?,
                before_mine: base.tokens.newest(),
            }),
            Change::Update { .. } | Change::Delete { .. } => return None,
        };
        let now = Instant::now();
        if shared.doubts.contain(&commit.id, now) {
            return None;
        }
        let is_swap = matches!(kind, Kind::Swap(_));
        Some(Self {
            commit: commit.clone(),
            now_s,
            kind,
            is_contested: is_swap && shared.contests.contain(&commit.id, now),
        })
    }
}

impl Travels for CommitJob {
    fn swapped_row(&self) -> Option<&SessionId> {
        Some(&self.commit.id)
    }

    fn is_contested(&self) -> bool {
        self.is_contested
    }

    fn fits(&self, first: &Self) -> bool {
        match (self.kind, first.kind) {
            (Kind::Create, Kind::Create) => true,
            (Kind::Swap(_), Kind::Swap(_)) => self.now_s == first.now_s,
            _ => false,
        }
    }

    fn bytes(&self) -> usize {
        match &self.commit.change {
            Change::Create(record) | Change::Update { record, .. } => record.data.len(),
            Change::Delete { .. } => 0,
        }
    }
}

impl Job for CommitJob {
    /// A commit may have been sent before: it is settled, whatever becomes of its caller.
    const ENDS_WITH_CALLER: bool = false;

    type Outcome = Verdict;

    fn refused(error: StoreError) -> Verdict {
        Verdict::Failed(error)
    }

    fn interrupted() -> Verdict {
        Verdict::Ambiguous(interrupted())
    }

    async fn run(shared: &Shared, link: Link<'_>, mut seats: Vec<Seat<Self>>) {
        // Whoever locks several rows locks them in this order.
        seats.sort_by(|a, b| a.job.commit.id.cmp(&b.job.commit.id));
        match seats[0].job.kind {
            Kind::Create => create(shared, link, seats).await,
            Kind::Swap(_) => swap(shared, link, seats).await,
        }
    }
}

async fn swap(shared: &Shared, link: Link<'_>, seats: Vec<Seat<CommitJob>>) {
    let committer = shared.committer(seats[0].job.now_s);
    let rows = seats.iter().filter_map(|seat| match &seat.job.commit {
        Commit {
            id,
            change: Change::Update { base, record, .. },
        } => Some((id, base, record)),
        _ => None,
    });
    let statement = committer.update_many(&rows.collect::<Vec<_>>());
    let sent = send(shared, link, &statement, seats).await;
    let Some((answer, mut link, seats)) = sent else {
        return;
    };
    let findings = find_out(shared, &mut link, &answer, &seats).await;
    // Before they are told: whoever comes back at once finds it in the pool.
    drop(link);
    match findings {
        Ok(findings) => {
            for (seat, finding) in seats.into_iter().zip(findings) {
                seat.answer(verdict_on(finding));
            }
        }
        Err(fault) => {
            for seat in seats {
                seat.answer(Verdict::Ambiguous(fault.to_store_error()));
            }
        }
    }
}

/// Which rows were swapped; asks on the link that swapped them if the count alone does not tell.
///
/// # Errors
/// When the link broke meanwhile: then nobody knows.
async fn find_out(
    shared: &Shared,
    link: &mut Link<'_>,
    answer: &Answer,
    seats: &[Seat<CommitJob>],
) -> Result<Vec<Finding>, Fault> {
    let swapped = answer.affected_rows;
    if swapped == 0 {
        return Ok(vec![Finding::NotApplied; seats.len()]);
    }
    if swapped == seats.len() as u64 {
        return Ok(vec![Finding::Applied; seats.len()]);
    }
    let ids: Vec<_> = seats.iter().map(|seat| &seat.job.commit.id).collect();
    let tokens = rows::tokens(link, &shared.sql, &ids).await?;
    let mut findings: Vec<_> = (seats.iter())
        .map(|seat| {
            seat.job
                .look(tokens.get(seat.job.commit.id.as_str().as_bytes()))
        })
        .collect();
    complete(swapped, &mut findings);
    Ok(findings)
}

async fn create(shared: &Shared, link: Link<'_>, mut seats: Vec<Seat<CommitJob>>) {
    let committer = shared.committer(seats[0].job.now_s);
    let mut link = Some(link);
    while !seats.is_empty() {
        let next = match link.take() {
            Some(link) => Ok(link),
            None => shared.hosts.link().await,
        };
        let next = match next {
            Ok(next) => next,
            Err(fault) => return tell_all(seats, &fault),
        };
        let (count, _) = shared.sql.insert_many(seats.len());
        let later = seats.split_off(count);
        let rows = seats.iter().filter_map(|seat| match &seat.job.commit {
            Commit {
                id,
                change: Change::Create(record),
            } => Some((id, record)),
            _ => None,
        });
        let statement = committer.insert_many(&rows.collect::<Vec<_>>());
        if let Some((_, used, seats)) = send(shared, next, &statement, seats).await {
            // Before they are told: whoever comes back at once finds it in the pool.
            link = (!later.is_empty()).then_some(used);
            for seat in seats {
                seat.answer(Verdict::Committed);
            }
        }
        seats = later;
    }
}

/// Sends a statement for many. None if it failed: then everybody has been told.
async fn send<'a>(
    shared: &'a Shared,
    link: Link<'a>,
    statement: &Statement<'_>,
    seats: Vec<Seat<CommitJob>>,
) -> Option<(Answer, Link<'a>, Vec<Seat<CommitJob>>)> {
    let is_alone = seats.len() == 1;
    let is_swap = matches!(seats[0].job.kind, Kind::Swap(_));
    let repeat = match is_alone {
        true => Repeat::IfNotApplied,
        false => Repeat::IfNotForItsRows,
    };
    let sent = execute_over(link, Instant::now(), &shared.hosts, statement, repeat).await;
    if is_alone || sent.is_ok() {
        // Of several rows one may have been locked: they are done again one by one.
        let outcome = sent.as_ref().map(|_| ());
        shared.hosts.note_change(&seats[0].job.commit.id, outcome);
    }
    match sent {
        Ok((answer, link)) => Some((answer, link, seats)),
        // The same swap again is its own fence, and where it misses, the row's tokens tell what became of the first one.
        Err(fault) if fault.class == Class::RolledBackHere && is_swap => {
            one_by_one(shared, seats, First::MayLand).await;
            None
        }
        Err(fault) if is_alone || fault.is_undecided() || !fault.may_be_for_a_row() => {
            tell_all(seats, &fault);
            None
        }
        Err(_) => {
            one_by_one(shared, seats, First::IsOver).await;
            None
        }
    }
}

/// The statement that failed for many rows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum First {
    /// It will change no row any more.
    IsOver,
    /// It may still change rows: other members of the group may apply it.
    MayLand,
}

/// Each in a statement of its own, so that the one that is to blame fails alone.
async fn one_by_one(shared: &Shared, seats: Vec<Seat<CommitJob>>, first: First) {
    let each = stream::iter(seats).for_each_concurrent(shared.rows_in_flight_max, |seat| async {
        let committer = shared.committer(seat.job.now_s);
        let verdict = match committer.commit(&seat.job.commit).await {
            Verdict::RolledBack(error) if first == First::MayLand => Verdict::Ambiguous(error),
            Verdict::Conflict | Verdict::RolledBack(_) => recheck(shared, &seat.job, first).await,
            verdict => verdict,
        };
        seat.answer(verdict);
    });
    each.await;
}

/// The verdict on a conflict after a first statement has failed: where a statement runs on several servers at once (Vitess), or where
/// one member of a group rolled it back while it left, some of its rows may have been swapped all the same.
async fn recheck(shared: &Shared, job: &CommitJob, first: First) -> Verdict {
    if matches!(job.kind, Kind::Create) {
        // Another id is tried, and the row is the reaper's.
        return Verdict::Conflict;
    }
    let id = &job.commit.id;
    let found = match shared.hosts.link().await {
        Ok(mut link) => rows::tokens(&mut link, &shared.sql, &[id]).await,
        Err(fault) => Err(fault),
    };
    match found {
        Ok(tokens) => match (job.look(tokens.get(id.as_str().as_bytes())), first) {
            // The row does not remember so far back: the commit's base was old, and the statement passed the row over.
            (Finding::Unknown, First::IsOver) => Verdict::Conflict,
            (finding, _) => verdict_on(finding),
        },
        Err(fault) => Verdict::Ambiguous(fault.to_store_error()),
    }
}

impl CommitJob {
    fn look(&self, tokens: Option<&TokenHistory>) -> Finding {
        match self.kind {
            Kind::Swap(trace) => look(trace, tokens),
            Kind::Create => Finding::Unknown,
        }
    }
}

fn verdict_on(finding: Finding) -> Verdict {
    match finding {
        Finding::Applied => Verdict::Committed,
        Finding::NotApplied => Verdict::Conflict,
        Finding::Unknown => Verdict::Ambiguous(unavailable(
            "some rows of a statement were swapped, and this one is gone or was written anew since",
        )),
    }
}

fn tell_all(seats: Vec<Seat<CommitJob>>, fault: &Fault) {
    for seat in seats {
        seat.answer(verdict_of(fault));
    }
}
