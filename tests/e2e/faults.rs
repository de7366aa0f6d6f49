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

use cloakroom_tests::host::{Config, Host};

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
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !is_so().await {
        assert!(std::time::Instant::now() < end, "{what}\n{}", host.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
