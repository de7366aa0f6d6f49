//! The command line: its options and their help. Independent of what the commands do.

mod inspect;
mod new;
mod store;

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};

use cloakroom_dev::test_host;
use cloakroom_dev::test_host::BuildMode;
use cloakroom_host::admin::command;
use cloakroom_host::admin::command::{UploadPurpose, VersionFilter};
use cloakroom_host::app::AdminCall;
use cloakroom_host::config::{CliOptions, ComponentFiles, store_urls};
pub(crate) use inspect::InspectArgs;
pub(crate) use new::NewArgs;
pub(crate) use store::{StoreArgs, StoreCommand};

const ABOUT: &str = "Serves HTTP with WebAssembly components and gives each visitor a session";

const LONG_ABOUT: &str = "\
Serves HTTP with WebAssembly components (guests) and gives each visitor a session.

Any component that exports wasi:http/incoming-handler@0.2 or wasi:http/handler@0.3 is a guest. One that imports
cloakroom:http/session gets the session of the visitor it answers; it never sees the cookie, the id or the database.";

const EXAMPLES: &str = "\
Examples:
  cloakroom serve counter.wasm
      serves one component on every path of http://127.0.0.1:3000 and keeps sessions in .cloakroom/sessions.sqlite
  cloakroom serve counter.wasm --listen 0.0.0.0:8080 --store memory:
      on another address, with sessions that end with the host
  cloakroom serve --config cloakroom.toml
      serves the guests and routes of a configuration
  cloakroom dev
      in a project's directory: builds and serves its guests, and builds them again whenever a source is saved
  cloakroom check --config cloakroom.toml
      reports every fault of a configuration, including its components
  cloakroom guests list
      lists the guests of a host that runs with --admin; `guests put counter new.wasm` deploys a new version of one
  cloakroom new shop --lang js
      writes a project for a guest in JavaScript; also ts, python, rust
  cloakroom inspect counter.wasm
      shows the properties of a component and its grants
  cloakroom store check mysql://app@db1/shop --password env:DB_PASSWORD
      checks a store; `store copy` copies the sessions of one store to another, and `store prefer-first` makes a running host
      use the first of its database servers again

Exit codes: 0 success; 1 the host failed (the port is taken, the database is not available); 2 the command line or the
configuration is at fault.";

const SERVE_HELP: &str = "\
Precedence: options, then the environment, then the file, then the defaults. Every key of the file except [guest.*] and [[route]]
has a variable: CLOAKROOM_ and the key's path in capitals, with underscores for dots. An unknown CLOAKROOM_ variable causes a
warning.
  CLOAKROOM_LISTEN=0.0.0.0:8080
  CLOAKROOM_STORE_URL=mysql://app@db1:3306,db2:3306/app   CLOAKROOM_STORE_PASSWORD=...
  CLOAKROOM_SESSION_SECRETS=...                           CLOAKROOM_SESSION_COOKIE_MAX_AGE=24h
  CLOAKROOM_LOG_LEVEL=info,guest=debug                    CLOAKROOM_CONFIG=/etc/cloakroom.toml

Examples:
  cloakroom serve counter.wasm
  cloakroom serve counter.wasm --admin 127.0.0.1:3001
  cloakroom serve counter.wasm --store sqlite:/var/lib/cloakroom/sessions.sqlite
  cloakroom serve --config cloakroom.toml --listen [::]:3000

SIGTERM or SIGINT: accepts no more connections, lets requests in progress finish, then exits. A second signal exits at once.
SIGHUP: reads the configuration and the components again, and applies all changes or none. A changed component is also deployed
without it.";

const DEV_HELP: &str = "\
Builds every guest that has a [guest.NAME.build] table, serves like `serve`, and builds again whenever a file in `watch` changes.
Until a guest can serve the sources saved last, its routes show the reason: a page that reloads itself in a browser, plain text
for other clients. The terminal shows requests, their session changes (including values) and the output of guests. A saved
configuration is applied once every guest is built. The configured store is used, so sessions are kept after a restart.

  [guest.hello.build]
  setup = \"npm install\"                 run once before the first build ...
  creates = \"node_modules/.package-lock.json\"    ... unless this path exists, which it creates last
  command = \"npm run --silent build\"    builds the component, in the configuration's directory
  watch = [\"src\", \"package.json\"]     files and directories; hidden ones, node_modules and target are skipped

Examples:
  cloakroom dev
  cloakroom dev --listen 127.0.0.1:8080 --store memory:
  cloakroom dev --config shop/cloakroom.toml

Ctrl-C or SIGTERM ends the command and its builds.

Exit codes: 0 ended by a signal; 1 it could not start (the port is taken, the database is not available); 2 the command line
or the configuration is at fault.";

const CHECK_HELP: &str = "\
Reads the configuration like `serve`, including environment variables, and loads every component. Exits with 0 and a summary,
or with 2 and every fault: its place, the key, the problem and the remedy. Warns about settings that are allowed and probably
not intended, such as unknown CLOAKROOM_ variables. Opens no store and no listener.

Example:
  cloakroom check --config cloakroom.toml";

const GUESTS_HELP: &str = "\
Calls the admin interface of a running host: `cloakroom serve --admin 127.0.0.1:3001`, or [admin] in its configuration. If it
needs a token, the token comes from --token-file or from CLOAKROOM_ADMIN_TOKEN. The interface does not support TLS: reach it on
another machine through a tunnel (ssh -L 3001:127.0.0.1:3001 HOST).

Examples:
  cloakroom guests list
  cloakroom guests put counter counter.wasm
  cloakroom guests put counter counter.wasm --dry-run
  cloakroom guests put counter counter.wasm --expect 3      only if version 3 is live
  cloakroom guests rollback counter

Exit codes: 0 success; 1 the host cannot be reached, or cannot perform the operation now; 2 the input is at fault: an option, a
file, the token or the component.";

const TEST_HELP: &str = "\
Builds the guests of ./cloakroom.toml with their [guest.NAME.build] commands, and runs their `test` commands in its directory.
Tests get the variable CLOAKROOM_TEST_URL, the address of a control interface. With it, a test starts hosts with the project's
guests and routes. Each host has sessions in memory and a clock that only the test moves. A test can also simulate writes of
other hosts, make the store unavailable and swap guests. The SDKs contain a client for the interface. The project's database and
cookie secrets are neither needed nor used. Variables of [guest.NAME.environment] that cannot be read are left out with a warning.
`secure = true` counts as \"auto\", because there is no TLS.

The output of guests is printed to standard error, with the name of the guest in front. Of the host's own log, only warnings are
shown, unless CLOAKROOM_LOG_LEVEL is set.

Examples:
  cloakroom test
  cloakroom test --no-build
  cloakroom test -- --test-name-pattern cart      arguments for the test command, passed on unchanged

Exit codes: that of the first test command that failed, else 0; 1 a guest was not built; 2 the command line or the configuration
is at fault.";

/// The parsed command line.
#[derive(Clone, Debug, Parser)]
#[command(name = "cloakroom", version, about = ABOUT, long_about = LONG_ABOUT, after_help = EXAMPLES)]
#[command(arg_required_else_help = true, max_term_width = 120)]
pub(crate) struct Args {
    /// The command to run.
    #[command(subcommand)]
    pub command: CliCommand,
}

/// The commands of `cloakroom`.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum CliCommand {
    /// Serve a component, or the guests and routes of a configuration
    Serve(ServeArgs),
    /// Serve a project and build it again whenever its sources change
    Dev(DevArgs),
    /// Check a configuration, report every fault and exit
    Check(CheckArgs),
    /// Build a project's guests and run their tests
    Test(TestArgs),
    /// List, deploy and roll back the guests of a running host
    Guests(GuestsArgs),
    /// Write a new project for a guest
    New(NewArgs),
    /// Show the properties of a component and its grants
    Inspect(InspectArgs),
    /// Copy the sessions of one store to another, check stores, and return to the first server of a store
    Store(StoreArgs),
    /// Compile the component on standard input; only started by the host itself
    #[command(hide = true)]
    Compile(CompileArgs),
}

/// The options of `compile`.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct CompileArgs {
    /// The host's compile arguments, in an internal format
    pub recipe: String,
}

/// The options of `serve`.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = SERVE_HELP)]
pub(crate) struct ServeArgs {
    /// The component to serve on every path; it may read and write its visitors' sessions
    #[arg(value_name = "COMPONENT.wasm")]
    pub component: Option<PathBuf>,
    /// The configuration; defaults to ./cloakroom.toml if no component is given
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The address to listen on [default: 127.0.0.1:3000]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// The session store
    #[arg(long, value_name = "URL", help = store_help())]
    pub store: Option<String>,
    /// Open the admin interface (guests, metrics and health) on this address; an address other than loopback requires a token
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub admin: Option<String>,
}

/// The options of `dev`.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = DEV_HELP)]
pub(crate) struct DevArgs {
    /// The configuration [default: ./cloakroom.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The address to listen on [default: 127.0.0.1:3000]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// The session store
    #[arg(long, value_name = "URL", help = store_help())]
    pub store: Option<String>,
}

/// The options of `check`.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = CHECK_HELP)]
pub(crate) struct CheckArgs {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// The options of `test`.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = TEST_HELP)]
pub(crate) struct TestArgs {
    /// The project's configuration; defaults to ./cloakroom.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Do not build the guests; test the existing components
    #[arg(long)]
    pub no_build: bool,
    /// Arguments to append to the test command
    #[arg(last = true, value_name = "ARGS")]
    pub arguments: Vec<String>,
}

/// The options of `guests`.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = GUESTS_HELP, arg_required_else_help = true)]
pub(crate) struct GuestsArgs {
    /// The URL of the host's admin interface
    #[arg(
        long,
        global = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:3001"
    )]
    pub admin: String,
    /// A file that contains the admin token; defaults to the variable CLOAKROOM_ADMIN_TOKEN
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The operation to perform.
    #[command(subcommand)]
    pub command: GuestsCommand,
}

/// The operations on the guests of a running host.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum GuestsCommand {
    /// List guests and their versions
    List {
        /// List all versions that the host remembers, not only those that serve or can be live again
        #[arg(long)]
        all: bool,
    },
    /// Deploy a component as a guest's new version, if it passes validation
    Put {
        /// The name of the guest in the configuration
        name: String,
        /// The file of the component
        #[arg(value_name = "COMPONENT.wasm")]
        file: PathBuf,
        /// Validate the component without deploying it
        #[arg(long)]
        dry_run: bool,
        /// Fail unless this version is live
        #[arg(long, value_name = "VERSION")]
        expect: Option<u64>,
    },
    /// Let the version before the live one serve again
    Rollback {
        /// The name of the guest in the configuration
        name: String,
        /// Fail unless this version is live
        #[arg(long, value_name = "VERSION")]
        expect: Option<u64>,
    },
}

impl From<GuestsArgs> for AdminCall {
    fn from(guests: GuestsArgs) -> Self {
        Self {
            url: guests.admin,
            token_file: guests.token_file,
            command: guests.command.into(),
        }
    }
}

impl From<GuestsCommand> for command::GuestsAction {
    fn from(command: GuestsCommand) -> Self {
        match command {
            GuestsCommand::List { all } => Self::List {
                versions: if all {
                    VersionFilter::All
                } else {
                    VersionFilter::Current
                },
            },
            GuestsCommand::Put {
                name,
                file,
                dry_run,
                expect,
            } => Self::Put {
                name,
                file,
                purpose: if dry_run {
                    UploadPurpose::DryRun
                } else {
                    UploadPurpose::Serve
                },
                expected: expect,
            },
            GuestsCommand::Rollback { name, expect } => Self::Rollback {
                name,
                expected: expect,
            },
        }
    }
}

impl From<TestArgs> for test_host::TestCall {
    fn from(test: TestArgs) -> Self {
        Self {
            config: test.config,
            building: if test.no_build {
                BuildMode::Skipped
            } else {
                BuildMode::First
            },
            arguments: test.arguments,
        }
    }
}

impl From<ServeArgs> for CliOptions {
    fn from(serve: ServeArgs) -> Self {
        Self {
            file: serve.config,
            component: serve.component,
            listen: serve.listen,
            store: serve.store,
            admin: serve.admin,
            ..Self::default()
        }
    }
}

impl From<DevArgs> for CliOptions {
    fn from(dev: DevArgs) -> Self {
        Self {
            file: dev.config,
            listen: dev.listen,
            store: dev.store,
            components: ComponentFiles::ToBeBuilt,
            ..Self::default()
        }
    }
}

impl From<CheckArgs> for CliOptions {
    fn from(check: CheckArgs) -> Self {
        Self {
            file: Some(check.config),
            ..Self::default()
        }
    }
}

fn store_help() -> String {
    let urls = store_urls();
    format!("The session store: {urls} [default: sqlite:.cloakroom/sessions.sqlite]")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn serve_takes_a_component_or_a_file_and_flags() {
        let parse = |line: &str| Args::try_parse_from(line.split(' ')).map(|args| args.command);
        let Ok(CliCommand::Serve(serve)) =
            parse("cloakroom serve a.wasm --listen [::1]:1 --store memory:")
        else {
            panic!("serve is taken");
        };
        let words = CliOptions::from(serve);
        assert_eq!(words.component, Some("a.wasm".into()));
        assert_eq!(words.listen.as_deref(), Some("[::1]:1"));
        assert_eq!(words.store.as_deref(), Some("memory:"));
        assert_eq!(words.file, None);
        let Ok(CliCommand::Check(check)) = parse("cloakroom check --config c.toml") else {
            panic!("check is taken");
        };
        assert_eq!(CliOptions::from(check).file, Some("c.toml".into()));
    }

    #[test]
    fn dev_takes_guests_that_are_not_built_yet() {
        let line = "cloakroom dev --config p/c.toml --listen [::1]:1 --store memory:";
        let parsed = Args::try_parse_from(line.split(' ')).map(|args| args.command);
        let Ok(CliCommand::Dev(dev)) = parsed else {
            panic!("dev is taken");
        };
        let words = CliOptions::from(dev);
        assert_eq!(words.components, ComponentFiles::ToBeBuilt);
        assert_eq!(words.file, Some("p/c.toml".into()));
        assert_eq!(words.listen.as_deref(), Some("[::1]:1"));
        assert_eq!(words.store.as_deref(), Some("memory:"));
    }

    #[test]
    fn guests_are_called_at_the_usual_address_unless_another_is_named() {
        let parse = |line: &str| match Args::try_parse_from(line.split(' ')).map(|it| it.command) {
            Ok(CliCommand::Guests(guests)) => guests,
            other => panic!("{line}: {other:?}"),
        };
        let put = parse("cloakroom guests put a b.wasm --dry-run --expect 3 --admin http://x:1");
        assert_eq!(put.admin, "http://x:1");
        assert_eq!(
            command::GuestsAction::from(put.command),
            command::GuestsAction::Put {
                name: "a".to_owned(),
                file: "b.wasm".into(),
                purpose: UploadPurpose::DryRun,
                expected: Some(3),
            }
        );
        let list = parse("cloakroom guests list");
        assert_eq!(list.admin, "http://127.0.0.1:3001");
        let versions = VersionFilter::Current;
        assert_eq!(
            command::GuestsAction::from(list.command),
            command::GuestsAction::List { versions }
        );
    }

    #[test]
    fn what_stands_behind_two_dashes_is_the_test_commands() {
        let words = ["cloakroom", "test", "--no-build", "--", "-k", "a b"];
        let Ok(CliCommand::Test(test)) = Args::try_parse_from(words).map(|args| args.command)
        else {
            panic!("test is taken");
        };
        let call = test_host::TestCall::from(test);
        assert_eq!(call.building, BuildMode::Skipped);
        assert_eq!(call.arguments, ["-k", "a b"]);
    }

    #[test]
    fn compile_is_the_hosts_own_word_and_not_shown() {
        let parsed = Args::try_parse_from(["cloakroom", "compile", "1:0.2/1:00"]);
        let Ok(CliCommand::Compile(words)) = parsed.map(|args| args.command) else {
            panic!("compile is taken");
        };
        assert_eq!(words.recipe, "1:0.2/1:00");
        let help = Args::command().render_long_help().to_string();
        assert!(!help.contains("compile"), "{help}");
    }

    #[test]
    fn a_usage_error_exits_with_2() {
        for line in [
            "cloakroom",
            "cloakroom check",
            "cloakroom serve --port 1",
            "cloakroom dance",
            "cloakroom guests",
            "cloakroom test something",
            "cloakroom guests put counter",
        ] {
            let error = Args::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn help_names_the_variables_and_the_exit_codes() {
        let mut command = Args::command();
        assert!(
            command
                .render_long_help()
                .to_string()
                .contains("Exit codes: 0")
        );
        let serve = command.find_subcommand_mut("serve").unwrap();
        assert!(
            serve
                .render_long_help()
                .to_string()
                .contains("CLOAKROOM_STORE_URL")
        );
    }
}
