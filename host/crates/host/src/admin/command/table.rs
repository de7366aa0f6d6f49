//! Guests and versions as an aligned table. Control characters in texts from the host are escaped.

use super::VersionFilter;
use super::progress::size;
use crate::admin::report::{
    ComponentReport, DryRunReport, GuestListing, GuestReport, VersionEntry,
};
use cloakroom_base::telemetry::counted;
use cloakroom_base::telemetry::escape;

const HEADINGS: [&str; 8] = [
    "GUEST", "VERSION", "STATE", "SINCE", "FROM", "SIZE", "DIGEST", "NOTES",
];
/// The number of characters of a digest that are printed, enough to distinguish components.
const DIGEST_CHARS: usize = 12;

/// Returns a table with a row for each version.
pub(crate) fn of(listing: &GuestListing, versions: VersionFilter) -> String {
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    for guest in &listing.guests {
        let shown = guest.versions.iter().enumerate();
        let shown = shown.filter(|(age, version)| match versions {
            VersionFilter::All => true,
            VersionFilter::Current => is_current(*age, version),
        });
        rows.extend(shown.map(|(_, version)| row(guest, version)));
    }
    aligned(&rows)
}

fn is_current(age: usize, version: &VersionEntry) -> bool {
    match version.state.as_str() {
        "retired" => version.kept,
        "failed" => age == 0 || version.kept,
        _ => true,
    }
}

fn row(guest: &GuestReport, version: &VersionEntry) -> [String; HEADINGS.len()] {
    let component = version.component.as_ref();
    let bytes = component.map(|it| usize::try_from(it.bytes).unwrap_or(usize::MAX));
    let digest = component.map(|it| it.digest.chars().take(DIGEST_CHARS).collect());
    // Seconds are enough: 2026-11-24T13:20:11.123Z
    let since = version.since.split('.').next().unwrap_or_default();
    let cells = [
        guest.name.clone(),
        version.number.to_string(),
        version.state.clone(),
        format!("{since}Z"),
        version.origin.clone(),
        bytes.map_or_else(|| "-".to_owned(), size),
        digest.unwrap_or_else(|| "-".to_owned()),
        notes(version),
    ];
    cells.map(|cell| escape(&cell).into_owned())
}

fn notes(version: &VersionEntry) -> String {
    let mut notes = Vec::new();
    if let Some(reason) = &version.reason {
        notes.push(reason.clone());
    }
    if version.kept {
        notes.push("kept for a rollback".to_owned());
    }
    if let Some(tally) = &version.tally
        && tally.requests > 0
    {
        let failures = [
            (tally.errors, format!("{} 5xx", tally.errors)),
            (tally.traps, counted(tally.traps, "trap")),
            (
                tally.deadline_misses,
                format!("{} late", tally.deadline_misses),
            ),
        ];
        let failures = failures.iter().filter(|(count, _)| *count > 0);
        let failures: String = failures.map(|(_, text)| format!(", {text}")).collect();
        let requests = counted(tally.requests, "request");
        notes.push(format!("lately {requests}{failures}"));
    }
    notes.join("; ")
}

/// Describes the result of a dry run.
pub(crate) fn of_dry_run(dry_run: &DryRunReport) -> String {
    let ComponentReport {
        digest,
        bytes,
        world,
        imports,
        exports,
    } = &dry_run.component;
    let verdict = match dry_run.unchanged {
        true => format!("is version {}, which is live already", dry_run.live),
        false => format!("would serve in place of version {}", dry_run.live),
    };
    let listed = |names: &[String]| {
        let names: Vec<_> = names.iter().map(|name| escape(name)).collect();
        names.join("\n           ")
    };
    format!(
        "{}: this component {verdict}\n  digest   {}\n  size     {}\n  world    {}\n  imports  {}\n  exports  {}\n",
        escape(&dry_run.guest),
        escape(digest),
        size(usize::try_from(*bytes).unwrap_or(usize::MAX)),
        escape(world),
        listed(imports),
        listed(exports),
    )
}

fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let lengths = rows.iter().map(|row| row[column].chars().count());
        lengths.max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::report::WindowReport;

    fn version(number: u64, state: &str) -> VersionEntry {
        VersionEntry {
            number,
            state: state.to_owned(),
            reason: (state == "failed").then(|| "it\ntrapped".to_owned()),
            origin: "config".to_owned(),
            since: "2026-11-24T13:20:11.123Z".to_owned(),
            component: (state != "candidate").then(|| ComponentReport {
                digest: "0123456789abcdef".repeat(4),
                bytes: 2048,
                world: "wasi:http 0.2".to_owned(),
                imports: Vec::new(),
                exports: Vec::new(),
            }),
            tally: (state == "live").then_some(WindowReport {
                requests: 20,
                errors: 0,
                traps: 2,
                deadline_misses: 0,
            }),
            kept: state == "retired" && number == 2,
        }
    }

    fn listing() -> GuestListing {
        let states = [
            "candidate",
            "failed",
            "live",
            "failed",
            "retired",
            "retired",
        ];
        let versions = (1..=6).rev().zip(states);
        GuestListing {
            guests: vec![GuestReport {
                name: "counter".to_owned(),
                live: 4,
                versions: versions.map(|(n, state)| version(n, state)).collect(),
            }],
        }
    }

    #[test]
    fn the_table_aligns_its_columns() {
        let text = of(&listing(), VersionFilter::All);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 7, "{text}");
        let column = lines[0].find("STATE").unwrap();
        for (line, state) in lines[1..].iter().zip(["candidate", "failed", "live"]) {
            assert_eq!(line.find(state), Some(column), "{text}");
        }
        assert!(lines[3].contains("2026-11-24T13:20:11Z"), "{text}");
        assert!(lines[3].ends_with("2.0 KiB  0123456789ab  lately 20 requests, 2 traps"));
        assert!(lines[2].ends_with("it\\ntrapped"), "{text}");
    }

    #[test]
    fn a_retired_version_is_listed_only_if_a_rollback_can_restore_it() {
        let text = of(&listing(), VersionFilter::Current);
        let numbers: Vec<_> = text
            .lines()
            .skip(1)
            .map(|line| line.split_whitespace().nth(1))
            .collect();
        assert_eq!(numbers, [Some("6"), Some("4"), Some("2")], "{text}");
        let mut failed_last = listing();
        failed_last.guests[0].versions.remove(0);
        let text = of(&failed_last, VersionFilter::Current);
        assert!(text.contains("failed"), "{text}");
    }
}
