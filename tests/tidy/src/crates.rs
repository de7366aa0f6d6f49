//! The crates of the host: their manifests and their modules, without those that are only compiled for tests.

use std::collections::BTreeSet;

use crate::source::Source;
use crate::tree::Tree;

/// A crate below `host/`.
pub struct HostCrate<'a> {
    /// The package's name, such as `cloakroom-session`.
    pub name: &'a str,
    /// The folder of the manifest, such as `host/crates/session`.
    pub folder: &'a str,
    /// The names in `[dependencies]`.
    pub dependencies: Vec<&'a str>,
    /// The names in `[dev-dependencies]`.
    pub dev_dependencies: Vec<&'a str>,
    /// The modules with a file of their own, in the order of their files.
    pub modules: Vec<Module<'a>>,
}

/// A module with a file of its own.
pub struct Module<'a> {
    /// The names from the crate's root, which itself has none.
    pub path: Vec<&'a str>,
    /// The file's path in the repository.
    pub file: &'a str,
    /// The file's text.
    pub text: &'a str,
    /// The file's code without tests.
    pub source: Source<'a>,
}

impl<'a> HostCrate<'a> {
    /// Returns the name without `cloakroom-`, which is also the name of the folder.
    #[must_use]
    pub fn short_name(&self) -> &'a str {
        self.name.strip_prefix("cloakroom-").unwrap_or(self.name)
    }

    /// Returns the name in the rules and in the map. All stores have the same, so that a new store needs no line there.
    #[must_use]
    pub fn listed_name(&self) -> &'a str {
        match self.short_name() {
            name if name.starts_with("store-") => "store-*",
            name => name,
        }
    }

    /// Returns the crate's name as the code writes it.
    #[must_use]
    pub fn code_name(&self) -> String {
        self.name.replace('-', "_")
    }
}

/// Returns the crates of the host, without those of the benchmarks and of the fuzz targets.
#[must_use]
pub fn host_crates(tree: &Tree) -> Vec<HostCrate<'_>> {
    let manifests = tree
        .below("host/", "/Cargo.toml")
        .into_iter()
        .filter(|file| file.path.starts_with("host/crates/") || file.path == "host/Cargo.toml");
    let read = manifests.filter_map(|manifest| {
        let folder = manifest.path.strip_suffix("/Cargo.toml")?;
        let package = section(&manifest.text, "[package]");
        let name = package
            .iter()
            .find_map(|line| line.strip_prefix("name = "))?;
        Some(HostCrate {
            name: name.trim_matches('"'),
            folder,
            dependencies: keys(&manifest.text, "[dependencies]"),
            dev_dependencies: keys(&manifest.text, "[dev-dependencies]"),
            modules: modules(tree, folder),
        })
    });
    read.collect()
}

/// Returns the lines of a section of a manifest.
fn section<'a>(manifest: &'a str, head: &str) -> Vec<&'a str> {
    let lines = manifest.lines().skip_while(|line| *line != head).skip(1);
    lines.take_while(|line| !line.starts_with('[')).collect()
}

fn keys<'a>(manifest: &'a str, head: &str) -> Vec<&'a str> {
    let lines = section(manifest, head).into_iter();
    let lines = lines.filter(|line| line.starts_with(|c: char| c.is_ascii_alphabetic()));
    lines
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .collect()
}

fn modules<'a>(tree: &'a Tree, folder: &str) -> Vec<Module<'a>> {
    let sources = format!("{folder}/src/");
    let has_library = tree.contains(&format!("{sources}lib.rs"));
    let files = tree.below(&sources, ".rs").into_iter().map(|file| {
        let below = file.path[sources.len()..].trim_end_matches(".rs");
        let path = match below {
            "lib" => Vec::new(),
            "main" if !has_library => Vec::new(),
            _ => below.split('/').collect(),
        };
        Module {
            path,
            file: &file.path,
            text: &file.text,
            source: Source::new(&file.text),
        }
    });
    let all: Vec<_> = files.collect();
    let for_tests = test_modules(&all);
    let is_production = |module: &Module<'_>| {
        let length = module.path.len();
        (1..=length).all(|end| !for_tests.contains(&module.path[..end]))
    };
    all.into_iter().filter(is_production).collect()
}

/// Returns the paths of the modules that their parent declares for tests only.
fn test_modules<'a>(modules: &[Module<'a>]) -> BTreeSet<Vec<&'a str>> {
    let declared = modules.iter().flat_map(|module| {
        let names = module.source.test_modules.iter();
        names.map(|name| [module.path.as_slice(), &[*name]].concat())
    });
    declared.collect()
}
