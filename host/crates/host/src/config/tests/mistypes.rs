//! Typing errors in every place of a configuration: no error and no warning quotes a secret.

use std::fmt::Write as _;

use super::*;

/// A secret of which even a part is recognised.
const HIDDEN: &str = "hunter2-hunter2-hunter2-hunter2-hunter2-hunter2";
const MARK: &str = "hunter2";
/// Texts that are typed by mistake in one place.
const TYPED: [&str; 15] = [
    "\"", "'", "\"\"\"", "'''", "[", "]", "{", "}", "=", ",", "#", "\n", "\\", ".", " ",
];

fn text() -> String {
    format!(
        "[session]\nsecrets = [\"{HIDDEN}\", '{HIDDEN}']\n[store]\nurl = \"mysql://u@db.test/app\"\npassword = \"{HIDDEN}\"\n\
         [admin]\nlisten = \"127.0.0.1:9\"\ntoken = '{HIDDEN}'\n[guest.a]\ncomponent = \"a.wasm\"\n\
         environment = {{ KEY = \"{HIDDEN}\" }}\n[[route]]\npath = \"/\"\nguest = \"a\"\n"
    )
}

#[test]
fn no_mistype_makes_an_error_quote_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.wasm"), "").unwrap();
    let file = folder.path().join("cloakroom.toml");
    let text = text();
    let mut quoted = Vec::new();
    let mut refused = 0;
    for at in 0..text.len() {
        let (before, after) = text.split_at(at);
        let without = (
            format!("{before}{}", &after[1..]),
            format!("without byte {at}"),
        );
        let with = TYPED.map(|typed| {
            (
                format!("{before}{typed}{after}"),
                format!("{typed:?} before byte {at}"),
            )
        });
        for (mistyped, mistype) in with.into_iter().chain([without]) {
            let output = match Config::of_text(&file, &mistyped, &CliOptions::default(), &VARIABLES)
            {
                Ok(config) => format!("{:?}", config.warnings),
                Err(error) => {
                    refused += 1;
                    let mut output = format!("{:?}", error.warnings);
                    for fault in &error.faults {
                        write!(output, "{fault} {fault:?}").unwrap();
                    }
                    output
                }
            };
            if output.contains(MARK) {
                quoted.push(format!("{mistype}: {output}"));
            }
        }
    }
    let (count, first) = (quoted.len(), quoted.iter().take(12).collect::<Vec<_>>());
    assert!(quoted.is_empty(), "{count} of {refused}: {first:#?}");
    assert!(refused > 1_000, "{refused} mistypes were refused");
}
