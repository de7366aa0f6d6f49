//! `cloakroom store`: copies sessions between stores, checks a store, and returns a running host to the first server of its store.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::guests::call_admin;
use super::{AdminArgs, EXIT_AT_FAULT};
use cloakroom_base::telemetry;
use cloakroom_host::admin::command::GuestsAction;
use cloakroom_host::app;
use cloakroom_host::app::{AdminCall, CopyCall, StartError, StoreCall};
use cloakroom_host::config::{ProcessEnvironment, StoreOptions, lasting_store_urls};

const HELP: &str = "\
`copy` and `check` open the stores that their URLs name. The password comes from a variable or a file (env:NAME, file:PATH), never
from the command line. Other settings of a store (TLS, names of the table and its columns) come from the [store] of a configuration.
CLOAKROOM_STORE_ variables have no effect on them. `prefer-first` calls the admin interface of a running host.

Examples:
  cloakroom store check mysql://app@db1/shop --password env:DB_PASSWORD
  cloakroom store copy --from sqlite:.cloakroom/sessions.sqlite --to mysql://app@db1/shop --to-password env:DB_PASSWORD
  cloakroom store copy --from ... --to ... --final      with each host of the source stopped
  cloakroom store prefer-first --admin http://127.0.0.1:3001";

const COPY_HELP: &str = "\
Copies each valid session with its id, expiry, commit tokens and creation time, so that cookies stay valid. Hosts may serve from the
source meanwhile. The command can be interrupted and called again as often as you like: it writes the sessions that the target lacks
and those that differ there, and nothing else. No host may serve from the target before the command has said `verified`. The
command writes nothing if a session was used in the target, which it recognises by commit tokens or a later expiry. It does not
recognise sessions that were only created or ended in the target.

A copy without --final is not verified: sessions that ended in the source after they were copied are still in the target. So:
  1. call the command once or several times while the hosts serve
  2. stop each host and each Express app of the source
  3. call it with --final: it copies the rest, deletes from the target the sessions that the source does not have, and compares
     all sessions of both stores; if these are more than half of the target's, it reports their number N, writes nothing and
     requires --delete N
  4. start the hosts on the target once the command has said `verified`

Exit codes: 0 done (with --final: verified); 1 a store failed, or the stores differ; 2 the command line is at fault, or a store refuses
its settings.";

const CHECK_HELP: &str = "\
Checks schema, charset, privileges, causality, latency and clock of a store, and prints one line for each, with a remedy if one is
needed. Each of several servers has its own lines, under its name. Changes nothing. A host may serve from the store meanwhile.

Examples:
  cloakroom store check sqlite:.cloakroom/sessions.sqlite
  cloakroom store check mysql://app@db1,db2,db3/shop --password file:/run/secrets/db --config cloakroom.toml

Exit codes: 0 no warning; 1 a line is a warning or a fault, or the store failed; 2 the command line is at fault.";

const PREFER_FIRST_HELP: &str = "\
Makes a running host use the first server of its store's URL again, and lets it use every server that it left after a failure. A host
never returns by itself to a single server or to a primary with replicas, because such a server may hold sessions that have ended
meanwhile. Call the command for each host once the first server is in order: it is the primary and has the commits of the others.

The command calls the admin interface of the host: `cloakroom serve --admin 127.0.0.1:3001`, or [admin] in its configuration. If
it needs a token, the token comes from --token-file or from CLOAKROOM_ADMIN_TOKEN.

Example:
  cloakroom store prefer-first --admin http://127.0.0.1:3001

Exit codes: 0 the host uses the first server; 1 the host cannot be reached, its store has no list of servers, or the first server
does not serve; 2 the command line or the token is at fault.";

/// The options of `store`.
#[derive(Clone, Debug, Args)]
#[command(after_help = HELP, arg_required_else_help = true)]
pub(crate) struct StoreArgs {
    /// The operation to perform.
    #[command(subcommand)]
    command: StoreCommand,
}

/// The operations on stores.
#[derive(Clone, Debug, Subcommand)]
enum StoreCommand {
    /// Copy the sessions of one store to another
    Copy(StoreCopyArgs),
    /// Check a store
    Check(StoreCheckArgs),
    /// Make a running host use the first server of its store's URL again
    PreferFirst(StorePreferFirstArgs),
}

/// The options of `store copy`.
#[derive(Clone, Debug, Args)]
#[command(after_help = COPY_HELP, arg_required_else_help = true)]
struct StoreCopyArgs {
    /// The source
    #[arg(long, value_name = "URL", help = format!("The source: {}", lasting_store_urls()))]
    from: String,
    /// The target; a missing file or table is created
    #[arg(long, value_name = "URL")]
    to: String,
    /// The source's password: env:NAME or file:PATH
    #[arg(long, value_name = "REFERENCE")]
    from_password: Option<String>,
    /// The target's password: env:NAME or file:PATH
    #[arg(long, value_name = "REFERENCE")]
    to_password: Option<String>,
    /// A configuration whose [store] has the other settings of the source: TLS, names, timeouts
    #[arg(long, value_name = "FILE")]
    from_config: Option<PathBuf>,
    /// A configuration whose [store] has the other settings of the target
    #[arg(long, value_name = "FILE")]
    to_config: Option<PathBuf>,
    /// The final pass, without writes to the source: copy the rest, delete sessions that the source does not have, and compare
    #[arg(long = "final")]
    is_final: bool,
    /// With --final: delete this many sessions of the target, the number that the command has reported
    #[arg(long, value_name = "N", requires = "is_final")]
    delete: Option<u64>,
}

/// The options of `store check`.
#[derive(Clone, Debug, Args)]
#[command(after_help = CHECK_HELP, arg_required_else_help = true)]
struct StoreCheckArgs {
    /// The store
    #[arg(value_name = "URL", help = format!("The store: {}", lasting_store_urls()))]
    url: String,
    /// The store's password: env:NAME or file:PATH
    #[arg(long, value_name = "REFERENCE")]
    password: Option<String>,
    /// A configuration whose [store] has the other settings: TLS, names, timeouts
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The options of `store prefer-first`.
#[derive(Clone, Debug, Args)]
#[command(after_help = PREFER_FIRST_HELP)]
struct StorePreferFirstArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

impl From<StoreCopyArgs> for StoreCall {
    fn from(args: StoreCopyArgs) -> Self {
        Self::Copy(CopyCall {
            from: StoreOptions {
                flag: "--from",
                password_flag: "--from-password",
                url: args.from,
                password: args.from_password,
                config: args.from_config,
            },
            to: StoreOptions {
                flag: "--to",
                password_flag: "--to-password",
                url: args.to,
                password: args.to_password,
                config: args.to_config,
            },
            is_final: args.is_final,
            delete: args.delete,
        })
    }
}

impl From<StoreCheckArgs> for StoreCall {
    fn from(args: StoreCheckArgs) -> Self {
        Self::Check(StoreOptions {
            flag: "URL",
            password_flag: "--password",
            url: args.url,
            password: args.password,
            config: args.config,
        })
    }
}

impl From<StorePreferFirstArgs> for AdminCall {
    fn from(args: StorePreferFirstArgs) -> Self {
        Self {
            url: args.admin.url,
            token_file: args.admin.token_file,
            command: GuestsAction::PreferFirst,
        }
    }
}

/// Performs the operation and prints its result.
pub(crate) async fn run(args: StoreArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        StoreCommand::Copy(args) => call_store(args.into()).await,
        StoreCommand::Check(args) => call_store(args.into()).await,
        StoreCommand::PreferFirst(args) => Ok(call_admin(args.into()).await),
    }
}

async fn call_store(call: StoreCall) -> anyhow::Result<ExitCode> {
    match app::call_store(call, &ProcessEnvironment).await {
        Ok(report) => {
            telemetry::print(&report.text)?;
            Ok(match report.is_good {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            })
        }
        Err(StartError::Failed(failure)) => Err(failure.into()),
        Err(StartError::AtFault(faults)) => {
            for fault in faults {
                telemetry::print_stderr(&format!("cloakroom: {fault}"));
            }
            Ok(ExitCode::from(EXIT_AT_FAULT))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, CliCommand, tests::parse};

    fn command(line: &str) -> StoreCommand {
        match parse(line) {
            CliCommand::Store(args) => args.command,
            _ => panic!("{line} is another command"),
        }
    }

    #[test]
    fn a_copy_names_both_ends_and_the_last_pass() {
        let line = "cloakroom store copy --from sqlite:a --to mysql://u@h/d --to-password env:P --final --delete 7";
        let StoreCommand::Copy(args) = command(line) else {
            panic!("it is a copy");
        };
        let StoreCall::Copy(copy) = StoreCall::from(args) else {
            panic!("it is a call of a copy");
        };
        assert!(copy.is_final);
        assert_eq!(copy.delete, Some(7));
        assert_eq!(
            (copy.from.url.as_str(), copy.from.flag),
            ("sqlite:a", "--from")
        );
        assert_eq!(copy.to.password.as_deref(), Some("env:P"));
        let line = "cloakroom store check sqlite:a --config c.toml";
        let StoreCommand::Check(args) = command(line) else {
            panic!("it is a check");
        };
        assert_eq!(args.config, Some("c.toml".into()));
    }

    #[test]
    fn the_first_server_is_asked_for_at_the_usual_address_unless_another_is_named() {
        let call = |line| match command(line) {
            StoreCommand::PreferFirst(args) => AdminCall::from(args),
            _ => panic!("{line} is another command"),
        };
        let usual = call("cloakroom store prefer-first");
        assert_eq!(usual.url, "http://127.0.0.1:3001");
        assert_eq!(usual.command, GuestsAction::PreferFirst);
        let other = call("cloakroom store prefer-first --admin http://x:1 --token-file t");
        assert_eq!(other.url, "http://x:1");
        assert_eq!(other.token_file, Some("t".into()));
    }

    #[test]
    fn a_copy_without_an_end_exits_with_2() {
        for line in [
            "cloakroom store",
            "cloakroom store copy --from sqlite:a",
            "cloakroom store copy --from sqlite:a --to sqlite:b --delete 7",
            "cloakroom store check",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
