//! Visitors that record every count and logout, and check that each answer is consistent with the answers before it.
//!
//! Each visitor logs in, counts in a session of its own through any of the entrances, logs out, and starts again. The ledger checks that
//!
//! - no count is lost and none is made twice: a session contains all increments that were answered, and each refused one at most once;
//! - no answer is older than an earlier one;
//! - the next request finds a session that was answered, at whichever entrance it arrives;
//! - once a logout is answered, no entrance serves the session, neither at once nor at the end of the test.
//!
//! Entrances are hosts that route the scriptable guest at `/s`, or load balancers in front of such hosts.

mod account;
mod plan;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::ensure;
use futures_util::future::join_all;
use reqwest::Method;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use self::account::{Account, Wrong};
pub use self::plan::{Figures, Plan};
use crate::browser::Browser;
use crate::wait::{pause, try_wait_until};

/// Longest wait for one answer. A host answers sooner, whatever its store does.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// Longest time in which every request of a visitor is refused.
const RECOVERY_TIME_MAX: Duration = Duration::from_secs(120);
/// The time that a visitor waits after a refusal. The number of refusals depends on it.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_millis(100);
/// The limit for the rounds of requests in one session.
const ROUNDS_MAX: u32 = 40;
/// The number of requests of one session that are sent concurrently, to different entrances.
const AT_ONCE: usize = 3;
/// The number of ended sessions that are checked concurrently at the end.
const ENDED_AT_ONCE: usize = 16;
/// The number of wrong answers that are shown.
const SHOWN_MAX: usize = 20;

/// The running visitors.
pub struct Ledger {
    book: Arc<Book>,
    visitors: Vec<JoinHandle<()>>,
}

/// State that all visitors write to.
struct Book {
    plan: Plan,
    is_over: AtomicBool,
    state: Mutex<State>,
}

struct State {
    figures: Figures,
    /// The time at which each visitor was last served.
    served_at: Vec<Instant>,
    /// Answers that cannot be correct.
    wrong: Vec<String>,
    /// The cookies of ended sessions, and the time of each logout request.
    ended: Vec<(String, Instant)>,
    /// Commits answered to requests before this time may be lost.
    may_lose_until: Option<Instant>,
    /// The number of answers that lacked data which may be lost.
    losses: u64,
}

/// A visitor's knowledge of its session.
struct Session {
    account: Account,
    /// The time of the last request whose answer showed the content of the session.
    known_since: Instant,
}

/// A visitor, which has one session at a time.
struct Visitor {
    book: Arc<Book>,
    number: usize,
}

impl Ledger {
    /// Starts the visitors.
    pub fn open(plan: Plan) -> Self {
        let count = plan.visitors;
        let book = Arc::new(Book {
            plan,
            is_over: AtomicBool::new(false),
            state: Mutex::new(State {
                figures: Figures::default(),
                served_at: vec![Instant::now(); count],
                wrong: Vec::new(),
                ended: Vec::new(),
                may_lose_until: None,
                losses: 0,
            }),
        });
        let visitor = |number| Visitor {
            book: Arc::clone(&book),
            number,
        };
        let visitors = (0..count)
            .map(|n| tokio::spawn(visitor(n).visit()))
            .collect();
        Self { book, visitors }
    }

    /// Returns the figures and resets them.
    pub fn take(&self) -> Figures {
        std::mem::take(&mut self.book.lock().figures)
    }

    /// Waits until each visitor has been served after this call.
    ///
    /// # Errors
    /// The wrong answers so far, if a visitor is not served for two minutes.
    pub async fn all_are_served(&self) -> Result<(), String> {
        let called_at = Instant::now();
        let is_served = || (self.book.lock().served_at.iter()).all(|at| *at > called_at);
        let what = "all visitors are served again";
        let served = try_wait_until(what, RECOVERY_TIME_MAX, async || {
            ensure!(is_served(), self.book.wrong().unwrap_or_default());
            Ok(())
        });
        served.await.map_err(|error| error.to_string())
    }

    /// Notes that commits answered up to now may be lost: a primary died before its replica had the last commits.
    pub fn may_lose_until_now(&self) {
        self.book.lock().may_lose_until = Some(Instant::now());
    }

    /// Lets the visitors log out and checks that every ended session is gone. Returns the number of answers that lacked data which may be
    /// lost.
    ///
    /// # Errors
    /// A description of the first answers that cannot be correct.
    pub async fn close(mut self) -> Result<u64, String> {
        self.book.is_over.store(true, Ordering::Relaxed);
        for visitor in self.visitors.drain(..) {
            visitor.await.expect("a visitor does not panic");
        }
        let ended = self.book.lock().ended.clone();
        for (turn, some) in ended.chunks(ENDED_AT_ONCE).enumerate() {
            let visitor = Visitor {
                book: Arc::clone(&self.book),
                number: 0,
            };
            let missing = some
                .iter()
                .map(|(cookie, asked_at)| visitor.misses(cookie, turn, *asked_at));
            join_all(missing).await;
        }
        let losses = self.book.lock().losses;
        self.book.wrong().map_or(Ok(losses), Err)
    }
}

impl Book {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic holds it")
    }

    /// Describes the answers that cannot be correct. Returns `None` where there are none.
    fn wrong(&self) -> Option<String> {
        let state = self.lock();
        let shown: Vec<_> = state.wrong.iter().take(SHOWN_MAX).cloned().collect();
        (!shown.is_empty()).then(|| {
            format!(
                "{} answers cannot be correct:\n{}",
                state.wrong.len(),
                shown.join("\n")
            )
        })
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

impl Visitor {
    async fn visit(self) {
        while !self.book.is_over() {
            let browser = Browser::new();
            if let Some(session) = self.log_in(&browser).await {
                let known_since = self.stay(&browser, session).await;
                self.log_out(&browser, known_since).await;
            }
        }
    }

    /// Counts and reads, then reads at each entrance, until an answer is wrong. Returns the time since which the session's content is
    /// known.
    async fn stay(&self, browser: &Browser, mut session: Session) -> Instant {
        for _ in 0..fastrand::u32(..ROUNDS_MAX) {
            if self.book.is_over() {
                break;
            }
            let is_right = match fastrand::u32(..6) {
                0..3 => self.count(browser, &mut session, 1).await,
                3 => self.count(browser, &mut session, AT_ONCE).await,
                _ => self.read(browser, &mut session, self.any()).await,
            };
            if !is_right {
                return session.known_since;
            }
        }
        for entrance in 0..self.book.plan.entrances.len() {
            if !self.read(browser, &mut session, entrance).await {
                break;
            }
        }
        session.known_since
    }

    /// Creates a session and checks that the next entrance finds it.
    async fn log_in(&self, browser: &Browser) -> Option<Session> {
        let (entrance, asked_at) = (self.any(), Instant::now());
        self.ask(browser, entrance, "set n 0").await?;
        if browser.cookies(&self.book.plan.entrances[0]).is_none() {
            self.wrong("a login was answered without a cookie");
            return None;
        }
        let mut session = Session {
            account: Account::default(),
            known_since: asked_at,
        };
        self.read(browser, &mut session, entrance + 1).await;
        Some(session)
    }

    /// Increments concurrently at `times` entrances. Returns false where an answer was wrong.
    async fn count(&self, browser: &Browser, session: &mut Session, times: usize) -> bool {
        let (first, asked_at) = (self.any(), Instant::now());
        let asked = (0..times).map(|n| self.ask(browser, first + n, "increment n 1"));
        let answers = join_all(asked).await;
        let sums: Result<Vec<_>, _> = answers.iter().flatten().map(|text| number(text)).collect();
        let counted = sums.and_then(|sums| {
            (session.account.counted(&sums, times - sums.len())).map(|()| !sums.is_empty())
        });
        self.judge(session, counted, asked_at)
    }

    /// Returns false where the answer was wrong.
    async fn read(&self, browser: &Browser, session: &mut Session, entrance: usize) -> bool {
        let asked_at = Instant::now();
        let read = match self.ask(browser, entrance, "get n").await {
            Some(text) => number(&text).and_then(|count| session.account.read(count)),
            None => return true,
        };
        self.judge(session, read.map(|()| true), asked_at)
    }

    /// Records that an answer was wrong, or that it showed the content of the session.
    fn judge(&self, session: &mut Session, answer: Result<bool, Wrong>, asked_at: Instant) -> bool {
        match answer {
            Ok(is_answered) => {
                if is_answered {
                    session.known_since = asked_at;
                }
                true
            }
            Err(what) => {
                // Of concurrent requests, one may have been answered before the loss and another after it.
                self.note(&what, session.known_since);
                false
            }
        }
    }

    /// Logs out, repeats that while it is refused, and checks at the next entrance that the session is gone.
    async fn log_out(&self, browser: &Browser, known_since: Instant) {
        let Some(cookie) = browser.cookies(&self.book.plan.entrances[0]) else {
            let what = "the cookie of a session was taken away".to_owned();
            self.note(&Wrong::Lacks(what), known_since);
            return;
        };
        let entrance = self.any();
        let Some((_, asked_at)) = self.insist(&cookie, entrance, "destroy").await else {
            return;
        };
        self.misses(&cookie, entrance + 1, asked_at).await;
        let mut state = self.book.lock();
        state.figures.logouts += 1;
        state.ended.push((cookie, asked_at));
    }

    /// Checks that no session with this cookie is served. The logout was requested at `ended_at`.
    async fn misses(&self, cookie: &str, entrance: usize, ended_at: Instant) {
        let found = self.insist(cookie, entrance, "get n").await;
        if let Some((text, _)) = found.filter(|(text, _)| text != "none") {
            let what = format!("a session that had ended was served: it holds {text}");
            self.note(&Wrong::Lacks(what), ended_at);
        }
    }

    /// Sends a script to one entrance after the other until it is answered. Returns the answer and the time of its request. Returns `None`
    /// and records a wrong answer where the script is refused for too long.
    async fn insist(&self, cookie: &str, first: usize, script: &str) -> Option<(String, Instant)> {
        let began_at = Instant::now();
        let mut entrance = first;
        while began_at.elapsed() < RECOVERY_TIME_MAX {
            // The first answer removes a dead cookie from a browser, so each request uses a new one.
            let replay = Browser::with_cookie(&self.book.plan.entrances[0], cookie);
            let asked_at = Instant::now();
            if let Some(text) = self.ask(&replay, entrance, script).await {
                return Some((text, asked_at));
            }
            entrance += 1;
        }
        self.wrong(&format!("{script}: refused for {RECOVERY_TIME_MAX:?}"));
        None
    }

    /// Sends a script to an entrance. Returns the answer, or `None` where the script was refused.
    async fn ask(&self, browser: &Browser, entrance: usize, script: &str) -> Option<String> {
        let plan = &self.book.plan;
        if !plan.pause.is_zero() {
            let duration = plan.pause.mul_f64(0.5 + fastrand::f64() / 2.0);
            pause(duration, "the visitor's pace").await;
        }
        let url = format!("{}/s", plan.entrances[entrance % plan.entrances.len()]);
        let sent = browser.try_send(Method::POST, &url, script.to_owned());
        let answer = match timeout(ANSWER_TIME_MAX, sent).await {
            Ok(Ok(answer)) if answer.status == 200 => {
                self.note_service();
                return Some(answer.text.trim().to_owned());
            }
            Ok(answer) => answer,
            Err(_) => {
                self.wrong(&format!("{script}: no answer in {ANSWER_TIME_MAX:?}"));
                return None;
            }
        };
        match answer {
            Ok(answer) if plan.refusals.contains(&answer.status) => {
                self.book.lock().figures.refused += 1;
            }
            Ok(answer) => self.wrong(&format!("{script}: {} {}", answer.status, answer.text)),
            Err(_) if plan.loses_links => self.book.lock().figures.refused += 1,
            Err(error) => self.wrong(&format!("{script}: {error}")),
        }
        pause(PAUSE_AFTER_REFUSAL, "the visitor's pace").await;
        None
    }

    fn note_service(&self) {
        let mut state = self.book.lock();
        let gap = state.served_at[self.number].elapsed();
        state.served_at[self.number] = Instant::now();
        state.figures.answered += 1;
        state.figures.gap_max = state.figures.gap_max.max(gap);
    }

    /// Records a wrong answer. An answer that only lacks data from a request at `known_since` is counted as a loss where it may be lost.
    fn note(&self, what: &Wrong, known_since: Instant) {
        let is_explained = matches!(what, Wrong::Lacks(_))
            && (self.book.lock().may_lose_until).is_some_and(|until| known_since < until);
        match is_explained {
            true => self.book.lock().losses += 1,
            false => self.wrong(what.text()),
        }
    }

    fn wrong(&self, what: &str) {
        let line = format!("visitor {}: {what}", self.number);
        self.book.lock().wrong.push(line);
    }

    fn any(&self) -> usize {
        fastrand::usize(..self.book.plan.entrances.len())
    }
}

fn number(text: &str) -> Result<u64, Wrong> {
    text.parse()
        .map_err(|_| Wrong::Lacks(format!("a session was not found: {text:?} is no number")))
}
