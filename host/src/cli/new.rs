//! `cloakroom new`: writes a project for a guest.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::EXIT_AT_FAULT;
use cloakroom_base::telemetry;
use cloakroom_dev::scaffold;
use cloakroom_dev::scaffold::{NewProject, ProjectName};

const HELP: &str = "\
Writes a project with a handler that counts a visitor's visits, a test for it, and the required parts of Cloakroom. Then prints the
next steps and the tools that are missing on this machine. Overwrites nothing, and needs no network.

Examples:
  cloakroom new shop --lang ts
  cloakroom new shop --lang python --path services/shop

Exit codes: 0 the project was created; 1 it could not be written; 2 the command line is at fault: the name, the language, or a
directory that is not empty.";

/// The options of `new`.
#[derive(Clone, Debug, Args)]
#[command(after_help = HELP, arg_required_else_help = true)]
pub(crate) struct NewArgs {
    /// The project's name: lowercase letters, digits and `-`, starting with a letter
    name: ProjectName,
    /// The programming language
    #[arg(long, value_name = "LANGUAGE")]
    lang: LanguageArg,
    /// The project's directory, which must be empty or not exist [default: ./NAME]
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
}

/// The programming language of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LanguageArg {
    /// Rust
    Rust,
    /// JavaScript
    #[value(alias = "javascript")]
    Js,
    /// TypeScript
    #[value(alias = "typescript")]
    Ts,
    /// Python
    #[value(alias = "py")]
    Python,
}

impl From<LanguageArg> for scaffold::Language {
    fn from(language: LanguageArg) -> Self {
        match language {
            LanguageArg::Rust => Self::Rust,
            LanguageArg::Js => Self::JavaScript,
            LanguageArg::Ts => Self::TypeScript,
            LanguageArg::Python => Self::Python,
        }
    }
}

impl From<NewArgs> for NewProject {
    fn from(args: NewArgs) -> Self {
        let folder = args.path.unwrap_or_else(|| args.name.as_str().into());
        Self {
            name: args.name,
            language: args.lang.into(),
            folder,
        }
    }
}

/// Writes the project and prints the next steps.
pub(crate) fn run(args: NewArgs) -> anyhow::Result<ExitCode> {
    let project = NewProject::from(args);
    if let Err(error) = project.create() {
        telemetry::print_stderr(&format!("cloakroom: {error}"));
        return Ok(match error.is_usage() {
            true => ExitCode::from(EXIT_AT_FAULT),
            false => ExitCode::FAILURE,
        });
    }
    let tools = scaffold::tools::needed(project.language);
    telemetry::print(&project.next_steps(&tools))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, CliCommand, tests::parse};

    #[test]
    fn a_project_is_made_in_a_folder_of_its_name_unless_another_is_named() {
        let project = |line| match parse(line) {
            CliCommand::New(args) => NewProject::from(args),
            other => panic!("{line}: {other:?}"),
        };
        let made = project("cloakroom new shop --lang ts");
        assert_eq!(made.folder, PathBuf::from("shop"));
        assert_eq!(made.language, scaffold::Language::TypeScript);
        let made = project("cloakroom new shop --lang rust --path a/b");
        assert_eq!(made.folder, PathBuf::from("a/b"));
    }

    #[test]
    fn invalid_arguments_are_reported_with_the_expected_ones() {
        for (line, expected) in [
            ("cloakroom new --lang js", "<NAME>"),
            ("cloakroom new shop", "--lang <LANGUAGE>"),
            ("cloakroom new shop --lang cobol", "rust, js, ts, python"),
            ("cloakroom new My_Shop --lang js", "did you mean `my-shop`?"),
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(expected), "{line}: {error}");
        }
    }
}
