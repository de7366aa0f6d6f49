//! Checks the project rules that can be checked mechanically: the layer table, which modules may name which crate, and the
//! heads and sizes of files.
//!
//! The table is the one of `ARCHITECTURE.md`. A module imports only modules on lines below its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The modules from the top layer to the bottom. Within a line, a module imports only those to its right.
const LAYERS: [&[&str]; 12] = [
    &["main", "args", "author", "app", "fuzz"],
    &["config"],
    &["server"],
    &["handler"],
    &["admin"],
    &["route"],
    &["guest"],
    &["session"],
    &["cookie"],
    &["store"],
    &["record"],
    &[
        "files",
        "hostname",
        "quota",
        "limits",
        "deadline",
        "clock",
        "random",
        "telemetry",
    ],
];

/// The crates that only certain modules may name, with these modules.
const OWNED_CRATES: [(&str, &[&str]); 14] = [
    ("mysql_async", &["store/mysql"]),
    ("rusqlite", &["store/sqlite"]),
    ("wasmtime", &["guest"]),
    ("wasmtime_wasi", &["guest"]),
    ("wasmtime_wasi_http", &["guest"]),
    ("hyper", &["server", "handler", "admin", "guest/outbound"]),
    (
        "hyper_util",
        &["server", "handler", "admin", "guest/outbound"],
    ),
    ("rustls", &["guest/outbound"]),
    ("tokio_rustls", &["guest/outbound"]),
    ("webpki_roots", &["guest/outbound"]),
    ("matchit", &["route"]),
    ("notify", &["guest/watch", "author/dev"]),
    ("anyhow", &["main"]),
    ("prometheus", &["telemetry"]),
];

const FILE_LINES_MAX: usize = 400;
const LINE_COLUMNS_MAX: usize = 140;

struct Source {
    /// The path below `src/` without the extension, for example `store/mysql/schema`.
    module: String,
    text: String,
}

impl Source {
    fn top(&self) -> &str {
        self.module
            .split('/')
            .next()
            .expect("a path has a first part")
    }

    /// Returns the lines of code, without comments and without the test module at the end.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        let production = lines.take_while(|(_, line)| *line != "#[cfg(test)]");
        production
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(n, line)| (n + 1, line))
    }
}

fn files(root: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(root).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    files(&root, &mut paths);
    assert!(paths.len() > 20, "the sources are where this test looks");
    let source = |path: PathBuf| {
        let below = path
            .strip_prefix(&root)
            .expect("found below the root")
            .with_extension("");
        let text = std::fs::read_to_string(&path).expect("a readable file");
        Source {
            module: below.to_string_lossy().into_owned(),
            text,
        }
    };
    paths.into_iter().map(source).collect()
}

/// Returns the position of a module: its line, and its index in the line.
fn place(module: &str) -> Option<(usize, usize)> {
    LAYERS
        .iter()
        .enumerate()
        .find_map(|(line, modules)| Some((line, modules.iter().position(|m| *m == module)?)))
}

/// Returns the names after `crate::` (or `cloakroom::`, in the binary) on a line, including several in braces.
fn imports(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for marker in ["crate::", "cloakroom::"] {
        for (at, _) in line.match_indices(marker) {
            let boundary = line[..at]
                .chars()
                .next_back()
                .is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == '$'));
            let rest = &line[at + marker.len()..];
            if !boundary {
                continue;
            }
            if let Some(group) = rest.strip_prefix('{') {
                let group = group.split('}').next().unwrap_or(group);
                found.extend(group.split(',').map(|part| head(part.trim())));
            } else {
                found.push(head(rest));
            }
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

fn head(path: &str) -> String {
    path.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

fn assert_none(faults: &[String], rule: &str) {
    assert!(faults.is_empty(), "{rule}:\n{}", faults.join("\n"));
}

#[test]
fn a_module_imports_only_what_stands_below_it() {
    let mut faults = Vec::new();
    let mut seen = 0;
    for source in sources().iter().filter(|s| s.module != "lib") {
        let top = source.top();
        let Some(own) = place(top) else {
            faults.push(format!(
                "src/{}.rs: `{top}` has no line in the layer table",
                source.module
            ));
            continue;
        };
        for (number, line) in source.code() {
            for name in imports(line).iter().filter(|name| *name != top) {
                seen += 1;
                if place(name).is_some_and(|other| other <= own) {
                    faults.push(format!(
                        "src/{}.rs:{number}: `{top}` imports `{name}`, which stands above it",
                        source.module
                    ));
                }
            }
        }
    }
    assert!(seen > 50, "the imports are where this test looks");
    assert_none(
        &faults,
        "a module imports only modules on lines below its own",
    );
}

#[test]
fn a_crate_is_named_only_where_it_is_at_home() {
    let mut faults = Vec::new();
    let mut used: BTreeMap<&str, usize> = BTreeMap::new();
    for source in sources() {
        for (number, line) in source.code() {
            for (name, homes) in OWNED_CRATES {
                let path = format!("{name}::");
                let named = line.match_indices(&path).any(|(at, _)| {
                    line[..at]
                        .chars()
                        .next_back()
                        .is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == ':'))
                });
                if !named {
                    continue;
                }
                *used.entry(name).or_default() += 1;
                let at_home = |home: &&str| {
                    source.module == **home || source.module.starts_with(&format!("{home}/"))
                };
                if !homes.iter().any(at_home) {
                    faults.push(format!(
                        "src/{}.rs:{number}: names `{name}`, which only {homes:?} may",
                        source.module
                    ));
                }
            }
        }
    }
    assert!(
        used.contains_key("wasmtime") && used.contains_key("mysql_async"),
        "this test sees the crates it guards"
    );
    assert_none(&faults, "some crates have one home");
}

#[test]
fn every_file_says_what_it_is_for() {
    let faults: Vec<_> = sources()
        .iter()
        .filter(|s| !s.text.starts_with("//! "))
        .map(|s| format!("src/{}.rs", s.module))
        .collect();
    assert_none(
        &faults,
        "a file opens with `//!`: what it is for and what it must not know",
    );
}

#[test]
fn nine_of_ten_files_are_short_and_no_line_is_long() {
    let sources = sources();
    let long: Vec<_> = sources
        .iter()
        .filter(|s| s.text.lines().count() > FILE_LINES_MAX)
        .map(|s| s.module.as_str())
        .collect();
    assert!(
        long.len() * 10 <= sources.len(),
        "more than one file of ten has over {FILE_LINES_MAX} lines: {long:?}"
    );
    let mut faults = Vec::new();
    for source in &sources {
        for (number, line) in source.text.lines().enumerate() {
            if line.chars().count() > LINE_COLUMNS_MAX {
                faults.push(format!("src/{}.rs:{}", source.module, number + 1));
            }
        }
    }
    assert_none(&faults, "lines have at most 140 columns");
}

/// Python's generator copies the comments into texts in which `\u` begins an escape, so such a guest would not build.
#[test]
fn comments_of_the_interface_hold_no_escape() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
    let faults: Vec<_> = std::fs::read_dir(folder)
        .expect("a readable folder")
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|file| std::fs::read_to_string(file).is_ok_and(|text| holds_escape(&text)))
        .map(|file| file.display().to_string())
        .collect();
    assert_none(
        &faults,
        "a comment in wit/ holds no backslash before a letter or digit",
    );
}

fn holds_escape(text: &str) -> bool {
    let after = text.split('\\').skip(1);
    after
        .filter_map(|rest| rest.chars().next())
        .any(char::is_alphanumeric)
}

#[test]
fn no_module_is_called_mod_or_utils() {
    let banned = ["mod", "utils", "util", "helpers", "common", "misc"];
    let name = |s: &Source| {
        s.module
            .rsplit('/')
            .next()
            .map(str::to_owned)
            .expect("a path has a last part")
    };
    let faults: Vec<_> = sources()
        .iter()
        .filter(|s| banned.contains(&name(s).as_str()))
        .map(|s| s.module.clone())
        .collect();
    assert_none(&faults, "a file is named for what it holds");
}

/// The tables of the book that name tests, and the number of lines in each.
const TABLES: [(&str, usize); 2] = [("security-requirements.md", 63), ("faults.md", 42)];

/// Returns the number and the text of each line of a page's table.
fn numbered_lines(page: &str) -> Vec<(usize, &str)> {
    let cells = page.lines().filter_map(|line| {
        let (number, rest) = line.strip_prefix("| ")?.split_once(" |")?;
        Some((number.parse().ok()?, rest))
    });
    cells.collect()
}

/// Returns the texts between backticks that name a test: `path/file.rs::function`.
fn named_tests(text: &str) -> Vec<(&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter_map(|name| name.split_once(".rs::")).collect()
}

#[test]
fn the_book_names_tests_that_are_there_for_every_requirement_and_fault() {
    let host = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut faults = Vec::new();
    for (name, count) in TABLES {
        let path = host.join("docs/src").join(name);
        let page = std::fs::read_to_string(path).expect("the page is there");
        let lines = numbered_lines(&page);
        let numbers: Vec<_> = lines.iter().map(|(number, _)| *number).collect();
        let expected: Vec<_> = (1..=count).collect();
        assert_eq!(numbers, expected, "{name} has each number once, in order");
        for (number, text) in lines {
            let tests = named_tests(text);
            if tests.is_empty() && !text.contains("issue \"") && !text.contains("*Express's row*") {
                faults.push(format!("{name}: {number} has neither a test nor a reason"));
            }
            for (file, test) in tests {
                if !is_a_test(&host.join("..").join(format!("{file}.rs")), test) {
                    faults.push(format!("{name}: {number} names {file}.rs::{test}"));
                }
            }
        }
    }
    assert_none(&faults, "the tables name tests that are there");
}

/// Returns whether the file contains this function with a test attribute.
fn is_a_test(file: &Path, name: &str) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let opens = [format!("fn {name}("), format!("async fn {name}(")];
    let found = lines
        .iter()
        .position(|line| opens.iter().any(|open| line.starts_with(open)));
    // There may be an `expect` attribute for a lint between the two.
    found.is_some_and(|at| {
        let above = lines[at.saturating_sub(4)..at].iter();
        above.into_iter().any(|line| line.contains("test"))
    })
}
