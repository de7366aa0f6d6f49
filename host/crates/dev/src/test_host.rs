//! `cloakroom test`: builds the guests of a project and runs their tests. The tests run against hosts in this process. These
//! hosts use the code of `cloakroom serve`, with sessions in memory and a clock that the test moves. Independent of test
//! runners and languages.
//!
//! `control` is the interface that tests call, `host` is a host that a test has started, and `faulty_store` makes its store
//! fail.
//!
//! The hosts share engines, pools and compiled code (`Runtime::beside`), not the queues of their guests. A rival is a commit as
//! another host would send it, immediately before the host's own; everything after that is the host's own doing. The clock that
//! tests move is the wall clock: sessions expire, deadlines and time-outs do not.

mod command;
mod control;
mod faulty_store;
mod host;
mod signals;
mod wire;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::build;
use cloakroom_base::telemetry;
use cloakroom_base::telemetry::LogFormat;
use cloakroom_host::app;
use cloakroom_host::app::{StartError, StartFailure};
use cloakroom_host::config::{
    BuildSettings, CliOptions, ComponentFiles, Config, ConfigFault, ConfigMode, Environment,
};
use command::CommandEnd;
use control::ControlServer;
use host::TestProject;
use signals::{TestSignals, exit_code};

/// The variable that sets the log filter.
const LOG_VARIABLE: &str = "CLOAKROOM_LOG_LEVEL";
/// The log filter used if the variable is not set. It keeps the output of the test runner readable while guests can print. The
/// speed at which instances are created is of no interest to a test.
const LOG_FILTER: &str = "warn,guest=info,cloakroom::engine=error";

/// The options of `cloakroom test`.
#[derive(Clone, Debug)]
pub struct TestCall {
    /// The configuration of the project. If it is `None`, `cloakroom.toml` in the working directory is used.
    pub config: Option<PathBuf>,
    /// Whether the guests are built first.
    pub building: BuildMode,
    /// Arguments that are appended to each test command.
    pub arguments: Vec<String>,
}

/// Whether guests are built before their tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildMode {
    /// All guests are built.
    First,
    /// Nothing is built. The existing components are tested.
    Skipped,
}

impl TestCall {
    /// Returns the options with which the configuration is read. Neither a database nor secrets are required.
    pub fn cli_options(&self) -> CliOptions {
        CliOptions {
            file: self.config.clone(),
            components: match self.building {
                BuildMode::First => ComponentFiles::ToBeBuilt,
                BuildMode::Skipped => ComponentFiles::MustExist,
            },
            mode: ConfigMode::Test,
            ..CliOptions::default()
        }
    }
}

/// Returns the logging options for the tests.
pub fn log(config: &Config, environment: &dyn Environment) -> telemetry::TelemetryOptions {
    let has_log_filter = environment
        .get(LOG_VARIABLE)
        .is_some_and(|it| !it.is_empty());
    telemetry::TelemetryOptions {
        filter: match has_log_filter {
            true => config.log.filter.clone(),
            false => LOG_FILTER.to_owned(),
        },
        format: match config.log.format {
            LogFormat::Text | LogFormat::Brief => LogFormat::Brief,
            LogFormat::Json => LogFormat::Json,
        },
    }
}

/// Builds the guests and runs their test commands one after the other. Returns the exit code of the first command that failed,
/// or 0. SIGINT, SIGTERM and SIGHUP stop the running commands and end the run.
///
/// # Errors
/// Returns an error if the configuration is at fault, a guest cannot be built or a command cannot be run.
pub async fn run(config: Config, call: &TestCall) -> Result<u8, StartError> {
    let tests = tests(&config)?;
    let mut signals = TestSignals::new()
        .map_err(|error| failed(format!("cannot listen for signals: {error}")))?;
    // All guests come from the same configuration file, so their directories are the same.
    let folder = folder_of(tests[0].build);
    if call.building == BuildMode::First {
        match signals.or(build_guests(&config)).await {
            Ok(built) => built?,
            Err(signal) => return Ok(exit_code(signal)),
        }
    }
    let runtime = app::runtime(&config)?;
    let project = Arc::new(TestProject::new(config.clone(), runtime, folder));
    let code = match signals.or(project.check_start()).await {
        Ok(Ok(())) => run_tests(&tests, &call.arguments, &project, &mut signals).await,
        Ok(Err(error)) => Err(error),
        Err(signal) => Ok(exit_code(signal)),
    };
    project.stop();
    code
}

/// Runs the test commands against hosts of this project. Stops after a command that a signal has interrupted.
async fn run_tests(
    tests: &[TestCommand<'_>],
    arguments: &[String],
    project: &Arc<TestProject>,
    signals: &mut TestSignals,
) -> Result<u8, StartError> {
    let control = ControlServer::over(Arc::clone(project)).serve().await;
    let address = control.map_err(|error| failed(format!("the tests' interface: {error}")))?;
    let url = format!("http://{address}");
    let mut first_failed = 0;
    for test in tests {
        let folder = folder_of(test.build);
        let ran = command::run(test.command, arguments, folder, &url, signals).await;
        let ran = ran.map_err(|error| {
            failed(format!(
                "`{}` could not be run for {}: {error}",
                test.command, test.guest
            ))
        })?;
        let (CommandEnd::Ended(code) | CommandEnd::Interrupted(code)) = ran;
        if first_failed == 0 {
            first_failed = code;
        }
        if matches!(ran, CommandEnd::Interrupted(_)) {
            break;
        }
    }
    Ok(first_failed)
}

/// The test command of a guest.
struct TestCommand<'a> {
    guest: &'a str,
    command: &'a str,
    build: &'a BuildSettings,
}

impl<'a> TestCommand<'a> {
    /// Returns the test command of a guest, if it has one.
    fn of((guest, build): (&'a String, &'a BuildSettings)) -> Option<Self> {
        Some(Self {
            guest,
            command: build.test.as_deref()?,
            build,
        })
    }
}

/// Returns the test commands of all guests. The list is never empty.
fn tests(config: &Config) -> Result<Vec<TestCommand<'_>>, ConfigFault> {
    let tests: Vec<_> = config.builds.iter().filter_map(TestCommand::of).collect();
    if !tests.is_empty() {
        return Ok(tests);
    }
    let name = &config.guests[0].name;
    Err(ConfigFault::new(
        format!("guest.{name}.build.test"),
        "missing: there is no command to test the guest",
        "write test = \"npm test --silent\", \"python -m unittest\", \"cargo test\" or another command that runs its tests",
    ))
}

/// Returns the directory that the project's relative paths are based on.
fn folder_of(build: &BuildSettings) -> &Path {
    match build.folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => &build.folder,
    }
}

async fn build_guests(config: &Config) -> Result<(), StartError> {
    for (guest, build) in &config.builds {
        build_guest(guest, build).await?;
    }
    Ok(())
}

async fn build_guest(name: &str, settings: &BuildSettings) -> Result<(), StartError> {
    // The output of the command was already printed as it arrived.
    let failed = |error: build::BuildError| {
        StartError::Failed(StartFailure {
            problem: format!("{name} was not built: {error}"),
            remedy: "see its output above; no test was run".to_owned(),
        })
    };
    build::set_up(settings).await.map_err(failed)?;
    build::make(settings).await.map_err(failed)
}

fn failed(problem: String) -> StartError {
    let remedy = "see the error of the system".to_owned();
    StartError::Failed(StartFailure { problem, remedy })
}

#[cfg(test)]
mod tests;
