//! Counts the instructions of operations that must not become slower, and compares them with `counts.toml`: `make bench-counts`.
//!
//! The binary runs itself under valgrind's callgrind twice for each gate, first with N passes and then with twice as many. The
//! difference between the two counts is N passes, because startup, preparation and shutdown are in both and cancel out. This
//! needs no symbols, which the release profile strips, and no markers in the code. Only the main thread is counted, because the
//! work of the other threads depends on the clock.

#![expect(clippy::print_stdout, reason = "a measurement prints its results")]

mod gates;
mod subjects;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use gates::{GATES, Gate};

/// The first argument when this binary runs under valgrind. A gate's name and a number of passes follow.
const PASS: &str = "pass";
const EXPECTED_FILE: &str = "host/benches/micro/counts.toml";
const EXPECTED: &str = include_str!("counts.toml");

/// The contents of `counts.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// The processor architecture of the counts, as in `std::env::consts::ARCH`.
    arch: String,
    tolerance_percent: f64,
    /// The instructions of one pass, by gate.
    instructions: BTreeMap<String, u64>,
}

fn main() -> ExitCode {
    // `cargo bench` adds this argument.
    let words = std::env::args().skip(1).filter(|word| word != "--bench");
    let words: Vec<String> = words.collect();
    let done = match words.as_slice() {
        [word, name, passes] if word == PASS => pass(name, passes),
        parts => compare(parts),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a gate's passes. Called under valgrind.
fn pass(name: &str, passes: &str) -> Result<()> {
    let gate = GATES.iter().find(|gate| gate.name == name);
    gate.context("there is no such gate")?.pass(passes.parse()?);
    Ok(())
}

/// Counts every gate whose name contains one of `parts` (all gates, if there are none) and fails if one has drifted.
fn compare(parts: &[String]) -> Result<()> {
    let expected: Expected = toml::from_str(EXPECTED).context(EXPECTED_FILE)?;
    let arch = std::env::consts::ARCH;
    ensure!(
        arch == expected.arch,
        "{EXPECTED_FILE} holds counts for {}, and this is {arch}",
        expected.arch
    );
    find_valgrind()?;
    let is_wanted = |gate: &&Gate| parts.is_empty() || parts.iter().any(|p| gate.name.contains(p));
    let (mut counted, mut drifted) = (0, 0);
    for gate in GATES.iter().filter(is_wanted) {
        let found = count(gate).with_context(|| format!("counting {}", gate.name))?;
        counted += 1;
        drifted += usize::from(!is_as_expected(gate, found, &expected));
    }
    ensure!(counted > 0, "no gate's name contains one of {parts:?}");
    if drifted > 0 {
        bail!(
            "{drifted} of {counted} gates have drifted; if that is intended, write the new counts into {EXPECTED_FILE}"
        );
    }
    Ok(())
}

/// Prints one line about a gate's count and returns whether it is within the tolerance.
fn is_as_expected(gate: &Gate, found: u64, expected: &Expected) -> bool {
    let name = gate.name;
    let Some(&wanted) = expected.instructions.get(name) else {
        println!("MISSING  {name}: nothing is expected, found {found}");
        return false;
    };
    let percent = (found as f64 / wanted as f64 - 1.0) * 100.0;
    let is_near = percent.abs() <= expected.tolerance_percent;
    let verdict = if is_near { "ok     " } else { "DRIFTED" };
    println!("{verdict}  {name}: expected {wanted}, found {found} ({percent:+.2} %)");
    is_near
}

fn find_valgrind() -> Result<()> {
    let version = Command::new("valgrind").arg("--version").output();
    match version {
        Ok(output) if output.status.success() => {
            let version = String::from_utf8_lossy(&output.stdout);
            println!("counted by {}", version.trim_end());
            Ok(())
        }
        _ => bail!(
            "valgrind cannot be run, but it counts the instructions: install the package `valgrind` of your distribution"
        ),
    }
}

/// Returns the instructions of one pass.
fn count(gate: &Gate) -> Result<u64> {
    let folder = tempfile::tempdir()?;
    // The first run fills the code cache for the others, because the instruction count of the compiler's threads varies.
    run(gate, 0, folder.path())?;
    let once = run(gate, gate.passes, folder.path())?;
    let twice = run(gate, gate.passes * 2, folder.path())?;
    let passes = twice.checked_sub(once);
    let passes = passes.context("twice the passes took fewer instructions")?;
    Ok(passes / u64::from(gate.passes))
}

/// Returns the main thread's instructions in a whole run. The run stores its files in `folder`.
fn run(gate: &Gate, passes: u32, folder: &Path) -> Result<u64> {
    let profile = folder.join(format!("profile-{passes}"));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--separate-threads=yes"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(std::env::current_exe()?)
        .args([PASS, gate.name, &passes.to_string()])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()?;
    ensure!(
        output.status.success(),
        "the run under valgrind ended with {}:\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    // Callgrind writes a file for each thread, numbered from 1.
    let profile = std::fs::read_to_string(folder.join(format!("profile-{passes}-01")));
    let profile = profile.context("reading callgrind's file")?;
    let mut lines = profile.lines();
    let total = lines.find_map(|line| line.strip_prefix("totals: "));
    let total = total.context("callgrind's file has no line `totals:`")?;
    Ok(total.trim().parse()?)
}
