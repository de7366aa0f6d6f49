//! The results as text: a page, its excerpt for the README, and progress lines.

use std::fmt::Write as _;

use anyhow::Context as _;

use crate::contender::Sessions;
use crate::machine::Setting;
use crate::measure::Cell;
use crate::summary::{Ratio, Row, Target};

/// The excerpt in the README is between these lines.
const EXCERPT_BEGINS: &str = "<!-- make bench: begin -->\n";
const EXCERPT_ENDS: &str = "<!-- make bench: end -->\n";

/// Notes about the conditions of the measurements.
const NOTES: &str = "\
- Everybody has a turn in each round, every other round in reverse order. A turn is a fresh start of the server with a fresh
  database or store; warm-up is not counted. One wrong count or one answer that is not 200 ends the run without figures.
- A connection sends its next request when it has its answer, for one of its own sessions after the other: no session has
  two requests at once, since most peers lose updates then.
- Durable means flushed before the answer is complete, for all who keep sessions in a database: one MariaDB server with its
  own defaults (`innodb_flush_log_at_trx_commit=1`), and SQLite with `synchronous=FULL`.
- Cloakroom is the release binary with its defaults: every answer from a fresh sandbox, signed cookies, all limits, the access
  log, which goes to a file here. The guests are components of WASI 0.2.
- Express is one process, as `node app.js` starts it, with `NODE_ENV=production`, `resave` and `saveUninitialized` off. Its
  documentation also advises one process per processor, which with MemoryStore cannot be.
- axum and tower-sessions are a release build in native code, without a sandbox; their cookies are not signed, which is their
  default. Neither they nor Express log requests.
- `wasmtime serve` has its defaults, with `-S cli` for what Rust's standard library imports.
- All pools have their default size, which is 10 connections for all three.
";

/// Returns the whole page.
pub fn page(setting: &Setting, all: &[Ratio], rows: &[Row]) -> String {
    let Setting {
        date,
        machine,
        plan,
        rounds,
        versions,
        ..
    } = setting;
    let others = others(rows);
    format!(
        "# Cloakroom beside its peers

`make bench` wrote this page on {date}: medians of {rounds} rounds.

## Ratios

{ratios}
## Figures

Rates are answers per second over all connections, behind them the slowest and the fastest round. The last three columns are
processor time per request in microseconds: of the server, of MariaDB, of the load generator.

{table}
![The rates as bars](results.svg)

## How

- {machine}. {others}
- {plan}.
{NOTES}
Versions: {versions}.
",
        ratios = ratios(all),
        table = table(rows),
        versions = versions.join(", "),
    )
}

/// Returns the excerpt for the README.
pub fn excerpt(setting: &Setting, all: &[Ratio], rows: &[Row]) -> String {
    let Setting {
        date,
        rounds,
        n_processors,
        ..
    } = setting;
    format!(
        "![Requests per second, Cloakroom beside its peers](host/benches/results/results.svg)

Measured on {date} on {n_processors} processors that server, database and load generator share: medians of {rounds} rounds, all
contenders in turn. {others}

{ratios}
",
        others = others(rows),
        ratios = ratios(all),
    )
}

/// Replaces the excerpt in the README.
pub fn put_excerpt(readme: &str, excerpt: &str) -> anyhow::Result<String> {
    let parts = readme
        .split_once(EXCERPT_BEGINS)
        .and_then(|(before, rest)| {
            let (_, after) = rest.split_once(EXCERPT_ENDS)?;
            Some((before, after))
        });
    let (before, after) = parts.context("the README has no place for the excerpt")?;
    Ok(format!(
        "{before}{EXCERPT_BEGINS}{excerpt}{EXCERPT_ENDS}{after}"
    ))
}

/// Returns the ratios as a table.
pub fn ratios(all: &[Ratio]) -> String {
    let mut text =
        "| | ratio | in single rounds | target | |\n| --- | ---: | ---: | ---: | --- |\n"
            .to_owned();
    for Ratio {
        what,
        ratio,
        target,
    } in all
    {
        let wanted = match target {
            Target::AtLeast(least) => format!("≥ {least}"),
            Target::AtMost(most) => format!("≤ {most}"),
        };
        let verdict = if target.is_met_by(ratio.median) {
            "met"
        } else {
            "missed"
        };
        let median = ratio.median;
        let (least, most) = (ratio.least, ratio.most);
        let _ = writeln!(
            text,
            "| {what} | **{median:.2}** | {least:.2} to {most:.2} | {wanted} | {verdict} |"
        );
    }
    text
}

/// Returns a progress line about a cell.
pub fn line(id: &str, cell: &Cell) -> String {
    let Cell {
        rate,
        p50,
        p99,
        longest,
        server,
        load,
        others,
        ..
    } = cell;
    let database = cell.database.unwrap_or_default();
    let others = others * 100.0;
    format!(
        "{id:16} {rate:8.0}/s  p50 {p50:6} us  p99 {p99:6} us  longest {longest:7} us  \
         CPU: server {server:6.1} us, database {database:6.1} us, load {load:4.1} us  others {others:4.1} %"
    )
}

fn table(rows: &[Row]) -> String {
    let mut text = "\
| | | requests/s | | p50 | p99 | server | database | load |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"
    .to_owned();
    for row in rows {
        let rate = row.spread(|cell| cell.rate);
        let median = |figure: fn(&Cell) -> f64| row.spread(figure).median;
        let database = match row.contender.uses_mariadb() {
            true => format!("{:.0}", median(|cell| cell.database.unwrap_or_default())),
            false => "–".to_owned(),
        };
        let _ = writeln!(
            text,
            "| {} | {} | **{}** | {} to {} | {:.2} ms | {:.2} ms | {:.0} | {database} | {:.0} |",
            kind(row.contender.sessions),
            row.contender.label,
            thousands(rate.median),
            thousands(rate.least),
            thousands(rate.most),
            median(|cell| f64::from(cell.p50)) / 1e3,
            median(|cell| f64::from(cell.p99)) / 1e3,
            median(|cell| cell.server),
            median(|cell| cell.load),
        );
    }
    text
}

/// Returns the kind of a row's requests.
pub fn kind(sessions: Sessions) -> &'static str {
    match sessions {
        Sessions::Mysql | Sessions::Sqlite => "counter, durable",
        Sessions::Memory => "counter, in memory",
        Sessions::None => "hello, no session",
    }
}

/// Formats a whole number with commas between the thousands.
pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Describes how busy the machine was with other programs.
fn others(rows: &[Row]) -> String {
    others_of(rows.iter().flat_map(|row| &row.cells))
}

/// Describes how busy the machine was with other programs during these turns. There must be at least one turn.
pub fn others_of<'a>(cells: impl Iterator<Item = &'a Cell>) -> String {
    let spread = crate::summary::spread(cells.map(|cell| cell.others * 100.0).collect());
    format!(
        "Whatever else ran on the machine took {:.0} % of the processors in the median turn, {:.0} % in the worst.",
        spread.median, spread.most
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated_by_commas() {
        assert_eq!(thousands(999.4), "999");
        assert_eq!(thousands(1_234_567.0), "1,234,567");
    }

    #[test]
    fn the_excerpt_goes_between_its_marks_and_nowhere_else() {
        let readme = format!("a\n{EXCERPT_BEGINS}old\n{EXCERPT_ENDS}b\n");
        let put = put_excerpt(&readme, "new\n").unwrap();
        assert_eq!(put, format!("a\n{EXCERPT_BEGINS}new\n{EXCERPT_ENDS}b\n"));
        assert!(put_excerpt("a\n", "new\n").is_err());
    }
}
