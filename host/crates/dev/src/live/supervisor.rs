//! Supervises a project: starts the builds of its guests, triggers them again when their sources change, and reloads the
//! configuration when its file is saved.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;

use tokio::sync::{Notify, mpsc};
use tokio_util::task::AbortOnDropHandle;

use super::Read;
use super::build_task::{BuildShared, BuildTask};
use super::console::TextStyle;
use super::sources::{Changes, Sources};
use super::tree::{FileOwner, WatchedPath};
use cloakroom_host::app::{ReloadOutcome, ReloadRequests};
use cloakroom_host::config::{BuildSettings, Config};
use cloakroom_runtime::{
    ComponentSource, DeployRequest, Deployer, GuestRegistry, GuestSettings, VersionOrigin,
};

/// Starts builds and reloads the configuration.
pub(crate) struct Supervisor {
    shared: Arc<BuildShared>,
    file: PathBuf,
    read: Read,
    reloads: ReloadRequests,
    builds: mpsc::UnboundedReceiver<String>,
    tasks: BTreeMap<String, RunningBuilds>,
    sources: Sources,
    /// Whether a reload is due, because the configuration was saved or because a guest was built that only the new
    /// configuration contains.
    is_reload_due: bool,
}

/// The builds of one guest.
struct RunningBuilds {
    build: BuildSettings,
    changed: Arc<Notify>,
    _task: AbortOnDropHandle<()>,
}

impl Supervisor {
    /// Creates a supervisor for builds that share `shared` and report their ends through `builds`. `file` is the file that `read`
    /// reads.
    ///
    /// Must be called inside a Tokio runtime.
    pub(crate) fn new(
        shared: Arc<BuildShared>,
        builds: mpsc::UnboundedReceiver<String>,
        file: PathBuf,
        read: Read,
        reloads: ReloadRequests,
    ) -> Self {
        Self {
            shared,
            file,
            read,
            reloads,
            builds,
            tasks: BTreeMap::new(),
            sources: Sources::new(),
            is_reload_due: false,
        }
    }

    /// Builds the guests of `config`, and builds again and reloads as files change.
    ///
    /// Cancel safety: dropping the future kills the running commands.
    pub(crate) async fn run(mut self, config: Config) {
        self.adopt(&config).await;
        let is_built = |guest: &GuestSettings| config.builds.contains_key(&guest.name);
        for guest in config.guests.iter().filter(|guest| !is_built(guest)) {
            let (registry, deployer) = (&self.shared.registry, &self.shared.deployer);
            tokio::spawn(deploy(
                guest.name.clone(),
                Arc::clone(registry),
                Arc::clone(deployer),
            ));
        }
        if self.tasks.is_empty() {
            let message =
                "No guest has a [guest.NAME.build] table: there is nothing to build or to watch.";
            self.shared.console.line(&[(TextStyle::Yellow, message)]);
        }
        loop {
            tokio::select! {
                changes = self.sources.changed() => self.note(changes).await,
                Some(guest) = self.builds.recv() => {
                    self.is_reload_due |= self.shared.registry.get(&guest).is_none();
                }
            }
            if self.is_reload_due && self.shared.guest_builds.are_all_built() {
                self.apply().await;
            }
        }
    }

    /// Reloads once per save. A refused configuration is not tried again merely because something else was built.
    async fn apply(&mut self) {
        self.is_reload_due = false;
        match self.reloads.reload().await {
            ReloadOutcome::Applied => self.print_about_file(TextStyle::Green, "applied"),
            ReloadOutcome::Refused => {
                self.print_about_file(
                    TextStyle::Yellow,
                    "not applied: correct it and save it again",
                );
            }
        }
    }

    /// Prints a message about the configuration.
    fn print_about_file(&self, style: TextStyle, message: &str) {
        let file = format!("{}  ", self.file.display());
        self.shared
            .console
            .line(&[(TextStyle::Bold, &file), (style, message)]);
    }

    async fn note(&mut self, changes: Changes) {
        for path in changes.keys() {
            let message = format!("{} changed", self.short(path));
            self.shared.console.line(&[(TextStyle::Dim, &message)]);
        }
        let owners: BTreeSet<FileOwner> = changes.into_values().flatten().collect();
        for owner in owners {
            match owner {
                FileOwner::Guest(guest) => {
                    if let Some(work) = self.tasks.get(&guest) {
                        work.changed.notify_one();
                    }
                }
                FileOwner::Config => self.read_again().await,
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
                if !self.shared.guest_builds.are_all_built() {
                    self.print_about_file(
                        TextStyle::Yellow,
                        "it is applied once every guest is built",
                    );
                }
            }
            Err(refused) => {
                for fault in refused.faults {
                    let fault = fault.to_string().replace("\n    ", "; ");
                    self.shared
                        .console
                        .line(&[(TextStyle::Red, "error: "), (TextStyle::Plain, &fault)]);
                }
            }
        }
    }

    /// Starts the builds for this configuration. Guests whose build tables have not changed keep their builds.
    async fn adopt(&mut self, config: &Config) {
        let wanted = &config.builds;
        let guest_builds = &self.shared.guest_builds;
        self.tasks.retain(|guest, running| {
            let is_same = wanted.get(guest) == Some(&running.build);
            if !is_same {
                guest_builds.forget(guest);
            }
            is_same
        });
        // Done before any build starts, so that every later save is noticed.
        self.sources.follow(self.targets(config)).await;
        for (guest, build) in wanted {
            if !self.tasks.contains_key(guest) {
                let running = self.begin(guest, build);
                self.tasks.insert(guest.clone(), running);
            }
        }
    }

    fn begin(&self, guest: &str, build: &BuildSettings) -> RunningBuilds {
        if build.watch.is_empty() {
            let name = format!("{guest}  ");
            let message = "is built once: its [guest.NAME.build] table has no `watch`";
            self.shared
                .console
                .line(&[(TextStyle::Bold, &name), (TextStyle::Yellow, message)]);
        }
        let changed = Arc::<Notify>::default();
        let work = BuildTask {
            shared: Arc::clone(&self.shared),
            guest: guest.to_owned(),
            build: build.clone(),
            changed: Arc::clone(&changed),
        };
        // Done before the task runs, so that the guest does not count as built meanwhile.
        work.announce();
        RunningBuilds {
            build: build.clone(),
            changed,
            _task: AbortOnDropHandle::new(tokio::spawn(work.run())),
        }
    }

    fn targets(&self, config: &Config) -> Vec<WatchedPath> {
        let outputs = outputs(&built_components(config));
        let target = |owner, path: &Path| {
            Some(WatchedPath {
                owner,
                path: absolute(path).ok()?,
                outputs: outputs.clone(),
            })
        };
        let mut targets: Vec<_> = target(FileOwner::Config, &self.file).into_iter().collect();
        for (guest, build) in &config.builds {
            let owner = || FileOwner::Guest(guest.clone());
            let watched = build.watch.iter();
            targets.extend(watched.filter_map(|path| target(owner(), path)));
        }
        targets
    }

    /// Shortens a path to one relative to the project's directory.
    fn short(&self, path: &Path) -> String {
        let folder = absolute(&self.file).ok();
        let folder = folder.as_deref().and_then(Path::parent);
        let short = folder.and_then(|folder| path.strip_prefix(folder).ok());
        short.unwrap_or(path).display().to_string()
    }
}

/// Returns the components that are built, and how.
fn built_components(config: &Config) -> Vec<(&Path, &BuildSettings)> {
    let guests = config.guests.iter();
    guests
        .filter_map(|guest| Some((guest.component.as_path(), config.builds.get(&guest.name)?)))
        .collect()
}

/// Returns the paths that builds write: the guests' components, and the directory of each component unless it contains sources
/// of any guest.
fn outputs(built: &[(&Path, &BuildSettings)]) -> Vec<PathBuf> {
    let watched = built.iter().flat_map(|(_, build)| &build.watch);
    let sources: Vec<_> = watched.filter_map(|path| absolute(path).ok()).collect();
    let outputs = built
        .iter()
        .map(|(component, build)| outputs_of(component, build, &sources));
    outputs.flatten().collect()
}

fn outputs_of(component: &Path, build: &BuildSettings, sources: &[PathBuf]) -> Vec<PathBuf> {
    let Ok(component) = absolute(component) else {
        return Vec::new();
    };
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

/// Deploys a guest that this host does not build.
async fn deploy(guest: String, registry: Arc<GuestRegistry>, deployer: Arc<Deployer>) {
    let deploy_request = DeployRequest {
        source: ComponentSource::File,
        settings: None,
        origin: VersionOrigin::File,
        expected: None,
    };
    if let Some(deployment) = registry.get(&guest) {
        // The reason for a refusal is logged and kept with the deployment.
        let _ = deployer.deploy(&deployment, deploy_request).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::*;

    #[test]
    fn build_outputs_are_distinguished_from_watched_sources() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let paths = |component: &str, watch: &str| {
            let config = config(folder.path(), component, watch);
            outputs(&built_components(&config))
        };
        let both = [path("build"), path("build/g.wasm")];
        assert_eq!(paths("build/g.wasm", r#"["src"]"#), both);
        assert_eq!(paths("build/g.wasm", r#"["."]"#), both);
        assert_eq!(paths("g.wasm", r#"["."]"#), [path("g.wasm")]);
        assert_eq!(
            paths("src/g.wasm", r#"["src/app.js"]"#),
            [path("src/g.wasm")]
        );
    }

    #[test]
    fn a_guests_sources_in_the_output_folder_of_another_build_are_watched() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let paths = |watched_by_other: &str| {
            let one = config(folder.path(), "shared/g.wasm", r#"["src"]"#);
            let other = config(folder.path(), "build/h.wasm", watched_by_other);
            outputs(&[built_components(&one), built_components(&other)].concat())
        };
        let others = [path("build"), path("build/h.wasm")];
        assert_eq!(
            paths(r#"["shared/lib.js"]"#),
            [vec![path("shared/g.wasm")], others.to_vec()].concat()
        );
        let ones = [path("shared"), path("shared/g.wasm")];
        assert_eq!(paths(r#"["lib"]"#), [ones, others].concat());
    }
}
