//! `cloakroom dev`: a host that follows the sources of its guests. Builds them, watches them, builds them again; says on the
//! terminal and in the browser what is wrong, and what happens to requests and sessions. For the machine that guests are written on.

mod bench;
mod console;
mod narrator;
mod page;
mod sessions;
mod sources;
mod tree;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::bench::Bench;
use self::console::{Console, Ink};
use self::narrator::{Narrator, Paths};
use self::sessions::TellingStore;
use self::sources::{Changes, Sources};
use self::tree::{Owner, Target};
use self::work::{Shop, Work};
use crate::app::{
    App, Desk, Failure, FirstGuests, Greeting, ReloadOutcome, Reloads, StartError, Surroundings,
};
use crate::clock::Clock;
use crate::config::{
    BuildSettings, Config, DEFAULT_FILE, Environment, Fault, GuestSettings, Refused,
};
use crate::guest::{Admission, GuestRegistry, Origin, Proposal, Source};
use crate::telemetry::{self, TelemetryError};

/// Time for requests under way when the host is told to end: somebody waits for the prompt.
const GRACE: Duration = Duration::from_secs(1);

/// Why there is no host.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// The configuration is at fault.
    #[error("the configuration is at fault")]
    AtFault(Vec<Fault>),
    /// It may be right: the world is not as it says.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// Nobody can be told what happens.
    #[error(transparent)]
    Silent(#[from] TelemetryError),
    /// Standard output is closed, or a task of the host broke down.
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

/// Reads the configuration: at the start, and whenever its file changes.
pub type Read = Arc<dyn Fn() -> Result<Config, Refused> + Send + Sync>;

/// Serves and builds the guests of `config` until `shutdown`. `file` is where it was read from, and `read` reads it again.
///
/// # Errors
/// [`DevError`], before anything is served. A guest that cannot be built is none.
pub async fn run(
    config: Config,
    file: Option<PathBuf>,
    read: Read,
    environment: &dyn Environment,
    shutdown: CancellationToken,
) -> Result<(), DevError> {
    let config = eager(config);
    let console = Console::stderr(environment);
    let (clock, paths) = (Clock::system(), Arc::<Paths>::default());
    let narrator = Narrator::new(console.clone(), Arc::clone(&paths));
    telemetry::init_with(&config.log.filter, narrator)?;
    let bench = Arc::new(Bench::new(paths, clock.clone()));
    let reloads = Reloads::new({
        let read = Arc::clone(&read);
        move || read().map(eager)
    });

    let greeting = Greeting::new(&config, None);
    let desk = Desk::open(config.admin.as_ref()).await?;
    let telling = console.clone();
    let surroundings = Surroundings {
        clock,
        in_front: Box::new(move |store| Arc::new(TellingStore::new(store, telling))),
        guests: FirstGuests::Later,
        attendant: Some(Arc::clone(&bench) as _),
        ..Surroundings::default()
    };
    let app = App::build_in(config.clone(), surroundings).await?;
    let listener = app.bind().await?;
    let (address, admin) = (listener.local_addr()?, desk.as_ref().map(Desk::address));
    let app = app.with_reloads(reloads.clone()).with_desk(desk, &shutdown);
    writeln!(std::io::stdout(), "{}", greeting.text(address, admin))?;

    let (built, builds) = mpsc::unbounded_channel();
    let supervisor = Supervisor {
        shop: Arc::new(Shop {
            bench,
            console,
            registry: Arc::clone(app.guests()),
            admission: Arc::clone(app.admission()),
            built,
        }),
        file: file.unwrap_or_else(|| DEFAULT_FILE.into()),
        read,
        reloads,
        builds,
        works: BTreeMap::new(),
        sources: Sources::new(),
        is_reload_due: false,
    };
    let ends = shutdown.clone();
    let supervised = tokio::spawn(async move {
        // Dropped, it kills what it runs.
        ends.run_until_cancelled(supervisor.run(config)).await;
    });
    app.run(listener, shutdown).await;
    supervised.await.map_err(std::io::Error::other)?;
    Ok(())
}

/// The configuration as somebody wants it who has just saved: what is new serves everybody at once and is never taken back, and
/// the end is quick.
fn eager(mut config: Config) -> Config {
    for guest in &mut config.guests {
        guest.rollout.canary = None;
        guest.rollout.rollback = None;
    }
    let grace = &mut config.server.listener.grace;
    *grace = GRACE.min(*grace);
    config
}

/// Starts builds, and has the configuration read again.
struct Supervisor {
    shop: Arc<Shop>,
    file: PathBuf,
    read: Read,
    reloads: Reloads,
    builds: mpsc::UnboundedReceiver<()>,
    works: BTreeMap<String, Running>,
    sources: Sources,
    /// Whether the configuration was saved and is not yet what the host has.
    is_reload_due: bool,
}

/// A guest's builds.
struct Running {
    build: BuildSettings,
    changed: Arc<Notify>,
    _task: AbortOnDropHandle<()>,
}

impl Supervisor {
    async fn run(mut self, config: Config) {
        self.adopt(&config).await;
        for guest in config.guests.iter().filter(|guest| guest.build.is_none()) {
            let (registry, admission) = (&self.shop.registry, &self.shop.admission);
            tokio::spawn(admit(
                guest.name.clone(),
                Arc::clone(registry),
                Arc::clone(admission),
            ));
        }
        if self.works.is_empty() {
            let said =
                "No guest has a [guest.NAME.build] table: there is nothing to build and to watch.";
            self.shop.console.line(&[(Ink::Yellow, said)]);
        }
        loop {
            tokio::select! {
                changes = self.sources.changed() => self.note(changes).await,
                Some(()) = self.builds.recv() => {}
            }
            if self.is_reload_due && self.shop.bench.are_all_built() {
                let outcome = self.reloads.reload().await;
                self.is_reload_due = outcome == ReloadOutcome::Refused;
                if outcome == ReloadOutcome::TakenOver {
                    let file = self.file.display().to_string();
                    let said = [(Ink::Bold, file.as_str()), (Ink::Green, "  taken over")];
                    self.shop.console.line(&said);
                }
            }
        }
    }

    async fn note(&mut self, changes: Changes) {
        for path in changes.keys() {
            let said = format!("{} changed", self.short(path));
            self.shop.console.line(&[(Ink::Dim, &said)]);
        }
        let owners: BTreeSet<Owner> = changes.into_values().flatten().collect();
        for owner in owners {
            match owner {
                Owner::Guest(guest) => {
                    if let Some(work) = self.works.get(&guest) {
                        work.changed.notify_one();
                    }
                }
                Owner::Config => self.read_again().await,
            }
        }
    }

    async fn read_again(&mut self) {
        let read = Arc::clone(&self.read);
        let config = tokio::task::spawn_blocking(move || read()).await;
        match config.expect("reading neither panics nor is cancelled") {
            Ok(config) => {
                self.is_reload_due = true;
                self.adopt(&config).await;
            }
            Err(refused) => {
                for fault in refused.faults {
                    let fault = fault.to_string().replace("\n    ", "; ");
                    self.shop
                        .console
                        .line(&[(Ink::Red, "error: "), (Ink::Plain, &fault)]);
                }
            }
        }
    }

    /// Builds the guests of this configuration. Those whose tables have not changed are left alone.
    async fn adopt(&mut self, config: &Config) {
        let wanted: BTreeMap<&str, &BuildSettings> = config
            .guests
            .iter()
            .filter_map(|guest| Some((guest.name.as_str(), guest.build.as_ref()?)))
            .collect();
        let bench = &self.shop.bench;
        self.works.retain(|guest, running| {
            let is_same = wanted.get(guest.as_str()) == Some(&&running.build);
            if !is_same {
                bench.forget(guest);
            }
            is_same
        });
        // Before anything is built: what is saved from here on is seen.
        self.sources.follow(self.targets(config)).await;
        for (guest, build) in wanted {
            if !self.works.contains_key(guest) {
                let running = self.begin(guest, build);
                self.works.insert(guest.to_owned(), running);
            }
        }
    }

    fn begin(&self, guest: &str, build: &BuildSettings) -> Running {
        if build.watch.is_empty() {
            let name = format!("{guest}  ");
            let said = "is built once: its [guest.NAME.build] table has no `watch`";
            self.shop
                .console
                .line(&[(Ink::Bold, &name), (Ink::Yellow, said)]);
        }
        let changed = Arc::<Notify>::default();
        let work = Work {
            shop: Arc::clone(&self.shop),
            guest: guest.to_owned(),
            build: build.clone(),
            changed: Arc::clone(&changed),
        };
        Running {
            build: build.clone(),
            changed,
            _task: AbortOnDropHandle::new(tokio::spawn(work.run())),
        }
    }

    fn targets(&self, config: &Config) -> Vec<Target> {
        let outputs: Vec<_> = config.guests.iter().flat_map(outputs).collect();
        let target = |owner, path: &Path| {
            Some(Target {
                owner,
                path: absolute(path).ok()?,
                outputs: outputs.clone(),
            })
        };
        let mut targets: Vec<_> = target(Owner::Config, &self.file).into_iter().collect();
        for guest in &config.guests {
            let watched = guest.build.iter().flat_map(|build| &build.watch);
            let owner = || Owner::Guest(guest.name.clone());
            targets.extend(watched.filter_map(|path| target(owner(), path)));
        }
        targets
    }

    /// A path as the project's folder sees it.
    fn short(&self, path: &Path) -> String {
        let folder = absolute(&self.file).ok();
        let folder = folder.as_deref().and_then(Path::parent);
        let short = folder.and_then(|folder| path.strip_prefix(folder).ok());
        short.unwrap_or(path).display().to_string()
    }
}

/// What a guest's build writes: its component, and all beside it, unless that folder holds sources as well.
fn outputs(guest: &GuestSettings) -> Vec<PathBuf> {
    let Some(build) = &guest.build else {
        return Vec::new();
    };
    let Ok(component) = absolute(&guest.component) else {
        return Vec::new();
    };
    let sources: Vec<_> = build
        .watch
        .iter()
        .filter_map(|path| absolute(path).ok())
        .collect();
    let project = absolute(&build.folder).ok();
    let folder = component.parent().filter(|folder| {
        let is_inside = project
            .as_ref()
            .is_some_and(|project| folder.starts_with(project) && *folder != *project);
        is_inside && !sources.iter().any(|source| source.starts_with(folder))
    });
    let folder = folder.map(Path::to_owned);
    folder.into_iter().chain([component.clone()]).collect()
}

/// Lets a guest in that is not built here.
async fn admit(guest: String, registry: Arc<GuestRegistry>, admission: Arc<Admission>) {
    let proposal = Proposal {
        source: Source::File,
        settings: None,
        origin: Origin::File,
        expected: None,
    };
    if let Some(deployment) = registry.get(&guest) {
        // Why it is refused stands in the log, and with its deployment.
        let _ = admission.admit(&deployment, proposal).await;
    }
}
