//! `make bench`: measures Cloakroom and its peers side by side, in turn, and writes the table and the plot. With the word
//! `scale` in front, `make scale`: how Cloakroom alone scales.
//!
//! Everything runs on this machine and speaks over the loopback interface. Start it in the repository's root.

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

/// Where a full run leaves what it found. A shorter one leaves it in its scratch folder.
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
    // What a killed run left. Fails where there is nothing.
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

/// All rounds. A contender that fails ends the run: figures of servers that answer wrongly are worth nothing.
fn measure_all(
    arguments: &Arguments,
    mariadb: &Mariadb,
    scratch: &Path,
) -> anyhow::Result<Vec<Row>> {
    let mut rows: Vec<_> = arguments.contenders.iter().map(|c| Row::new(*c)).collect();
    for round in 1..=arguments.rounds {
        eprintln!("round {round} of {}", arguments.rounds);
        let mut order: Vec<&mut Row> = rows.iter_mut().collect();
        // So that nobody always follows the same neighbour.
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
