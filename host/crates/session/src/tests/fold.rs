//! Requests that wait for their session's lock: the holder writes their changes together with its own, in one row write.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::super::{Session, SessionOptions, TransactionOutcome, TransactionRefusal, VisitStart};
use super::fixture::SessionFixture;
use super::guest::{Trap, answered, guest, refused};
use super::stubborn::{Asked, Fate, Gate};
use crate::record::SessionId;
use crate::store::StoreErrorKind;

/// The actions of a waiting request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    /// Adds 1 to `n`.
    Add,
    /// Writes its own key, and reads a key that no request writes.
    SetOwn(&'static str),
    /// Adds 1 to `n` and sees the sum.
    Bump,
    /// Writes the same value to `n` as the holder.
    SetSame,
}

impl Does {
    async fn to(self, session: Session) -> Result<(), Trap> {
        match self {
            Self::Add => session.add("n", 1).await?,
            Self::SetOwn(key) => {
                session.set(key, "true").await?;
                session.get("still").await?;
            }
            Self::Bump => {
                session.increment("n", 1).await?;
            }
            Self::SetSame => session.set("n", "10").await?,
        }
        Ok(())
    }
}

type Waiting = JoinHandle<TransactionOutcome<u32, Trap>>;

/// A session whose lock is held, and the requests that wait for it.
struct Jam {
    fixture: Arc<SessionFixture>,
    id: SessionId,
    gate: Arc<Gate>,
    holder: JoinHandle<TransactionOutcome<(), Trap>>,
    waiting: Vec<Waiting>,
}

impl Jam {
    /// The holder sets `n` to 10 and stays in its guest until the others wait.
    async fn of(all: &[Does]) -> Self {
        Self::behind(None, all).await
    }

    /// Like [`Jam::of`], but the holder also gives the session this lifetime.
    async fn behind(max_age_ms: Option<i64>, all: &[Does]) -> Self {
        Self::within(SessionFixture::new(), max_age_ms, all).await
    }

    async fn within(fixture: SessionFixture, max_age_ms: Option<i64>, all: &[Does]) -> Self {
        let fixture = Arc::new(fixture);
        let id = fixture.make(None, &[("n", "0"), ("still", "1")]);
        let gate = Gate::new();
        let holder = tokio::spawn({
            let (fixture, id, gate) = (Arc::clone(&fixture), id.clone(), Arc::clone(&gate));
            async move {
                let mut visit = fixture.visit(Some(&id));
                visit.start = VisitStart::Exclusive;
                let mut guest = guest(|session, number| {
                    let gate = Arc::clone(&gate);
                    async move {
                        session.set("n", "10").await?;
                        if max_age_ms.is_some() {
                            session.set_max_age(max_age_ms).await?;
                        }
                        if number == 1 {
                            gate.pass().await;
                        }
                        Ok(())
                    }
                });
                fixture.manager.transact(visit, &mut guest).await
            }
        });
        gate.arrival().await;
        let waiting = all.iter().map(|does| wait(&fixture, &id, *does)).collect();
        // On a current-thread runtime, this lets each of them run as far as it can.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        fixture.store.take_asked();
        Self {
            fixture,
            id,
            gate,
            holder,
            waiting,
        }
    }

    /// Lets the holder continue. Returns the outcomes of the holder and of the others, and the number of runs of the others.
    async fn dissolve(
        self,
    ) -> (
        TransactionOutcome<(), Trap>,
        Vec<TransactionOutcome<u32, Trap>>,
        Arc<SessionFixture>,
        SessionId,
    ) {
        self.gate.open();
        let holder = self.holder.await.expect("no panic");
        let mut others = Vec::new();
        for waiting in self.waiting {
            others.push(waiting.await.expect("no panic"));
        }
        (holder, others, self.fixture, self.id)
    }
}

fn wait(fixture: &Arc<SessionFixture>, id: &SessionId, does: Does) -> Waiting {
    let (fixture, visit) = (Arc::clone(fixture), fixture.visit(Some(id)));
    tokio::spawn(async move {
        let mut guest = guest(|session, number| async move {
            does.to(session).await?;
            Ok(number)
        });
        fixture.manager.transact(visit, &mut guest).await
    })
}

const CROWD: [Does; 5] = [
    Does::Add,
    Does::SetOwn("a"),
    Does::Add,
    Does::SetOwn("b"),
    Does::Add,
];

async fn assert_all_is_there(fixture: &SessionFixture, id: &SessionId, n: &str) {
    assert_eq!(fixture.entry(id, "n").await.as_deref(), Some(n));
    for key in ["a", "b"] {
        assert_eq!(
            fixture.entry(id, key).await.as_deref(),
            Some("true"),
            "{key}"
        );
    }
}

fn assert_answered_once(others: Vec<TransactionOutcome<u32, Trap>>) {
    for outcome in others {
        assert_eq!(answered(outcome).0, 1, "no guest ran again");
    }
}

#[tokio::test]
async fn without_folding_each_request_writes_the_row_itself() {
    let options = SessionOptions {
        fold_commits: false,
        ..SessionOptions::default()
    };
    let jam = Jam::within(
        SessionFixture::with(options),
        None,
        &[Does::Add, Does::Bump],
    )
    .await;
    let (holder, others, fixture, id) = jam.dissolve().await;
    answered(holder);
    for outcome in others {
        answered(outcome);
    }
    assert_eq!(fixture.counters().folded_commits.get(), 0);
    assert_eq!(fixture.counters().commits.get(), 3);
    assert_eq!(fixture.entry(&id, "n").await.as_deref(), Some("12"));
}

#[tokio::test]
async fn waiting_visits_are_folded_into_one_write() {
    let jam = Jam::of(&CROWD).await;
    let (holder, others, fixture, id) = jam.dissolve().await;
    answered(holder);
    assert_answered_once(others);
    assert_all_is_there(&fixture, &id, "13").await;
    assert_eq!(fixture.asked().await, [Asked::Replace]);
    assert_eq!(fixture.counters().commits.get(), 6);
    assert_eq!(fixture.counters().folded_commits.get(), 5);
}

#[tokio::test]
async fn only_waiting_visits_whose_reads_have_changed_are_rerun() {
    let jam = Jam::of(&[
        Does::Bump,
        Does::Add,
        Does::Bump,
        Does::SetOwn("a"),
        Does::SetOwn("b"),
    ])
    .await;
    let (holder, others, fixture, id) = jam.dissolve().await;
    answered(holder);
    let runs: Vec<_> = others
        .into_iter()
        .map(|outcome| answered(outcome).0)
        .collect();
    assert_eq!(runs[1], 1);
    assert_eq!(runs[3..], [1, 1]);
    assert_all_is_there(&fixture, &id, "13").await;
    assert_eq!(fixture.counters().folded_commits.get(), 3);
}

#[tokio::test]
async fn a_visit_whose_changes_are_already_stored_needs_no_write() {
    let jam = Jam::of(&[Does::SetSame, Does::Add]).await;
    let (holder, others, fixture, id) = jam.dissolve().await;
    answered(holder);
    assert_answered_once(others);
    assert_eq!(fixture.entry(&id, "n").await.as_deref(), Some("11"));
    let asked = fixture.asked().await;
    assert_eq!(
        asked
            .iter()
            .filter(|asked| **asked == Asked::Replace)
            .count(),
        1,
        "{asked:?}"
    );
}

#[tokio::test]
async fn after_a_conflict_with_another_process_all_visits_are_folded_again() {
    let jam = Jam::of(&CROWD).await;
    jam.fixture
        .overwrite(&jam.id, None, &[("n", "5"), ("still", "1"), ("other", "2")]);
    let (holder, others, fixture, id) = jam.dissolve().await;
    answered(holder);
    assert_answered_once(others);
    assert_all_is_there(&fixture, &id, "13").await;
    assert_eq!(fixture.entry(&id, "other").await.as_deref(), Some("2"));
    assert_eq!(
        fixture.asked().await,
        [Asked::Replace, Asked::Load, Asked::Replace]
    );
}

#[tokio::test]
async fn a_store_failure_refuses_all_visits_of_a_folded_commit() {
    let jam = Jam::of(&CROWD).await;
    jam.fixture.store.will_commit([Fate::DOWN]);
    let (holder, others, fixture, id) = jam.dissolve().await;
    assert_eq!(refused(holder).0, TransactionRefusal::StoreUnavailable);
    for outcome in others {
        assert_eq!(refused(outcome).0, TransactionRefusal::StoreUnavailable);
    }
    assert_eq!(fixture.entry(&id, "n").await.as_deref(), Some("0"));
    assert_eq!(
        fixture.asked().await,
        [Asked::Replace],
        "a store that is down is not asked five more times"
    );
}

#[tokio::test]
async fn a_folded_commit_that_is_refused_is_retried_for_the_holder_alone() {
    for kind in [StoreErrorKind::TooLarge, StoreErrorKind::Refused] {
        let jam = Jam::of(&CROWD).await;
        jam.fixture.store.will_commit([Fate::Fails(kind)]);
        let (holder, others, fixture, id) = jam.dissolve().await;
        answered(holder);
        assert_answered_once(others);
        assert_all_is_there(&fixture, &id, "13").await;
        assert_eq!(
            fixture.asked().await,
            [Asked::Replace, Asked::Replace, Asked::Load, Asked::Replace],
            "{kind:?}: the crowd, the holder alone, the others on the row that is there"
        );
    }
}

#[tokio::test]
async fn a_lost_reply_is_settled_for_all_visits_of_a_folded_commit() {
    for fate in [Fate::DoneReplyLost, Fate::NotDoneReplyLost] {
        let jam = Jam::of(&CROWD).await;
        jam.fixture.store.will_commit([fate.clone()]);
        let (holder, others, fixture, id) = jam.dissolve().await;
        answered(holder);
        assert_answered_once(others);
        assert_all_is_there(&fixture, &id, "13").await;
        assert_eq!(fixture.counters().commits.get(), 6, "{fate:?}");
    }
}

#[tokio::test]
async fn no_visit_is_folded_into_a_commit_that_ends_the_session() {
    let jam = Jam::behind(Some(-1_000), &[Does::Add]).await;
    let (holder, others, fixture, id) = jam.dissolve().await;
    answered(holder);
    others
        .into_iter()
        .for_each(|outcome| drop(answered(outcome)));
    let row = fixture.row(&id).await.expect("the row is still there");
    assert!(row.expires_at_s < fixture.clock.now_s(), "it has ended");
    assert_eq!(fixture.counters().folded_commits.get(), 0);
}
