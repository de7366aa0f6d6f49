//! The series `idle`: the memory of ten thousand idle connections.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::host::{self, Guest, Host, Spec, Store};
use super::lab::Lab;
use super::page::{self, Section, mebibytes};
use crate::load::{Load, Size, Target};
use crate::summary::figures;
use crate::usage::Memory;
use crate::visitor::Answers;

const CONNECTIONS: usize = 10_000;
/// The number of other files that this process and the host have open.
const OTHER_FILES: u64 = 500;
/// The number of connections that are opened and served at once, which is also the number in the warm-up.
const BATCH: usize = 40;
/// The time for closed connections to disappear, and for the host's work after the last response.
const PAUSE: Duration = Duration::from_secs(2);
/// With the default of 4,096, the other connections would wait.
const SETTINGS: &str = "[server]\nconnections = 12000\n";

/// The results of one turn.
#[derive(Debug)]
struct Turn {
    before: Memory,
    with: Memory,
}

/// The kind of response that each connection receives.
#[derive(Clone, Copy)]
enum Point {
    Hello,
    Counter,
}

/// Runs the series.
pub(super) fn measure(lab: &Lab) -> anyhow::Result<Section> {
    let files = open_files_max()?;
    let needed = CONNECTIONS as u64 + OTHER_FILES;
    ensure!(
        files >= needed,
        "{files} open files are allowed, but {needed} are needed: raise `ulimit -n`"
    );
    let all = lab.in_turn(
        &[Point::Hello, Point::Counter],
        |point| match point {
            Point::Hello => "hello, no session".to_owned(),
            Point::Counter => "counter, a new session each".to_owned(),
        },
        |point| turn(lab, *point),
        |label, turn| {
            let per = per_connection(turn.before.resident, turn.with.resident);
            let memory = [turn.before, turn.with].map(|memory| mebibytes(memory.resident as f64));
            format!(
                "{label:28} RSS {} then {}, {per:.0} bytes a connection",
                memory[0], memory[1]
            )
        },
    )?;
    let rows: Vec<_> = (all.iter())
        .map(|turns| {
            let mebibytes = |figure: fn(&Turn) -> u64| {
                let values = figures(&turns.rounds, |turn| figure(turn) as f64);
                page::median(values, mebibytes)
            };
            let per = figures(&turns.rounds, |turn| {
                per_connection(turn.before.resident, turn.with.resident)
            });
            vec![
                turns.label.clone(),
                mebibytes(|turn| turn.before.resident),
                mebibytes(|turn| turn.with.resident),
                mebibytes(|turn| turn.before.proportional),
                mebibytes(|turn| turn.with.proportional),
                page::median(per, |bytes| format!("{bytes:.0}")),
            ]
        })
        .collect();
    let columns = [
        "",
        "RSS before",
        "RSS with them",
        "PSS before",
        "PSS with them",
        "bytes per connection (RSS)",
    ];
    Ok(Section {
        figures: page::table(&columns, &rows),
        notes: vec![
            format!(
                "10,000 keep-alive connections, each with one request served and then idle; {BATCH} are opened and served at once. \
                 Before means after a second of load on as many connections, which have ended. `[server] connections` is 12,000 \
                 instead of 4,096; the store is the default one, `sqlite:`."
            ),
            "The counter's figure has a session each in it, too, as the host remembers it."
                .to_owned(),
            format!(
                "{} rounds, a fresh start of the host each.",
                lab.pace.rounds
            ),
        ],
        others: String::new(),
        faults: Vec::new(),
    })
}

fn turn(lab: &Lab, point: Point) -> anyhow::Result<Turn> {
    let (component, answers) = match point {
        Point::Hello => ("fixture-hello.wasm", Answers::Hello),
        Point::Counter => ("counter.wasm", Answers::Counter),
    };
    let spec = Spec {
        name: "idle".to_owned(),
        store: Store::Sqlite,
        settings: SETTINGS.to_owned(),
        guests: vec![Guest::new(lab, "session", component)],
    };
    let host = Host::start(lab, &spec)?;
    let turn = host::explained(with_idle(&host, answers), &[&host])?;
    host.stop()?;
    Ok(turn)
}

fn with_idle(host: &Host, answers: Answers) -> anyhow::Result<Turn> {
    let batch = || {
        let size = Size {
            connections: BATCH,
            sessions: BATCH,
        };
        let mut load = Load::connect(&Target::one(host.address(), answers), size)?;
        load.visit_all()?;
        anyhow::Ok(load)
    };
    batch()?.run_for(Duration::from_secs(1))?;
    std::thread::sleep(PAUSE);
    let before = host.memory()?;
    let mut idle = (0..CONNECTIONS / BATCH)
        .map(|_| batch())
        .collect::<anyhow::Result<Vec<_>>>()?;
    std::thread::sleep(PAUSE);
    let with = host.memory()?;
    // All connections must still exist and serve requests.
    for load in &mut idle {
        load.visit_all()?;
    }
    Ok(Turn { before, with })
}

fn per_connection(before: u64, with: u64) -> f64 {
    (with as f64 - before as f64) / CONNECTIONS as f64
}

/// Returns how many files this process and its children may have open.
fn open_files_max() -> anyhow::Result<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line = (limits.lines()).find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_ascii_whitespace().next());
    match soft.context("/proc/self/limits has an unexpected format")? {
        "unlimited" => Ok(u64::MAX),
        number => Ok(number.parse()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_costs_its_share_of_the_growth() {
        assert_eq!(per_connection(1_000_000, 11_000_000), 1000.0);
        assert_eq!(per_connection(11_000_000, 1_000_000), -1000.0);
    }

    #[test]
    fn the_limit_of_open_files_is_positive() {
        assert!(open_files_max().unwrap() > 0);
    }
}
