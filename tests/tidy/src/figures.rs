//! The figures of the code base, as the review counts them.

use std::collections::BTreeMap;
use std::fmt;

use crate::changes::{CHANGES, Mentions};
use crate::circles::circles;
use crate::crates::{HostCrate, Module, host_crates};
use crate::english::{Phrase, comment_counts};
use crate::tree::Tree;

/// The maximum number of lines of a function.
pub const FUNCTION_LINES_MAX: usize = 70;

/// How many types there are, and how many of them share their name with another.
pub struct TypeNames<'a> {
    /// The number of structs, enums and traits.
    pub types: usize,
    /// The files that define each name.
    pub files: BTreeMap<&'a str, Vec<&'a str>>,
}

impl TypeNames<'_> {
    /// Returns the number of types that share their name with another.
    #[must_use]
    pub fn shared(&self) -> usize {
        let counts = self.files.values().map(Vec::len);
        counts.filter(|count| *count > 1).sum()
    }
}

/// Returns all modules of all crates.
pub fn modules<'c, 'a>(crates: &'c [HostCrate<'a>]) -> impl Iterator<Item = &'c Module<'a>> {
    crates.iter().flat_map(|each| &each.modules)
}

/// Counts the types of the host.
#[must_use]
pub fn type_names<'a>(crates: &[HostCrate<'a>]) -> TypeNames<'a> {
    let mut files: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for module in modules(crates) {
        for name in module.source.types() {
            files.entry(name).or_default().push(module.file);
        }
    }
    TypeNames {
        types: files.values().map(Vec::len).sum(),
        files,
    }
}

/// All figures, to be printed.
pub struct Figures {
    tree: Tree,
}

impl Figures {
    /// Prepares to count the files of a tree.
    #[must_use]
    pub fn new(tree: Tree) -> Self {
        Self { tree }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let crates = host_crates(&self.tree);
        write_english(f, &self.tree)?;
        write_types(f, &crates)?;
        write_lengths(f, &crates)?;
        write_circles(f, &crates)?;
        write_changes(f, &self.tree, &crates)
    }
}

fn write_english(f: &mut fmt::Formatter<'_>, tree: &Tree) -> fmt::Result {
    let counts = comment_counts(tree);
    let words: usize = counts.iter().map(|count| count.words).sum();
    writeln!(f, "Comments: {words} words")?;
    for (at, phrase) in Phrase::ALL.into_iter().enumerate() {
        let found: usize = counts.iter().map(|count| count.phrases[at]).sum();
        let share = per_thousand(found, words);
        writeln!(f, "  {}: {found}, {share} per 1,000", phrase.description())?;
    }
    Ok(())
}

/// Returns a share with one decimal.
fn per_thousand(part: usize, all: usize) -> String {
    let tenths = (part * 10_000 + all / 2) / all.max(1);
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn write_types(f: &mut fmt::Formatter<'_>, crates: &[HostCrate<'_>]) -> fmt::Result {
    let names = type_names(crates);
    let (types, shared) = (names.types, names.shared());
    let percent = (shared * 100 + types / 2) / types.max(1);
    writeln!(
        f,
        "Types: {types} with {} names; {shared} ({percent} %) share their name with another",
        names.files.len()
    )
}

fn write_lengths(f: &mut fmt::Formatter<'_>, crates: &[HostCrate<'_>]) -> fmt::Result {
    let mut lengths: Vec<_> = modules(crates)
        .map(|module| module.text.lines().count())
        .collect();
    lengths.sort_unstable();
    let rank = |percent: usize| lengths.get(lengths.len() * percent / 100).copied();
    writeln!(
        f,
        "Files: {} in {} crates; lines: median {}, 90th percentile {}, maximum {}",
        lengths.len(),
        crates.len(),
        rank(50).unwrap_or(0),
        rank(90).unwrap_or(0),
        lengths.last().unwrap_or(&0)
    )?;
    let long: Vec<_> = modules(crates).flat_map(long_functions).collect();
    writeln!(
        f,
        "Functions over {FUNCTION_LINES_MAX} lines: {}",
        long.len()
    )?;
    for function in long {
        writeln!(f, "  {function}")?;
    }
    Ok(())
}

/// Returns the functions of a module that are too long, each with its place and its number of lines.
#[must_use]
pub fn long_functions(module: &Module<'_>) -> Vec<String> {
    let functions = module.source.functions().into_iter();
    let long = functions.filter(|function| function.lines > FUNCTION_LINES_MAX);
    long.map(|function| {
        let (file, line) = (module.file, function.line);
        format!("{file}:{line}: {}, {} lines", function.name, function.lines)
    })
    .collect()
}

fn write_circles(f: &mut fmt::Formatter<'_>, crates: &[HostCrate<'_>]) -> fmt::Result {
    let found: Vec<_> = crates.iter().flat_map(circles).collect();
    let members: usize = found.iter().map(|circle| circle.members.len()).sum();
    writeln!(f, "Import circles: {} with {members} modules", found.len())?;
    for circle in found {
        writeln!(f, "  {}", circle.name())?;
        for example in circle.examples {
            writeln!(f, "    {example}")?;
        }
    }
    Ok(())
}

fn write_changes(f: &mut fmt::Formatter<'_>, tree: &Tree, crates: &[HostCrate<'_>]) -> fmt::Result {
    writeln!(
        f,
        "Places of a change in host/, tests and its own files aside:"
    )?;
    for change in CHANGES {
        let mentions = change.mentions(tree, crates);
        let lines: usize = mentions.iter().map(|each| each.lines).sum();
        writeln!(
            f,
            "  {}: {lines} lines in {} files",
            change.name,
            mentions.len()
        )?;
        for Mentions { file, lines } in mentions {
            writeln!(f, "    {file}: {lines}")?;
        }
    }
    Ok(())
}
