//! The parts that all series share: the programs, the database server, the durations, and the alternation of turns.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

use super::host::{self, Host, Spec};
use crate::load::{Load, Size, Target};
use crate::mariadb::Mariadb;
use crate::measure::{self, Cell};
use crate::report;
use crate::visitor::Answers;

/// The environment of all series.
pub(super) struct Lab {
    /// The paths of the programs.
    pub(super) tools: Tools,
    /// The folder that contains the hosts' folders.
    pub(super) scratch: PathBuf,
    /// The database server of all series.
    pub(super) mariadb: Mariadb,
    /// The durations and the number of rounds.
    pub(super) pace: Pace,
}

/// The paths of the programs.
#[derive(Debug)]
pub(super) struct Tools {
    /// Cloakroom's release binary.
    pub(super) cloakroom: PathBuf,
    /// The folder of the components.
    pub(super) components: PathBuf,
}

/// The durations and the number of rounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// The number of turns of each point.
    pub(super) rounds: u32,
    /// The measured time of a turn.
    pub(super) time: Duration,
    /// The duration of the series `run`.
    pub(super) run_time: Duration,
}

/// The turns of one point.
#[derive(Debug)]
pub(super) struct Turns<T> {
    /// The point's name in the table.
    pub(super) label: String,
    /// The results, one for each round.
    pub(super) rounds: Vec<T>,
}

impl Pace {
    /// The pace of a full run. The results at a lower pace are not kept.
    pub(super) const FULL: Self = Self {
        rounds: 3,
        time: Duration::from_secs(5),
        run_time: Duration::from_secs(600),
    };

    /// Whether the results are worth keeping.
    pub(super) fn is_full(self) -> bool {
        self.rounds >= Self::FULL.rounds && self.time >= Self::FULL.time
    }

    /// Whether the results of the series `run` are worth keeping.
    pub(super) fn is_long(self) -> bool {
        self.run_time >= Self::FULL.run_time
    }

    /// Describes the pace for the page.
    pub(super) fn note(self) -> String {
        format!(
            "{} rounds, every other one in reverse order; each turn is a fresh start of the host, with {:.1} s of warm-up and \
             {:.1} s counted.",
            self.rounds,
            self.warm_up().as_secs_f64(),
            self.time.as_secs_f64(),
        )
    }

    /// Returns the time of the warm-up, which is not measured.
    pub(super) fn warm_up(self) -> Duration {
        self.time / 3
    }
}

impl Lab {
    /// Runs all rounds. In each round every point has a turn, and every other round has the reverse order.
    pub(super) fn in_turn<P, T>(
        &self,
        points: &[P],
        label: impl Fn(&P) -> String,
        mut turn: impl FnMut(&P) -> anyhow::Result<T>,
        line: impl Fn(&str, &T) -> String,
    ) -> anyhow::Result<Vec<Turns<T>>> {
        let mut all: Vec<_> = (points.iter())
            .map(|point| Turns {
                label: label(point),
                rounds: Vec::new(),
            })
            .collect();
        for round in 1..=self.pace.rounds {
            eprintln!(" round {round} of {}", self.pace.rounds);
            let mut order: Vec<_> = points.iter().zip(&mut all).collect();
            // Reverse the order, so that no point always follows the same other one.
            if round % 2 == 0 {
                order.reverse();
            }
            for (point, turns) in order {
                let what = || format!("{}, round {round}", turns.label);
                let taken = turn(point).with_context(what)?;
                eprintln!("  {}", line(&turns.label, &taken));
                turns.rounds.push(taken);
            }
        }
        Ok(all)
    }

    /// Runs all rounds of turns whose result is a cell.
    pub(super) fn cells_in_turn<P>(
        &self,
        points: &[P],
        label: impl Fn(&P) -> String,
        turn: impl FnMut(&P) -> anyhow::Result<Cell>,
    ) -> anyhow::Result<Vec<Turns<Cell>>> {
        self.in_turn(points, label, turn, report::line)
    }

    /// Runs one turn of the counter on one host, from its start to its end.
    pub(super) fn counter(&self, spec: &Spec, size: Size) -> anyhow::Result<Cell> {
        self.counter_for(spec, size, self.pace.time)
    }

    /// Runs one turn like [`Lab::counter`], but measures for `time`.
    pub(super) fn counter_for(
        &self,
        spec: &Spec,
        size: Size,
        time: Duration,
    ) -> anyhow::Result<Cell> {
        let host = Host::start(self, spec)?;
        let mut load = Load::connect(&Target::one(host.address(), Answers::Counter), size)?;
        let cell = self.under_load_for(&mut load, &[&host], time);
        drop(load);
        let cell = host::explained(cell, &[&host])?;
        host.stop()?;
        Ok(cell)
    }

    /// Measures these hosts under this load.
    pub(super) fn under_load(&self, load: &mut Load, hosts: &[&Host]) -> anyhow::Result<Cell> {
        self.under_load_for(load, hosts, self.pace.time)
    }

    fn under_load_for(
        &self,
        load: &mut Load,
        hosts: &[&Host],
        time: Duration,
    ) -> anyhow::Result<Cell> {
        let servers: Vec<_> = hosts.iter().map(|host| host.server()).collect();
        measure::under_load(load, &servers, &self.mariadb, self.pace.warm_up(), time)
    }
}
