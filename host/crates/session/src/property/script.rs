//! The guests of a property test: random calls, and the result of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::{Attempt, ReplayPolicy, Session, SessionCallError, SessionError};

/// A small generator of random numbers (SplitMix64): the same seed gives the same case on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Returns true in `percent` of a hundred calls.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }
}

/// Yields a random number of times.
pub(crate) async fn pause(rng: &mut Rng, most: usize) {
    for _ in 0..rng.below(most + 1) {
        tokio::task::yield_now().await;
    }
}

/// A call of a guest, or another action between calls.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call {
    Get(&'static str),
    Set(&'static str, String),
    Delete(&'static str),
    Add(&'static str, i64),
    Increment(&'static str, i64),
    /// `get`, and then `set` of the value plus one.
    Bump(&'static str),
    ListKeys,
    Clear,
    Save,
    Reload,
    Renew,
    Regenerate,
    Destroy,
    Unset,
    Touch,
    Cookie,
    SetMaxAge(Option<i64>),
    Fingerprint,
    /// An effect outside of the sandbox.
    Effect,
    /// The guest fails.
    Trap,
}

/// The result of a call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    Done,
    Text(Option<String>),
    Keys(Vec<String>),
    Sum(i64),
    /// The lifetime and the end.
    Cookie(Option<i64>, Option<i64>),
    Name(Option<String>),
    Invalid,
    Committed,
    Unavailable,
    /// No call of the test may be refused for another reason.
    Unexpected(String),
}

/// A call with its result and the times at which it was made and done.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) call: Call,
    pub(crate) said: Said,
    pub(crate) made_at: u64,
    pub(crate) done_at: u64,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (made_at, done_at) = (self.made_at, self.done_at);
        write!(
            f,
            "{:?} -> {:?} @{made_at}..{done_at}",
            self.call, self.said
        )
    }
}

pub(crate) const KEYS: [&str; 3] = ["a", "b", "c"];

/// Returns a random script. It uses few keys and few values, so that guests conflict.
pub(crate) fn script(rng: &mut Rng) -> Vec<Call> {
    let length = 1 + rng.below(6);
    let mut calls: Vec<Call> = (0..length).map(|_| call(rng)).collect();
    if rng.chance(4) {
        calls.push(Call::Trap);
    }
    calls
}

fn call(rng: &mut Rng) -> Call {
    let key = rng.pick(&KEYS);
    let small = rng.below(3) as i64 - 1;
    match rng.below(100) {
        0..12 => Call::Get(key),
        12..24 => Call::Set(
            key,
            rng.pick(&["0", "1", "2", "\"x\"", "9223372036854775807"])
                .to_owned(),
        ),
        24..30 => Call::Delete(key),
        30..42 => Call::Add(key, small),
        42..52 => Call::Increment(key, small),
        52..60 => Call::Bump(key),
        60..64 => Call::ListKeys,
        64..66 => Call::Clear,
        66..75 => Call::Save,
        75..79 => Call::Reload,
        79..82 => Call::Renew,
        82..85 => Call::Regenerate,
        85..88 => Call::Destroy,
        88..90 => Call::Unset,
        90..91 => Call::Touch,
        91..94 => Call::Cookie,
        94..97 => Call::SetMaxAge(rng.pick(&[None, Some(50_000), Some(2_000_000), Some(-1_000)])),
        97..99 => Call::Fingerprint,
        _ => Call::Effect,
    }
}

/// A guest that runs a script and keeps the calls of its last run.
pub(crate) struct Guest {
    pub(crate) script: Vec<Call>,
    pub(crate) rng: Rng,
    pub(crate) body_is_gone: bool,
    pub(crate) has_effect: bool,
    pub(crate) runs: u32,
    pub(crate) lines: Vec<Line>,
    pub(crate) time: Arc<AtomicU64>,
    pub(crate) pauses: usize,
}

/// How a scripted guest fails.
#[derive(Debug, PartialEq)]
pub(crate) enum Trap {
    ByScript,
    Interrupted,
}

impl Attempt for Guest {
    type Answer = ();
    type Failure = Trap;

    async fn run(&mut self, session: Session, number: u32) -> Result<(), Trap> {
        assert_eq!(number, self.runs + 1, "runs are counted from 1");
        assert!(!self.has_effect, "an effect is never made twice");
        self.runs = number;
        self.lines.clear();
        for call in self.script.clone() {
            pause(&mut self.rng, self.pauses).await;
            match call {
                Call::Trap => return Err(Trap::ByScript),
                Call::Effect => self.has_effect = true,
                Call::Bump(key) => {
                    let text = self.line(&session, Call::Get(key)).await?;
                    self.line(&session, Call::Set(key, bumped(&text))).await?;
                }
                call => {
                    if self.line(&session, call).await? == Said::Unavailable {
                        return Ok(());
                    }
                }
            }
        }
        pause(&mut self.rng, self.pauses).await;
        Ok(())
    }

    fn replay(&self) -> ReplayPolicy {
        match (self.has_effect, self.body_is_gone) {
            (true, _) => ReplayPolicy::EffectMade,
            (false, true) => ReplayPolicy::BodyGone,
            (false, false) => ReplayPolicy::Possible,
        }
    }
}

fn bumped(said: &Said) -> String {
    let Said::Text(Some(text)) = said else {
        return "1".to_owned();
    };
    let number = text.parse::<i64>().ok().and_then(|n| n.checked_add(1));
    number.map_or("0".to_owned(), |n| n.to_string())
}

impl Guest {
    async fn line(&mut self, session: &Session, call: Call) -> Result<Said, Trap> {
        let made_at = self.time.fetch_add(1, Ordering::SeqCst);
        let said = match make(session, &call).await {
            Ok(said) => said,
            Err(SessionCallError::Interrupted) => return Err(Trap::Interrupted),
            Err(SessionCallError::Guest(SessionError::Invalid(_))) => Said::Invalid,
            Err(SessionCallError::Guest(SessionError::Committed)) => Said::Committed,
            Err(SessionCallError::Guest(SessionError::Unavailable(_))) => Said::Unavailable,
            Err(SessionCallError::Guest(other)) => Said::Unexpected(other.to_string()),
        };
        self.lines.push(Line {
            call,
            said: said.clone(),
            made_at,
            done_at: self.time.fetch_add(1, Ordering::SeqCst),
        });
        Ok(said)
    }
}

async fn make(session: &Session, call: &Call) -> Result<Said, SessionCallError> {
    let done = |()| Said::Done;
    match call {
        Call::Get(key) => session.get(key).await.map(Said::Text),
        Call::Set(key, value) => session.set(key, value).await.map(done),
        Call::Delete(key) => session.delete(key).await.map(done),
        Call::Add(key, delta) => session.add(key, *delta).await.map(done),
        Call::Increment(key, delta) => session.increment(key, *delta).await.map(Said::Sum),
        Call::ListKeys => session.list_keys().await.map(Said::Keys),
        Call::Clear => session.clear().await.map(done),
        Call::Save => session.save().await.map(done),
        Call::Reload => session.reload().await.map(done),
        Call::Renew => session.renew().await.map(done),
        Call::Regenerate => session.regenerate().await.map(done),
        Call::Destroy => session.destroy().await.map(done),
        Call::Unset => session.unset().await.map(done),
        Call::Touch => session.touch().await.map(done),
        Call::Cookie => {
            let cookie = session.cookie().await?;
            Ok(Said::Cookie(
                cookie.original_max_age_ms,
                cookie.expires_at_ms,
            ))
        }
        Call::SetMaxAge(max_age) => session.set_max_age(*max_age).await.map(done),
        Call::Fingerprint => session.fingerprint().await.map(Said::Name),
        Call::Bump(_) | Call::Effect | Call::Trap => Ok(Said::Done),
    }
}
