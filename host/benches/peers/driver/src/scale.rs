//! `make scale`: measures how Cloakroom's speed and memory change with connections, sessions, rows, guests and hosts. Each series
//! has its own page, because the long ones are run separately.

mod arguments;
mod connections;
mod endurance;
mod guests;
mod host;
mod hosts;
mod idle;
mod lab;
mod log;
mod page;
mod reaper;
mod rows;
mod sessions;
mod size;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use self::arguments::Arguments;
use self::lab::{Lab, Pace};
use self::page::{Page, Section};
use crate::machine;
use crate::mariadb::Mariadb;

/// The folder for the results of a full series. A shorter series writes them to its scratch folder.
const RESULTS: &str = "host/benches/results/scale";

/// A series of measurements that answers one question.
#[derive(Clone, Copy)]
struct Series {
    /// The name on the command line and of the page.
    id: &'static str,
    title: &'static str,
    measure: fn(&Lab) -> anyhow::Result<Section>,
    /// Whether the results are worth keeping at this pace.
    is_full: fn(Pace) -> bool,
}

const ALL: [Series; 8] = [
    Series {
        id: "connections",
        title: "More connections",
        measure: connections::measure,
        is_full: Pace::is_full,
    },
    Series {
        id: "sessions",
        title: "More sessions",
        measure: sessions::measure,
        is_full: Pace::is_full,
    },
    Series {
        id: "reaper",
        title: "While expired sessions are deleted",
        measure: reaper::measure,
        is_full: Pace::is_full,
    },
    Series {
        id: "size",
        title: "Larger sessions",
        measure: size::measure,
        is_full: Pace::is_full,
    },
    Series {
        id: "guests",
        title: "More guests",
        measure: guests::measure,
        is_full: Pace::is_full,
    },
    Series {
        id: "hosts",
        title: "More hosts on one database",
        measure: hosts::measure,
        is_full: Pace::is_full,
    },
    Series {
        id: "idle",
        title: "Idle connections",
        measure: idle::measure,
        is_full: Pace::is_full,
    },
    Series {
        id: "run",
        title: "Four hosts on one database, for long",
        measure: endurance::measure,
        is_full: Pace::is_long,
    },
];

/// Runs the series that the command line requests.
pub fn run(words: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let Arguments {
        tools,
        scratch,
        pace,
        series,
    } = Arguments::read(words)?;
    // Remove the files of a run that was killed. Fails if there are none.
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch)?;
    let lab = Lab {
        mariadb: Mariadb::start(&fs::canonicalize(&scratch)?.join("mariadb"))?,
        scratch: fs::canonicalize(&scratch)?,
        tools,
        pace,
    };
    let page = Page {
        machine: machine::machine(std::thread::available_parallelism()?.get())?,
        versions: vec![
            machine::cloakroom_version(&lab.tools.cloakroom)?,
            machine::mariadb_version(&lab.mariadb)?,
        ],
    };
    for series in series {
        eprintln!("{}", series.id);
        let section = (series.measure)(&lab).with_context(|| series.id)?;
        let folder = if (series.is_full)(pace) && section.faults.is_empty() {
            PathBuf::from(RESULTS)
        } else {
            lab.scratch.join("scale")
        };
        write(&folder, series, &page, &section)?;
        ensure!(section.faults.is_empty(), "{}", section.faults.join("\n"));
    }
    lab.mariadb.stop()
}

fn write(folder: &Path, series: Series, page: &Page, section: &Section) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let path = folder.join(format!("{}.md", series.id));
    fs::write(&path, page.text(series.title, section))?;
    eprintln!("{}\nAll of it: {}\n", section.figures, path.display());
    Ok(())
}

/// Returns the series of this name.
fn find(id: &str) -> anyhow::Result<Series> {
    let found = ALL.into_iter().find(|series| series.id == id);
    found.with_context(|| format!("there is no `{id}`, but {}", ALL.map(|s| s.id).join(", ")))
}
