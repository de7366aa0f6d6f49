//! The tools that build the projects of a language: whether they are installed, and how to install them.

use std::path::Path;
use std::process::{Command, Stdio};

use super::Language;

/// The target for which Rust compiles guests.
const TARGET: &str = "wasm32-wasip2";

/// A tool that a project needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredTool {
    /// The name of the tool.
    pub name: &'static str,
    /// Whether the tool is installed.
    pub state: ToolState,
    /// How to install the tool.
    pub remedy: &'static str,
}

/// Whether a tool is installed on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolState {
    /// The tool is installed and new enough.
    Here {
        /// The version that the tool reports, or empty if it has none.
        version: String,
    },
    /// The tool is installed, but too old.
    TooOld {
        /// The version that the tool reports.
        version: String,
        /// The oldest version that is accepted.
        least: String,
    },
    /// The tool is not installed, or does not run.
    Missing,
}

/// Returns the tools that projects in this language need. Looks for each by running it, which takes up to a second.
pub fn needed(language: Language) -> Vec<RequiredTool> {
    match language {
        Language::Rust => vec![
            RequiredTool {
                name: "cargo",
                state: version_of("cargo", Some((1, 95))),
                remedy: "install Rust 1.95 or later with rustup: https://rustup.rs",
            },
            RequiredTool {
                name: TARGET,
                state: target(),
                remedy: "`rustup target add wasm32-wasip2`; without rustup's server, on Debian, \
                         `vendor/cloakroom/guests/setup-target.sh` builds it",
            },
        ],
        Language::JavaScript | Language::TypeScript => vec![
            RequiredTool {
                name: "node",
                state: version_of("node", Some((20, 0))),
                remedy: "install Node.js 20 or later: https://nodejs.org, or your system's package `nodejs`",
            },
            RequiredTool {
                name: "npm",
                state: version_of("npm", None),
                remedy: "it comes with Node.js; where it does not, your system's package `npm`",
            },
        ],
        Language::Python => vec![
            RequiredTool {
                name: "python3",
                state: version_of("python3", Some((3, 10))),
                remedy: "install Python 3.10 or later: https://www.python.org, or your system's package `python3`",
            },
            RequiredTool {
                name: "venv",
                state: answer("python3", &["-c", "import ensurepip, venv"]).map_or(
                    ToolState::Missing,
                    |_| ToolState::Here {
                        version: String::new(),
                    },
                ),
                remedy: "it is a part of Python; on Debian and Ubuntu: `apt install python3-venv`",
            },
        ],
    }
}

/// Runs a program to get its version, and compares it with the oldest accepted one.
fn version_of(program: &str, least: Option<(u32, u32)>) -> ToolState {
    let Some(printed) = answer(program, &["--version"]) else {
        return ToolState::Missing;
    };
    let version = version_in(&printed).to_owned();
    match least {
        Some(least) if numbers(&version) < least => ToolState::TooOld {
            version,
            least: format!("{}.{}", least.0, least.1),
        },
        _ => ToolState::Here { version },
    }
}

/// Returns whether the Rust toolchain has the standard library of the target.
fn target() -> ToolState {
    let folder = answer("rustc", &["--print", "target-libdir", "--target", TARGET]);
    let has_library = |folder: &String| {
        let entries = Path::new(folder).read_dir().into_iter().flatten().flatten();
        let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.any(|name| name.starts_with("libstd-"))
    };
    match folder.filter(has_library) {
        Some(_) => ToolState::Here {
            version: String::new(),
        },
        None => ToolState::Missing,
    }
}

/// Returns the standard output of a program, if it runs and exits with code 0.
fn answer(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    let command = command.args(arguments).stdin(Stdio::null());
    let output = command.stderr(Stdio::null()).output().ok()?;
    let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(printed)
}

/// Returns the first word that begins with a digit after an optional `v`, as in `Python 3.11.2` and `v20.1.0`.
fn version_in(printed: &str) -> &str {
    let words = printed.split_whitespace();
    let mut bare = words.map(|word| word.trim_start_matches('v'));
    bare.find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
        .unwrap_or_default()
}

/// Returns the first two numbers of a version. A missing number is 0.
fn numbers(version: &str) -> (u32, u32) {
    let mut parts = version
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_parsed_from_the_output_of_a_program() {
        for (printed, version, first_two) in [
            ("v20.19.2", "20.19.2", (20, 19)),
            ("Python 3.9.2+", "3.9.2+", (3, 9)),
            ("cargo 1.95.0 (f2d3ce0bd 2026-03-21)", "1.95.0", (1, 95)),
            ("10", "10", (10, 0)),
            ("who knows", "", (0, 0)),
        ] {
            assert_eq!(version_in(printed), version, "{printed}");
            assert_eq!(numbers(version), first_two, "{printed}");
        }
    }

    #[test]
    fn a_program_that_is_not_there_or_fails_is_missing() {
        assert_eq!(version_of("no-such-program", None), ToolState::Missing);
        assert_eq!(version_of("false", None), ToolState::Missing);
    }

    #[test]
    fn a_tool_that_is_too_old_is_reported_with_the_required_version() {
        let ToolState::Here { version } = version_of("cargo", Some((1, 95))) else {
            panic!("cargo runs this test");
        };
        let least = "999.0".to_owned();
        assert_eq!(
            version_of("cargo", Some((999, 0))),
            ToolState::TooOld { version, least }
        );
    }
}
