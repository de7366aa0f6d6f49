//! A circuit breaker. It remembers that a server failed, so that requests fail at once and do not each wait for the server.
//! From time to time it lets one request through as a probe. Knows no driver, and no clock other than the `Instant`s
//! that are passed in.
//!
//! A server that gives connections again is on trial: requests pass, and the circuit closes after statements have been
//! answered for a while without a failure. Without the trial, a server that accepts connections but refuses statements
//! would be reported as a new failure ten times a second.
//!
//! A server that let statements time out is tried with one statement at a time. The server continues to run statements
//! that were given up, so more of them would fill it with work that no request waits for.
//!
//! The rule of one statement at a time came from a group that had lost a member: it held 300 statements that no request waited
//! for, and some visitors were not served for two minutes.

use std::time::{Duration, Instant};

use super::error::{StatementError, StatementErrorClass, StatementProgress};

/// The wait after the first failure. It doubles with each further failure.
const BACK_OFF_MIN: Duration = Duration::from_millis(100);
/// The longest wait. For this long after a server has returned, the first request may still be refused.
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// How long a server must serve before its next failure counts as a first failure.
const TRIAL: Duration = Duration::from_secs(5);

/// One server's circuit. It is closed (requests pass), open (requests are refused), half open (one probe is in progress)
/// or on trial (requests pass).
#[derive(Default)]
pub(crate) struct CircuitBreaker {
    trouble: Option<CircuitTrouble>,
}

struct CircuitTrouble {
    failures: u32,
    state: CircuitState,
    last: StatementError,
}

enum CircuitState {
    Open { retry_at: Instant, is_probed: bool },
    Trial { since: Instant },
}

/// Whether a request may try the server.
pub(crate) enum CircuitDecision {
    /// The request may try.
    Pass,
    /// The request may try, and the circuit waits for its outcome: [`CircuitBreaker::fail`], [`CircuitBreaker::connected`] or
    /// [`CircuitBreaker::abandon_probe`].
    Probe,
    /// The request must not try, because of this fault.
    Refused(StatementError),
}

impl CircuitBreaker {
    pub(crate) fn admit(&mut self, now: Instant) -> CircuitDecision {
        let Some(CircuitTrouble { state, last, .. }) = &mut self.trouble else {
            return CircuitDecision::Pass;
        };
        match state {
            CircuitState::Trial { .. } => CircuitDecision::Pass,
            CircuitState::Open {
                retry_at,
                is_probed,
            } if now < *retry_at || *is_probed => CircuitDecision::Refused(last.clone()),
            CircuitState::Open { is_probed, .. } => {
                *is_probed = true;
                CircuitDecision::Probe
            }
        }
    }

    /// Returns the fault with which a request would be refused now. Does not start a probe.
    pub(crate) fn refusal(&self, now: Instant) -> Option<StatementError> {
        let CircuitTrouble { state, last, .. } = self.trouble.as_ref()?;
        let is_refused = match state {
            CircuitState::Trial { .. } => false,
            CircuitState::Open {
                retry_at,
                is_probed,
            } => now < *retry_at || *is_probed,
        };
        is_refused.then(|| last.clone())
    }

    /// Opens the circuit or keeps it open for longer. Returns true if it was closed. `jitter` is in 0..1.
    pub(crate) fn fail(&mut self, now: Instant, fault: StatementError, jitter: f64) -> bool {
        let failures = self.trouble.as_ref().map_or(0, |trouble| trouble.failures);
        let back_off = BACK_OFF_MAX.min(BACK_OFF_MIN * 2_u32.pow(failures.min(8)));
        self.trouble = Some(CircuitTrouble {
            failures: failures.saturating_add(1),
            state: CircuitState::Open {
                retry_at: now + back_off.mul_f64(0.75 + jitter / 4.0),
                is_probed: false,
            },
            last: fault,
        });
        failures == 0
    }

    /// Records that the server gave a connection. If the circuit was open, the trial begins, unless the fault was an
    /// unanswered statement.
    pub(crate) fn connected(&mut self, now: Instant) {
        if let Some(CircuitTrouble { state, last, .. }) = &mut self.trouble
            && matches!(state, CircuitState::Open { .. })
            && !is_unanswered_statement(last)
        {
            *state = CircuitState::Trial { since: now };
        }
    }

    /// Returns whether a probe is in progress.
    pub(crate) fn is_probed(&self) -> bool {
        let state = self.trouble.as_ref().map(|trouble| &trouble.state);
        matches!(
            state,
            Some(CircuitState::Open {
                is_probed: true,
                ..
            })
        )
    }

    /// Records that the server answered a statement. Returns true if that ends the trial.
    pub(crate) fn answered(&mut self, now: Instant) -> bool {
        if let Some(CircuitTrouble { state, .. }) = &mut self.trouble
            && matches!(state, CircuitState::Open { .. })
        {
            *state = CircuitState::Trial { since: now };
        }
        let is_over = self.trouble.as_ref().is_some_and(|trouble| {
            matches!(trouble.state, CircuitState::Trial { since } if now.saturating_duration_since(since) >= TRIAL)
        });
        if is_over {
            self.trouble = None;
        }
        is_over
    }

    /// Records that the probe ended without a result: the next request may probe.
    pub(crate) fn abandon_probe(&mut self) {
        if let Some(CircuitTrouble {
            state: CircuitState::Open { is_probed, .. },
            ..
        }) = &mut self.trouble
        {
            *is_probed = false;
        }
    }
}

fn is_unanswered_statement(fault: &StatementError) -> bool {
    fault.class == StatementErrorClass::TimedOut && fault.progress == StatementProgress::Sent
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault() -> StatementError {
        StatementError::new(
            StatementErrorClass::ConnectionLost,
            StatementProgress::NotSent,
            "refused",
        )
    }

    fn passes(circuit: &mut CircuitBreaker, now: Instant) -> bool {
        matches!(circuit.admit(now), CircuitDecision::Pass)
    }

    #[test]
    fn an_open_circuit_refuses_then_lets_one_request_probe() {
        let (mut circuit, now) = (CircuitBreaker::default(), Instant::now());
        assert!(passes(&mut circuit, now));
        assert!(circuit.fail(now, fault(), 1.0), "it was closed");
        assert!(matches!(circuit.admit(now), CircuitDecision::Refused(_)));

        let later = now + BACK_OFF_MIN;
        assert!(circuit.refusal(later).is_none());
        assert!(matches!(circuit.admit(later), CircuitDecision::Probe));
        assert!(matches!(circuit.admit(later), CircuitDecision::Refused(_)));
        assert!(circuit.refusal(later).is_some());

        circuit.abandon_probe();
        assert!(matches!(circuit.admit(later), CircuitDecision::Probe));
        circuit.connected(later);
        assert!(passes(&mut circuit, later));
        assert!(circuit.answered(later + TRIAL), "it was open");
        assert!(circuit.fail(later + TRIAL, fault(), 1.0), "it was closed");
    }

    #[test]
    fn a_server_that_connects_but_refuses_statements_is_reported_once() {
        let (mut circuit, mut now) = (CircuitBreaker::default(), Instant::now());
        let (mut reported, mut tries) = (0, 0);
        let end = now + 4 * TRIAL;
        while now < end {
            now += Duration::from_millis(10);
            match circuit.admit(now) {
                CircuitDecision::Refused(_) => continue,
                CircuitDecision::Probe => circuit.connected(now),
                CircuitDecision::Pass => {}
            }
            tries += 1;
            // The server serves reads but refuses writes.
            assert!(!circuit.answered(now));
            reported += u32::from(circuit.fail(now, fault(), 1.0));
        }
        assert_eq!(reported, 1);
        assert!(
            tries < 30,
            "{tries}: it is left alone for a second each time"
        );
    }

    #[test]
    fn a_host_that_does_not_answer_statements_is_tried_with_one_at_a_time() {
        let (mut circuit, mut now) = (CircuitBreaker::default(), Instant::now());
        let unanswered = StatementError::timed_out(StatementProgress::Sent, BACK_OFF_MAX);
        circuit.fail(now, unanswered.clone(), 1.0);
        for _ in 0..4 {
            now += BACK_OFF_MAX;
            assert!(matches!(circuit.admit(now), CircuitDecision::Probe));
            circuit.connected(now);
            assert!(circuit.is_probed());
            assert!(matches!(circuit.admit(now), CircuitDecision::Refused(_)));
            circuit.fail(now, unanswered.clone(), 1.0);
        }
        now += BACK_OFF_MAX;
        assert!(matches!(circuit.admit(now), CircuitDecision::Probe));
        circuit.connected(now);
        assert!(!circuit.answered(now), "its trial begins");
        assert!(passes(&mut circuit, now) && passes(&mut circuit, now));
        assert!(circuit.answered(now + TRIAL));
    }

    #[test]
    fn each_failed_probe_waits_longer_up_to_the_most() {
        let (mut circuit, mut now) = (CircuitBreaker::default(), Instant::now());
        circuit.fail(now, fault(), 1.0);
        for expected_ms in [200, 400, 800, 1000, 1000] {
            now += BACK_OFF_MAX;
            assert!(matches!(circuit.admit(now), CircuitDecision::Probe));
            assert!(!circuit.fail(now, fault(), 1.0), "it was open already");
            let wait = Duration::from_millis(expected_ms);
            assert!(
                circuit
                    .refusal(now + wait - Duration::from_millis(1))
                    .is_some()
            );
            assert!(circuit.refusal(now + wait).is_none());
        }
    }
}
