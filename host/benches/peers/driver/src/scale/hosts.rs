//! The series `hosts`: the same load on one host and on several hosts, which share a database.

use super::host::{self, Host, Spec, Store};
use super::lab::{Lab, Turns};
use super::log::Log;
use super::page::{self, Section};
use crate::load::{Load, Size, Target, Visits};
use crate::measure::Cell;
use crate::report;
use crate::summary::{figures, spread};
use crate::visitor::{Answers, Faults};

const DATABASE: &str = "hosts";
const SIZE: Size = Size {
    connections: 32,
    sessions: 256,
};
const POINTS: [(usize, Visits); 5] = [
    (1, Visits::Sticky),
    (2, Visits::Sticky),
    (2, Visits::Roaming),
    (4, Visits::Sticky),
    (4, Visits::Roaming),
];

/// The results of one turn.
#[derive(Debug)]
struct Turn {
    cell: Cell,
    /// The number of all requests, including the warm-up.
    n_requests: u64,
    log: Log,
}

/// Runs the series.
pub(super) fn measure(lab: &Lab) -> anyhow::Result<Section> {
    let all = lab.in_turn(&POINTS, label, |point| turn(lab, *point), line)?;
    let n_requests: u64 = all
        .iter()
        .flat_map(|t| &t.rounds)
        .map(|t| t.n_requests)
        .sum();
    let repeated = |turns: &Turns<Turn>| {
        let rounds = figures(&turns.rounds, |turn| turn.log.repeated_per_thousand());
        let median = spread(rounds).median;
        vec![turns.label.clone(), format!("{median:.1}")]
    };
    let repeated: Vec<_> = all.iter().map(repeated).collect();
    let cells: Vec<_> = (all.into_iter())
        .map(|Turns { label, rounds }| Turns {
            label,
            rounds: rounds.into_iter().map(|turn| turn.cell).collect(),
        })
        .collect();
    Ok(Section {
        figures: format!(
            "{}\n{}\n{}\nOf {} requests none was answered with another status than 200, and no count was lost.\n",
            page::CELLS_NOTE,
            page::cells("hosts", &cells),
            page::table(&["hosts", "guests run again, per 1,000 requests"], &repeated),
            report::thousands(n_requests as f64),
        ),
        notes: vec![
            "The counter on MySQL, 256 sessions, 32 clients with one request under way each; a session has one visit at a time. \
             Sticky: all visits of a session are on one host. Roaming: each visit is on another host than the one before, so \
             that what a host remembers of a session is never true; a client has a connection to each host."
                .to_owned(),
            "At the end every session is visited once more, and must be where its answers were.".to_owned(),
            lab.pace.note(),
        ],
        others: page::others(&cells),
        faults: Vec::new(),
    })
}

fn label((n_hosts, visits): &(usize, Visits)) -> String {
    match (n_hosts, visits) {
        (1, _) => "1".to_owned(),
        (_, Visits::Sticky) => format!("{n_hosts}, sticky"),
        (_, Visits::Roaming) => format!("{n_hosts}, roaming"),
        (_, Visits::AtOnce) => format!("{n_hosts}, at once"),
    }
}

fn line(label: &str, turn: &Turn) -> String {
    format!(
        "{}  run again {:.1} of 1000",
        report::line(label, &turn.cell),
        turn.log.repeated_per_thousand()
    )
}

fn turn(lab: &Lab, (n_hosts, visits): (usize, Visits)) -> anyhow::Result<Turn> {
    lab.mariadb.make_database(DATABASE)?;
    let hosts = start(lab, n_hosts, DATABASE)?;
    let references: Vec<_> = hosts.iter().collect();
    let mut load = Load::connect(&target(&hosts, visits), SIZE)?;
    let cell = host::explained(lab.under_load(&mut load, &references), &references)?;
    let n_requests = load.n_sent();
    drop(load);
    let log = stop(hosts)?;
    Ok(Turn {
        cell,
        n_requests,
        log,
    })
}

/// Starts `n_hosts` hosts on a database, each with its own folder.
pub(super) fn start(lab: &Lab, n_hosts: usize, database: &str) -> anyhow::Result<Vec<Host>> {
    let store = Store::Mysql(database.to_owned());
    let spec = |index| Spec::counter(lab, &format!("host_{index}"), store.clone());
    (0..n_hosts)
        .map(|index| Host::start(lab, &spec(index)))
        .collect()
}

/// Stops the hosts and returns the sum of their logs.
fn stop(hosts: Vec<Host>) -> anyhow::Result<Log> {
    (hosts.into_iter()).try_fold(Log::default(), |log, host| Ok(log.and(host.stop()?)))
}

/// Returns the counter of all these hosts as the target of a load.
pub(super) fn target(hosts: &[Host], visits: Visits) -> Target {
    Target {
        hosts: hosts.iter().map(Host::address).collect(),
        paths: vec!["/session".to_owned()],
        answers: Answers::Counter,
        visits,
        faults: Faults::End,
    }
}
