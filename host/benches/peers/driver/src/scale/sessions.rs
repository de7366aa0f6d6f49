//! The series `sessions`: the counter with an increasing number of rows in the table, and with an increasing number of active
//! sessions.

use super::host::Spec;
use super::lab::{Lab, Turns};
use super::page::{self, Section};
use super::rows;
use crate::load::Size;
use crate::measure::Cell;
use crate::report::{self, thousands};
use crate::summary::{Ratio, Target, figures, ratio_of};

const ROWS: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];
const ACTIVE: [usize; 4] = [1, 256, 10_000, 100_000];
const CONNECTIONS: usize = 32;
const SESSIONS: usize = 256;

/// Runs the series.
pub(super) fn measure(lab: &Lab) -> anyhow::Result<Section> {
    let by_rows = by_rows(lab)?;
    let active = by_active(lab)?;
    let (fewest, most) = (&by_rows[0], &by_rows[ROWS.len() - 1]);
    let rate = |turns: &Turns<Cell>| figures(&turns.rounds, |cell| cell.rate);
    let ratios = [Ratio {
        what: "rate with 1,000,000 rows / with 1,000",
        ratio: ratio_of(&rate(most), &rate(fewest)),
        target: Target::AtLeast(0.9),
    }];
    Ok(Section {
        figures: format!(
            "{ratios}\n{note}\n{by_rows}\n{active}",
            ratios = report::ratios(&ratios),
            note = page::CELLS_NOTE,
            by_rows = page::cells("rows in the table", &by_rows),
            active = page::cells("sessions visited", &active),
        ),
        notes: vec![
            format!(
                "The counter on MySQL, {CONNECTIONS} connections. Where rows grow, {SESSIONS} sessions are visited; they come on \
                 top. The other rows are valid ones, copied from one that Cloakroom wrote, under random ids; MariaDB has \
                 written them all to disk before anything is measured."
            ),
            "Where visited sessions grow, the table holds these alone, and a connection visits its sessions one after the other: \
             what was visited longest ago comes next, which is the hardest order for a cache. What Cloakroom remembers of \
             sessions is bounded to 16 MiB (`snapshots`). One session is visited by one connection."
                .to_owned(),
            lab.pace.note(),
        ],
        others: page::others(by_rows.iter().chain(&active)),
        faults: Vec::new(),
    })
}

fn by_rows(lab: &Lab) -> anyhow::Result<Vec<Turns<Cell>>> {
    let database = |n_rows: &u64| format!("rows_{n_rows}");
    for n_rows in &ROWS {
        rows::make(lab, &database(n_rows), *n_rows)?;
    }
    let size = Size {
        connections: CONNECTIONS,
        sessions: SESSIONS,
    };
    lab.cells_in_turn(
        &ROWS,
        |n_rows| thousands(*n_rows as f64),
        |n_rows| lab.counter(&Spec::counter_on_mysql(lab, &database(n_rows)), size),
    )
}

fn by_active(lab: &Lab) -> anyhow::Result<Vec<Turns<Cell>>> {
    let spec = Spec::counter_on_mysql(lab, "active");
    lab.cells_in_turn(
        &ACTIVE,
        |sessions| thousands(*sessions as f64),
        |sessions| {
            lab.mariadb.make_database("active")?;
            let size = Size {
                connections: CONNECTIONS.min(*sessions),
                sessions: *sessions,
            };
            lab.counter(&spec, size)
        },
    )
}
