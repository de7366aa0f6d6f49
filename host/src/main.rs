//! The process: reads the command line and the configuration, runs the command, handles signals and returns the exit code. All
//! other decisions are made elsewhere.
//!
//! The allocator and thin LTO were measured: about a tenth of the processor time per request each. mimalloc was as fast as
//! jemalloc and kept twice the memory (`host/benches/results/profile.md`). jemalloc returns memory to the system in threads of
//! its own.

mod cli;
mod signals;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use rustix::process::{Resource, Rlimit};
use tokio_util::sync::CancellationToken;

use self::cli::{Args, CliCommand, InspectArgs as InspectWords, StoreCommand};
use cloakroom_base::telemetry;
use cloakroom_dev::inspect;
use cloakroom_dev::inspect::{InspectReport, InspectRequest};
use cloakroom_dev::live;
use cloakroom_dev::live::DevError;
use cloakroom_dev::scaffold;
use cloakroom_dev::scaffold::NewProject;
use cloakroom_dev::test_host;
use cloakroom_host::admin::command::ShellError;
use cloakroom_host::app;
use cloakroom_host::app::{
    AdminCall, AdminListener, App, ReloadRequests, StartError, StartupMessage, StoreCall,
};
use cloakroom_host::config::{
    CliOptions, Config, ConfigError, ConfigFault, ProcessEnvironment, ServerSettings,
};
use cloakroom_runtime::LoadError;

/// Measured against the allocator of the C library: a tenth less CPU time per request, for 3 MiB more memory under load.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Exit code if the command line or the configuration is at fault.
const EXIT_AT_FAULT: u8 = 2;

/// How long the process waits at its end for the reader of its last log lines.
const LAST_LINES_WAIT_MAX: Duration = Duration::from_secs(2);

/// The executable of this process, even if its file was replaced.
const SELF: &str = "/proc/self/exe";

fn main() -> ExitCode {
    leave_no_core_dump();
    match Args::parse().command {
        // Runs before the process starts any thread.
        CliCommand::Compile(words) => match cloakroom_runtime::compile(&words.recipe) {
            Ok(()) => ExitCode::SUCCESS,
            Err(fault) => {
                eprintln!("{fault}");
                ExitCode::from(fault.exit_code())
            }
        },
        command => run(command),
    }
}

/// Disables core dumps, which would write secrets and sessions to the disk. The hard limit stays unchanged. To get a core dump
/// of a running host, raise the soft limit (`prlimit --core=unlimited:unlimited --pid PID`).
fn leave_no_core_dump() {
    let old = rustix::process::getrlimit(Resource::Core);
    let none = Rlimit {
        current: Some(0),
        ..old
    };
    // Lowering a soft limit is always permitted.
    let _ = rustix::process::setrlimit(Resource::Core, none);
}

#[tokio::main]
async fn run(command: CliCommand) -> ExitCode {
    let result = match command {
        CliCommand::Serve(words) => serve(words.into()).await,
        CliCommand::Dev(words) => dev(words.into()).await,
        CliCommand::Check(words) => check(&words.into()).await,
        CliCommand::Test(words) => test(words.into()).await,
        CliCommand::Guests(words) => Ok(call_admin(words.into()).await),
        CliCommand::New(words) => scaffold(&words.into()),
        CliCommand::Inspect(words) => inspect(words),
        CliCommand::Store(words) => match words.command {
            StoreCommand::Copy(words) => store(words.into()).await,
            StoreCommand::Check(words) => store(words.into()).await,
            StoreCommand::PreferFirst(words) => Ok(call_admin(words.into()).await),
        },
        CliCommand::Compile(_) => unreachable!("it needs no runtime: `main` has done it"),
    };
    let code = result.unwrap_or_else(|error| {
        telemetry::say(&format!("cloakroom: {error:#}"));
        ExitCode::FAILURE
    });
    telemetry::flush(LAST_LINES_WAIT_MAX);
    code
}

async fn serve(words: CliOptions) -> anyhow::Result<ExitCode> {
    let config = match load(&words).await {
        Ok(config) => config,
        Err(refused) => return Ok(refuse(&refused.faults, &refused.warnings)),
    };
    let _flush = telemetry::init(&config.log)?;
    let again = words.clone();
    let reloads = ReloadRequests::new(move || read(&again));
    let requests = reloads.clone();
    signals::on_hangup(move || requests.want())?;
    // A single component answers every path. `/session` is the path of the counter example, and works for every component.
    let path = words.component.as_ref().map(|_| "/session");
    let greeting = StartupMessage::new(&config, path);
    let grace = config.server.listener.grace;
    let desk = AdminListener::open(config.admin.as_ref()).await?;
    let app = match App::build(config).await {
        Ok(app) => app.with_reloads(reloads),
        Err(StartError::Failed(failure)) => return Err(failure.into()),
        // The warnings are in the log.
        Err(StartError::AtFault(faults)) => return Ok(refuse(&faults, &[])),
    };
    let listener = app.bind().await?;
    let address = listener
        .local_addr()
        .context("the listener has no address")?;
    let shutdown = CancellationToken::new();
    signals::shut_down_on_termination(shutdown.clone(), grace)?;
    let admin = desk.as_ref().map(AdminListener::address);
    let app = app.with_desk(desk, &shutdown);
    telemetry::greet(&format!("{}\n", greeting.text(address, admin)))
        .context("cannot write to standard output")?;
    app.run(listener, shutdown).await;
    Ok(ExitCode::SUCCESS)
}

async fn dev(words: CliOptions) -> anyhow::Result<ExitCode> {
    let config = match read(&words) {
        Ok(config) => config,
        Err(refused) => return Ok(refuse(&refused.faults, &refused.warnings)),
    };
    let shutdown = CancellationToken::new();
    signals::shut_down_on_termination(shutdown.clone(), config.server.listener.grace)?;
    // The terminal was closed. A running build must not outlive it.
    let hung_up = shutdown.clone();
    signals::on_hangup(move || hung_up.cancel())?;
    let file = Config::file(&words, &ProcessEnvironment);
    let read = Arc::new(move || read(&words));
    match live::run(config, file, read, &ProcessEnvironment, shutdown).await {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // The warnings are on the terminal.
        Err(DevError::AtFault(faults)) => Ok(refuse(&faults, &[])),
        Err(error) => Err(error.into()),
    }
}

async fn check(words: &CliOptions) -> anyhow::Result<ExitCode> {
    let config = match load(words).await {
        Ok(config) => config,
        Err(refused) => return Ok(refuse(&refused.faults, &refused.warnings)),
    };
    let warnings = match app::check(&config).await {
        Ok(warnings) => warnings,
        Err(faults) => return Ok(refuse(&faults, &config.warnings)),
    };
    warn(&config.warnings);
    warn(&warnings);
    let guests = telemetry::counted(config.guests.len(), "guest");
    let routes = telemetry::counted(config.routes.len(), "route");
    let listen = config.listen;
    telemetry::print(&format!("ok: {guests}, {routes}, listens on {listen}\n"))?;
    Ok(ExitCode::SUCCESS)
}

async fn test(call: test_host::TestCall) -> anyhow::Result<ExitCode> {
    let config = match read(&call.words()) {
        Ok(config) => config,
        Err(refused) => return Ok(refuse(&refused.faults, &refused.warnings)),
    };
    let _flush = telemetry::init(&test_host::log(&config, &ProcessEnvironment))?;
    warn(&config.warnings);
    match test_host::run(config, &call).await {
        Ok(code) => Ok(ExitCode::from(code)),
        Err(StartError::Failed(failure)) => Err(failure.into()),
        Err(StartError::AtFault(faults)) => Ok(refuse(&faults, &[])),
    }
}

async fn call_admin(call: AdminCall) -> ExitCode {
    match app::call_admin(call, &ProcessEnvironment).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            telemetry::say(&format!("cloakroom: {error}"));
            match error {
                ShellError::AtFault(_) => ExitCode::from(EXIT_AT_FAULT),
                ShellError::Failed(_) => ExitCode::FAILURE,
            }
        }
    }
}

fn scaffold(project: &NewProject) -> anyhow::Result<ExitCode> {
    if let Err(error) = project.create() {
        telemetry::say(&format!("cloakroom: {error}"));
        return Ok(match error.is_usage() {
            true => ExitCode::from(EXIT_AT_FAULT),
            false => ExitCode::FAILURE,
        });
    }
    let tools = scaffold::tools::needed(project.language);
    telemetry::print(&project.next_steps(&tools))?;
    Ok(ExitCode::SUCCESS)
}

fn inspect(words: InspectWords) -> anyhow::Result<ExitCode> {
    let call = InspectRequest {
        file: words.file,
        config: words.config,
    };
    let inspected = match inspect::read(&call.file) {
        Ok(inspected) => inspected,
        Err(error) => {
            let file = call.file.display().to_string();
            let told = format!("cloakroom: {file}: {error}");
            telemetry::say(&telemetry::escape(&told));
            return Ok(ExitCode::from(EXIT_AT_FAULT));
        }
    };
    let config = match read(&call.words()) {
        Ok(config) => config,
        Err(refused) => return Ok(refuse(&refused.faults, &refused.warnings)),
    };
    warn(&config.warnings);
    let fit = app::fit(inspected.bytes(), &config.guests, &config.server);
    let report = InspectReport::new(&call, &inspected, &config, &fit);
    match words.json {
        true => telemetry::print_json(&report.json()?)?,
        false => telemetry::print(&report.to_string())?,
    }
    Ok(match fit {
        Ok(()) => ExitCode::SUCCESS,
        Err(LoadError::NotCompiled { .. }) => ExitCode::FAILURE,
        Err(_) => ExitCode::from(EXIT_AT_FAULT),
    })
}

async fn store(call: StoreCall) -> anyhow::Result<ExitCode> {
    match app::call_store(call, &ProcessEnvironment).await {
        Ok(report) => {
            telemetry::print(&report.text)?;
            Ok(match report.is_good {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            })
        }
        Err(StartError::Failed(failure)) => Err(failure.into()),
        Err(StartError::AtFault(faults)) => {
            for fault in faults {
                telemetry::say(&format!("cloakroom: {fault}"));
            }
            Ok(ExitCode::from(EXIT_AT_FAULT))
        }
    }
}

/// Reads the configuration. If it is refused, the components of its valid guests are checked in addition, so that one run
/// reports every fault.
async fn load(words: &CliOptions) -> Result<Config, ConfigError> {
    match read(words) {
        Ok(config) => Ok(config),
        Err(mut refused) => {
            let server = ServerSettings {
                compiler: Some(SELF.into()),
                ..ServerSettings::default()
            };
            let guests = app::check_guests(&refused.guests, &server).await;
            refused.faults.extend(guests.err().unwrap_or_default());
            Err(refused)
        }
    }
}

fn read(words: &CliOptions) -> Result<Config, ConfigError> {
    let mut config = Config::load(words, &ProcessEnvironment)?;
    config.server.compiler = Some(SELF.into());
    Ok(config)
}

fn refuse(faults: &[ConfigFault], warnings: &[String]) -> ExitCode {
    warn(warnings);
    for fault in faults {
        telemetry::say(&fault.to_string());
    }
    let count = telemetry::counted(faults.len(), "fault");
    telemetry::say(&format!("cloakroom: {count} in the configuration"));
    ExitCode::from(EXIT_AT_FAULT)
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        telemetry::say(&telemetry::escape(&format!("warning: {warning}")));
    }
}
