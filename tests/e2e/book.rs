//! The book (`host/docs`) is correct: each page is followed block by block, as its reader would.

use std::collections::BTreeSet;
use std::path::PathBuf;

use cloakroom_tests::book::{blocks, follow};
use cloakroom_tests::host::repository;

fn pages() -> PathBuf {
    repository().join("host/docs/src")
}

fn page(name: &str) -> String {
    let path = pages().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the names of all pages.
fn names() -> BTreeSet<String> {
    let entries = std::fs::read_dir(pages()).expect("the book is there");
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".md"))
        .collect()
}

/// Runs each page in a test of its own, so that they run in parallel: they mostly wait for builds.
macro_rules! followed {
    ($($test:ident: $page:literal,)*) => {
        /// The pages that have a test.
        const FOLLOWED: &[&str] = &[$($page),*];
        $(
            #[test]
            fn $test() {
                follow($page, &page($page));
            }
        )*
    };
}

followed! {
    the_page_on_rust_is_true: "rust.md",
    the_page_on_javascript_is_true: "javascript.md",
    the_page_on_typescript_is_true: "typescript.md",
    the_page_on_python_is_true: "python.md",
    the_page_on_tests_is_true: "testing.md",
    the_page_on_sessions_is_true: "sessions.md",
    the_page_on_grants_is_true: "grants.md",
    the_page_on_running_is_true: "operating.md",
    the_page_beside_wasmtime_serve_is_true: "wasmtime-serve.md",
}

#[test]
fn every_page_with_a_block_is_followed() {
    for name in names() {
        let is_followed = FOLLOWED.contains(&name.as_str());
        let count = blocks(&page(&name))
            .iter()
            .filter(|block| !block.text.starts_with("{{#include"))
            .count();
        assert!(
            is_followed || count == 0,
            "{name} has {count} blocks and no test"
        );
    }
}

/// Returns each `TARGET` between `marker` and `end` on a page.
fn targets(page: &str, marker: &str, end: char) -> Vec<String> {
    let found = page.match_indices(marker).map(|(at, _)| {
        let rest = &page[at + marker.len()..];
        rest.split(end).next().unwrap_or_default().trim().to_owned()
    });
    found.collect()
}

#[test]
fn every_page_is_in_the_table_of_contents_and_every_link_leads_somewhere() {
    let contents: BTreeSet<_> = targets(&page("SUMMARY.md"), "](", ')')
        .into_iter()
        .collect();
    let mut names = names();
    names.remove("SUMMARY.md");
    assert_eq!(contents, names, "SUMMARY.md and the folder");
    for name in names {
        let text = page(&name);
        let links = targets(&text, "](", ')');
        let local = links.iter().filter(|link| !link.contains("://"));
        for link in local.map(|link| link.split('#').next().unwrap_or_default()) {
            let is_there = link.is_empty() || pages().join(link).exists();
            assert!(is_there, "{name} links to {link}");
        }
        for file in targets(&text, "{{#include ", '}') {
            assert!(pages().join(&file).is_file(), "{name} includes {file}");
        }
    }
}

/// Returns the documents outside of the book that have links: those at the repository's root, and the decision records.
fn documents() -> Vec<PathBuf> {
    let root = repository();
    let records = std::fs::read_dir(root.join("host/docs/decisions")).expect("the records exist");
    let records = records.map(|entry| entry.unwrap().path());
    let names = [
        "README.md",
        "ARCHITECTURE.md",
        "COMPATIBILITY.md",
        "SCALING.md",
    ];
    let at_the_root = names.iter().map(|name| root.join(name));
    at_the_root.chain(records).collect()
}

#[test]
fn every_link_of_the_other_documents_leads_somewhere() {
    for document in documents() {
        let name = document.display();
        let text = std::fs::read_to_string(&document).unwrap_or_else(|e| panic!("{name}: {e}"));
        let folder = document.parent().expect("a file has a folder");
        for link in targets(&text, "](", ')') {
            let path = link.split('#').next().unwrap_or_default();
            let is_there = link.contains("://") || path.is_empty() || folder.join(path).exists();
            assert!(is_there, "{name} links to {link}");
        }
    }
}

#[test]
fn every_decision_is_in_the_index() {
    let folder = repository().join("host/docs/decisions");
    let index = std::fs::read_to_string(folder.join("README.md")).expect("the index exists");
    let listed: BTreeSet<_> = targets(&index, "](", ')').into_iter().collect();
    let entries = std::fs::read_dir(folder).expect("the records exist");
    let mut names: BTreeSet<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.remove("README.md");
    assert_eq!(listed, names, "the index and the folder");
}
