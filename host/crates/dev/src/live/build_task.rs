//! The builds of one guest. They run one after the other: after each change of the sources, the component is built and deployed
//! again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};

use super::builds::GuestBuilds;
use super::console::{Console, TextStyle};
use crate::build;
use crate::build::BuildError;
use crate::tools;
use cloakroom_host::config::BuildSettings;
use cloakroom_runtime::{
    ComponentSource, DeployOutcome, DeployRequest, Deployer, GuestRegistry, VersionOrigin,
};

/// The maximum number of consecutive builds that are stopped because a source was saved. The next build runs to its end, so
/// that frequent saves do not prevent every build.
const RESTARTS_MAX: u32 = 3;
/// The maximum number of consecutive builds during or right after which sources change. Further builds wait for a later save,
/// because the command itself changes the sources.
const DISTURBED_BUILDS_MAX: u32 = 8;
/// A change reported within this time after a build may have been caused by that build.
const DISTURBANCE_TIME: Duration = Duration::from_secs(1);

/// Resources shared by the builds of all guests.
#[derive(Debug)]
pub(crate) struct BuildShared {
    pub(crate) guest_builds: Arc<GuestBuilds>,
    pub(crate) console: Console,
    pub(crate) registry: Arc<GuestRegistry>,
    pub(crate) deployer: Arc<Deployer>,
    /// Receives the guest's name after each build that produced a component.
    pub(crate) built: mpsc::UnboundedSender<String>,
}

/// The builds of one guest.
pub(crate) struct BuildTask {
    pub(crate) shared: Arc<BuildShared>,
    pub(crate) guest: String,
    pub(crate) build: BuildSettings,
    /// Notified when the guest's sources change.
    pub(crate) changed: Arc<Notify>,
}

impl BuildTask {
    /// Records that the first build is about to start.
    pub(crate) fn announce(&self) {
        let first = self.build.setup_due().unwrap_or(&self.build.command);
        self.shared.guest_builds.set_started(&self.guest, first);
    }

    /// Builds now and after each change of the sources.
    ///
    /// Cancel safety: dropping the future kills the running command.
    pub(crate) async fn run(self) {
        let mut is_set_up = false;
        let mut disturbed_builds = 0;
        loop {
            match self.round(&mut is_set_up, &mut disturbed_builds).await {
                Ok(took) => self.deploy(took).await,
                Err(error) => self.report_failure(&error),
            }
            let ended_at = Instant::now();
            loop {
                self.changed.notified().await;
                disturbed_builds = if ended_at.elapsed() < DISTURBANCE_TIME {
                    disturbed_builds + 1
                } else {
                    0
                };
                if disturbed_builds <= DISTURBED_BUILDS_MAX {
                    break;
                }
                let message = "its sources change with every build: exclude the files that the command writes from `watch`";
                self.print(TextStyle::Yellow, message);
            }
        }
    }

    /// Builds the component. A source that is saved meanwhile stops the command and starts it again, because its result would
    /// be out of date.
    async fn round(
        &self,
        is_set_up: &mut bool,
        disturbed_builds: &mut u32,
    ) -> Result<Duration, BuildError> {
        if !*is_set_up {
            if let Some(setup) = self.build.setup_due() {
                self.print(TextStyle::Dim, &format!("setting up: {setup}"));
            }
            build::set_up(&self.build).await?;
            *is_set_up = true;
            self.shared
                .guest_builds
                .set_command(&self.guest, &self.build.command);
        }
        let mut restarts = 0;
        loop {
            self.print(TextStyle::Dim, &format!("building: {}", self.build.command));
            let started_at = Instant::now();
            let may_restart = restarts < RESTARTS_MAX;
            tokio::select! {
                biased;
                made = build::make(&self.build) => return made.map(|()| started_at.elapsed()),
                () = self.changed.notified(), if may_restart => {}
            }
            restarts += 1;
            *disturbed_builds += 1;
        }
    }

    /// Deploys the component that was built. The reason for a refusal is logged and kept with the guest's deployment.
    async fn deploy(&self, took: Duration) {
        let started_at = Instant::now();
        let deploy_request = DeployRequest {
            source: ComponentSource::File,
            settings: None,
            origin: VersionOrigin::File,
            expected: None,
        };
        // A guest that only the new configuration contains is deployed when that configuration is applied.
        let deployed = match self.shared.registry.get(&self.guest) {
            Some(deployment) => self
                .shared
                .deployer
                .deploy(&deployment, deploy_request)
                .await
                .ok(),
            None => None,
        };
        let took = took.as_secs_f32();
        let message = match deployed {
            Some(DeployOutcome::Activated { .. }) => {
                let loaded = started_at.elapsed().as_secs_f32();
                format!("built in {took:.2} s, loaded in {loaded:.2} s")
            }
            Some(DeployOutcome::Unchanged { version }) => {
                format!("built in {took:.2} s: it is version {version}")
            }
            None => format!("built in {took:.2} s"),
        };
        self.shared.guest_builds.set_built(&self.guest);
        self.print(TextStyle::Green, &message);
        // Fails if the receiver is already dropped during shutdown.
        let _ = self.shared.built.send(self.guest.clone());
    }

    fn report_failure(&self, error: &BuildError) {
        self.shared.guest_builds.set_failed(&self.guest, error);
        self.print(TextStyle::Red, &error.to_string());
        if let Some(advice) = tools::advice(error) {
            self.print(TextStyle::Yellow, &advice);
        }
    }

    fn print(&self, style: TextStyle, message: &str) {
        let name = format!("{}  ", self.guest);
        self.shared
            .console
            .line(&[(TextStyle::Bold, &name), (style, message)]);
    }
}
