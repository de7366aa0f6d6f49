//! `cloakroom dev`: a host that follows the sources of its guests. Builds the guests, watches their sources and builds them
//! again. Shows errors, requests and session changes in the terminal, and errors also in the browser. Meant only for the
//! developer's own machine.
//!
//! The host is the production host with a request hook: once the route is known, the handler asks the hook whether it answers in
//! place of the guest. A wrapper of the store prints session changes, and a layer over the log prints requests. While a guest
//! cannot serve the sources as they were saved last, no request gets the version before it: a test would take its responses for
//! the new ones.

mod build_task;
mod builds;
mod console;
mod console_layer;
mod host_check;
mod page;
mod session_printer;
mod sources;
mod supervisor;
mod tree;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::build_task::BuildShared;
use self::builds::GuestBuilds;
use self::console::Console;
use self::console_layer::{ConsoleLayer, RequestPaths};
use self::host_check::HostCheck;
use self::session_printer::SessionPrinter;
use self::supervisor::Supervisor;
use cloakroom_base::clock::Clock;
use cloakroom_base::telemetry;
use cloakroom_base::telemetry::TelemetryError;
use cloakroom_host::app::{
    AdminListener, App, GuestStart, Overrides, ReloadRequests, StartError, StartFailure,
    StartupMessage,
};
use cloakroom_host::config::{Config, ConfigError, ConfigFault, DEFAULT_FILE, Environment};

/// The grace period for requests in progress at the end. It is short because the developer waits for the prompt.
const GRACE: Duration = Duration::from_secs(1);

/// Error returned when the development host cannot start or continue.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// The configuration is at fault.
    #[error("the configuration is at fault")]
    AtFault(Vec<ConfigFault>),
    /// The configuration may be correct, but something outside the host is missing or does not work.
    #[error(transparent)]
    Failed(#[from] StartFailure),
    /// Log output cannot be set up.
    #[error(transparent)]
    Silent(#[from] TelemetryError),
    /// Standard output is closed, or a task of the host failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl From<StartError> for DevError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::AtFault(faults) => Self::AtFault(faults),
            StartError::Failed(failure) => Self::Failed(failure),
        }
    }
}

/// Reads the configuration. Called at the start and after each change of the file.
pub type Read = Arc<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>;

/// Builds and serves the guests of `config` until `shutdown` is cancelled. `file` is the path of the configuration, and `read`
/// reads it again.
///
/// # Errors
/// Returns a [`DevError`] if the host cannot start. A guest that cannot be built is not an error.
pub async fn run(
    config: Config,
    file: Option<PathBuf>,
    read: Read,
    environment: &dyn Environment,
    shutdown: CancellationToken,
) -> Result<(), DevError> {
    let config = eager(config);
    let (console, _flush) = Console::stderr(environment)?;
    let (clock, paths) = (Clock::system(), Arc::<RequestPaths>::default());
    let console_layer = ConsoleLayer::new(console.clone(), Arc::clone(&paths));
    telemetry::init_with(&config.log.filter, console_layer)?;
    let guest_builds = Arc::new(GuestBuilds::new(
        paths,
        clock.clone(),
        HostCheck::new(config.listen),
    ));
    let reloads = ReloadRequests::new({
        let read = Arc::clone(&read);
        move || read().map(eager)
    });

    let startup_message = StartupMessage::new(&config, None);
    let admin_listener = AdminListener::open(config.admin.as_ref()).await?;
    let printer_console = console.clone();
    let overrides = Overrides {
        clock,
        wrap_store: Box::new(move |store| Arc::new(SessionPrinter::new(store, printer_console))),
        guests: GuestStart::Later,
        request_hook: Some(Arc::clone(&guest_builds) as _),
        ..Overrides::default()
    };
    let app = App::build_in(config.clone(), overrides).await?;
    let listener = app.bind().await?;
    let (address, admin) = (
        listener.local_addr()?,
        admin_listener.as_ref().map(AdminListener::address),
    );
    let app = app
        .with_reloads(reloads.clone())
        .with_admin(admin_listener, &shutdown);
    telemetry::print_startup_message(&format!("{}\n", startup_message.text(address, admin)))?;

    let (built, builds) = mpsc::unbounded_channel();
    let shared = Arc::new(BuildShared {
        guest_builds,
        console,
        registry: Arc::clone(app.guests()),
        deployer: Arc::clone(app.deployer()),
        built,
    });
    let file = file.unwrap_or_else(|| DEFAULT_FILE.into());
    let supervisor = Supervisor::new(shared, builds, file, read, reloads);
    let ends = shutdown.clone();
    let supervised = tokio::spawn(async move {
        // Dropping the supervisor kills the build commands in progress.
        ends.run_until_cancelled(supervisor.run(config)).await;
    });
    app.run(listener, shutdown).await;
    supervised.await.map_err(std::io::Error::other)?;
    Ok(())
}

/// Adapts a configuration for development: a new version serves all visitors at once and is never rolled back, and the host
/// stops quickly.
fn eager(mut config: Config) -> Config {
    for guest in &mut config.guests {
        guest.rollout.canary = None;
        guest.rollout.rollback = None;
    }
    let grace = &mut config.server.listener.grace;
    *grace = GRACE.min(*grace);
    config
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use super::*;
    use cloakroom_host::config::{CliOptions, ComponentFiles};

    /// Returns a configuration with one guest, which is built to `component` from the paths in `watch`.
    pub(crate) fn config(folder: &Path, component: &str, watch: &str) -> Config {
        let text = format!(
            "[server]\ngrace = \"30s\"\n[session]\nsecrets = [\"env:SECRET\"]\n\
             [store]\nurl = \"memory:\"\n[guest.g]\ncomponent = {component:?}\n\
             [guest.g.build]\ncommand = \"make\"\nwatch = {watch}\n\
             [guest.g.canary]\nshare = \"10%\"\n[[route]]\npath = \"/\"\nguest = \"g\"\n"
        );
        let file = folder.join("cloakroom.toml");
        std::fs::write(&file, text).unwrap();
        let cli = CliOptions {
            file: Some(file),
            components: ComponentFiles::ToBeBuilt,
            ..CliOptions::default()
        };
        let variables = [("SECRET", "0123456789abcdef0123456789abcdef")];
        Config::load(&cli, &variables).expect("a whole configuration")
    }

    #[test]
    fn canaries_and_automatic_rollbacks_are_off_in_dev() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), "g.wasm", "[]");
        let rollout = &config.guests[0].rollout;
        assert!(rollout.canary.is_some() && rollout.rollback.is_some());
        let eager = eager(config);
        let rollout = &eager.guests[0].rollout;
        assert!(rollout.canary.is_none() && rollout.rollback.is_none());
        assert_eq!(eager.server.listener.grace, GRACE);
    }
}
