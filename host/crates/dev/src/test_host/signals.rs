//! The signals that end a test run: SIGINT, SIGTERM and SIGHUP. Independent of commands.

use std::io;

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind};

/// Receives the signals from its creation on. A signal that arrives while no task waits is returned by the next wait.
pub(crate) struct TestSignals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
}

impl TestSignals {
    /// Starts to receive the signals. From now on they no longer end the process. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// Returns an error if the handlers cannot be installed.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
            hangup: unix::signal(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal.
    ///
    /// Cancel safety: dropping the future loses no signal.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hangup.recv() => Signal::HUP,
        }
    }

    /// Runs `work`. If a signal arrives first, drops the work and returns the signal as the error.
    pub(crate) async fn or<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Signal> {
        tokio::select! {
            biased;
            signal = self.next() => Err(signal),
            done = work => Ok(done),
        }
    }
}

/// Returns 128 plus the number of the signal, the exit code of a command that a signal has ended, as in a shell.
pub(crate) fn exit_code(signal: Signal) -> u8 {
    128 + u8::try_from(signal.as_raw()).unwrap_or(0)
}
