//! The page of a series: the results and how they were measured.

use std::fmt::Write as _;

use super::lab::Turns;
use crate::measure::Cell;
use crate::report::{self, thousands};
use crate::summary::{figures, spread};

/// The longest line of a page.
const LINE_WIDTH: usize = 124;

/// Notes for all series.
const NOTES: &str = "\
- Cloakroom is the release binary with its defaults, but for what is said here: every answer from a fresh sandbox, signed
  cookies, all limits, the access log, which goes to a file. The guests are components of WASI 0.2.
- The database is one MariaDB server with its own defaults: a commit is flushed before it is answered
  (`innodb_flush_log_at_trx_commit=1`).
- Hosts, database and load generator are on one machine and share its processors. A client sends its next request when it has
  its answer.
- No page is kept of a run with one wrong count, one answer that is not 200, or one warning or error in a host's log.
";

/// The facts that all pages of a run contain.
#[derive(Debug)]
pub(super) struct Page {
    /// The processors, memory and system.
    pub(super) machine: String,
    /// The programs and their versions.
    pub(super) versions: Vec<String>,
}

/// The results of a series.
#[derive(Debug)]
pub(super) struct Section {
    /// Tables, with sentences between them.
    pub(super) figures: String,
    /// Notes on the measurements, each with one or more sentences.
    pub(super) notes: Vec<String>,
    /// A description of how busy the machine was with other programs. Empty if that was not measured.
    pub(super) others: String,
    /// Faults that must not occur. If there are any, the results are not kept.
    pub(super) faults: Vec<String>,
}

impl Page {
    /// Returns the whole page.
    pub(super) fn text(&self, title: &str, section: &Section) -> String {
        let Section {
            figures,
            notes,
            others,
            ..
        } = section;
        let Self { machine, versions } = self;
        let mut how = wrapped(&format!("{machine}. {others}")) + NOTES;
        for note in notes {
            how += &wrapped(note);
        }
        let versions = versions.join(", ");
        format!(
            "# {title}\n\n`make scale` wrote this page.\n\n{figures}\n## How\n\n{how}\nVersions: {versions}.\n"
        )
    }
}

/// Formats a list item and wraps its lines.
fn wrapped(point: &str) -> String {
    let mut text = "-".to_owned();
    let mut column = 1;
    for word in point.split_whitespace() {
        let width = word.chars().count() + 1;
        if column + width > LINE_WIDTH {
            text += "\n ";
            column = 1;
        }
        let _ = write!(text, " {word}");
        column += width;
    }
    text + "\n"
}

/// Formats a table with these columns. The first column contains text.
pub(super) fn table(columns: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n|", columns.join(" | "));
    for index in 0..columns.len() {
        text += if index == 0 { " --- |" } else { " ---: |" };
    }
    text.push('\n');
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

/// Formats the table of turns whose results are cells. `first` is the title of the points' column.
pub(super) fn cells(first: &str, all: &[Turns<Cell>]) -> String {
    let columns = [
        first,
        "requests/s",
        "",
        "p50",
        "p99",
        "server",
        "database",
        "load",
    ];
    let rows: Vec<_> = all.iter().map(cells_row).collect();
    table(&columns, &rows)
}

/// The explanation of the columns of [`cells`].
pub(super) const CELLS_NOTE: &str = "\
Rates are answers per second over all connections, medians of the rounds; behind them the slowest and the fastest round. The
last three columns are processor time per request in microseconds: of the hosts, of MariaDB, of the load generator.
";

fn cells_row(turns: &Turns<Cell>) -> Vec<String> {
    let rate = spread(figures(&turns.rounds, |cell| cell.rate));
    let median = |figure: fn(&Cell) -> f64| spread(figures(&turns.rounds, figure)).median;
    let database = match turns.rounds.iter().any(|cell| cell.database.is_some()) {
        true => format!("{:.0}", median(|cell| cell.database.unwrap_or_default())),
        false => "–".to_owned(),
    };
    vec![
        turns.label.clone(),
        format!("**{}**", thousands(rate.median)),
        format!("{} to {}", thousands(rate.least), thousands(rate.most)),
        milliseconds(median(|cell| f64::from(cell.p50))),
        milliseconds(median(|cell| f64::from(cell.p99))),
        format!("{:.0}", median(|cell| cell.server)),
        database,
        format!("{:.0}", median(|cell| cell.load)),
    ]
}

/// Describes how busy the machine was with other programs during these turns.
pub(super) fn others<'a>(all: impl IntoIterator<Item = &'a Turns<Cell>>) -> String {
    report::others_of(all.into_iter().flat_map(|turns| &turns.rounds))
}

/// Formats microseconds as milliseconds.
pub(super) fn milliseconds(microseconds: f64) -> String {
    format!("{:.2} ms", microseconds / 1e3)
}

/// Formats bytes as mebibytes.
pub(super) fn mebibytes(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / f64::from(1 << 20))
}

/// Formats a median, with the extremes if they differ.
pub(super) fn median(values: Vec<f64>, text: impl Fn(f64) -> String) -> String {
    let spread = spread(values);
    let (least, median, most) = (text(spread.least), text(spread.median), text(spread.most));
    if least == most {
        median
    } else {
        format!("{median} ({least} to {most})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_aligns_words_left_and_numbers_right() {
        let text = table(&["a", "b"], &[vec!["x".to_owned(), "1".to_owned()]]);
        assert_eq!(text, "| a | b |\n| --- | ---: |\n| x | 1 |\n");
    }

    #[test]
    fn long_points_are_wrapped_between_words() {
        assert_eq!(wrapped("a b"), "- a b\n");
        let long = wrapped(&"word ".repeat(30));
        assert_eq!(
            long,
            format!("-{0}\n {1}\n", " word".repeat(24), " word".repeat(6))
        );
    }

    #[test]
    fn a_median_is_shown_with_its_range_if_the_values_differ() {
        let whole = |value| format!("{value:.0}");
        assert_eq!(median(vec![1.0, 1.1, 0.9], whole), "1");
        assert_eq!(median(vec![1.0, 5.0, 3.0], whole), "3 (1 to 5)");
    }
}
