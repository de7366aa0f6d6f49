//! `cloakroom dev`: serves a project and builds it again whenever its sources change.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::OverrideArgs;
use super::config;
use crate::signals;
use cloakroom_dev::live;
use cloakroom_dev::live::DevError;
use cloakroom_host::config::{CliOptions, ComponentFiles, Config, ProcessEnvironment};

const HELP: &str = "\
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

/// The options of `dev`.
#[derive(Clone, Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct DevArgs {
    /// The configuration [default: ./cloakroom.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    overrides: OverrideArgs,
}

impl From<DevArgs> for CliOptions {
    fn from(args: DevArgs) -> Self {
        Self {
            file: args.config,
            listen: args.overrides.listen,
            store: args.overrides.store,
            components: ComponentFiles::ToBeBuilt,
            ..Self::default()
        }
    }
}

/// Builds and serves until a signal ends the process.
pub(crate) async fn run(args: DevArgs) -> anyhow::Result<ExitCode> {
    let options = CliOptions::from(args);
    let config = match config::read(&options) {
        Ok(config) => config,
        Err(refused) => return Ok(config::report_faults(&refused.faults, &refused.warnings)),
    };
    let shutdown = CancellationToken::new();
    signals::shut_down_on_termination(shutdown.clone(), config.server.listener.grace)?;
    // The terminal was closed. A running build must not outlive it.
    let hung_up = shutdown.clone();
    signals::on_hangup(move || hung_up.cancel())?;
    let file = Config::file(&options, &ProcessEnvironment);
    let read = Arc::new(move || config::read(&options));
    match live::run(config, file, read, &ProcessEnvironment, shutdown).await {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // The warnings are on the terminal.
        Err(DevError::AtFault(faults)) => Ok(config::report_faults(&faults, &[])),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{CliCommand, tests::parse};

    #[test]
    fn dev_takes_guests_that_are_not_built_yet() {
        let line = "cloakroom dev --config p/c.toml --listen [::1]:1 --store memory:";
        let CliCommand::Dev(args) = parse(line) else {
            panic!("dev is taken");
        };
        let options = CliOptions::from(args);
        assert_eq!(options.components, ComponentFiles::ToBeBuilt);
        assert_eq!(options.file, Some("p/c.toml".into()));
        assert_eq!(options.listen.as_deref(), Some("[::1]:1"));
        assert_eq!(options.store.as_deref(), Some("memory:"));
    }
}
