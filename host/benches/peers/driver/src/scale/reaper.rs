//! The series `reaper`: the counter during the deletion of half a million expired rows, and without it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::host::{self, Host, Spec};
use super::lab::{Lab, Turns};
use super::page::{self, Section};
use super::rows::{self, Life};
use crate::load::{Answered, Load, Size, Target};
use crate::measure::{Cell, Used};
use crate::report::{self, thousands};
use crate::summary::{self, Ratio, figures, ratio_of};
use crate::visitor::Answers;

const DATABASE: &str = "reaper";
const VALID_ROWS: u64 = 500_000;
const EXPIRED_ROWS: u64 = 500_000;
const SIZE: Size = Size {
    connections: 32,
    sessions: 256,
};
const IS_EXPIRED: &str = "expires < UNIX_TIMESTAMP()";
/// The host deletes no rows.
const OFF: &str = "[store]\nclear_expired = false\n";
/// The host starts to delete after this time, and does not stop before all expired rows are deleted. The default is 15 minutes.
const SOON: &str = "[store]\ncheck_expiration_interval = \"1s\"\n";
/// The load without deletion lasts this many times longer than the turns of other series, because the load with deletion takes
/// minutes.
const LONGER_WITHOUT: u32 = 4;
/// The time between pauses of the load to check how many rows have been deleted.
const SLICE: Duration = Duration::from_secs(1);
/// The longest time for the deletion of all expired rows.
const REAP_TIME_MAX: Duration = Duration::from_secs(900);

/// The results of one round: the same table with and without deletion.
struct Turn {
    without: Cell,
    beside: Cell,
    reaping: Reaping,
}

/// A deletion under load.
#[derive(Clone, Copy)]
struct Reaping {
    n_deleted: u64,
    time: Duration,
}

/// Runs the series.
pub(super) fn measure(lab: &Lab) -> anyhow::Result<Section> {
    rows::make(lab, DATABASE, VALID_ROWS)?;
    let mut turns = Vec::new();
    for round in 1..=lab.pace.rounds {
        eprintln!(" round {round} of {}", lab.pace.rounds);
        turns.push(turn(lab)?);
    }
    Ok(section(lab, &turns))
}

fn turn(lab: &Lab) -> anyhow::Result<Turn> {
    rows::add(lab, DATABASE, EXPIRED_ROWS, Life::Expired)?;
    rows::settle(lab, DATABASE)?;
    let n_expired = rows::count(lab, DATABASE, IS_EXPIRED)?;
    ensure!(n_expired == EXPIRED_ROWS, "{n_expired} rows are expired");
    let spec = Spec::counter_on_mysql(lab, DATABASE);
    let time = lab.pace.time * LONGER_WITHOUT;
    let without = lab.counter_for(&spec.clone().with(OFF), SIZE, time)?;
    eprintln!("  {}", report::line("without", &without));

    let host = Host::start(lab, &spec.with(SOON))?;
    let mut load = Load::connect(&Target::one(host.address(), Answers::Counter), SIZE)?;
    let reaped = beside_reaper(lab, &mut load, &host);
    drop(load);
    let (beside, reaping) = host::explained(reaped, &[&host])?;
    host.stop()?;
    eprintln!("  {}", report::line("beside", &beside));
    eprintln!(
        "  deleted {} in {:.1} s",
        reaping.n_deleted,
        reaping.time.as_secs_f64()
    );
    let n_expired = rows::count(lab, DATABASE, IS_EXPIRED)?;
    ensure!(n_expired == 0, "{n_expired} expired rows are left");
    Ok(Turn {
        without,
        beside,
        reaping,
    })
}

/// Generates load until all expired rows are deleted. Only the slices in which rows were deleted count.
fn beside_reaper(lab: &Lab, load: &mut Load, host: &Host) -> anyhow::Result<(Cell, Reaping)> {
    let n_gone = || rows::status(lab, "Handler_delete");
    let used = || Used::now(&[host.server()], &lab.mariadb);
    let at_start = n_gone()?;
    load.visit_all()?;
    let ends_at = Instant::now() + REAP_TIME_MAX;
    let mut gone = n_gone()?;
    let mut began = None;
    let mut answered = Answered::default();
    let mut time = Duration::ZERO;
    loop {
        ensure!(Instant::now() < ends_at, "the rows are not deleted in time");
        let (slice_began_at, before) = (Instant::now(), used()?);
        let slice = load.run_for(SLICE)?;
        let slice_time = slice_began_at.elapsed();
        let gone_before = std::mem::replace(&mut gone, n_gone()?);
        if gone == gone_before {
            continue;
        }
        began.get_or_insert((slice_began_at, before));
        if gone - at_start >= EXPIRED_ROWS {
            // Part of this slice may be after the end of the deletion.
            break;
        }
        answered.latencies.extend(slice.latencies);
        // With this many slices, leaving out the responses after the slices' ends would distort the result.
        answered.latencies.extend(slice.late);
        time += slice_time;
    }
    let (began_at, before) = began.context("nothing was deleted")?;
    let reaping = Reaping {
        n_deleted: gone - at_start,
        time: began_at.elapsed(),
    };
    let cell = Cell::of(answered, time, &before, &used()?)?;
    load.visit_all()?;
    Ok((cell, reaping))
}

fn section(lab: &Lab, turns: &[Turn]) -> Section {
    let cells = |label: &str, cell: fn(&Turn) -> Cell| Turns {
        label: label.to_owned(),
        rounds: turns.iter().map(cell).collect(),
    };
    let without = cells("without", |turn| turn.without);
    let beside = cells("while they are deleted", |turn| turn.beside);
    let p99 = |turns: &Turns<Cell>| figures(&turns.rounds, |cell| f64::from(cell.p99));
    let ratios = [Ratio {
        what: "p99 while expired rows are deleted / without",
        ratio: ratio_of(&p99(&beside), &p99(&without)),
        target: summary::Target::AtMost(1.5),
    }];
    let longest = |turns: &Turns<Cell>| {
        let rounds = figures(&turns.rounds, |cell| f64::from(cell.longest));
        page::median(rounds, page::milliseconds)
    };
    let seconds = figures(turns, |turn| turn.reaping.time.as_secs_f64());
    let deleted: u64 = turns.iter().map(|turn| turn.reaping.n_deleted).sum();
    let both = [without, beside];
    Section {
        figures: format!(
            "{}\n{}\n{}\nOne host deleted {} rows in {}, and none that was expired was left; {} over all rounds.\n\
             The longest answer took {} meanwhile, and {} without.\n",
            report::ratios(&ratios),
            page::CELLS_NOTE,
            page::cells("", &both),
            thousands(EXPIRED_ROWS as f64),
            page::median(seconds, |seconds| format!("{seconds:.1} s")),
            thousands(deleted as f64),
            longest(&both[1]),
            longest(&both[0]),
        ),
        notes: vec![
            format!(
                "The counter on MySQL, {} connections, {} sessions. The table has {} other rows that are valid and {} that are \
                 expired; MariaDB has written them all to disk before. {} rounds: first the load without deletion \
                 (`clear_expired = false`) for {:.0} s, then on the same table with it for as long as it takes.",
                SIZE.connections,
                SIZE.sessions,
                thousands(VALID_ROWS as f64),
                thousands(EXPIRED_ROWS as f64),
                lab.pace.rounds,
                (lab.pace.time * LONGER_WITHOUT).as_secs_f64(),
            ),
            "`check_expiration_interval` is 1 s instead of 15 min, so that the deletion begins at once. Only the seconds in which \
             rows went count."
                .to_owned(),
        ],
        others: page::others(&both),
        faults: Vec::new(),
    }
}
