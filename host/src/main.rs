//! The process: words to configuration to [`App`], signals, and the exit code. Decides nothing else.

use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use rustix::process::{Resource, Rlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use cloakroom::admin::shell::ShellError;
use cloakroom::app::{self, AdminCall, App, Desk, Greeting, Reloads, StartError, StoreCall};
use cloakroom::args::{Args, Command, Inspect as InspectWords, StoreCommand};
use cloakroom::author::dev::{self, DevError};
use cloakroom::author::inspect::{self, Inspect, Report};
use cloakroom::author::scaffold::{self, Project};
use cloakroom::author::trial;
use cloakroom::config::{Config, Fault, ProcessEnvironment, Refused, ServerSettings, Words};
use cloakroom::guest::LoadError;
use cloakroom::limits;
use cloakroom::telemetry;

/// Measured: a tenth less processor time per request than with the C library's allocator, for 3 MiB more of memory under load.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The command line or the configuration is at fault.
const EXIT_AT_FAULT: u8 = 2;

/// How long the end of the process waits for the reader of its last lines.
const LAST_LINES_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long a second signal waits for it.
const LAST_WORD_WAIT_MAX: Duration = Duration::from_millis(200);

/// This very binary, even after the file was replaced.
const SELF: &str = "/proc/self/exe";

fn main() -> ExitCode {
    leave_no_core_dump();
    match Args::parse().command {
        // Before there are threads.
        Command::Compile(words) => match cloakroom::guest::compile(&words.recipe) {
            Ok(()) => ExitCode::SUCCESS,
            Err(fault) => {
                eprintln!("{fault}");
                ExitCode::from(fault.exit_code())
            }
        },
        command => run(command),
    }
}

/// A core dump would put secrets and sessions on the disk. The hard limit stays: an operator who wants a dump of a running host
/// raises the soft one (`prlimit --core=unlimited:unlimited --pid PID`).
fn leave_no_core_dump() {
    let old = rustix::process::getrlimit(Resource::Core);
    let none = Rlimit {
        current: Some(0),
        ..old
    };
    // Lowering a soft limit is refused nowhere.
    let _ = rustix::process::setrlimit(Resource::Core, none);
}

#[tokio::main]
async fn run(command: Command) -> ExitCode {
    let result = match command {
        Command::Serve(words) => serve(words.into()).await,
        Command::Dev(words) => dev(words.into()).await,
        Command::Check(words) => check(&words.into()).await,
        Command::Test(words) => test(words.into()).await,
        Command::Guests(words) => Ok(call_admin(words.into()).await),
        Command::New(words) => scaffold(&words.into()),
        Command::Inspect(words) => inspect(words),
        Command::Store(words) => match words.command {
            StoreCommand::Copy(words) => store(words.into()).await,
            StoreCommand::Check(words) => store(words.into()).await,
            StoreCommand::PreferFirst(words) => Ok(call_admin(words.into()).await),
        },
        Command::Compile(_) => unreachable!("it needs no runtime: `main` has done it"),
    };
    let code = result.unwrap_or_else(|error| {
        telemetry::say(&format!("cloakroom: {error:#}"));
        ExitCode::FAILURE
    });
    telemetry::flush(LAST_LINES_WAIT_MAX);
    code
}

async fn serve(words: Words) -> anyhow::Result<ExitCode> {
    let config = match load(&words).await {
        Ok(config) => config,
        Err(refused) => return Ok(refuse(&refused.faults, &refused.warnings)),
    };
    let _flush = telemetry::init(&config.log)?;
    let reloads = reload_on_signal(words.clone())?;
    // A lone component answers every path: the counter's own is as good as any.
    let path = words.component.as_ref().map(|_| "/session");
    let greeting = Greeting::new(&config, path);
    let grace = config.server.listener.grace;
    let desk = Desk::open(config.admin.as_ref()).await?;
    let app = match App::build(config).await {
        Ok(app) => app.with_reloads(reloads),
        Err(StartError::Failed(failure)) => return Err(failure.into()),
        // The warnings stand in the log.
        Err(StartError::AtFault(faults)) => return Ok(refuse(&faults, &[])),
    };
    let listener = app.bind().await?;
    let address = listener
        .local_addr()
        .context("the listener has no address")?;
    let shutdown = CancellationToken::new();
    end_on_signals(shutdown.clone(), grace)?;
    let admin = desk.as_ref().map(Desk::address);
    let app = app.with_desk(desk, &shutdown);
    telemetry::greet(&format!("{}\n", greeting.text(address, admin)))
        .context("cannot write to standard output")?;
    app.run(listener, shutdown).await;
    Ok(ExitCode::SUCCESS)
}

async fn dev(words: Words) -> anyhow::Result<ExitCode> {
    let config = match read(&words) {
        Ok(config) => config,
        Err(refused) => return Ok(refuse(&refused.faults, &refused.warnings)),
    };
    let shutdown = CancellationToken::new();
    end_on_signals(shutdown.clone(), config.server.listener.grace)?;
    // The terminal is closed: what is being built must not outlive it.
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let hung_up = shutdown.clone();
    tokio::spawn(async move {
        hangup.recv().await;
        hung_up.cancel();
    });
    let file = Config::file(&words, &ProcessEnvironment);
    let read = Arc::new(move || read(&words));
    match dev::run(config, file, read, &ProcessEnvironment, shutdown).await {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // The warnings stand on the terminal.
        Err(DevError::AtFault(faults)) => Ok(refuse(&faults, &[])),
        Err(error) => Err(error.into()),
    }
}

async fn check(words: &Words) -> anyhow::Result<ExitCode> {
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

async fn test(call: trial::Call) -> anyhow::Result<ExitCode> {
    let config = match read(&call.words()) {
        Ok(config) => config,
        Err(refused) => return Ok(refuse(&refused.faults, &refused.warnings)),
    };
    let _flush = telemetry::init(&trial::log(&config, &ProcessEnvironment))?;
    warn(&config.warnings);
    match trial::run(config, &call).await {
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

fn scaffold(project: &Project) -> anyhow::Result<ExitCode> {
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
    let call = Inspect {
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
    let report = Report::new(&call, &inspected, &config, &fit);
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

/// Reads the configuration; where it is refused, the components that it names well are tried all the same, so that one
/// run names every fault.
async fn load(words: &Words) -> Result<Config, Refused> {
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

fn read(words: &Words) -> Result<Config, Refused> {
    let mut config = Config::load(words, &ProcessEnvironment)?;
    config.server.compiler = Some(SELF.into());
    Ok(config)
}

fn refuse(faults: &[Fault], warnings: &[String]) -> ExitCode {
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

/// SIGHUP has the same words, the same environment and the files that they name read again.
fn reload_on_signal(words: Words) -> anyhow::Result<Reloads> {
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let reloads = Reloads::new(move || read(&words));
    let wanted = reloads.clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            wanted.want();
        }
    });
    Ok(reloads)
}

/// SIGTERM and SIGINT end the host gracefully; a second one ends it at once, and so does time, should anything keep the host
/// from its end for longer than its grace. A thread of its own hears them: nothing that holds the other threads holds this one.
fn end_on_signals(shutdown: CancellationToken, grace: Duration) -> anyhow::Result<()> {
    let (ready, is_ready) = channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot listen for signals")?;
    let hear = move || runtime.block_on(hear(shutdown, grace, ready));
    let thread = thread::Builder::new()
        .name("signals".to_owned())
        .spawn(hear)?;
    if is_ready.recv().is_err()
        && let Ok(Err(error)) = thread.join()
    {
        return Err(error).context("cannot listen for SIGTERM and SIGINT");
    }
    Ok(())
}

/// Says that it is ready when the first signal would be heard.
async fn hear(
    shutdown: CancellationToken,
    grace: Duration,
    ready: Sender<()>,
) -> std::io::Result<Infallible> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut next = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    // The receiver is gone only where the process ends already.
    let _ = ready.send(());
    next().await;
    shutdown.cancel();
    let said = match timeout(grace + limits::END_AFTER_GRACE_MAX, next()).await {
        Ok(()) => "a second signal: ending at once",
        Err(_elapsed) => "the end took longer than its grace: ending at once",
    };
    telemetry::say(&format!("cloakroom: {said}"));
    telemetry::flush(LAST_WORD_WAIT_MAX);
    std::process::exit(1);
}
