//! The process: words to configuration to [`App`], signals, and the exit code. Decides nothing else.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use cloakroom::app::{self, App};
use cloakroom::args::{Args, Command};
use cloakroom::config::{Config, Fault, ProcessEnvironment, ServerSettings, Words};
use cloakroom::telemetry;

/// The command line or the configuration is at fault.
const EXIT_AT_FAULT: u8 = 2;

/// This very binary, even after the file was replaced.
const SELF: &str = "/proc/self/exe";

fn main() -> ExitCode {
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

#[tokio::main]
async fn run(command: Command) -> ExitCode {
    let result = match command {
        Command::Serve(words) => serve(words.into()).await,
        Command::Check(words) => check(&words.into()).await,
        Command::Compile(_) => unreachable!("it needs no runtime: `main` has done it"),
    };
    result.unwrap_or_else(|error| {
        eprintln!("cloakroom: {error:#}");
        ExitCode::FAILURE
    })
}

async fn serve(words: Words) -> anyhow::Result<ExitCode> {
    let config = match load(&words).await {
        Ok(config) => config,
        Err(faults) => return Ok(refuse(&faults)),
    };
    telemetry::init(&config.log)?;
    let path = path_to_try(&config, &words);
    let app = match App::build(config).await {
        Ok(app) => app,
        Err(faults) => return Ok(refuse(&faults)),
    };
    let listener = app
        .bind()
        .await
        .with_context(|| format!("cannot listen on {}", app.listen()))?;
    let address = listener
        .local_addr()
        .context("the listener has no address")?;
    let shutdown = CancellationToken::new();
    end_on_signals(shutdown.clone())?;
    announce(address, &path)?;
    app.run(listener, shutdown).await;
    Ok(ExitCode::SUCCESS)
}

async fn check(words: &Words) -> anyhow::Result<ExitCode> {
    let faults = match load(words).await {
        Err(faults) => faults,
        Ok(config) => match app::check(&config).await {
            Err(faults) => faults,
            Ok(()) => {
                let (guests, routes) = (config.guests.len(), config.routes.len());
                writeln!(
                    std::io::stdout(),
                    "ok: {guests} guests, {routes} routes, listens on {}",
                    config.listen
                )?;
                return Ok(ExitCode::SUCCESS);
            }
        },
    };
    Ok(refuse(&faults))
}

/// Reads the configuration; where it is refused, the components that it names well are tried all the same, so that one
/// run names every fault.
async fn load(words: &Words) -> Result<Config, Vec<Fault>> {
    match Config::load(words, &ProcessEnvironment) {
        Ok(mut config) => {
            config.server.compiler = Some(SELF.into());
            Ok(config)
        }
        Err(refused) => {
            let mut faults = refused.faults;
            let server = ServerSettings {
                compiler: Some(SELF.into()),
                ..ServerSettings::default()
            };
            let guests = app::load_guests(&refused.guests, &server).await;
            faults.extend(guests.err().unwrap_or_default());
            Err(faults)
        }
    }
}

fn refuse(faults: &[Fault]) -> ExitCode {
    for fault in faults {
        eprintln!("{fault}");
    }
    let count = faults.len();
    eprintln!(
        "cloakroom: {count} {} in the configuration",
        if count == 1 { "fault" } else { "faults" }
    );
    ExitCode::from(EXIT_AT_FAULT)
}

/// SIGTERM and SIGINT end the host gracefully; a second one ends it at once.
fn end_on_signals(shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        next().await;
        shutdown.cancel();
        next().await;
        eprintln!("cloakroom: a second signal: ending at once");
        std::process::exit(1);
    });
    Ok(())
}

/// A path that a first visitor can open: every path of a lone component, else the first route's fixed part.
fn path_to_try(config: &Config, words: &Words) -> String {
    if words.component.is_some() {
        return "/session".to_owned();
    }
    let path = config
        .routes
        .first()
        .map_or("/", |route| route.path.as_str());
    let fixed = path.split('{').next().unwrap_or("/");
    match fixed.trim_end_matches('/') {
        "" => "/".to_owned(),
        fixed => fixed.to_owned(),
    }
}

fn announce(address: SocketAddr, path: &str) -> anyhow::Result<()> {
    let url = format!("http://{address}{path}");
    writeln!(
        std::io::stdout(),
        "cloakroom {} serves {url}\n\
         Open it in a browser, or be a visitor with a cookie jar, twice:\n  \
         curl -b cookies.txt -c cookies.txt {url}\n\
         Ctrl-C ends it; sessions stay.",
        env!("CARGO_PKG_VERSION"),
    )
    .context("cannot write to standard output")
}
