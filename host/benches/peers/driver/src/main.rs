//! `make bench`: measures Cloakroom and its peers in alternating turns, and writes the table and the plot. With `scale` as the
//! first argument, `make scale`: measures how Cloakroom scales.
//!
//! Everything runs on this machine and communicates over the loopback interface. Start it in the repository's root.

mod arguments;
mod contender;
mod counts;
mod load;
mod machine;
mod mariadb;
mod measure;
mod plot;
mod process;
mod report;
mod response;
mod scale;
mod summary;
mod usage;
mod visitor;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::arguments::Arguments;
use crate::contender::Contender;
use crate::mariadb::Mariadb;
use crate::summary::Row;

/// The folder for the results of a full run. A shorter run writes them to its scratch folder.
const RESULTS: &str = "host/benches/results";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    let (mode, result) = if words.next_if(|word| word == "scale").is_some() {
        ("scale", scale::run(words))
    } else {
        let arguments = Arguments::read(words);
        ("bench", arguments.and_then(|arguments| run(&arguments)))
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{mode}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    // Remove the files of a run that was killed. Fails if there are none.
    let _ = fs::remove_dir_all(&arguments.scratch);
    fs::create_dir_all(&arguments.scratch)?;
    let scratch = fs::canonicalize(&arguments.scratch)?;
    let mariadb = Mariadb::start(&scratch.join("mariadb"))?;
    let setting = machine::describe(arguments, &mariadb)?;
    let rows = measure_all(arguments, &mariadb, &scratch)?;
    mariadb.stop()?;

    let folder = if arguments.is_full() {
        RESULTS.into()
    } else {
        scratch
    };
    write_results(&folder, arguments, &setting, &rows)
}

/// Runs all rounds. A contender that fails ends the run, because the results of a server with wrong responses are worthless.
fn measure_all(
    arguments: &Arguments,
    mariadb: &Mariadb,
    scratch: &Path,
) -> anyhow::Result<Vec<Row>> {
    let mut rows: Vec<_> = arguments.contenders.iter().map(|c| Row::new(*c)).collect();
    for round in 1..=arguments.rounds {
        eprintln!("round {round} of {}", arguments.rounds);
        let mut order: Vec<&mut Row> = rows.iter_mut().collect();
        // Reverse the order, so that no contender always follows the same other one.
        if round % 2 == 0 {
            order.reverse();
        }
        for row in order {
            let Contender { id, .. } = row.contender;
            let cell = measure::cell(
                row.contender,
                &arguments.tools,
                mariadb,
                scratch,
                arguments.plan,
            )
            .with_context(|| format!("{id}, round {round}"))?;
            eprintln!("  {}", report::line(id, &cell));
            row.cells.push(cell);
        }
    }
    Ok(rows)
}

fn write_results(
    folder: &Path,
    arguments: &Arguments,
    setting: &machine::Setting,
    rows: &[Row],
) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let ratios = summary::ratios(rows);
    let table = folder.join("results.md");
    fs::write(&table, report::page(setting, &ratios, rows))?;
    fs::write(folder.join("results.svg"), plot::draw(setting, rows))?;
    if arguments.is_full() {
        let readme = fs::read_to_string("README.md")?;
        let excerpt = report::excerpt(setting, &ratios, rows);
        fs::write("README.md", report::put_excerpt(&readme, &excerpt)?)?;
    }
    eprintln!("\n{}", report::ratios(&ratios));
    eprintln!("All of it: {}", table.display());
    Ok(())
}
