//! One cell: a contender in one round, from its start to its end.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::contender::{Contender, Place, Program, Tools};
use crate::load::{Answered, Load, Size, Target};
use crate::mariadb::Mariadb;
use crate::process::{self, Server};
use crate::usage;
use crate::visitor::Answers;

/// The settings of a cell.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The load.
    pub size: Size,
    /// The time of the warm-up, which is not measured.
    pub warm_up: Duration,
    /// The time that is measured.
    pub time: Duration,
}

/// The results of a cell.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// Responses per second.
    pub rate: f64,
    /// The median latency, in microseconds.
    pub p50: u32,
    /// The latency that 99 of 100 requests do not exceed, in microseconds.
    pub p99: u32,
    /// The longest latency, in microseconds.
    pub longest: u32,
    /// The server's processor time per request, in microseconds.
    pub server: f64,
    /// MariaDB's processor time per request, if it is used.
    pub database: Option<f64>,
    /// The load generator's processor time per request.
    pub load: f64,
    /// The fraction of the processor time that other programs on the machine used, 0 to 1.
    pub others: f64,
}

/// The processor time used so far.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    at: Instant,
    server: Duration,
    database: Duration,
    load: Duration,
    machine: Duration,
}

/// Measures one cell. `scratch` contains the folders of all contenders.
///
/// # Errors
/// If a response is not 200 or is wrong, the server stalls, or the server does not start or stop. There are no results in these
/// cases.
pub fn cell(
    contender: Contender,
    tools: &Tools,
    mariadb: &Mariadb,
    scratch: &Path,
    plan: Plan,
) -> anyhow::Result<Cell> {
    let directory = scratch.join(contender.id);
    fs::create_dir_all(&directory)?;
    forget_sessions(&directory);
    if contender.uses_mariadb() {
        mariadb.make_database(contender.id)?;
    }
    let address = process::free_address()?;
    let command = contender.command(
        tools,
        &Place {
            address,
            directory: &directory,
            mariadb: mariadb.address(),
            database: contender.id,
        },
    )?;
    let server = Server::start(command, address, &directory.join("log"))?;
    let size = match contender.answers() {
        Answers::Counter => plan.size,
        Answers::Hello => Size {
            sessions: plan.size.connections,
            ..plan.size
        },
    };
    let mut load = Load::connect(&Target::one(address, contender.answers()), size)?;
    let mut cell = under_load(&mut load, &[&server], mariadb, plan.warm_up, plan.time)
        .map_err(|error| anyhow::anyhow!("{error:#}\nIts log ends:\n{}", server.log()))?;
    if !contender.uses_mariadb() {
        cell.database = None;
    }
    drop(load);
    let status = server.stop()?;
    // The signal kills Node.js and wasmtime, which do not handle it. Cloakroom must exit successfully.
    if contender.program == Program::Cloakroom {
        ensure!(status.success(), "ended with {status}");
    }
    Ok(cell)
}

/// Removes the sessions of the previous round, which Cloakroom keeps in its folder by default.
pub fn forget_sessions(directory: &Path) {
    for ending in ["", "-wal", "-shm", ".secret"] {
        let _ = fs::remove_file(directory.join(format!(".cloakroom/sessions.sqlite{ending}")));
    }
}

/// Creates all sessions, warms up, measures, and checks all sessions again.
///
/// # Errors
/// If a response is not 200 or is wrong, or the server stalls.
pub fn under_load(
    load: &mut Load,
    servers: &[&Server],
    mariadb: &Mariadb,
    warm_up: Duration,
    time: Duration,
) -> anyhow::Result<Cell> {
    load.visit_all()?;
    load.run_for(warm_up)?;
    let before = Used::now(servers, mariadb)?;
    let answered = load.run_for(time)?;
    let after = Used::now(servers, mariadb)?;
    // The count of every session must match its responses.
    load.visit_all()?;
    Cell::of(answered, time, &before, &after)
}

impl Cell {
    /// Calculates the results from the responses within a time.
    pub fn of(
        answered: Answered,
        time: Duration,
        before: &Used,
        after: &Used,
    ) -> anyhow::Result<Self> {
        let mut latencies = answered.latencies;
        latencies.sort_unstable();
        let longest = *latencies.last().context("no answer within the time")?;
        let n_answers = (latencies.len() + answered.late.len()) as f64;
        let per_answer = |used: fn(&Used) -> Duration| {
            (used(after) - used(before)).as_secs_f64() * 1e6 / n_answers
        };
        let known = |used: &Used| (used.server + used.database + used.load).as_secs_f64();
        let others =
            (after.machine - before.machine).as_secs_f64() - (known(after) - known(before));
        let n_processors = std::thread::available_parallelism()?.get() as f64;
        let there_was = (after.at - before.at).as_secs_f64() * n_processors;
        Ok(Self {
            rate: latencies.len() as f64 / time.as_secs_f64(),
            p50: quantile(&latencies, 50),
            p99: quantile(&latencies, 99),
            longest,
            server: per_answer(|used| used.server),
            database: Some(per_answer(|used| used.database)),
            load: per_answer(|used| used.load),
            others: (others / there_was).max(0.0),
        })
    }
}

impl Used {
    /// Returns the processor time used by these servers together, the database, this process and the machine.
    pub fn now(servers: &[&Server], mariadb: &Mariadb) -> anyhow::Result<Self> {
        let mut by_servers = Duration::ZERO;
        for server in servers {
            by_servers += usage::of_process(server.id())?;
        }
        Ok(Self {
            at: Instant::now(),
            server: by_servers,
            database: usage::of_process(mariadb.id())?,
            load: usage::of_process_alone(std::process::id())?,
            machine: usage::of_machine()?,
        })
    }
}

/// Returns the smallest measured value that `percent` percent of the values do not exceed.
pub fn quantile(sorted: &[u32], percent: usize) -> u32 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted[rank - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_value_that_was_measured() {
        let sorted: Vec<u32> = (1..=200).collect();
        assert_eq!(quantile(&sorted, 50), 100);
        assert_eq!(quantile(&sorted, 99), 198);
        assert_eq!(quantile(&[7], 99), 7);
    }
}
