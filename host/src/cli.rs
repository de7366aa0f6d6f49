//! The command line: the list of commands, and the options that several commands share. Each command has a file with its options,
//! its help and its function `run`.

pub(crate) mod check;
pub(crate) mod compile;
mod config;
#[cfg(feature = "dev")]
pub(crate) mod dev;
pub(crate) mod guests;
#[cfg(feature = "dev")]
pub(crate) mod inspect;
#[cfg(feature = "dev")]
pub(crate) mod new;
pub(crate) mod serve;
pub(crate) mod store;
#[cfg(feature = "dev")]
pub(crate) mod test;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use cloakroom_host::config::store_urls;

/// The exit code if the command line or the configuration is at fault.
const EXIT_AT_FAULT: u8 = 2;

const ABOUT: &str = "Serves HTTP with WebAssembly components and gives each visitor a session";

const LONG_ABOUT: &str = "\
Serves HTTP with WebAssembly components (guests) and gives each visitor a session.

Any component that exports wasi:http/incoming-handler@0.2 or wasi:http/handler@0.3 is a guest. One that imports
cloakroom:http/session gets the session of the visitor it answers; it never sees the cookie, the id or the database.";

/// The examples of `--help`, in its order.
const EXAMPLES: &[&str] = &[
    "  cloakroom serve counter.wasm
      serves one component on every path of http://127.0.0.1:3000 and keeps sessions in .cloakroom/sessions.sqlite",
    "  cloakroom serve counter.wasm --listen 0.0.0.0:8080 --store memory:
      on another address, with sessions that end with the host",
    "  cloakroom serve --config cloakroom.toml
      serves the guests and routes of a configuration",
    #[cfg(feature = "dev")]
    "  cloakroom dev
      in a project's directory: builds and serves its guests, and builds them again whenever a source is saved",
    "  cloakroom check --config cloakroom.toml
      reports every fault of a configuration, including its components",
    "  cloakroom guests list
      lists the guests of a host that runs with --admin; `guests put counter new.wasm` deploys a new version of one",
    #[cfg(feature = "dev")]
    "  cloakroom new shop --lang js
      writes a project for a guest in JavaScript; also ts, python, rust",
    #[cfg(feature = "dev")]
    "  cloakroom inspect counter.wasm
      shows the properties of a component and its grants",
    "  cloakroom store check mysql://app@db1/shop --password env:DB_PASSWORD
      checks a store; `store copy` copies the sessions of one store to another, and `store prefer-first` makes a running host
      use the first of its database servers again",
];

const EXIT_CODES: &str = "\
Exit codes: 0 success; 1 the host failed (the port is taken, the database is not available); 2 the command line or the
configuration is at fault.";

/// The parsed command line.
#[derive(Clone, Debug, Parser)]
#[command(name = "cloakroom", version, about = ABOUT, long_about = LONG_ABOUT, after_help = after_help())]
#[command(arg_required_else_help = true, max_term_width = 120)]
pub(crate) struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: CliCommand,
}

/// The commands of `cloakroom`.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum CliCommand {
    /// Serve a component, or the guests and routes of a configuration
    Serve(serve::ServeArgs),
    /// Serve a project and build it again whenever its sources change
    #[cfg(feature = "dev")]
    Dev(dev::DevArgs),
    /// Check a configuration, report every fault and exit
    Check(check::CheckArgs),
    /// Build a project's guests and run their tests
    #[cfg(feature = "dev")]
    Test(test::TestArgs),
    /// List, deploy and roll back the guests of a running host
    Guests(guests::GuestsArgs),
    /// Write a new project for a guest
    #[cfg(feature = "dev")]
    New(new::NewArgs),
    /// Show the properties of a component and its grants
    #[cfg(feature = "dev")]
    Inspect(inspect::InspectArgs),
    /// Copy the sessions of one store to another, check stores, and return to the first server of a store
    Store(store::StoreArgs),
    /// Compile the component on standard input; only started by the host itself
    #[command(hide = true)]
    Compile(compile::CompileArgs),
}

fn after_help() -> String {
    format!("Examples:\n{}\n\n{EXIT_CODES}", EXAMPLES.join("\n"))
}

/// The options of `serve` and `dev` that override keys of the configuration.
#[derive(Clone, Debug, Args)]
struct OverrideArgs {
    /// The address to listen on [default: 127.0.0.1:3000]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// The session store
    #[arg(long, value_name = "URL", help = store_help())]
    store: Option<String>,
}

/// The options that name a running host.
#[derive(Clone, Debug, Args)]
struct AdminArgs {
    /// The URL of the host's admin interface
    #[arg(
        long = "admin",
        global = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:3001"
    )]
    url: String,
    /// A file that contains the admin token; defaults to the variable CLOAKROOM_ADMIN_TOKEN
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

fn store_help() -> String {
    let urls = store_urls();
    format!("The session store: {urls} [default: sqlite:.cloakroom/sessions.sqlite]")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    pub(super) fn parse(line: &str) -> CliCommand {
        match Cli::try_parse_from(line.split(' ')) {
            Ok(cli) => cli.command,
            Err(error) => panic!("{line}: {error}"),
        }
    }

    #[test]
    fn the_definition_of_the_command_line_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_usage_error_exits_with_2() {
        for line in [
            "cloakroom",
            "cloakroom check",
            "cloakroom serve --port 1",
            "cloakroom dance",
            "cloakroom guests",
            "cloakroom guests put counter",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn every_example_is_a_command_of_this_build() {
        for example in EXAMPLES {
            parse(example.trim_start().lines().next().unwrap());
        }
    }

    #[test]
    fn help_names_the_exit_codes() {
        let mut command = Cli::command();
        assert!(
            command
                .render_long_help()
                .to_string()
                .contains("Exit codes: 0")
        );
    }
}
