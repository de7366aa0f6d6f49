//! `cloakroom new`: projects created from the binary alone. Tests that build them and run their own tests need each language's tools and
//! are not here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cloakroom_dev::scaffold::Language;
use cloakroom_host::config::{CliOptions, ComponentFiles, Config};
use cloakroom_tests::host::{binary, repository};

/// Each language with its argument.
const LANGUAGES: [(&str, Language); 4] = [
    ("rust", Language::Rust),
    ("js", Language::JavaScript),
    ("ts", Language::TypeScript),
    ("python", Language::Python),
];

fn new(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(binary());
    let command = command.arg("new").args(words).current_dir(folder);
    command.output().unwrap()
}

fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Returns every file below a folder with its content.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let content = std::fs::read(&path).unwrap();
                found.insert(path.strip_prefix(root).unwrap().to_owned(), content);
            }
        }
    }
    found
}

/// Returns whether a text contains `hello` as a whole word.
fn has_the_templates_name(text: &str) -> bool {
    let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    words.into_iter().any(|word| word == "hello")
}

#[test]
fn every_language_makes_a_project_whose_configuration_loads() {
    assert_eq!(LANGUAGES.map(|(_, language)| language), Language::ALL);
    for (word, language) in LANGUAGES {
        let home = tempfile::tempdir().unwrap();
        let output = new(home.path(), &["my-shop", "--lang", word]);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{word}: {}",
            text_of(&output)
        );
        let text = text_of(&output);
        for step in ["cd my-shop", "cloakroom dev", "cloakroom test"] {
            assert!(text.contains(step), "{word}: {text}");
        }

        let project = home.path().join("my-shop");
        let words = CliOptions {
            file: Some(project.join("cloakroom.toml")),
            components: ComponentFiles::ToBeBuilt,
            ..CliOptions::default()
        };
        let nobody: [(&str, &str); 0] = [];
        let config = Config::load(&words, &nobody).unwrap_or_else(|refused| {
            panic!("{word}: {:?}", refused.faults);
        });
        assert_eq!(config.guests.len(), 1, "{word}");
        let guest = &config.guests[0];
        assert_eq!(guest.name, "my-shop", "{word}");
        let build = config.builds.get("my-shop");
        let build = build.expect("it contains the build command");
        assert!(build.test.is_some(), "{word}: it contains the test command");
        for watched in &build.watch {
            assert!(watched.exists(), "{word}: {} is watched", watched.display());
        }

        let template = files(&repository().join(language.template()));
        let written = files(&project);
        let own = written
            .iter()
            .filter(|(path, _)| !path.starts_with("vendor"));
        let mut names: Vec<_> = own.clone().map(|(path, _)| path.to_owned()).collect();
        assert!(names.contains(&".gitignore".into()), "{word}: {names:?}");
        assert!(names.contains(&"README.md".into()), "{word}: {names:?}");
        names.retain(|path| path != Path::new(".gitignore"));
        for name in &names {
            let in_template = name.display().to_string().replace("my-shop", "hello");
            assert!(
                template.contains_key(Path::new(&in_template)),
                "{word}: {in_template}"
            );
        }
        for (path, content) in own {
            let path = path.display().to_string();
            assert!(!has_the_templates_name(&path), "{word}: {path}");
            if let Ok(text) = std::str::from_utf8(content) {
                assert!(!has_the_templates_name(text), "{word}: {path}:\n{text}");
            }
        }
    }
}

#[test]
fn the_vendored_files_of_a_project_equal_those_of_the_repository() {
    let root = repository();
    for (word, _) in LANGUAGES {
        let home = tempfile::tempdir().unwrap();
        let output = new(home.path(), &["shop", "--lang", word]);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{word}: {}",
            text_of(&output)
        );
        let vendor = files(&home.path().join("shop/vendor/cloakroom"));
        assert!(vendor.contains_key(Path::new("wit/session.wit")), "{word}");
        for (path, content) in &vendor {
            let original = std::fs::read(root.join(in_repository(path)));
            let original = original.unwrap_or_else(|error| panic!("{word}: {path:?}: {error}"));
            assert!(&original == content, "{word}: {path:?} differs");
        }
        for path in files(&root.join("wit")).keys() {
            assert!(
                vendor.contains_key(&Path::new("wit").join(path)),
                "{word}: {path:?}"
            );
        }
        let needed = match word {
            "rust" => vec!["guests/sdk/rust", "guests/sdk/rust-testing"],
            "python" => vec!["guests/sdk/python"],
            _ => vec!["guests/sdk/js"],
        };
        // All of the SDK's files in git, except its own tests and the templates.
        let in_vendor: BTreeSet<_> = vendor.keys().map(|path| in_repository(path)).collect();
        for path in git_files(&root, &needed) {
            let below = needed
                .iter()
                .find_map(|sdk| path.strip_prefix(&format!("{sdk}/")));
            let top = below
                .and_then(|below| below.split('/').next())
                .unwrap_or("");
            if !matches!(
                top,
                "test" | "tests" | "examples" | "template" | "template-ts"
            ) {
                assert!(
                    in_vendor.contains(Path::new(&path)),
                    "{word}: {path} is missing"
                );
            }
        }
    }
}

/// Returns the path in the repository of a file in `vendor/cloakroom`. A project has the SDKs one folder higher.
fn in_repository(path: &Path) -> PathBuf {
    match path.strip_prefix("guests") {
        Ok(below) if below.components().count() > 1 => Path::new("guests/sdk").join(below),
        Ok(_) | Err(_) => path.to_owned(),
    }
}

/// Returns the files in git below these folders.
fn git_files(root: &Path, folders: &[&str]) -> Vec<String> {
    let mut git = Command::new("git");
    let git = git.args(["ls-files", "--"]).args(folders).current_dir(root);
    let output = git.output().expect("git lists the repository's files");
    let listed = String::from_utf8(output.stdout).unwrap();
    listed.lines().map(str::to_owned).collect()
}

#[test]
fn an_existing_folder_is_not_overwritten() {
    let (word, _) = LANGUAGES[0];
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("shop")).unwrap();
    std::fs::write(home.path().join("shop/mine"), "mine").unwrap();
    let output = new(home.path(), &["shop", "--lang", word]);
    assert_eq!(output.status.code(), Some(2), "{}", text_of(&output));
    assert!(text_of(&output).contains("--path"), "{}", text_of(&output));
    let kept = files(home.path());
    assert_eq!(kept.len(), 1, "{kept:?}");

    let output = new(home.path(), &["shop", "--lang", word, "--path", "other"]);
    assert_eq!(output.status.code(), Some(0), "{}", text_of(&output));
    assert!(home.path().join("other/cloakroom.toml").is_file());
}

#[test]
fn a_usage_error_names_the_expected_arguments() {
    let home = tempfile::tempdir().unwrap();
    for (words, expected) in [
        (&["--lang", "js"][..], "<NAME>"),
        (&["shop"], "--lang <LANGUAGE>"),
        (
            &["shop", "--lang", "cobol"],
            "[possible values: rust, js, ts, python]",
        ),
        (&["My_Shop", "--lang", "js"], "did you mean `my-shop`?"),
        (
            &["shop", "--lang", "js", "--path", "no/where/shop"],
            "no/where",
        ),
    ] {
        let output = new(home.path(), words);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{words:?}: {}",
            text_of(&output)
        );
        assert!(
            text_of(&output).contains(expected),
            "{words:?}: {}",
            text_of(&output)
        );
    }
    assert!(files(home.path()).is_empty());
}
