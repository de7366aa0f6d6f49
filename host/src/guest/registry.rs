//! The guests by name, each a [`Deployment`] that one version after the other goes through. Knows no files and no compiler: what
//! gets in here has been admitted.

mod deployment;
mod ledger;
mod record;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

pub use deployment::{Deployment, RollbackError};
pub use record::{Origin, State, VersionReport};

/// The deployments of a host, by the guests' names.
pub type Deployments = BTreeMap<String, Arc<Deployment>>;

/// All guests of a host, as whoever lists and changes them sees them. Requests find theirs beside their routes.
#[derive(Debug, Default)]
pub struct GuestRegistry {
    deployments: ArcSwap<Deployments>,
    replaced: Notify,
}

impl GuestRegistry {
    /// A registry of these guests.
    pub fn new(deployments: Arc<Deployments>) -> Self {
        Self {
            deployments: ArcSwap::new(deployments),
            replaced: Notify::new(),
        }
    }

    /// A guest's deployment.
    pub fn get(&self, name: &str) -> Option<Arc<Deployment>> {
        self.deployments.load().get(name).cloned()
    }

    /// All of them, sorted by name.
    pub fn deployments(&self) -> Arc<Deployments> {
        self.deployments.load_full()
    }

    /// Takes others in their place: those of a configuration that was read again.
    pub fn replace(&self, deployments: Arc<Deployments>) {
        self.deployments.store(deployments);
        self.replaced.notify_one();
    }

    /// Returns when others have taken their place since the last call. For one who waits.
    ///
    /// Safe to cancel.
    pub(super) async fn replaced(&self) {
        self.replaced.notified().await;
    }
}
