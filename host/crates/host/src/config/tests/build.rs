//! Tests of `[guest.NAME.build]`: its keys, contradictions, and guests whose component may be missing.

use super::*;

fn with_build(build: &str) -> String {
    format!("{GUEST}[guest.a.build]\n{build}\n")
}

fn built(cli: CliOptions) -> Read {
    let text = with_build("command = \"make a\"").replace("a.wasm", "build/a.wasm");
    Read::with(&text, cli, &VARIABLES)
}

#[test]
fn every_key_of_a_build_is_read_with_its_paths_in_the_files_folder() {
    let read = Read::of(&with_build(
        "setup = \"npm install\"\ncreates = \"node_modules/.package-lock.json\"\ncommand = \"npm run build\"\n\
         watch = [\"src\", \"package.json\"]\ntest = \"npm test\"",
    ));
    let folder = read.folder.path().to_owned();
    let expected = BuildSettings {
        setup: Some("npm install".to_owned()),
        creates: Some(folder.join("node_modules/.package-lock.json")),
        command: "npm run build".to_owned(),
        watch: vec![folder.join("src"), folder.join("package.json")],
        test: Some("npm test".to_owned()),
        folder,
    };
    assert_eq!(read.config().builds.get("a"), Some(&expected));
}

#[test]
fn a_build_needs_only_a_command() {
    let config = Read::of(&with_build("command = \"make\"")).config();
    let build = config.builds.get("a").unwrap();
    assert_eq!(
        (&build.setup, &build.creates, &build.test),
        (&None, &None, &None)
    );
    assert!(build.watch.is_empty());
    assert_eq!(Read::of(GUEST).config().builds.get("a"), None);
}

#[test]
fn an_incomplete_or_invalid_build_table_is_a_fault() {
    let cases = [
        ("test = \"npm test\"", "6: guest.a.build.command: missing"),
        (
            "command = \"make\"\ncreates = \"tools\"",
            "6: guest.a.build.setup: missing",
        ),
        ("command = 1", "7: guest.a.build.command: expected a string"),
        (
            "command = \"make\"\nwatch = \"src\"",
            "8: guest.a.build.watch: expected",
        ),
        (
            "command = \"make\"\nwach = [\"src\"]",
            "8: guest.a.build.wach: unknown key",
        ),
    ];
    for (build, expected) in cases {
        let faults = Read::of(&with_build(build)).faults();
        let has = faults.iter().any(|fault| fault.contains(expected));
        assert!(has, "{build}: {faults:?}");
        assert_eq!(faults.len(), 1, "{build}: {faults:?}");
    }
}

#[test]
fn a_component_not_built_yet_is_accepted_only_by_commands_that_build_it() {
    let faults = built(CliOptions::default()).faults();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("guest.a.component"), "{faults:?}");
    assert!(faults[0].contains("`cloakroom dev` does"), "{faults:?}");
    assert!(faults[0].contains("`make a`"), "{faults:?}");

    let read = built(CliOptions {
        components: ComponentFiles::ToBeBuilt,
        ..CliOptions::default()
    });
    let component = read.folder.path().join("build/a.wasm");
    assert_eq!(read.config().guests[0].component, component);

    let text = GUEST.replace("a.wasm", "build/a.wasm");
    let cli = CliOptions {
        components: ComponentFiles::ToBeBuilt,
        ..CliOptions::default()
    };
    let faults = Read::with(&text, cli, &VARIABLES).faults();
    assert!(
        faults[0].contains("guest.a.component"),
        "nothing says how it is built: {faults:?}"
    );
}
