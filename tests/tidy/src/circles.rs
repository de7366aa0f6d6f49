//! Circles of imports among the modules of a crate.
//!
//! Only modules of the same parent are compared. An import from a descendant of one to a descendant of another counts as an import
//! between the two. A module and its own descendants may import each other: a parent often defines the types that its children share.
//!
//! A name that a module imports from another one, such as a re-export, counts as an import of the module that defines it.

use std::collections::{BTreeMap, BTreeSet};

use crate::crates::{HostCrate, Module};

/// The maximum number of re-exports that are followed to the definition of a name.
const REEXPORTS_MAX: usize = 16;

/// An import of a name of another module.
pub struct Import<'a> {
    /// The position of the importing module in [`HostCrate::modules`].
    pub from: usize,
    /// The position of the module that defines the name.
    pub to: usize,
    /// The path as the code has it.
    pub path: String,
    /// The importing file.
    pub file: &'a str,
    /// The line of the import.
    pub line: usize,
}

/// Modules of the same parent, each of which imports the others, directly or through others.
pub struct Circle {
    /// The crate and the parent, for example `runtime/run`.
    pub parent: String,
    /// The names of the modules.
    pub members: Vec<String>,
    /// An import for each pair of members that has some.
    pub examples: Vec<String>,
}

impl Circle {
    /// Returns the name that the list of accepted circles uses, for example `runtime/run: body, driver`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}: {}", self.parent, self.members.join(", "))
    }
}

/// Returns the circles of a crate.
#[must_use]
pub fn circles(host_crate: &HostCrate<'_>) -> Vec<Circle> {
    let imports = imports(host_crate);
    let parents: BTreeSet<_> = host_crate
        .modules
        .iter()
        .filter_map(|module| module.path.split_last().map(|(_, parent)| parent))
        .collect();
    let found = parents
        .into_iter()
        .flat_map(|parent| circles_below(host_crate, parent, &imports));
    found.collect()
}

/// Returns all imports between the modules of a crate.
#[must_use]
pub fn imports<'a>(host_crate: &HostCrate<'a>) -> Vec<Import<'a>> {
    let names = Names::new(host_crate);
    let mut found = Vec::new();
    for (from, module) in host_crate.modules.iter().enumerate() {
        for path in &module.source.paths {
            let target = names.absolute(&module.path, &path.segments);
            let to = target.and_then(|target| names.module_of(&target, REEXPORTS_MAX));
            let Some(to) = to.filter(|to| *to != from) else {
                continue;
            };
            found.push(Import {
                from,
                to,
                path: path.segments.join("::"),
                file: module.file,
                line: path.line,
            });
        }
    }
    found
}

fn circles_below(
    host_crate: &HostCrate<'_>,
    parent: &[&str],
    imports: &[Import<'_>],
) -> Vec<Circle> {
    let child = |module: usize| {
        let path = &host_crate.modules[module].path;
        (path.len() > parent.len() && path.starts_with(parent)).then(|| path[parent.len()])
    };
    let mut edges: BTreeMap<&str, BTreeMap<&str, String>> = BTreeMap::new();
    for import in imports {
        let (Some(from), Some(to)) = (child(import.from), child(import.to)) else {
            continue;
        };
        let example = || format!("{}:{}: {}", import.file, import.line, import.path);
        if from != to {
            let targets = edges.entry(from).or_default();
            targets.entry(to).or_insert_with(example);
        }
    }
    let mut parts = vec![host_crate.short_name()];
    parts.extend(parent);
    components(&edges)
        .into_iter()
        .map(|members| Circle {
            parent: parts.join("/"),
            examples: examples(&edges, &members),
            members: members.iter().map(|name| (*name).to_owned()).collect(),
        })
        .collect()
}

fn examples(
    edges: &BTreeMap<&str, BTreeMap<&str, String>>,
    members: &BTreeSet<&str>,
) -> Vec<String> {
    let pairs = members.iter().flat_map(|from| {
        let targets = edges.get(from).into_iter().flatten();
        let inner = targets.filter(|(to, _)| members.contains(*to));
        inner.map(move |(to, example)| format!("{from} -> {to}: {example}"))
    });
    pairs.collect()
}

/// Returns the groups of two or more names that all reach each other.
fn components<'a, T>(edges: &BTreeMap<&'a str, BTreeMap<&'a str, T>>) -> Vec<BTreeSet<&'a str>> {
    let reached: BTreeMap<_, _> = edges
        .keys()
        .map(|from| (*from, reach(edges, from)))
        .collect();
    let mut found: Vec<BTreeSet<&str>> = Vec::new();
    for (from, targets) in &reached {
        let is_known = found.iter().any(|members| members.contains(from));
        if is_known || !targets.contains(from) {
            continue;
        }
        let returns = |to: &&&str| reached.get(*to).is_some_and(|back| back.contains(from));
        found.push(targets.iter().filter(returns).copied().collect());
    }
    found
}

fn reach<'a, T>(edges: &BTreeMap<&'a str, BTreeMap<&'a str, T>>, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(next) = open.pop() {
        for to in edges.get(next).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(*to) {
                open.push(to);
            }
        }
    }
    reached
}

/// The names of a crate's modules.
struct Names<'a> {
    /// The crate's name in the code. The binary of a package names the library of the package with it.
    crate_name: String,
    modules: BTreeMap<Vec<&'a str>, ModuleNames<'a>>,
}

struct ModuleNames<'a> {
    /// The position in [`HostCrate::modules`].
    index: usize,
    /// The items that the module defines.
    items: BTreeSet<&'a str>,
    /// The paths that the module imports, by the names it gives to them.
    imports: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a> Names<'a> {
    fn new(host_crate: &HostCrate<'a>) -> Self {
        let modules = host_crate.modules.iter().enumerate();
        Self {
            crate_name: host_crate.code_name(),
            modules: modules
                .map(|(index, module)| (module.path.clone(), ModuleNames::new(index, module)))
                .collect(),
        }
    }

    /// Returns a path of the module `own` as segments from the crate's root, or nothing if it leads to another crate or to an
    /// item of the module itself.
    fn absolute(&self, own: &[&'a str], segments: &[&'a str]) -> Option<Vec<&'a str>> {
        let (first, rest) = segments.split_first()?;
        let child = [own, &[*first]].concat();
        let base = match *first {
            "crate" => Vec::new(),
            "self" => own.to_vec(),
            "super" => {
                let mut above = own.split_last()?.1;
                let count = rest.iter().take_while(|name| **name == "super").count();
                above = &above[..above.len().checked_sub(count)?];
                return Some([above, &rest[count..]].concat());
            }
            name if name == self.crate_name => Vec::new(),
            _ if self.modules.contains_key(&child) => child,
            name => {
                let import = self.modules.get(own)?.imports.get(name)?;
                // The import of another crate, or of an item with the crate's name.
                if import.first() == Some(first) {
                    return None;
                }
                self.absolute(own, import)?
            }
        };
        Some([base.as_slice(), rest].concat())
    }

    /// Returns the module that a path from the crate's root leads to: the module itself, or the one that defines the path's item.
    fn module_of(&self, path: &[&'a str], reexports_left: usize) -> Option<usize> {
        let mut prefixes = (0..=path.len()).rev().map(|end| path.split_at(end));
        let (own, module, rest) = prefixes
            .find_map(|(own, rest)| self.modules.get(own).map(|module| (own, module, rest)))?;
        let import = rest.first().and_then(|name| {
            let is_own = module.items.contains(name) || reexports_left == 0;
            module.imports.get(name).filter(|_| !is_own)
        });
        match import.and_then(|import| self.absolute(own, import)) {
            Some(target) => self.module_of(&target, reexports_left - 1),
            // Without an import from this crate, the module itself is the source of the name.
            None => Some(module.index),
        }
    }
}

impl<'a> ModuleNames<'a> {
    fn new(index: usize, module: &Module<'a>) -> Self {
        let paths = module.source.paths.iter();
        Self {
            index,
            items: module.source.items().into_iter().collect(),
            imports: paths
                .filter_map(|path| Some((path.import?, path.segments.clone())))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::circles;
    use crate::crates::host_crates;
    use crate::tree::Tree;

    /// Returns the circles of a crate with these files.
    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let manifest = ("Cargo.toml", "[package]\nname = \"cloakroom-a\"\n");
        let files = files.iter().chain([&manifest]);
        let tree =
            Tree::of_texts(files.map(|(path, text)| (format!("host/crates/a/{path}"), *text)));
        let crates = host_crates(&tree);
        circles(&crates[0])
            .iter()
            .map(super::Circle::name)
            .collect()
    }

    #[test]
    fn two_modules_that_import_each_other_are_a_circle() {
        let files = [
            ("src/lib.rs", "mod b;\nmod c;"),
            ("src/b.rs", "use crate::{\n    c::C,\n};\npub struct B;"),
            ("src/c.rs", "pub struct C(super::b::B);"),
        ];
        assert_eq!(found(&files), ["a: b, c"]);
    }

    #[test]
    fn a_name_counts_where_it_is_defined() {
        let files = [
            ("src/lib.rs", "mod b;\nmod c;\nmod d;\npub use c::C;"),
            ("src/b.rs", "use crate::C;\npub struct B;"),
            ("src/c.rs", "use super::d::D;\npub struct C;"),
            ("src/d/e.rs", "use crate::b;\nfn f(_: b::B) {}"),
            ("src/d.rs", "pub use e::D;\nmod e;"),
        ];
        assert_eq!(found(&files), ["a: b, c, d"]);
    }

    #[test]
    fn tests_and_parents_are_no_part_of_a_circle() {
        let files = [
            ("src/lib.rs", "mod b;\nmod c;\nuse b::B;\npub struct A;"),
            ("src/b.rs", "use crate::A;\n#[cfg(test)]\nuse super::c::C;"),
            ("src/c.rs", "use crate::b::B;"),
        ];
        assert_eq!(found(&files), [""; 0]);
    }
}
