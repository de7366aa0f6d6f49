//! The series `run`: four hosts on one database under full load for a long time. Some sessions receive concurrent requests on
//! many connections.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::host::{self, Host};
use super::lab::Lab;
use super::log::Log;
use super::page::{self, Section, milliseconds};
use super::{hosts, rows};
use crate::load::{Answered, Load, Size, Target, Visits};
use crate::measure::{Cell, Used};
use crate::report::{self, thousands};
use crate::visitor::{FaultCount, Faults};

const DATABASE: &str = "long_run";
const HOSTS: usize = 4;
/// Sessions that receive one request at a time, each request on another host.
const CALM: Size = Size {
    connections: 64,
    sessions: 256,
};
/// Sessions that all of these connections use concurrently.
const CROWDED: Size = Size {
    connections: 16,
    sessions: 4,
};
/// The number of bad log lines in the output.
const BAD_LINES_SHOWN: usize = 10;
/// The time that one line of the table covers.
const PIECE: Duration = Duration::from_secs(60);

/// One line of the table.
struct Minute {
    calm: Cell,
    crowded: Cell,
}

/// The results of the series.
struct Found {
    minutes: Vec<Minute>,
    n_requests: u64,
    faults: [FaultCount; 2],
}

/// Runs the series.
pub(super) fn measure(lab: &Lab) -> anyhow::Result<Section> {
    lab.mariadb.make_database(DATABASE)?;
    let hosts = hosts::start(lab, HOSTS, DATABASE)?;
    let references: Vec<_> = hosts.iter().collect();
    let deadlocks = rows::status(lab, "Innodb_deadlocks")?;
    let found = host::explained(run(lab, &references, &hosts), &references)?;
    let deadlocks = rows::status(lab, "Innodb_deadlocks")? - deadlocks;
    let log = (hosts.into_iter())
        .try_fold(Log::default(), |log, host| anyhow::Ok(log.and(host.end()?)))?;
    ensure!(
        log.n_requests == found.n_requests,
        "the hosts logged {} requests of {}",
        log.n_requests,
        found.n_requests
    );
    Ok(section(lab, &found, &log, deadlocks))
}

fn run(lab: &Lab, references: &[&Host], hosts: &[Host]) -> anyhow::Result<Found> {
    let target = |visits| Target {
        faults: Faults::Count,
        ..hosts::target(hosts, visits)
    };
    let mut calm = Load::connect(&target(Visits::Roaming), CALM)?;
    let mut crowded = Load::connect(&target(Visits::AtOnce), CROWDED)?;
    calm.visit_all()?;
    crowded.visit_all()?;
    let mut minutes = Vec::new();
    let mut left = lab.pace.run_time;
    while !left.is_zero() {
        let time = left.min(PIECE);
        left -= time;
        let minute = piece(lab, references, &mut calm, &mut crowded, time)?;
        let figures = [&minute.calm, &minute.crowded].map(|cell| columns(cell).join(" "));
        let number = minutes.len() + 1;
        eprintln!("  minute {number}: {}, at once: {}", figures[0], figures[1]);
        for count in [calm.fault_count(), crowded.fault_count()] {
            if count != FaultCount::default() {
                eprintln!("  {count:?}");
            }
        }
        minutes.push(minute);
    }
    // The count of every session must match its responses.
    calm.visit_all()?;
    crowded.visit_all()?;
    Ok(Found {
        minutes,
        n_requests: calm.n_sent() + crowded.n_sent(),
        faults: [calm.fault_count(), crowded.fault_count()],
    })
}

/// Generates both loads for this time, each in its own thread.
fn piece(
    lab: &Lab,
    hosts: &[&Host],
    calm: &mut Load,
    crowded: &mut Load,
    time: Duration,
) -> anyhow::Result<Minute> {
    let servers: Vec<_> = hosts.iter().map(|host| host.server()).collect();
    let before = Used::now(&servers, &lab.mariadb)?;
    let (calm, crowded) = std::thread::scope(|scope| {
        let crowded = scope.spawn(|| crowded.run_for(time));
        let calm = calm.run_for(time).context("one visit at a time");
        let crowded = crowded.join().expect("the load does not panic");
        anyhow::Ok((calm?, crowded.context("visits at once")?))
    })?;
    let after = Used::now(&servers, &lab.mariadb)?;
    let cell = |answered: Answered| Cell::of(answered, time, &before, &after);
    Ok(Minute {
        calm: cell(calm)?,
        crowded: cell(crowded)?,
    })
}

fn section(lab: &Lab, found: &Found, log: &Log, deadlocks: u64) -> Section {
    let Found {
        minutes, faults, ..
    } = found;
    let n_refused: u64 = faults.iter().map(|count| count.n_refused).sum();
    let n_lost: u64 = faults.iter().map(|count| count.n_lost).sum();
    let lines: Vec<_> = (minutes.iter().enumerate())
        .map(|(index, Minute { calm, crowded })| {
            let mut line = vec![(index + 1).to_string()];
            for cell in [calm, crowded] {
                line.extend(columns(cell));
            }
            line
        })
        .collect();
    let names = [
        "minute",
        "requests/s",
        "p50",
        "p99",
        "longest",
        "at once: requests/s",
        "p50",
        "p99",
        "longest",
    ];
    let totals = [
        ("requests", thousands(log.n_requests as f64)),
        ("answers other than 200", n_refused.to_string()),
        ("lost counts", n_lost.to_string()),
        (
            "warnings and errors in the hosts' logs",
            log.bad.len().to_string(),
        ),
        ("deadlocks in InnoDB", deadlocks.to_string()),
        (
            "guests run again, per 1,000 requests",
            format!("{:.1}", log.repeated_per_thousand()),
        ),
    ];
    let totals = totals.map(|(what, count)| vec![what.to_owned(), count]);
    let calm = minutes.iter().map(|minute| &minute.calm);
    Section {
        figures: format!(
            "{}\n{}",
            page::table(&["in all", ""], &totals),
            page::table(&names, &lines)
        ),
        notes: vec![
            format!(
                "{HOSTS} hosts, the counter on MySQL, {:.0} s. {} clients visit {} sessions, one visit at a time, each on another \
                 host than the one before. Beside them {} connections over all hosts visit the same {} sessions, with no regard to \
                 each other.",
                lab.pace.run_time.as_secs_f64(),
                CALM.connections,
                CALM.sessions,
                CROWDED.connections,
                CROWDED.sessions,
            ),
            "A count is lost where two answers of a session have the same number, or where the numbers of all its answers are not \
             1, 2, 3 and so on without a gap; at the end each session is visited once more."
                .to_owned(),
        ],
        others: report::others_of(calm),
        faults: describe(faults, log),
    }
}

/// Returns the rate, p50, p99 and longest latency of a cell. The processor time cannot be divided between the two loads.
fn columns(cell: &Cell) -> [String; 4] {
    let latency = |latency| milliseconds(f64::from(latency));
    [
        format!("**{}**", thousands(cell.rate)),
        latency(cell.p50),
        latency(cell.p99),
        latency(cell.longest),
    ]
}

/// Describes the faults. There must be none.
fn describe(faults: &[FaultCount], log: &Log) -> Vec<String> {
    let mut lines = Vec::new();
    for (what, count) in ["one visit at a time", "visits at once"].iter().zip(faults) {
        if let Some(first) = &count.first {
            let FaultCount {
                n_refused, n_lost, ..
            } = count;
            lines.push(format!(
                "{what}: {n_refused} answers other than 200, {n_lost} lost counts; the first: {first}"
            ));
        } else if count.n_lost > 0 {
            lines.push(format!("{what}: {} lost counts", count.n_lost));
        }
    }
    let n_bad = log.bad.len();
    if n_bad > 0 {
        lines.push(format!("{n_bad} bad lines in the hosts' logs, among them"));
        lines.extend(log.bad.iter().take(BAD_LINES_SHOWN).cloned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_counts_and_bad_log_lines_are_reported() {
        let none = FaultCount::default();
        assert!(describe(&[none.clone(), none.clone()], &Log::default()).is_empty());
        let lost = FaultCount {
            n_lost: 1,
            ..FaultCount::default()
        };
        let log = Log {
            bad: vec!["a warning".to_owned()],
            ..Log::default()
        };
        assert_eq!(
            describe(&[none, lost], &log),
            [
                "visits at once: 1 lost counts",
                "1 bad lines in the hosts' logs, among them",
                "a warning"
            ]
        );
    }
}
