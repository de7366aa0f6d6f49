//! `cloakroom check`: reports every fault of a configuration, including its components.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::config;
use cloakroom_base::telemetry;
use cloakroom_host::app;
use cloakroom_host::config::CliOptions;

const HELP: &str = "\
Reads the configuration like `serve`, including environment variables, and loads every component. Exits with 0 and a summary,
or with 2 and every fault: its place, the key, the problem and the remedy. Warns about settings that are allowed and probably
not intended, such as unknown CLOAKROOM_ variables. Opens no store and no listener.

Example:
  cloakroom check --config cloakroom.toml";

/// The options of `check`.
#[derive(Clone, Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct CheckArgs {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl From<CheckArgs> for CliOptions {
    fn from(args: CheckArgs) -> Self {
        Self {
            file: Some(args.config),
            ..Self::default()
        }
    }
}

/// Checks the configuration and prints a summary.
pub(crate) async fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let config = match config::load(&args.into()).await {
        Ok(config) => config,
        Err(refused) => return Ok(config::report_faults(&refused.faults, &refused.warnings)),
    };
    let warnings = match app::check(&config).await {
        Ok(warnings) => warnings,
        Err(faults) => return Ok(config::report_faults(&faults, &config.warnings)),
    };
    config::report_warnings(&config.warnings);
    config::report_warnings(&warnings);
    let guests = telemetry::counted(config.guests.len(), "guest");
    let routes = telemetry::counted(config.routes.len(), "route");
    let listen = config.listen;
    telemetry::print(&format!("ok: {guests}, {routes}, listens on {listen}\n"))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{CliCommand, tests::parse};

    #[test]
    fn check_takes_a_file() {
        let CliCommand::Check(args) = parse("cloakroom check --config c.toml") else {
            panic!("check is taken");
        };
        assert_eq!(CliOptions::from(args).file, Some("c.toml".into()));
    }
}
