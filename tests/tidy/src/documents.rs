//! The names of files, modules and tests in the documents.

use std::collections::BTreeSet;

use crate::tree::{TextFile, Tree};

/// The documents whose names of files and modules must exist. The others also name files of a reader's own project, and URLs.
const DOCUMENTS: [&str; 7] = [
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SCALING.md",
    "host/docs/decisions/",
    "host/docs/src/faults.md",
    "host/docs/src/glossary.md",
    "host/docs/src/security-requirements.md",
];

/// Returns the paths between backticks that no file or module of the repository has, each with its document.
///
/// A path may leave out its first folders, a crate's `src`, and the ending `.rs`: `handler/screen` is a module of the crate `host`.
/// The files of the examples in CONTRIBUTING.md do not exist. They have `toy` in their names.
#[must_use]
pub fn dead_paths(tree: &Tree) -> Vec<String> {
    let known = known_paths(tree);
    let is_listed = |file: &&TextFile| DOCUMENTS.iter().any(|name| file.path.starts_with(name));
    let documents = tree.files.iter().filter(is_listed);
    let dead = documents.flat_map(|document| {
        let paths = quoted(&document.text).filter(|text| is_path(text));
        let dead = paths.filter(|path| !is_known(path, &known));
        dead.map(|path| format!("{}: `{path}`", document.path))
    });
    dead.collect()
}

/// Returns all ends of the paths of files and folders, as a document may write them.
fn known_paths(tree: &Tree) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for path in tree.paths() {
        let path = path.trim_end_matches(".rs");
        for spelling in [path.to_owned(), path.replace("/src/", "/")] {
            let ends = spelling.match_indices('/').map(|(at, _)| at + 1);
            known.extend(ends.map(|at| spelling[at..].to_owned()));
            known.insert(spelling);
        }
    }
    known
}

fn is_known(path: &str, known: &BTreeSet<String>) -> bool {
    let file = path.split_once("::").map_or(path, |(file, _)| file);
    known.contains(file.trim_end_matches('/').trim_end_matches(".rs"))
}

/// Returns whether a text is a path below the repository's root.
fn is_path(text: &str) -> bool {
    let is_in_path = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-./".contains(c);
    let file = text.split_once("::").map_or(text, |(file, _)| file);
    let is_example = file.contains("toy");
    file.contains('/') && !file.starts_with('/') && !is_example && file.chars().all(is_in_path)
}

/// Returns the texts between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// Returns the number and the text of each line of a page's table.
#[must_use]
pub fn numbered_lines(page: &str) -> Vec<(usize, &str)> {
    let cells = page.lines().filter_map(|line| {
        let (number, rest) = line.strip_prefix("| ")?.split_once(" |")?;
        Some((number.parse().ok()?, rest))
    });
    cells.collect()
}

/// Returns the texts between backticks that name a test: `path/file.rs::function`.
#[must_use]
pub fn named_tests(text: &str) -> Vec<(&str, &str)> {
    quoted(text)
        .filter_map(|name| name.split_once(".rs::"))
        .collect()
}

/// Returns whether the text of a Rust file contains this function with a test attribute.
#[must_use]
pub fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let opens = [format!("fn {name}("), format!("async fn {name}(")];
    let found = lines
        .iter()
        .position(|line| opens.iter().any(|open| line.starts_with(open)));
    // There may be an `expect` attribute for a lint between the two.
    found.is_some_and(|at| {
        let mut above = lines[at.saturating_sub(4)..at].iter();
        above.any(|line| line.contains("test"))
    })
}
