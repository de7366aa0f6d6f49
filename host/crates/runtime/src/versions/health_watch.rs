//! Tasks that outlast a swap: one watches a new version, another waits for an old version to drain.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::AbortHandle;

use super::deployment::Deployment;
use crate::Guest;
use crate::run::health::VersionHealth;

/// A watch over a version. Dropping it aborts the task, so that a version is watched only while it serves.
#[derive(Debug)]
pub(crate) struct HealthWatch(AbortHandle);

impl Drop for HealthWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Rolls back a live version if it fails too often within its probation.
pub(crate) fn over_live(
    deployment: &Arc<Deployment>,
    guest: &Guest,
    probation: Duration,
) -> HealthWatch {
    let (deployment, health, number) =
        (Arc::downgrade(deployment), guest.health(), guest.version());
    spawn(async move {
        if exceeds_thresholds_within(probation, &health).await {
            with(&deployment, |deployment| deployment.take_back(number));
        }
    })
}

/// Rolls back a canary if it fails too often, and makes it serve all visitors if it has not done so within `duration`.
pub(crate) fn over_canary(
    deployment: &Arc<Deployment>,
    guest: &Guest,
    duration: Duration,
) -> HealthWatch {
    let (deployment, health, number) =
        (Arc::downgrade(deployment), guest.health(), guest.version());
    spawn(async move {
        if exceeds_thresholds_within(duration, &health).await {
            with(&deployment, |deployment| deployment.take_back(number));
        } else {
            with(&deployment, |deployment| deployment.promote(number));
        }
    })
}

/// Drains a version that gets no new requests: waits for its last request, and cuts the remaining ones after `limit`.
///
/// The task ends with the version's last request. Requests that are not yet released end by their deadline.
pub(crate) fn over_draining(deployment: &Arc<Deployment>, guest: &Guest, limit: Duration) {
    let (deployment, gone, cut, number) = (
        Arc::downgrade(deployment),
        guest.gone(),
        guest.cut(),
        guest.version(),
    );
    tokio::spawn(async move {
        if tokio::time::timeout(limit, gone.cancelled()).await.is_err() {
            tracing::warn!(
                version = number,
                ?limit,
                "requests of an old version exceed its drain limit: cutting them"
            );
            cut.cancel();
            gone.cancelled().await;
        }
        with(&deployment, |deployment| deployment.has_drained(number));
    });
}

async fn exceeds_thresholds_within(duration: Duration, health: &VersionHealth) -> bool {
    tokio::time::timeout(duration, health.tripped())
        .await
        .is_ok()
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) -> HealthWatch {
    HealthWatch(tokio::spawn(task).abort_handle())
}

fn with(deployment: &Weak<Deployment>, act: impl FnOnce(&Arc<Deployment>)) {
    if let Some(deployment) = deployment.upgrade() {
        act(&deployment);
    }
}
