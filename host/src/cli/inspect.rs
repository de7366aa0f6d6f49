//! The options of `cloakroom inspect`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

const HELP: &str = "\
Tells what a component is without running it: its world, its imports and exports, its size, what made it, whether this host
compiles and links it; and what it would be granted, with a line for each import that leads nowhere without a grant.

Examples:
  cloakroom inspect counter.wasm                            what `cloakroom serve counter.wasm` grants it
  cloakroom inspect counter.wasm --config cloakroom.toml    what the guests grant it that it is the component of
  cloakroom inspect counter.wasm --json

Exit codes: 0 this host takes it; 1 that could not be found out; 2 it does not, or the configuration is at fault.";

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
