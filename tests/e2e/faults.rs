//! Faults of `host/docs/src/faults.md` that are not tested with another subject. Each test names the number of its fault.

mod database;
mod disk;
mod files;
mod herd;
mod hosts;
mod kills;
mod names;
mod secrets;
mod visitors;
mod weather;

use std::time::Duration;

use anyhow::ensure;
use cloakroom_tests::host::{Config, Host};
use cloakroom_tests::wait::wait_until;

fn scripted(url: &str) -> Config {
    Config::over(url).guest("/s", "fixture-session")
}

/// Returns the number that the only line of a script answered.
fn number(text: &str) -> u64 {
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("no number: {text}"))
}

/// Waits until a condition holds.
async fn until(host: &Host, what: &str, is_so: impl AsyncFn() -> bool) {
    wait_until(what, Duration::from_secs(30), async || {
        ensure!(is_so().await, "{}", host.log());
        Ok(())
    })
    .await;
}
