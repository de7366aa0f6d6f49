//! Remembers that a host failed, so that requests fail at once instead of each finding out for itself; lets one through
//! from time to time to see whether it is back. Knows no driver and no clock but the `Instant`s it is handed.

use std::time::{Duration, Instant};

use super::error::Fault;

/// The wait after a first failure; doubles with each further one.
const BACK_OFF_MIN: Duration = Duration::from_millis(100);
/// The longest wait: how long after a host's return the first request may still be refused.
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// One host's circuit: closed (requests pass), open (they are refused), half open (one is under way to try).
#[derive(Default)]
pub(super) struct Circuit {
    opened: Option<Opened>,
}

struct Opened {
    failures: u32,
    retry_at: Instant,
    is_probed: bool,
    last: Fault,
}

/// Whether a request may try.
pub(super) enum Admission {
    /// It may.
    Pass,
    /// It may, and the circuit waits for what comes of it: [`Circuit::fail`], [`Circuit::succeed`] or [`Circuit::abandon_probe`].
    Probe,
    /// It may not, because of this.
    Refused(Fault),
}

impl Circuit {
    pub(super) fn admit(&mut self, now: Instant) -> Admission {
        match &mut self.opened {
            None => Admission::Pass,
            Some(opened) if now < opened.retry_at || opened.is_probed => {
                Admission::Refused(opened.last.clone())
            }
            Some(opened) => {
                opened.is_probed = true;
                Admission::Probe
            }
        }
    }

    /// What a request would be refused for just now, without taking the probe's place.
    pub(super) fn refusal(&self, now: Instant) -> Option<Fault> {
        let opened = self.opened.as_ref()?;
        (now < opened.retry_at || opened.is_probed).then(|| opened.last.clone())
    }

    /// Opens, or stays open for longer; true if it was closed. `jitter` is in 0..1.
    pub(super) fn fail(&mut self, now: Instant, fault: Fault, jitter: f64) -> bool {
        let failures = self.opened.as_ref().map_or(0, |opened| opened.failures);
        let back_off = BACK_OFF_MAX.min(BACK_OFF_MIN * 2_u32.pow(failures.min(8)));
        self.opened = Some(Opened {
            failures: failures + 1,
            retry_at: now + back_off.mul_f64(0.75 + jitter / 4.0),
            is_probed: false,
            last: fault,
        });
        failures == 0
    }

    /// Closes; true if it was open.
    pub(super) fn succeed(&mut self) -> bool {
        self.opened.take().is_some()
    }

    /// The probe ended without a result: the next request may probe.
    pub(super) fn abandon_probe(&mut self) {
        if let Some(opened) = &mut self.opened {
            opened.is_probed = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::{Class, Progress};
    use super::*;

    fn fault() -> Fault {
        Fault::new(Class::LinkLost, Progress::NotSent, "refused")
    }

    fn passes(circuit: &mut Circuit, now: Instant) -> bool {
        matches!(circuit.admit(now), Admission::Pass)
    }

    #[test]
    fn an_open_circuit_refuses_then_lets_one_request_probe() {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        assert!(passes(&mut circuit, now));
        assert!(circuit.fail(now, fault(), 1.0), "it was closed");
        assert!(matches!(circuit.admit(now), Admission::Refused(_)));

        let later = now + BACK_OFF_MIN;
        assert!(circuit.refusal(later).is_none());
        assert!(matches!(circuit.admit(later), Admission::Probe));
        assert!(matches!(circuit.admit(later), Admission::Refused(_)));
        assert!(circuit.refusal(later).is_some());

        circuit.abandon_probe();
        assert!(matches!(circuit.admit(later), Admission::Probe));
        assert!(circuit.succeed(), "it was open");
        assert!(passes(&mut circuit, later));
    }

    #[test]
    fn each_failed_probe_waits_longer_up_to_the_most() {
        let (mut circuit, mut now) = (Circuit::default(), Instant::now());
        circuit.fail(now, fault(), 1.0);
        for expected_ms in [200, 400, 800, 1000, 1000] {
            now += BACK_OFF_MAX;
            assert!(matches!(circuit.admit(now), Admission::Probe));
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
