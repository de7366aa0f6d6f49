//! `cloakroom inspect`: shows the properties of a component and its grants.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{EXIT_AT_FAULT, config};
use cloakroom_base::telemetry;
use cloakroom_dev::inspect;
use cloakroom_dev::inspect::{InspectReport, InspectRequest};
use cloakroom_host::app;
use cloakroom_runtime::LoadError;

const HELP: &str = "\
Shows the properties of a component without running it: its world, its imports and exports, its size, the tools that built it,
and whether this host compiles and links it. Also shows its grants, with a line for each import that is denied without a grant.

Examples:
  cloakroom inspect counter.wasm                            the grants of `cloakroom serve counter.wasm`
  cloakroom inspect counter.wasm --config cloakroom.toml    the grants of the guests that use this component
  cloakroom inspect counter.wasm --json

Exit codes: 0 this host accepts it; 1 the check failed; 2 this host refuses it, or the configuration is at fault.";

/// The options of `inspect`.
#[derive(Clone, Debug, Args)]
#[command(after_help = HELP, arg_required_else_help = true)]
pub(crate) struct InspectArgs {
    /// The file of the component
    #[arg(value_name = "FILE.wasm")]
    file: PathBuf,
    /// The configuration whose grants are shown
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the report on the component.
pub(crate) fn run(args: InspectArgs) -> anyhow::Result<ExitCode> {
    let request = InspectRequest {
        file: args.file,
        config: args.config,
    };
    let inspected = match inspect::read(&request.file) {
        Ok(inspected) => inspected,
        Err(error) => {
            let file = request.file.display();
            let message = format!("cloakroom: {file}: {error}");
            telemetry::print_stderr(&telemetry::escape(&message));
            return Ok(ExitCode::from(EXIT_AT_FAULT));
        }
    };
    let config = match config::read(&request.cli_options()) {
        Ok(config) => config,
        Err(refused) => return Ok(config::report_faults(&refused.faults, &refused.warnings)),
    };
    config::report_warnings(&config.warnings);
    let fit = app::fit(inspected.bytes(), &config.guests, &config.server);
    let report = InspectReport::new(&request, &inspected, &config, &fit);
    match args.json {
        true => telemetry::print_json(&report.json()?)?,
        false => telemetry::print(&report.to_string())?,
    }
    Ok(match fit {
        Ok(()) => ExitCode::SUCCESS,
        Err(LoadError::NotCompiled { .. }) => ExitCode::FAILURE,
        Err(_) => ExitCode::from(EXIT_AT_FAULT),
    })
}
