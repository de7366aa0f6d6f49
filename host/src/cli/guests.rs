//! `cloakroom guests`: lists, deploys and rolls back the guests of a running host.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{AdminArgs, EXIT_AT_FAULT};
use cloakroom_base::telemetry;
use cloakroom_host::admin::command::{GuestsAction, ShellError, UploadPurpose, VersionFilter};
use cloakroom_host::app;
use cloakroom_host::app::AdminCall;
use cloakroom_host::config::ProcessEnvironment;

const HELP: &str = "\
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

/// The options of `guests`.
#[derive(Clone, Debug, Args)]
#[command(after_help = HELP, arg_required_else_help = true)]
pub(crate) struct GuestsArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// The operation to perform.
    #[command(subcommand)]
    command: GuestsCommand,
}

/// The operations on the guests of a running host.
#[derive(Clone, Debug, Subcommand)]
enum GuestsCommand {
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
    fn from(args: GuestsArgs) -> Self {
        Self {
            url: args.admin.url,
            token_file: args.admin.token_file,
            command: args.command.into(),
        }
    }
}

impl From<GuestsCommand> for GuestsAction {
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

/// Performs the operation and prints its result.
pub(crate) async fn run(args: GuestsArgs) -> anyhow::Result<ExitCode> {
    Ok(call_admin(args.into()).await)
}

/// Calls the admin interface of a running host.
pub(super) async fn call_admin(call: AdminCall) -> ExitCode {
    match app::call_admin(call, &ProcessEnvironment).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            telemetry::print_stderr(&format!("cloakroom: {error}"));
            match error {
                ShellError::AtFault(_) => ExitCode::from(EXIT_AT_FAULT),
                ShellError::Failed(_) => ExitCode::FAILURE,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{CliCommand, tests::parse};

    #[test]
    fn guests_are_called_at_the_usual_address_unless_another_is_named() {
        let guests = |line| match parse(line) {
            CliCommand::Guests(args) => args,
            other => panic!("{line}: {other:?}"),
        };
        let put = guests("cloakroom guests put a b.wasm --dry-run --expect 3 --admin http://x:1");
        assert_eq!(put.admin.url, "http://x:1");
        assert_eq!(
            GuestsAction::from(put.command),
            GuestsAction::Put {
                name: "a".to_owned(),
                file: "b.wasm".into(),
                purpose: UploadPurpose::DryRun,
                expected: Some(3),
            }
        );
        let list = guests("cloakroom guests list");
        assert_eq!(list.admin.url, "http://127.0.0.1:3001");
        let versions = VersionFilter::Current;
        assert_eq!(
            GuestsAction::from(list.command),
            GuestsAction::List { versions }
        );
    }
}
