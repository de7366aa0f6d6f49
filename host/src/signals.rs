//! The signals of the process: SIGTERM and SIGINT shut it down, and SIGHUP runs an action of the command.

use std::convert::Infallible;
use std::io;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use cloakroom_base::{limits, telemetry};

/// How long the process waits for the reader of its last log lines after a second signal.
const FLUSH_WAIT_MAX: Duration = Duration::from_millis(200);

/// Runs `action` on each SIGHUP.
pub(crate) fn on_hangup(action: impl Fn() + Send + 'static) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            action();
        }
    });
    Ok(())
}

/// Cancels `shutdown` on SIGTERM or SIGINT. The process exits at once on a second signal, or if the shutdown takes longer than
/// the grace period and [`limits::END_AFTER_GRACE_MAX`]. Signals are received on a separate thread, which continues to work if
/// the other threads are blocked.
pub(crate) fn shut_down_on_termination(
    shutdown: CancellationToken,
    grace: Duration,
) -> anyhow::Result<()> {
    let (ready, is_ready) = channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot listen for signals")?;
    let receive = move || runtime.block_on(receive(shutdown, grace, ready));
    let thread = thread::Builder::new()
        .name("signals".to_owned())
        .spawn(receive)?;
    if is_ready.recv().is_err()
        && let Ok(Err(error)) = thread.join()
    {
        return Err(error).context("cannot listen for SIGTERM and SIGINT");
    }
    Ok(())
}

/// Waits for the signals. Sends on `ready` once the handlers are installed.
async fn receive(
    shutdown: CancellationToken,
    grace: Duration,
    ready: Sender<()>,
) -> io::Result<Infallible> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut next = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    // The receiver is only gone if the process is already ending.
    let _ = ready.send(());
    next().await;
    shutdown.cancel();
    let reason = match timeout(grace + limits::END_AFTER_GRACE_MAX, next()).await {
        Ok(()) => "a second signal: ending at once",
        Err(_elapsed) => "the shutdown took longer than its grace period: ending at once",
    };
    telemetry::print_stderr(&format!("cloakroom: {reason}"));
    telemetry::flush(FLUSH_WAIT_MAX);
    std::process::exit(1);
}
