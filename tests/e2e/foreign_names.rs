//! Names from untrusted sources: inside a component, in methods, in paths. Whatever characters they contain, no line of any command's
//! output controls a terminal, and no output line can be forged.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, SECRET, binary, component};

/// One of each kind of character that no output line may contain.
const HARMFUL: &str = "\u{0}\u{7}\u{8}\u{b}\r\u{1b}[2J\u{7f}\u{80}\u{85}\u{9b}31m\u{ad}\u{200b}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\
                       \u{2066}\u{2069}\u{feff}\nFORGED 200 a line of its own";

fn assert_harmless(what: &str, text: &str) {
    let is_plain = |c: char| (' '..='~').contains(&c) || c == '\n' || c == '\t';
    if let Some(found) = text.chars().find(|c| !is_plain(*c)) {
        panic!("{what} shows {found:?}: {text:?}");
    }
    let forged = text.lines().find(|line| line.starts_with("FORGED"));
    assert!(forged.is_none(), "{what} prints a forged line: {text}");
}

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        if number == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

fn text(text: &str) -> Vec<u8> {
    [leb(text.len()), text.as_bytes().to_vec()].concat()
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [vec![id], leb(content.len()), content.to_vec()].concat()
}

/// Returns a working component whose metadata names tools with this name.
fn made_by(name: &str) -> Vec<u8> {
    let field = |field: &str| [text(field), vec![1], text(name), text(name)].concat();
    let fields = [vec![3], field("language"), field("sdk"), field(name)].concat();
    let producers = section(0, &[text("producers"), fields].concat());
    let hello = std::fs::read(component("fixture-hello")).unwrap();
    [hello, producers].concat()
}

/// Returns a component that works except for an import of this name.
fn importing(name: &str) -> Vec<u8> {
    // A type, `(func)`, after all others. Its index does not matter where the name is refused.
    let types = section(7, &[1, 0x40, 0, 1, 0]);
    let import = section(10, &[vec![1, 0], text(name), vec![1, 0]].concat());
    let hello = std::fs::read(component("fixture-hello")).unwrap();
    [&hello[..8], &types, &import, &hello[8..]].concat()
}

/// Writes components with harmful names, each in a different place.
fn components(folder: &Path) -> Vec<PathBuf> {
    let imported = format!("evil:evil/{HARMFUL}");
    let named = [
        ("made-by", made_by(HARMFUL)),
        ("importing", importing(HARMFUL)),
        ("importing-interface", importing(&imported)),
        ("no-component", format!("\0asm{HARMFUL}").into_bytes()),
        ("a-text", HARMFUL.as_bytes().to_vec()),
    ];
    let write = |(name, bytes): (&str, Vec<u8>)| {
        let path = folder.join(format!("{name}.wasm"));
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let mut paths: Vec<_> = named.into_iter().map(write).collect();
    // A component whose file has a harmful name.
    let odd = folder.join(HARMFUL.replace('\0', ""));
    std::fs::copy(&paths[0], &odd).unwrap();
    paths.push(odd);
    paths
}

fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn run(folder: &Path, words: &[&Path]) -> Output {
    let mut command = Command::new(binary());
    command
        .args(words)
        .current_dir(folder)
        .env("COOKIE_SECRET", SECRET);
    command.output().unwrap()
}

#[test]
fn no_command_prints_control_characters_of_a_components_names() {
    let folder = tempfile::tempdir().unwrap();
    for path in components(folder.path()) {
        let what = path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .escape_debug()
            .to_string();
        let word = Path::new;
        for words in [
            &[word("inspect"), &path][..],
            &[word("inspect"), word("--json"), &path],
        ] {
            let output = run(folder.path(), words);
            assert_harmless(&format!("inspect of {what}"), &text_of(&output));
        }
        let config = format!(
            "[session]\nsecrets = [\"env:COOKIE_SECRET\"]\n[store]\nurl = \"memory:\"\n[guest.g]\ncomponent = {}\n\
             [[route]]\npath = \"/\"\nguest = \"g\"\n",
            serde_json::to_string(path.to_str().unwrap())
                .unwrap()
                .replace('\u{7f}', "\\u007F")
        );
        std::fs::write(folder.path().join("c.toml"), config).unwrap();
        let output = run(
            folder.path(),
            &[word("check"), word("--config"), word("c.toml")],
        );
        assert_harmless(&format!("check of {what}"), &text_of(&output));
    }
    let inspected = run(
        folder.path(),
        &[Path::new("inspect"), &folder.path().join("made-by.wasm")],
    );
    assert!(
        text_of(&inspected).contains("\\u{1b}[2J"),
        "it is escaped: {}",
        text_of(&inspected)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_a_deployment_nor_a_log_prints_control_characters() {
    let folder = tempfile::tempdir().unwrap();
    let components = components(folder.path());
    for log in ["", "log = { format = \"json\" }"] {
        let host = Config::over("memory:")
            .top(log)
            .guest_with("/g", "fixture-session", "session = \"write\"")
            .admin("")
            .start();
        let lines = [
            "log a\u{1b}[2Jb\u{9b}c\u{202e}d\u{85}e",
            "err \u{7}\r\u{2028}FORGED",
        ];
        let browser = Browser::new();
        let answer = browser.post(&host.url("/g"), lines.join("\n")).await;
        assert_eq!(answer.status, 200, "{}", host.log());
        let _ = browser.get(&host.url("/%1b%5b2J")).await;
        host.wait_for_log("malformed").await;
        host.wait_for_log("[2Jb").await;
        let admin = host.admin();
        for path in &components {
            for dry_run in [false, true] {
                let mut command = Command::new(binary());
                command
                    .args(["guests", "put", "--admin", &admin, "fixture-session0"])
                    .arg(path);
                if dry_run {
                    command.arg("--dry-run");
                }
                let output = command.output().unwrap();
                assert_harmless("guests put", &text_of(&output));
            }
        }
        let listed = Command::new(binary())
            .args(["guests", "list", "--admin", &admin, "--all"])
            .output()
            .unwrap();
        assert_harmless("guests list", &text_of(&listed));
        assert!(listed.status.success(), "{}", text_of(&listed));

        host.wait_for_log_count("a new version was rejected", 4)
            .await;
        assert_harmless("the log", &host.log());
    }
}
