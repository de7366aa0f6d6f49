//! The series `connections`: the counter with an increasing number of connections.

use super::host::Spec;
use super::lab::Lab;
use super::page::{self, Section};
use crate::load::Size;
use crate::report::thousands;

const CONNECTIONS: [usize; 6] = [1, 8, 32, 128, 512, 1000];
const SESSIONS_MIN: usize = 256;

/// Runs the series.
pub(super) fn measure(lab: &Lab) -> anyhow::Result<Section> {
    let spec = Spec::counter_on_mysql(lab, "connections");
    let all = lab.cells_in_turn(
        &CONNECTIONS,
        |connections| thousands(*connections as f64),
        |connections| {
            lab.mariadb.make_database("connections")?;
            let size = Size {
                connections: *connections,
                sessions: SESSIONS_MIN.max(*connections),
            };
            lab.counter(&spec, size)
        },
    )?;
    Ok(Section {
        figures: format!(
            "{}\n{}",
            page::CELLS_NOTE,
            page::cells("keep-alive connections", &all)
        ),
        notes: vec![
            "The counter on MySQL: 256 sessions, or as many as connections where these are more. Each session is one \
             connection's."
                .to_owned(),
            lab.pace.note(),
        ],
        others: page::others(&all),
        faults: Vec::new(),
    })
}
