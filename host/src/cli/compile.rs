//! `cloakroom compile`: compiles the component on standard input. The host starts it as a child process, and its help is hidden.

use std::process::ExitCode;

use clap::Args;

/// The options of `compile`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompileArgs {
    /// The host's compile arguments, in an internal format
    recipe: String,
}

/// Compiles one component. Must be called before the process starts any thread.
pub(crate) fn run(args: &CompileArgs) -> ExitCode {
    match cloakroom_runtime::compile(&args.recipe) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::from(fault.exit_code())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use crate::cli::{Cli, CliCommand, tests::parse};

    #[test]
    fn the_compile_command_is_internal_and_hidden_from_the_help() {
        let CliCommand::Compile(args) = parse("cloakroom compile 1:0.2/1:00") else {
            panic!("compile is taken");
        };
        assert_eq!(args.recipe, "1:0.2/1:00");
        let help = Cli::command().render_long_help().to_string();
        assert!(!help.contains("compile"), "{help}");
    }
}
