//! Checks that the documentation describes every interface of the table.

use std::path::Path;

use super::*;

fn document(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let path = root.join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_book_has_a_page_for_each_interface_of_the_host() {
    let summary = document("host/docs/src/SUMMARY.md");
    for name in own_names() {
        let (_, word) = name.rsplit_once('/').unwrap();
        assert!(summary.contains(&format!("(wit-{word}.md)")), "{name}");
        let page = document(&format!("host/docs/src/wit-{word}.md"));
        assert!(page.contains(&format!("`{name}`")), "{name}");
        assert!(page.contains(&format!("/wit/{word}.wit}}}}")), "{name}");
    }
}

#[test]
fn the_book_names_each_key_and_each_grant() {
    let page = document("host/docs/src/grants.md");
    let is_named = |name: &str| {
        let mut codes = page.split('`').skip(1).step_by(2);
        codes.any(|code| code.split(' ').next() == Some(name))
    };
    for interface in INTERFACES {
        let keys = (interface.granted)(&GuestGrants::default()).keys;
        for name in keys.iter().map(|(key, _)| key).chain(interface.grants) {
            assert!(is_named(name), "{name}");
        }
    }
}

#[test]
fn the_table_has_each_interface_of_the_world() {
    let text = document("wit/worlds.wit");
    let (_, world) = text.split_once("world imports {").unwrap();
    let (world, _) = world.split_once('}').unwrap();
    let imports = world.lines().filter_map(|line| {
        let name = line.trim().strip_prefix("import ")?.strip_suffix(';')?;
        Some(format!("cloakroom:http/{name}"))
    });
    assert_eq!(imports.collect::<Vec<_>>(), own_names().collect::<Vec<_>>());
}

#[test]
fn no_grant_has_the_name_of_another() {
    let mut names: Vec<_> = grants().collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), grants().count());
}
