//! `cloakroom test`: builds a project's guests and runs their tests.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::config;
use cloakroom_base::telemetry;
use cloakroom_dev::test_host;
use cloakroom_dev::test_host::{BuildMode, TestCall};
use cloakroom_host::app::StartError;
use cloakroom_host::config::ProcessEnvironment;

const HELP: &str = "\
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

/// The options of `test`.
#[derive(Clone, Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct TestArgs {
    /// The project's configuration; defaults to ./cloakroom.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Do not build the guests; test the existing components
    #[arg(long)]
    no_build: bool,
    /// Arguments to append to the test command
    #[arg(last = true, value_name = "ARGS")]
    arguments: Vec<String>,
}

impl From<TestArgs> for TestCall {
    fn from(args: TestArgs) -> Self {
        Self {
            config: args.config,
            building: if args.no_build {
                BuildMode::Skipped
            } else {
                BuildMode::First
            },
            arguments: args.arguments,
        }
    }
}

/// Returns the exit code of the first test command that failed, or 0.
pub(crate) async fn run(args: TestArgs) -> anyhow::Result<ExitCode> {
    let call = TestCall::from(args);
    let config = match config::read(&call.cli_options()) {
        Ok(config) => config,
        Err(refused) => return Ok(config::report_faults(&refused.faults, &refused.warnings)),
    };
    let _flush = telemetry::init(&test_host::log(&config, &ProcessEnvironment))?;
    config::report_warnings(&config.warnings);
    match test_host::run(config, &call).await {
        Ok(code) => Ok(ExitCode::from(code)),
        Err(StartError::Failed(failure)) => Err(failure.into()),
        Err(StartError::AtFault(faults)) => Ok(config::report_faults(&faults, &[])),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, CliCommand};

    #[test]
    fn arguments_after_two_dashes_go_to_the_test_command() {
        let args = ["cloakroom", "test", "--no-build", "--", "-k", "a b"];
        let Ok(CliCommand::Test(args)) = Cli::try_parse_from(args).map(|cli| cli.command) else {
            panic!("test is taken");
        };
        let call = TestCall::from(args);
        assert_eq!(call.building, BuildMode::Skipped);
        assert_eq!(call.arguments, ["-k", "a b"]);
    }

    #[test]
    fn an_argument_without_two_dashes_exits_with_2() {
        let line = ["cloakroom", "test", "something"];
        assert_eq!(Cli::try_parse_from(line).unwrap_err().exit_code(), 2);
    }
}
