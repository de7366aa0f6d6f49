//! The command line of `make scale`. This module does not perform the measurements.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use super::lab::{Pace, Tools};
use super::{ALL, Series};
use crate::arguments::absolute;

/// The settings of a run.
pub(super) struct Arguments {
    /// The paths of the programs.
    pub(super) tools: Tools,
    /// The folder for all files of the run. Its previous contents are removed.
    pub(super) scratch: PathBuf,
    /// The durations and the number of rounds.
    pub(super) pace: Pace,
    /// The series to run.
    pub(super) series: Vec<Series>,
}

impl Arguments {
    /// Parses `--name value` pairs. An empty value counts as absent.
    pub(super) fn read(mut words: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut cloakroom = None;
        let mut scratch = None;
        let mut pace = Pace::FULL;
        let mut series = ALL.to_vec();
        while let Some(name) = words.next() {
            let value = words
                .next()
                .with_context(|| format!("{name} wants a value"))?;
            if value.is_empty() {
                continue;
            }
            match name.as_str() {
                "--cloakroom" => cloakroom = Some(value.into()),
                "--scratch" => scratch = Some(value.into()),
                "--rounds" => pace.rounds = value.parse().context("--rounds wants a number")?,
                "--seconds" => pace.time = seconds(&name, &value)?,
                "--run-seconds" => pace.run_time = seconds(&name, &value)?,
                "--only" => {
                    let found: anyhow::Result<_> = value.split(',').map(super::find).collect();
                    series = found?;
                }
                _ => bail!("there is no {name}"),
            }
        }
        ensure!(pace.rounds > 0, "nothing to measure");
        Ok(Self {
            tools: Tools {
                cloakroom: absolute(cloakroom.context("--cloakroom is missing")?)?,
                components: absolute("target/guests".into())?,
            },
            scratch: scratch.context("--scratch is missing")?,
            pace,
            series,
        })
    }
}

fn seconds(name: &str, value: &str) -> anyhow::Result<Duration> {
    let seconds: f64 = (value.parse()).with_context(|| format!("{name} wants a number"))?;
    ensure!(seconds > 0.0, "nothing to measure");
    Duration::try_from_secs_f64(seconds).with_context(|| name.to_owned())
}
