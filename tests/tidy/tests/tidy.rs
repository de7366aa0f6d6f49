//! Checks the project rules that can be checked mechanically: the order of crates and modules, which modules may name which crate,
//! circles of imports, the sizes of files and functions, the language of comments and documents, the waits of tests, and the names
//! in documents.
//!
//! The tables of the rules are in `src/rules.rs`. Tests are not bound to the order of modules.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use cloakroom_tidy::circles::{Circle, circles, imports};
use cloakroom_tidy::crates::{HostCrate, host_crates};
use cloakroom_tidy::documents::{dead_paths, has_test, named_tests, numbered_lines};
use cloakroom_tidy::english::{
    Phrase, PhraseCount, WORDS_PER_PHRASE_MIN, comment_counts, document_counts, prose_lines,
};
use cloakroom_tidy::figures::{long_functions, modules, type_names};
use cloakroom_tidy::lexer::tokens;
use cloakroom_tidy::rules::{
    ACCEPTED_CIRCLES, AcceptedCircle, CRATE_LINES, FILE_LINES_MAX, HOMES, LINE_COLUMNS_MAX,
    LONG_FUNCTIONS, MODULES, SHARED_NAMES_PERCENT_MAX, SLEEP_HOME, SLEEPS, TEST_FOLDERS,
};
use cloakroom_tidy::tree::{TextFile, Tree};

static TREE: LazyLock<Tree> = LazyLock::new(Tree::of_working_tree);
static CRATES: LazyLock<Vec<HostCrate<'_>>> = LazyLock::new(|| host_crates(&TREE));

fn assert_none(faults: &[String], rule: &str) {
    assert!(faults.is_empty(), "{rule}:\n{}", faults.join("\n"));
}

/// Returns the Rust files of the host's crates, including their tests.
fn host_files() -> Vec<&'static TextFile> {
    let folders = ["host/src/", "host/crates/"];
    let files: Vec<_> = folders
        .into_iter()
        .flat_map(|folder| TREE.below(folder, ".rs"))
        .collect();
    assert!(files.len() > 200, "the sources are where this test looks");
    files
}

#[test]
fn a_crate_depends_only_on_crates_below_it() {
    let crates = &*CRATES;
    let level = |name: &str| CRATE_LINES.iter().position(|line| line.contains(&name));
    let mut faults = Vec::new();
    for each in crates {
        let own = each.short_name();
        let Some(own_level) = level(each.listed_name()) else {
            faults.push(format!("{own} has no line in the table of crates"));
            continue;
        };
        let all = each.dependencies.iter().chain(&each.dev_dependencies);
        let ours = all.filter_map(|name| crates.iter().find(|other| other.name == *name));
        for other in ours {
            if level(other.listed_name()).is_none_or(|level| level <= own_level) {
                faults.push(format!("{own} depends on {}", other.short_name()));
            }
        }
    }
    assert_none(
        &faults,
        "a crate depends only on crates of lines below its own",
    );
}

#[test]
fn the_architecture_page_names_every_crate() {
    let map = TREE.text("ARCHITECTURE.md").expect("the map exists");
    let rows: Vec<_> = map
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .filter_map(|line| line.split(" |").next())
        .collect();
    let is_named = |name: &str| rows.iter().any(|row| row.contains(&format!("`{name}`")));
    let names = CRATES.iter().map(HostCrate::listed_name);
    let faults: Vec<_> = names
        .filter(|name| !is_named(name))
        .map(str::to_owned)
        .collect();
    assert_none(
        &faults,
        "the table of crates in ARCHITECTURE.md has a row for each",
    );
}

#[test]
fn a_module_imports_only_modules_below_it() {
    let crates = &*CRATES;
    let mut faults = Vec::new();
    for (name, lines) in MODULES {
        let each = crates.iter().find(|each| each.short_name() == name);
        let each = each.expect("a crate of this name");
        let line = |name| lines.iter().position(|line| line.contains(&name));
        let place = |module: usize| {
            let top = each.modules[module].path.first().copied().unwrap_or("*");
            let name = line(top).map_or("*", |_| top);
            (name, line(name))
        };
        for import in imports(each) {
            let ((from, own), (to, other)) = (place(import.from), place(import.to));
            // The crate's root passes names on.
            if each.modules[import.from].path.is_empty() || from == to {
                continue;
            }
            let place = format!("{}:{}", import.file, import.line);
            match (own, other) {
                (None, _) => faults.push(format!("{place}: `{from}` has no line in the table")),
                (Some(own), Some(other)) if other <= own => {
                    faults.push(format!(
                        "{place}: `{from}` imports `{to}`, which is not below it"
                    ));
                }
                (Some(_), _) => {}
            }
        }
    }
    assert_none(
        &faults,
        "a module imports only modules of lines below its own",
    );
}

#[test]
fn modules_import_each_other_in_no_circle() {
    let found: Vec<_> = CRATES.iter().flat_map(circles).collect();
    let is_part = |circle: &Circle, accepted: &AcceptedCircle| {
        let mut members = circle.members.iter();
        circle.parent == accepted.parent && members.all(|m| accepted.members.contains(&m.as_str()))
    };
    let is_accepted = |circle: &&Circle| ACCEPTED_CIRCLES.iter().any(|each| is_part(circle, each));
    let faults: Vec<_> = found
        .iter()
        .filter(|circle| !is_accepted(circle))
        .map(|circle| format!("{}\n  {}", circle.name(), circle.examples.join("\n  ")))
        .collect();
    assert_none(
        &faults,
        "modules of the same parent import each other in one direction",
    );
    let is_open = |each: &&AcceptedCircle| !found.iter().any(|circle| is_part(circle, each));
    let open = ACCEPTED_CIRCLES.iter().filter(is_open);
    let open: Vec<_> = open.map(|each| each.parent.to_owned()).collect();
    assert_none(&open, "an accepted circle is still one");
}

#[test]
fn an_external_crate_is_named_only_in_the_crates_that_may_use_it() {
    let crates = &*CRATES;
    let mut faults = Vec::new();
    let mut named = BTreeSet::new();
    for (name, homes) in HOMES {
        let users = crates.iter().filter(|each| {
            let mut dependencies = each.dependencies.iter();
            dependencies.any(|dependency| dependency.replace('-', "_") == name)
        });
        let is_home = |folder: &str| homes.iter().any(|home| home.starts_with(folder));
        let strangers = users.filter(|each| !is_home(&format!("{}/src", each.folder)));
        faults.extend(strangers.map(|each| format!("{}/Cargo.toml: {name}", each.folder)));
        for module in modules(&CRATES) {
            let paths = &module.source.paths;
            let Some(path) = paths.iter().find(|path| path.segments[0] == name) else {
                continue;
            };
            named.insert(name);
            let below = |home: &&str| {
                let rest = module.file.strip_prefix(*home);
                rest.is_some_and(|rest| rest.starts_with(['/', '.']))
            };
            if !homes.iter().any(below) {
                faults.push(format!("{}:{}: {name}", module.file, path.line));
            }
        }
    }
    assert_eq!(
        named.len(),
        HOMES.len(),
        "this test sees all crates that it guards: {named:?}"
    );
    assert_none(&faults, "some crates have one home");
}

#[test]
fn a_panic_poisons_no_lock() {
    let mut faults = Vec::new();
    for module in modules(&CRATES) {
        for path in &module.source.paths {
            if let ["std", "sync", "Condvar" | "Mutex" | "RwLock", ..] = path.segments[..] {
                faults.push(format!("{}:{}", module.file, path.line));
            }
        }
    }
    assert_none(
        &faults,
        "locks are those of `parking_lot`, because no code of the host reacts to a poisoned lock",
    );
}

#[test]
fn every_file_begins_with_a_module_comment() {
    let files = host_files().into_iter();
    let faults: Vec<_> = files
        .filter(|file| !file.text.starts_with("//! "))
        .map(|file| file.path.clone())
        .collect();
    assert_none(
        &faults,
        "a file opens with `//!`: what it is for and what it must not know",
    );
}

#[test]
fn nine_of_ten_files_are_short_and_no_line_is_long() {
    let files = host_files();
    let long: Vec<_> = files
        .iter()
        .filter(|file| file.text.lines().count() > FILE_LINES_MAX)
        .map(|file| file.path.as_str())
        .collect();
    assert!(
        long.len() * 10 <= files.len(),
        "more than one file of ten has over {FILE_LINES_MAX} lines: {long:?}"
    );
    let mut faults = Vec::new();
    for file in TREE.files.iter().filter(|file| file.path.ends_with(".rs")) {
        for (number, line) in file.text.lines().enumerate() {
            if line.chars().count() > LINE_COLUMNS_MAX {
                faults.push(format!("{}:{}", file.path, number + 1));
            }
        }
    }
    assert_none(&faults, "lines have at most 140 columns");
}

#[test]
fn a_function_has_at_most_70_lines() {
    let is_excepted = |place: &String| {
        let mut excepted = LONG_FUNCTIONS.iter();
        excepted
            .any(|(file, name)| place.starts_with(file) && place.contains(&format!(": {name},")))
    };
    let long: Vec<_> = modules(&CRATES).flat_map(long_functions).collect();
    let (excepted, faults): (Vec<_>, Vec<_>) = long.into_iter().partition(is_excepted);
    assert_none(&faults, "a function has at most 70 lines");
    assert_eq!(
        excepted.len(),
        LONG_FUNCTIONS.len(),
        "each exception is needed: {excepted:?}"
    );
}

/// Documents that programs write.
const WRITTEN_BY_PROGRAMS: &str = "host/benches/results/";

#[test]
fn no_line_of_a_document_is_long() {
    let mut faults = Vec::new();
    let documents = TREE.files.iter().filter(|file| file.path.ends_with(".md"));
    for file in documents.filter(|file| !file.path.starts_with(WRITTEN_BY_PROGRAMS)) {
        // Markdown cannot wrap the rows of a table.
        for (number, line) in prose_lines(&file.text).filter(|(_, line)| !line.starts_with('|')) {
            if line.chars().count() > LINE_COLUMNS_MAX {
                faults.push(format!("{}:{number}", file.path));
            }
        }
    }
    assert_none(&faults, "lines of documents have at most 140 columns");
}

#[test]
fn comments_use_few_vague_phrases() {
    let counts = comment_counts(&TREE);
    let words: usize = counts.iter().map(|count| count.words).sum();
    assert!(words > 50_000, "the comments are where this test looks");
    assert_few_phrases(&counts);
}

#[test]
fn documents_name_their_nouns() {
    let counts = document_counts(&TREE);
    let words: usize = counts.iter().map(|count| count.words).sum();
    assert!(words > 20_000, "the documents are where this test looks");
    assert_few_phrases(&counts);
}

fn assert_few_phrases(counts: &[PhraseCount<'_>]) {
    let words: usize = counts.iter().map(|count| count.words).sum();
    for (at, phrase) in Phrase::ALL.into_iter().enumerate() {
        let found: usize = counts.iter().map(|count| count.phrases[at]).sum();
        let places: Vec<_> = counts
            .iter()
            .filter(|count| count.phrases[at] > 0)
            .map(|count| format!("{}: {}", count.file, count.phrases[at]))
            .collect();
        assert!(
            found * WORDS_PER_PHRASE_MIN < words,
            "{found} times `{}` in {words} words:\n{}",
            phrase.description(),
            places.join("\n")
        );
    }
}

#[test]
fn few_types_share_a_name() {
    let names = type_names(&CRATES);
    assert!(names.types > 400, "the types are where this test looks");
    let shared: Vec<_> = names
        .files
        .iter()
        .filter(|(_, files)| files.len() > 1)
        .map(|(name, files)| format!("{name}: {}", files.join(", ")))
        .collect();
    assert!(
        names.shared() * 100 <= names.types * SHARED_NAMES_PERCENT_MAX,
        "{} of {} types share their name with another:\n{}",
        names.shared(),
        names.types,
        shared.join("\n")
    );
}

/// A sleep until something has probably happened fails on a busy machine and wastes time on a quiet one.
#[test]
fn tests_sleep_only_in_one_file() {
    let files = TEST_FOLDERS
        .into_iter()
        .flat_map(|folder| TREE.below(folder, ".rs"));
    let (mut faults, mut is_home_there) = (Vec::new(), false);
    for file in files {
        let tokens = tokens(&file.text);
        let mut sleeps = tokens.iter().filter(|token| SLEEPS.contains(&token.text));
        if file.path == SLEEP_HOME {
            is_home_there = sleeps.next().is_some();
            continue;
        }
        faults.extend(sleeps.map(|token| format!("{}:{}", file.path, token.line)));
    }
    assert!(is_home_there, "{SLEEP_HOME} is where this test looks");
    assert_none(
        &faults,
        "a test waits with `wait_until`, or with `pause` where the time belongs to the test",
    );
}

/// Python's generator copies the comments into texts in which `\u` begins an escape, so such a guest would not build.
#[test]
fn comments_of_the_interface_hold_no_escape() {
    let files = TREE.below("wit/", ".wit").into_iter();
    let faults: Vec<_> = files
        .filter(|file| !file.path.starts_with("wit/deps/") && holds_escape(&file.text))
        .map(|file| file.path.clone())
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
    let files = host_files().into_iter();
    let faults: Vec<_> = files
        .filter(|file| {
            let name = file.path.trim_end_matches(".rs").rsplit('/').next();
            name.is_some_and(|name| banned.contains(&name))
        })
        .map(|file| file.path.clone())
        .collect();
    assert_none(&faults, "a file is named for what it holds");
}

#[test]
fn the_documents_name_files_and_modules_that_exist() {
    let faults = dead_paths(&TREE);
    assert_none(&faults, "a path in a document is one of the repository");
}

/// The tables of the book that name tests, and the number of lines in each.
const TABLES: [(&str, usize); 2] = [("security-requirements.md", 63), ("faults.md", 42)];

#[test]
fn the_book_names_tests_that_are_there_for_every_requirement_and_fault() {
    let mut faults = Vec::new();
    for (name, count) in TABLES {
        let page = TREE.text(&format!("host/docs/src/{name}"));
        let lines = numbered_lines(page.expect("the page is there"));
        let numbers: Vec<_> = lines.iter().map(|(number, _)| *number).collect();
        let expected: Vec<_> = (1..=count).collect();
        assert_eq!(numbers, expected, "{name} has each number once, in order");
        for (number, text) in lines {
            let tests = named_tests(text);
            if tests.is_empty() && !text.contains("issue \"") && !text.contains("*Express's row*") {
                faults.push(format!("{name}: {number} has neither a test nor a reason"));
            }
            for (file, test) in tests {
                let text = TREE.text(&format!("{file}.rs")).unwrap_or_default();
                if !has_test(text, test) {
                    faults.push(format!("{name}: {number} names {file}.rs::{test}"));
                }
            }
        }
    }
    assert_none(&faults, "the tables name tests that are there");
}
