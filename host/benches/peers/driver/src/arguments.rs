//! The command line of `make bench`. This module does not perform the measurements.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::contender::{self, Contender, Program, Tools};
use crate::load::Size;
use crate::measure::Plan;

/// The number of rounds of a full run. The results of shorter runs are not kept.
const FULL_ROUNDS_MIN: u32 = 5;
/// The time per cell of a full run.
const FULL_TIME_MIN: Duration = Duration::from_secs(5);
/// The warm-up takes the measured time divided by this number.
const WARM_UP_PART: u32 = 3;

/// The settings of a run.
#[derive(Debug)]
pub struct Arguments {
    /// The paths of the programs.
    pub tools: Tools,
    /// The folder for all files of the run. Its previous contents are removed.
    pub scratch: PathBuf,
    /// The number of turns of each contender.
    pub rounds: u32,
    /// The settings of each turn.
    pub plan: Plan,
    /// The contenders to measure.
    pub contenders: Vec<Contender>,
    /// Whether the contenders were given on the command line.
    is_choice: bool,
}

impl Arguments {
    /// Parses `--name value` pairs. An empty value counts as absent.
    pub fn read(mut words: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut cloakroom = None;
        let mut axum = None;
        let mut wasmtime = None;
        let mut scratch = None;
        let mut rounds = FULL_ROUNDS_MIN;
        let mut time = FULL_TIME_MIN;
        let mut chosen = None;
        while let Some(name) = words.next() {
            let value = words
                .next()
                .with_context(|| format!("{name} wants a value"))?;
            if value.is_empty() {
                continue;
            }
            match name.as_str() {
                "--cloakroom" => cloakroom = Some(value.into()),
                "--axum" => axum = Some(value.into()),
                "--wasmtime" => wasmtime = Some(value.into()),
                "--scratch" => scratch = Some(value.into()),
                "--rounds" => rounds = value.parse().context("--rounds wants a number")?,
                "--seconds" => {
                    let seconds = value.parse().context("--seconds wants a number")?;
                    time = Duration::try_from_secs_f64(seconds).context("--seconds")?;
                }
                "--only" => {
                    let found: anyhow::Result<_> = value.split(',').map(contender::find).collect();
                    chosen = Some(found?);
                }
                _ => bail!("there is no {name}"),
            }
        }
        ensure!(rounds > 0 && time > Duration::ZERO, "nothing to measure");
        let is_choice = chosen.is_some();
        let mut contenders = chosen.unwrap_or_else(|| contender::ALL.to_vec());
        if wasmtime.is_none() {
            contenders.retain(|contender| contender.program != Program::Wasmtime);
        }
        Ok(Self {
            tools: Tools {
                cloakroom: absolute(cloakroom.context("--cloakroom is missing")?)?,
                axum: absolute(axum.context("--axum is missing")?)?,
                wasmtime: wasmtime.map(absolute).transpose()?,
                guests: absolute("target/guests".into())?,
                express: absolute("host/benches/peers/express/counter.js".into())?,
            },
            scratch: scratch.context("--scratch is missing")?,
            rounds,
            plan: Plan {
                size: Size {
                    connections: 32,
                    sessions: 256,
                },
                warm_up: time / WARM_UP_PART,
                time,
            },
            contenders,
            is_choice,
        })
    }

    /// Whether the results are worth keeping: all available contenders have enough turns, and the turns are long enough.
    pub fn is_full(&self) -> bool {
        self.rounds >= FULL_ROUNDS_MIN && self.plan.time >= FULL_TIME_MIN && !self.is_choice
    }
}

/// Returns the absolute path. Servers are started in their own folders, where a relative path would not work.
pub fn absolute(path: PathBuf) -> anyhow::Result<PathBuf> {
    std::fs::canonicalize(&path).with_context(|| path.display().to_string())
}
