//! The signals that ask a run of tests to end: SIGINT, SIGTERM and SIGHUP. Knows no commands.

use std::io;

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind};

/// Hears them from its making on; one that comes while nobody waits is told to whoever waits next.
pub(super) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
}

impl Signals {
    /// From now on they no longer end the process by themselves. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// When the system does not tell of signals.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
            hangup: unix::signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one.
    ///
    /// Safe to cancel.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hangup.recv() => Signal::HUP,
        }
    }

    /// Does this work, or drops it when a signal comes: that is the error.
    pub(super) async fn or<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Signal> {
        tokio::select! {
            biased;
            signal = self.next() => Err(signal),
            done = work => Ok(done),
        }
    }
}

/// 128 and the signal's number, as a shell tells that one ended a command.
pub(super) fn exit_code(signal: Signal) -> u8 {
    128 + u8::try_from(signal.as_raw()).unwrap_or(0)
}
