//! The cookies that each kind of visit sends and the rows that it stores: the decision table of express-session, row by
//! row, with this host's defaults and with those of `express-1`.

use super::super::{
    CookieChange, CookieOptions, SecurePolicy, Session, SessionOptions, TouchPolicy,
    TransactionOutcome, UnsetPolicy,
};
use super::fixture::{SessionFixture, presented, set_for};
use super::guest::{Trap, guest};
use super::stubborn::Asked;

/// The cookie that a visit comes with.
#[derive(Clone, Copy, Debug, PartialEq)]
enum With {
    Nothing,
    /// The cookie of a session with a lifetime of ten minutes.
    Lasting,
    /// The cookie of a session without a lifetime.
    Plain,
    /// The cookie of a session that is gone.
    Dead,
    /// A cookie that was tampered with.
    Tampered,
}

/// An action of the guest.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Do {
    Nothing,
    Read,
    Write,
    Restore,
    Reorder,
    SetMaxAge,
    Save,
    Regenerate,
    Renew,
    Destroy,
    Unset,
    Reload,
    Touch,
    Trap,
}

const WITH: [With; 5] = [
    With::Nothing,
    With::Lasting,
    With::Plain,
    With::Dead,
    With::Tampered,
];

const STEPS: [Do; 14] = [
    Do::Nothing,
    Do::Read,
    Do::Write,
    Do::Restore,
    Do::Reorder,
    Do::SetMaxAge,
    Do::Save,
    Do::Regenerate,
    Do::Renew,
    Do::Destroy,
    Do::Unset,
    Do::Reload,
    Do::Touch,
    Do::Trap,
];

async fn make(session: &Session, step: Do) -> Result<(), Trap> {
    match step {
        Do::Nothing => {}
        Do::Read => drop(session.get("a").await?),
        Do::Write => drop(session.increment("n", 1).await?),
        Do::Restore => {
            session.set("a", "\"other\"").await?;
            session.set("a", "1").await?;
        }
        Do::Reorder => {
            session.delete("a").await?;
            session.set("a", "1").await?;
        }
        Do::SetMaxAge => session.set_max_age(Some(90_000)).await?,
        Do::Save => session.save().await?,
        Do::Regenerate => session.regenerate().await?,
        Do::Renew => session.renew().await?,
        Do::Destroy => session.destroy().await?,
        Do::Unset => session.unset().await?,
        Do::Reload => session.reload().await?,
        Do::Touch => session.touch().await?,
        Do::Trap => return Err(Trap::OfItself),
    }
    Ok(())
}

/// The change to the visitor's cookie.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cookie {
    Keep,
    /// The cookie is set for the session that it already names.
    Same,
    /// The cookie is set for another session.
    New,
    Expire,
}

fn ours() -> SessionOptions {
    SessionOptions::default()
}

/// Returns the options that `compat = "express-1"` sets.
fn express_1() -> SessionOptions {
    SessionOptions {
        resave: true,
        save_uninitialized: true,
        unset: UnsetPolicy::Keep,
        expire_on_destroy: false,
        touch: TouchPolicy::Always,
        cookie: CookieOptions {
            secure: SecurePolicy::Never,
            same_site: None,
            ..CookieOptions::default()
        },
        ..SessionOptions::default()
    }
}

/// Runs one visit, more than a minute after its session was last used. Returns the cookie change, the store calls and the number of rows.
async fn visit(options: SessionOptions, with: With, steps: &[Do]) -> (Cookie, Vec<Asked>, usize) {
    let fixture = SessionFixture::with(options);
    let entries = [("a", "1"), ("b", "2")];
    let id = match with {
        With::Lasting => fixture.make(Some(600_000), &entries),
        With::Plain => fixture.make(None, &entries),
        _ => crate::record::SessionId::generate(),
    };
    fixture.clock.advance(70_000);
    let mut visit = fixture.visit(Some(&id));
    match with {
        With::Nothing => visit.presented = presented(&[]),
        With::Tampered => {
            let signed = super::fixture::keys().sign(&id);
            visit.presented = presented(&[signed.replacen(id.as_str(), "another", 1)]);
        }
        _ => {}
    }
    let mut guest = guest(|session, _| async move {
        for step in steps {
            make(&session, *step).await?;
        }
        Ok(())
    });
    let outcome = fixture.manager.transact(visit, &mut guest).await;
    assert_eq!(guest.runs, 1);
    let cookie = match outcome {
        TransactionOutcome::Answered { cookie, .. } => cookie,
        TransactionOutcome::Failed { failure, cookie } => {
            assert_eq!(failure, Trap::OfItself);
            cookie
        }
        TransactionOutcome::Refused { refusal, .. } => panic!("{steps:?}: {refusal:?}"),
    };
    let fate = match &cookie {
        CookieChange::Keep => Cookie::Keep,
        CookieChange::Expire { .. } => Cookie::Expire,
        CookieChange::Set { .. } if set_for(&cookie) == id => Cookie::Same,
        CookieChange::Set { .. } => Cookie::New,
        CookieChange::WithDuplicates { .. } => panic!("a visit has one cookie"),
    };
    (fate, fixture.asked().await, fixture.rows())
}

/// Returns the value in `all` whose name is `word`.
fn named<T: Copy + std::fmt::Debug>(all: &[T], word: &str) -> T {
    let found = all.iter().find(|one| format!("{one:?}") == word);
    *found.unwrap_or_else(|| panic!("nothing is called {word}"))
}

/// Checks a table. Its columns are: the visit's cookie, the guest's actions, the cookie change, the store calls, and the rows left.
async fn check(profile: &str, options: impl Fn() -> SessionOptions, table: &str) {
    let lines = table.lines().map(str::trim);
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let [with, steps, cookie, asked, rows] = columns[..] else {
            panic!("{profile}: {line}");
        };
        let steps: Vec<Do> = steps.split(' ').map(|word| named(&STEPS, word)).collect();
        let told = visit(options(), named(&WITH, with), &steps).await;
        let told_asked: Vec<String> = told.1.iter().map(|one| format!("{one:?}")).collect();
        let told = (
            format!("{:?}", told.0),
            told_asked.join(" "),
            told.2.to_string(),
        );
        let asked = if asked == "-" { "" } else { asked };
        let expected = (cookie.to_owned(), asked.to_owned(), rows.to_owned());
        assert_eq!(told, expected, "{profile}: {line}");
    }
}

#[tokio::test]
async fn commit_decisions_follow_the_table_of_the_hosts_defaults() {
    let table = "
        Nothing  | Nothing                 | Keep   | -                    | 0
        Nothing  | Read                    | Keep   | -                    | 0
        Nothing  | Write                   | New    | Create               | 1
        Nothing  | Save                    | New    | Create               | 1
        Nothing  | SetMaxAge               | New    | Create               | 1
        Nothing  | Touch                   | Keep   | -                    | 0
        Nothing  | Regenerate              | New    | Create               | 1
        Nothing  | Renew                   | Keep   | -                    | 0
        Nothing  | Destroy                 | Keep   | -                    | 0
        Nothing  | Write Destroy           | Keep   | -                    | 0
        Nothing  | Write Unset             | Keep   | -                    | 0
        Nothing  | Write Trap              | Keep   | -                    | 0
        # Unchanged.
        Lasting  | Nothing                 | Keep   | Load Touch           | 1
        Lasting  | Read                    | Keep   | Load Touch           | 1
        Plain    | Read                    | Keep   | Load Touch           | 1
        Lasting  | Restore                 | Keep   | Load Touch           | 1
        Lasting  | Touch                   | Keep   | Load Touch           | 1
        Lasting  | Reload                  | Keep   | Load Load Touch      | 1
        Lasting  | Write Reload            | Keep   | Load Load Touch      | 1
        # Changed.
        Lasting  | Write                   | Same   | Load Replace         | 1
        Plain    | Write                   | Keep   | Load Replace         | 1
        Lasting  | Reorder                 | Same   | Load Replace         | 1
        Plain    | Reorder                 | Keep   | Load Replace         | 1
        # Express loses the first of these and sends no cookie for the second.
        Plain    | SetMaxAge               | Same   | Load Replace         | 1
        Lasting  | SetMaxAge Save          | Same   | Load Replace         | 1
        Plain    | SetMaxAge Write         | Same   | Load Replace         | 1
        # Saved on the way.
        Lasting  | Save                    | Keep   | Load Replace         | 1
        Lasting  | Write Save              | Same   | Load Replace         | 1
        Plain    | Write Save              | Keep   | Load Replace         | 1
        Lasting  | Save Write              | Same   | Load Replace Replace | 1
        Lasting  | Write Save Trap         | Same   | Load Replace         | 1
        Nothing  | Write Save Write        | New    | Create Replace       | 1
        # Another id: one statement, where Express deletes and inserts.
        Plain    | Regenerate              | New    | Load Move            | 1
        Plain    | Renew                   | New    | Load Move            | 1
        Lasting  | Regenerate Write Save   | New    | Load Move            | 1
        Plain    | Renew Renew Write       | New    | Load Move            | 1
        Plain    | Destroy Regenerate      | New    | Load Move            | 1
        # Ended: deleted once, where Express may delete twice.
        Lasting  | Destroy                 | Expire | Load BlindDelete     | 0
        Lasting  | Unset                   | Expire | Load BlindDelete     | 0
        Lasting  | Destroy Unset           | Expire | Load BlindDelete     | 0
        Lasting  | Write Destroy           | Expire | Load Delete          | 0
        Lasting  | Write Trap              | Keep   | Load                 | 1
        # A session that is gone, and a cookie that is none.
        Dead     | Nothing                 | Expire | Load                 | 0
        Dead     | Read                    | Expire | Load                 | 0
        # Deleted all the same: a server that lags may have the row.
        Dead     | Destroy                 | Expire | Load BlindDelete     | 0
        Dead     | Destroy Save            | Expire | Load BlindDelete     | 0
        Dead     | Write Destroy           | Expire | Load BlindDelete     | 0
        Dead     | Unset                   | Expire | Load BlindDelete     | 0
        Dead     | Destroy Regenerate      | New    | Load Create BlindDelete | 1
        Dead     | Write                   | New    | Load Create          | 1
        Tampered | Nothing                 | Keep   | -                    | 0
        Tampered | Read                    | Keep   | -                    | 0
        Tampered | Write                   | New    | Create               | 1
        Tampered | Destroy                 | Expire | -                    | 0
    ";
    check("ours", ours, table).await;
}

#[tokio::test]
async fn commit_decisions_follow_the_table_of_express_1() {
    let table = "
        Nothing  | Nothing                 | New    | Create               | 1
        Nothing  | Read                    | New    | Create               | 1
        Nothing  | Write                   | New    | Create               | 1
        Nothing  | Write Destroy           | Keep   | -                    | 0
        Nothing  | Write Unset             | Keep   | -                    | 0
        # The whole row each time, and so no touch.
        Lasting  | Read                    | Keep   | Load Replace         | 1
        Plain    | Nothing                 | Keep   | Load Replace         | 1
        Lasting  | Restore                 | Keep   | Load Replace         | 1
        Lasting  | Reload                  | Keep   | Load Load Replace    | 1
        Lasting  | Write                   | Same   | Load Replace         | 1
        Plain    | Write                   | Keep   | Load Replace         | 1
        Lasting  | Save                    | Keep   | Load Replace         | 1
        Lasting  | Write Save              | Same   | Load Replace         | 1
        Lasting  | Save Write              | Same   | Load Replace Replace | 1
        Plain    | Regenerate              | New    | Load Move            | 1
        # The browser keeps its cookie.
        Lasting  | Destroy                 | Keep   | Load BlindDelete     | 0
        Lasting  | Unset                   | Keep   | Load                 | 1
        Lasting  | Write Unset             | Keep   | Load                 | 1
        Dead     | Destroy                 | Keep   | Load BlindDelete     | 0
        Dead     | Read                    | New    | Load Create          | 1
        Tampered | Read                    | New    | Create               | 1
    ";
    check("express-1", express_1, table).await;
    // The options that a route of a live app usually sets.
    let usual = || SessionOptions {
        resave: false,
        save_uninitialized: false,
        ..express_1()
    };
    let table = "
        Nothing  | Read                    | Keep   | -                    | 0
        Lasting  | Read                    | Keep   | Load Touch           | 1
        Dead     | Read                    | Keep   | Load                 | 0
        Lasting  | Unset                   | Keep   | Load                 | 1
        Tampered | Read                    | Keep   | -                    | 0
    ";
    check("express-1 with the usual options", usual, table).await;
}

#[tokio::test]
async fn rolling_sends_the_cookie_of_a_known_session_each_time() {
    let rolling = || SessionOptions {
        rolling: true,
        ..ours()
    };
    let table = "
        Nothing  | Read                    | Keep   | -                    | 0
        Nothing  | Write                   | New    | Create               | 1
        Lasting  | Nothing                 | Same   | Load Touch           | 1
        Plain    | Read                    | Same   | Load Touch           | 1
        Plain    | Write                   | Same   | Load Replace         | 1
        Dead     | Read                    | Expire | Load                 | 0
        Plain    | Destroy                 | Expire | Load BlindDelete     | 0
    ";
    check("rolling", rolling, table).await;
}

#[tokio::test]
async fn unset_keep_drops_the_visits_changes_and_touches_nothing() {
    let keep = || SessionOptions {
        unset: UnsetPolicy::Keep,
        rolling: true,
        ..ours()
    };
    let table = "
        Nothing  | Write Unset             | Keep   | -                    | 0
        Lasting  | Unset                   | Keep   | Load                 | 1
        Lasting  | Write Unset             | Keep   | Load                 | 1
        Lasting  | Write Unset Save        | Keep   | Load                 | 1
        Lasting  | Write Unset Reload      | Same   | Load Load Touch      | 1
        Lasting  | Unset Destroy           | Expire | Load BlindDelete     | 0
        Lasting  | Destroy Unset           | Expire | Load BlindDelete     | 0
        Lasting  | Unset Regenerate        | New    | Load Move            | 1
    ";
    check("unset = keep", keep, table).await;
}

#[tokio::test]
async fn five_first_requests_at_once_are_five_sessions() {
    let fixture = SessionFixture::with(express_1());
    let visits = (0..5).map(|_| fixture.first_request(guest(|_, _| async { Ok(()) })));
    let mut ids: Vec<_> = futures_util::future::join_all(visits)
        .await
        .into_iter()
        .map(|outcome| set_for(&super::guest::answered(outcome).1))
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), fixture.rows()), (5, 5));
}
