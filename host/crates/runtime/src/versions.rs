//! The guests by name. Each is a [`Deployment`] whose versions replace one another. This module does not deal with
//! files or the compiler: a version that reaches it has already been validated.

pub(crate) mod deploy;
mod deployment;
mod health_watch;
mod history;
mod record;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

pub use deployment::{Deployment, RollbackError};
pub use record::{VersionOrigin, VersionReport, VersionState};

/// The deployments of a host, by guest name.
pub type Deployments = BTreeMap<String, Arc<Deployment>>;

/// All guests of a host, for code that lists or changes them. Requests find their guest in the routing table.
#[derive(Debug, Default)]
pub struct GuestRegistry {
    deployments: ArcSwap<Deployments>,
    replaced: Notify,
}

impl GuestRegistry {
    /// Creates a registry of these guests.
    pub fn new(deployments: Arc<Deployments>) -> Self {
        Self {
            deployments: ArcSwap::new(deployments),
            replaced: Notify::new(),
        }
    }

    /// Returns the deployment of a guest.
    pub fn get(&self, name: &str) -> Option<Arc<Deployment>> {
        self.deployments.load().get(name).cloned()
    }

    /// Returns all deployments, sorted by name.
    pub fn deployments(&self) -> Arc<Deployments> {
        self.deployments.load_full()
    }

    /// Replaces all deployments, after the configuration was read again.
    pub fn replace(&self, deployments: Arc<Deployments>) {
        self.deployments.store(deployments);
        self.replaced.notify_one();
    }

    /// Waits until the deployments are replaced, or returns at once if that happened since the last call. Supports one
    /// waiter.
    ///
    /// Cancel safe.
    pub(crate) async fn replaced(&self) {
        self.replaced.notified().await;
    }
}
