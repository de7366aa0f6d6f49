//! The series `guests`: start time, memory and speed of a host with an increasing number of guests.

use std::fs;
use std::time::Duration;

use super::host::{self, Guest, Host, Spec, Store};
use super::lab::{Lab, Turns};
use super::page::{self, Section, mebibytes};
use crate::load::{Load, Size, Target, Visits};
use crate::measure::Cell;
use crate::report;
use crate::summary::figures;
use crate::usage::Memory;
use crate::visitor::{Answers, Faults};

const GUESTS: [u8; 3] = [1, 50, 200];
const SIZE: Size = Size {
    connections: 32,
    sessions: 256,
};

/// The results of one turn.
struct Turn {
    cold: Duration,
    kept: Duration,
    /// After the start with cached code, before the first request.
    at_start: Memory,
    /// After the load.
    at_end: Memory,
    cell: Cell,
}

/// Runs the series.
pub(super) fn measure(lab: &Lab) -> anyhow::Result<Section> {
    let label = |count: &u8| count.to_string();
    let all = lab.in_turn(&GUESTS, label, |count| turn(lab, *count), line)?;
    let rows: Vec<_> = all.iter().map(row).collect();
    let columns = [
        "guests",
        "first start",
        "start with kept code",
        "RSS at the start",
        "PSS",
        "RSS after the load",
        "PSS",
    ];
    let cells: Vec<_> = (all.iter())
        .map(|turns| Turns {
            label: turns.label.clone(),
            rounds: turns.rounds.iter().map(|turn| turn.cell).collect(),
        })
        .collect();
    Ok(Section {
        figures: format!(
            "{}\n{}\n{}",
            page::table(&columns, &rows),
            page::CELLS_NOTE,
            page::cells("guests", &cells)
        ),
        notes: vec![
            format!(
                "Different components with the same code, each on a route of its own: copies of the counter with a custom section \
                 each. Sessions are in memory, so that nothing but the host is measured: {} connections, {} sessions, shared out \
                 over all guests.",
                SIZE.connections, SIZE.sessions
            ),
            "A start is the time from the start of the process until it accepts a connection. The first one compiles every guest, \
             the second one finds compiled code in the folder; the load is on the second."
                .to_owned(),
            lab.pace.note(),
        ],
        others: page::others(&cells),
        faults: Vec::new(),
    })
}

fn row(turns: &Turns<Turn>) -> Vec<String> {
    let seconds = |figure: fn(&Turn) -> Duration| {
        let values = figures(&turns.rounds, |turn| figure(turn).as_secs_f64());
        page::median(values, |seconds| format!("{seconds:.2} s"))
    };
    let memory = |figure: fn(&Turn) -> u64| {
        let values = figures(&turns.rounds, |turn| figure(turn) as f64);
        page::median(values, mebibytes)
    };
    vec![
        turns.label.clone(),
        seconds(|turn| turn.cold),
        seconds(|turn| turn.kept),
        memory(|turn| turn.at_start.resident),
        memory(|turn| turn.at_start.proportional),
        memory(|turn| turn.at_end.resident),
        memory(|turn| turn.at_end.proportional),
    ]
}

fn line(label: &str, turn: &Turn) -> String {
    format!(
        "{}\n  {:16} first start {:.2} s, kept {:.2} s, RSS {} then {}",
        report::line(label, &turn.cell),
        "",
        turn.cold.as_secs_f64(),
        turn.kept.as_secs_f64(),
        mebibytes(turn.at_start.resident as f64),
        mebibytes(turn.at_end.resident as f64),
    )
}

fn turn(lab: &Lab, count: u8) -> anyhow::Result<Turn> {
    let spec = spec(lab, count)?;
    let host = Host::start(lab, &spec)?;
    let cold = host.start_time();
    host.stop()?;
    let host = Host::start(lab, &spec)?;
    let at_start = host.memory()?;
    let target = Target {
        hosts: vec![host.address()],
        paths: spec.guests.iter().map(|g| format!("/{}", g.name)).collect(),
        answers: Answers::Counter,
        visits: Visits::Sticky,
        faults: Faults::End,
    };
    let mut load = Load::connect(&target, SIZE)?;
    let cell = host::explained(lab.under_load(&mut load, &[&host]), &[&host])?;
    let turn = Turn {
        cold,
        kept: host.start_time(),
        at_start,
        at_end: host.memory()?,
        cell: Cell {
            database: None,
            ..cell
        },
    };
    drop(load);
    host.stop()?;
    Ok(turn)
}

/// Returns the configuration of a host with `count` guests. Its folder contains no compiled code.
fn spec(lab: &Lab, count: u8) -> anyhow::Result<Spec> {
    let name = "guests".to_owned();
    let folder = lab.scratch.join(&name);
    // Remove the files of the previous turn. Fails if there are none.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let original = fs::read(lab.tools.components.join("counter.wasm"))?;
    let guest = |number: u8| {
        let name = format!("g{number}");
        let component = folder.join(format!("{name}.wasm"));
        fs::write(&component, variant(&original, number))?;
        Ok(Guest { name, component })
    };
    Ok(Spec {
        name,
        store: Store::Memory,
        settings: String::new(),
        guests: (0..count).map(guest).collect::<anyhow::Result<_>>()?,
    })
}

/// Appends a custom section to the component. The bytes after the section id 0 are its length, its name's length, its name and
/// its content.
fn variant(original: &[u8], number: u8) -> Vec<u8> {
    [original, &[0, 3, 1, b'n', number]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_differ_in_their_last_section_alone() {
        let variants = [variant(b"wasm", 1), variant(b"wasm", 2)];
        assert_eq!(variants[0], b"wasm\x00\x03\x01n\x01");
        assert_eq!(variants[0][..8], variants[1][..8]);
        assert_ne!(variants[0], variants[1]);
    }
}
