//! Measures how long a start with many guests takes: the first start, which compiles them, and the second, which uses the cached code.
//!
//! `cargo run --release --example many_guests -- target/guests/counter.wasm 50` makes 50 different components from one, by
//! adding a custom section to each. It compiles in this process, so the first result is that of a host without child
//! processes.

#![expect(clippy::print_stdout, reason = "a measurement prints its results")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use cloakroom_runtime::{GuestGrants, GuestSettings, Runtime, RuntimeOptions};
use cloakroom_session::SessionGrant;

fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let component = words.next().context("name a component")?;
    let count: u8 = words.next().map_or(Ok(50), |word| word.parse())?;
    let original = std::fs::read(component)?;
    let folder = tempfile::tempdir()?;
    for number in 0..count {
        // A custom section: its length, its name's length, its name, and its content.
        let variant = [original.as_slice(), &[0, 3, 1, b'n', number]].concat();
        std::fs::write(folder.path().join(number.to_string()), variant)?;
    }
    for start in ["first", "second", "third"] {
        let (made, loaded) = load_all(folder.path(), count)?;
        println!(
            "{start} start: engines {} ms, {count} guests {} ms",
            made.as_millis(),
            loaded.as_millis()
        );
    }
    Ok(())
}

/// Loads the guests as the host does: in parallel, on blocking threads.
fn load_all(folder: &Path, count: u8) -> anyhow::Result<(Duration, Duration)> {
    let begun = Instant::now();
    let runtime = Runtime::new(&RuntimeOptions {
        code_cache: Some(folder.join("code")),
        ..RuntimeOptions::default()
    });
    let runtime = Arc::new(runtime.map_err(|error| anyhow::anyhow!("{error:#}"))?);
    let made = begun.elapsed();
    let begun = Instant::now();
    let guests = std::thread::scope(|scope| {
        let load = |number: u8| {
            let runtime = Arc::clone(&runtime);
            scope.spawn(move || runtime.load(settings(folder, number)))
        };
        let loads: Vec<_> = (0..count).map(load).collect();
        let join = |load: std::thread::ScopedJoinHandle<'_, _>| load.join().expect("no panic");
        loads.into_iter().map(join).collect::<Result<Vec<_>, _>>()
    })?;
    let loaded = begun.elapsed();
    assert_eq!(guests.len(), usize::from(count));
    Ok((made, loaded))
}

fn settings(folder: &Path, number: u8) -> GuestSettings {
    GuestSettings {
        grants: GuestGrants {
            session: SessionGrant::write().into(),
            ..GuestGrants::default()
        },
        ..GuestSettings::new(format!("guest{number}"), folder.join(number.to_string()))
    }
}
