//! `cloakroom serve`: serves a component, or the guests and routes of a configuration.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use tokio_util::sync::CancellationToken;

use super::OverrideArgs;
use super::config;
use crate::signals;
use cloakroom_base::telemetry;
use cloakroom_host::app::{AdminListener, App, ReloadRequests, StartError, StartupMessage};
use cloakroom_host::config::CliOptions;

const HELP: &str = "\
Precedence: options, then the environment, then the file, then the defaults. Every key of the file except [guest.*] and [[route]]
has a variable: CLOAKROOM_ and the key's path in capitals, with underscores for dots. An unknown CLOAKROOM_ variable causes a
warning.
  CLOAKROOM_LISTEN=0.0.0.0:8080
  CLOAKROOM_STORE_URL=mysql://app@db1:3306,db2:3306/app   CLOAKROOM_STORE_PASSWORD=...
  CLOAKROOM_SESSION_SECRETS=...                           CLOAKROOM_SESSION_COOKIE_MAX_AGE=24h
  CLOAKROOM_LOG_LEVEL=info,guest=debug                    CLOAKROOM_CONFIG=/etc/cloakroom.toml

Examples:
  cloakroom serve counter.wasm
  cloakroom serve counter.wasm --admin 127.0.0.1:3001
  cloakroom serve counter.wasm --store sqlite:/var/lib/cloakroom/sessions.sqlite
  cloakroom serve --config cloakroom.toml --listen [::]:3000

SIGTERM or SIGINT: accepts no more connections, lets requests in progress finish, then exits. A second signal exits at once.
SIGHUP: reads the configuration and the components again, and applies all changes or none. A changed component is also deployed
without it.";

/// The options of `serve`.
#[derive(Clone, Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct ServeArgs {
    /// The component to serve on every path; it may read and write its visitors' sessions
    #[arg(value_name = "COMPONENT.wasm")]
    component: Option<PathBuf>,
    /// The configuration; defaults to ./cloakroom.toml if no component is given
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    overrides: OverrideArgs,
    /// Open the admin interface (guests, metrics and health) on this address; an address other than loopback requires a token
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<String>,
}

impl From<ServeArgs> for CliOptions {
    fn from(args: ServeArgs) -> Self {
        Self {
            file: args.config,
            component: args.component,
            listen: args.overrides.listen,
            store: args.overrides.store,
            admin: args.admin,
            ..Self::default()
        }
    }
}

/// Serves until a signal ends the process.
pub(crate) async fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let options = CliOptions::from(args);
    let config = match config::load(&options).await {
        Ok(config) => config,
        Err(refused) => return Ok(config::report_faults(&refused.faults, &refused.warnings)),
    };
    let _flush = telemetry::init(&config.log)?;
    // A single component answers every path. `/session` is the path of the counter example, and works for every component.
    let path = options.component.as_ref().map(|_| "/session");
    // A reload uses the same options and environment.
    let reloads = ReloadRequests::new(move || config::read(&options));
    let requests = reloads.clone();
    signals::on_hangup(move || requests.want())?;
    let startup_message = StartupMessage::new(&config, path);
    let grace = config.server.listener.grace;
    let admin = AdminListener::open(config.admin.as_ref()).await?;
    let app = match App::build(config).await {
        Ok(app) => app.with_reloads(reloads),
        Err(StartError::Failed(failure)) => return Err(failure.into()),
        // The warnings are in the log.
        Err(StartError::AtFault(faults)) => return Ok(config::report_faults(&faults, &[])),
    };
    let listener = app.bind().await?;
    let address = listener
        .local_addr()
        .context("the listener has no address")?;
    let shutdown = CancellationToken::new();
    signals::shut_down_on_termination(shutdown.clone(), grace)?;
    let admin_address = admin.as_ref().map(AdminListener::address);
    let app = app.with_admin(admin, &shutdown);
    telemetry::print_startup_message(&format!(
        "{}\n",
        startup_message.text(address, admin_address)
    ))
    .context("cannot write to standard output")?;
    app.run(listener, shutdown).await;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::{Cli, CliCommand, tests::parse};

    #[test]
    fn serve_takes_a_component_or_a_file_and_flags() {
        let line = "cloakroom serve a.wasm --listen [::1]:1 --store memory:";
        let CliCommand::Serve(args) = parse(line) else {
            panic!("serve is taken");
        };
        let options = CliOptions::from(args);
        assert_eq!(options.component, Some("a.wasm".into()));
        assert_eq!(options.listen.as_deref(), Some("[::1]:1"));
        assert_eq!(options.store.as_deref(), Some("memory:"));
        assert_eq!(options.file, None);
    }

    #[test]
    fn the_help_names_the_variables() {
        let mut command = Cli::command();
        let serve = command.find_subcommand_mut("serve").unwrap();
        assert!(
            serve
                .render_long_help()
                .to_string()
                .contains("CLOAKROOM_STORE_URL")
        );
    }
}
