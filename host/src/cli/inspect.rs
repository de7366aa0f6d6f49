//! The options of `cloakroom inspect`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

const HELP: &str = "\
Shows the properties of a component without running it: its world, its imports and exports, its size, the tools that built it,
and whether this host compiles and links it. Also shows its grants, with a line for each import that is denied without a grant.

Examples:
  cloakroom inspect counter.wasm                            the grants of `cloakroom serve counter.wasm`
  cloakroom inspect counter.wasm --config cloakroom.toml    the grants of the guests that use this component
  cloakroom inspect counter.wasm --json

Exit codes: 0 this host accepts it; 1 the check failed; 2 this host refuses it, or the configuration is at fault.";

/// The options of `inspect`.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = HELP, arg_required_else_help = true)]
pub(crate) struct InspectArgs {
    /// The file of the component
    #[arg(value_name = "FILE.wasm")]
    pub file: PathBuf,
    /// The configuration whose grants are shown
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
