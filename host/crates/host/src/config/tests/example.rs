//! Compares `example.toml` with the reader: it loads, it states the defaults, and it contains every key of the reader.

use std::collections::BTreeSet;

use super::*;

const EXAMPLE: &str = include_str!("../../../../../example.toml");

/// Reads the example in a directory with the component that it names.
fn read(text: &str, store_url: &str) -> Result<Config, Vec<ConfigFault>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cloakroom.toml");
    std::fs::create_dir(folder.path().join("guests")).unwrap();
    std::fs::write(folder.path().join("guests/counter.wasm"), "").unwrap();
    std::fs::write(folder.path().join("ca.pem"), "").unwrap();
    std::fs::write(&file, text).unwrap();
    let cli = CliOptions {
        file: Some(file),
        ..CliOptions::default()
    };
    let variables = [
        ("COOKIE_SECRET", SECRET),
        ("APP_COOKIE_SECRET", SECRET),
        ("DB_PASSWORD", "hunter2"),
        ("API_TOKEN", "t"),
        ("ADMIN_TOKEN", SECRET),
        ("CLOAKROOM_STORE_URL", store_url),
        (
            "CLOAKROOM_SESSION_SECRETS",
            if store_url.is_empty() { "" } else { SECRET },
        ),
    ];
    let mut config = Config::load(&cli, &variables).map_err(|refused| refused.faults)?;
    for guest in &mut config.guests {
        guest.component = "guests/counter.wasm".into();
    }
    Ok(config)
}

/// Returns the lines of the example as (section, line, whether it was a comment), with `# key = value` uncommented.
fn lines() -> Vec<(String, String, bool)> {
    let mut section = String::new();
    let mut lines = Vec::new();
    for line in EXAMPLE.lines() {
        // A section that is completely commented out is one that does not exist by default.
        let heading = line.strip_prefix("# ").unwrap_or(line);
        if heading.starts_with('[') && heading.ends_with(']') {
            section = heading.to_owned();
        }
        let (line, is_comment) = match line.strip_prefix("# ") {
            Some(rest) => (rest, true),
            None => (line, false),
        };
        let is_key =
            |key: &str| !key.is_empty() && key.bytes().all(|c| c.is_ascii_lowercase() || c == b'_');
        if line.split_once(" = ").is_some_and(|(key, _)| is_key(key)) {
            lines.push((section.clone(), line.to_owned(), is_comment));
        }
    }
    lines
}

/// Returns the keys of the example, with their names in the schema.
fn keys() -> BTreeSet<String> {
    let key = |(section, line, _): &(String, String, bool)| {
        let section = section
            .trim_matches(['[', ']'])
            .replace("guest.counter", "guest.NAME");
        let (key, _) = line.split_once(" = ").unwrap();
        format!("{section}.{key}")
            .trim_start_matches('.')
            .to_owned()
    };
    let lines = lines();
    let mut keys: BTreeSet<_> = lines.iter().map(key).collect();
    for line in &lines {
        // For an inline table, adds its keys as well.
        let Some(table) = line.1.split_once(" = { ").map(|(_, table)| table) else {
            continue;
        };
        let above = key(line);
        let within = table.trim_end_matches('}').split(", ");
        let names = within.filter_map(|pair| pair.split_once(" = ").map(|(name, _)| name));
        // Names in capitals are environment variables, chosen by the operator.
        let names = names.filter(|name| name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_'));
        keys.extend(names.map(|name| format!("{above}.{name}")));
    }
    keys
}

#[test]
fn the_example_loads_and_states_the_defaults() {
    let least = "[guest.counter]\ncomponent = \"guests/counter.wasm\"\n\
                 [[route]]\npath = \"/session/{*rest}\"\nguest = \"counter\"\n";
    for store_url in ["", "mysql://app@db/app"] {
        let read =
            |text| read(text, store_url).unwrap_or_else(|faults| panic!("{}", shown(&faults)));
        assert_eq!(
            format!("{:#?}", read(EXAMPLE)),
            format!("{:#?}", read(least))
        );
    }
}

#[test]
fn the_example_has_every_key_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (table, faults) = source::parse(Path::new("example.toml"), EXAMPLE);
    assert!(faults.is_empty());
    let reader = ConfigReader::new(&[], folder.path(), ConfigMode::Serve);
    read_all(&reader, table);
    let schema = reader.finish().schema;
    let is_section = |key: &String| {
        schema
            .iter()
            .any(|other| other.starts_with(&format!("{key}.")))
    };
    let leaves: BTreeSet<_> = schema
        .iter()
        .filter(|key| !is_section(key))
        .cloned()
        .collect();
    let keys = keys();
    let missing: Vec<_> = leaves.difference(&keys).collect();
    let unknown: Vec<_> = keys.difference(&schema).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "missing: {missing:?}, unknown: {unknown:?}"
    );
    assert!(
        leaves.len() > 60,
        "the schema is what this test thinks: {}",
        leaves.len()
    );
}

fn read_all(reader: &ConfigReader<'_>, table: Table) {
    super::super::read(reader, table, &CliOptions::default(), true);
}

#[test]
fn every_commented_line_of_the_example_is_valid() {
    for (section, line, _) in lines().iter().filter(|(_, _, is_comment)| *is_comment) {
        // Inserts the line below its section in the file, and removes a line with the same key.
        let key = line.split(" = ").next().unwrap();
        let mut text = String::new();
        let mut current = "";
        let mut is_written = section.is_empty();
        if is_written {
            text += &format!("{line}\n");
        }
        for old in EXAMPLE.lines().filter(|old| !old.starts_with('#')) {
            if old.starts_with('[') {
                current = old;
            }
            if current == section.as_str() && old.starts_with(&format!("{key} = ")) {
                continue;
            }
            text += &format!("{old}\n");
            if old == section.as_str() && !is_written {
                is_written = true;
                text += &format!("{line}\n");
            }
        }
        if !is_written {
            text += &format!("{section}\n{line}\n");
        }
        let known = |fault: &ConfigFault| {
            let own = format!("{}.{key}", section.trim_matches(['[', ']']));
            fault.key == own || fault.key.ends_with(&format!("].{key}"))
        };
        if let Err(faults) = read(&text, "") {
            // Some keys require others: an address in parts consists of several keys, `read_keys` requires a session, and
            // `proxy` requires trusted proxies.
            let excused = |fault: &&ConfigFault| {
                fault.problem.starts_with("missing: ")
                    || fault.problem.starts_with("grants nothing")
                    || fault.problem.contains("from every client")
            };
            let own: Vec<_> = faults
                .iter()
                .filter(|fault| known(fault))
                .filter(|fault| !excused(fault))
                .cloned()
                .collect();
            assert!(own.is_empty(), "{line}: {}", shown(&own));
        }
    }
}
