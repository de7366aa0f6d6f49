//! Reads the configuration of a command, and reports its faults and warnings.

use std::process::ExitCode;

use super::EXIT_AT_FAULT;
use cloakroom_base::telemetry;
use cloakroom_host::app;
use cloakroom_host::config::{
    CliOptions, Config, ConfigError, ConfigFault, ProcessEnvironment, ServerSettings,
};
use cloakroom_runtime::Compiler;

/// Reads the configuration. If it is refused, the components of its valid guests are checked in addition, so that one run
/// reports every fault.
pub(super) async fn load(options: &CliOptions) -> Result<Config, ConfigError> {
    match read(options) {
        Ok(config) => Ok(config),
        Err(mut refused) => {
            let mut server = ServerSettings::default();
            server.runtime.compiler = compiler();
            let guests = app::check_guests(&refused.guests, &server).await;
            refused.faults.extend(guests.err().unwrap_or_default());
            Err(refused)
        }
    }
}

/// Reads the configuration. The host will start this executable as its compiler.
pub(super) fn read(options: &CliOptions) -> Result<Config, ConfigError> {
    let mut config = Config::load(options, &ProcessEnvironment)?;
    config.server.runtime.compiler = compiler();
    Ok(config)
}

/// Returns the executable of this process, even if its file was replaced.
fn compiler() -> Compiler {
    let exe = "/proc/self/exe".into();
    Compiler::Child { exe }
}

/// Reports why the configuration is refused. Returns the exit code of the command.
pub(super) fn report_faults(faults: &[ConfigFault], warnings: &[String]) -> ExitCode {
    report_warnings(warnings);
    for fault in faults {
        telemetry::print_stderr(&fault.to_string());
    }
    let count = telemetry::counted(faults.len(), "fault");
    telemetry::print_stderr(&format!("cloakroom: {count} in the configuration"));
    ExitCode::from(EXIT_AT_FAULT)
}

/// Reports settings that are valid, but probably a mistake.
pub(super) fn report_warnings(warnings: &[String]) {
    for warning in warnings {
        telemetry::print_stderr(&telemetry::escape(&format!("warning: {warning}")));
    }
}
