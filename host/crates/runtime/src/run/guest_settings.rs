//! The settings of one guest, and how its versions replace one another. The configuration fills these types in.

use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::health::FailureThresholds;
use crate::interfaces::GuestGrants;
use crate::load::digest::ComponentDigest;
use crate::settings::{GuestLimits, StreamPolicy};
use cloakroom_base::limits;
use cloakroom_session::VisitStart;

/// The configuration of one guest. `Debug` omits the values of the environment, which may be secrets.
#[derive(Clone, PartialEq)]
pub struct GuestSettings {
    /// The guest's name in routes, logs and metrics.
    pub name: String,
    /// The path of the component's file.
    pub component: PathBuf,
    /// The guest's grants.
    pub grants: GuestGrants,
    /// How its requests start, for example whether they first wait for the session lock.
    pub start: VisitStart,
    /// When its responses are released.
    pub stream: StreamPolicy,
    /// Most requests that one instance may serve, one after the other. With 1, each request has a fresh instance, which
    /// has no state of other requests.
    pub reuse: u32,
    /// The guest's environment variables. It has no others.
    pub environment: Vec<(String, String)>,
    /// The guest's limits.
    pub limits: GuestLimits,
    /// How a new version of the guest replaces the old one.
    pub rollout: Rollout,
}

impl GuestSettings {
    /// Creates the settings of a guest that has no grants and no environment.
    pub fn new(name: impl Into<String>, component: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            component: component.into(),
            grants: GuestGrants::default(),
            start: VisitStart::default(),
            stream: StreamPolicy::default(),
            reuse: 1,
            environment: Vec::new(),
            limits: GuestLimits::default(),
            rollout: Rollout::default(),
        }
    }
}

impl std::fmt::Debug for GuestSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let variables: Vec<_> = self.environment.iter().map(|(name, _)| name).collect();
        f.debug_struct("GuestSettings")
            .field("name", &self.name)
            .field("component", &self.component)
            .field("grants", &self.grants)
            .field("start", &self.start)
            .field("stream", &self.stream)
            .field("reuse", &self.reuse)
            .field("environment", &variables)
            .field("limits", &self.limits)
            .field("rollout", &self.rollout)
            .finish()
    }
}

/// How one version of a guest replaces another.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// A path that a new version must answer with a status below 500 before it serves.
    pub probe: Option<String>,
    /// The canary settings, if a new version serves some of the visitors first.
    pub canary: Option<Canary>,
    /// The rollback settings, if a version that fails too often is rolled back.
    pub rollback: Option<Rollback>,
    /// Longest time for the requests of an old version to end before they are cut. Only streams last this long, because
    /// a request that is not released ends by its deadline.
    pub drain_max: Duration,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            probe: None,
            canary: None,
            rollback: Some(Rollback::default()),
            drain_max: limits::DRAIN_MAX,
        }
    }
}

/// When a version is rolled back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rollback {
    /// How long a new version is watched. A version that has served well for this long is not blamed for a failure
    /// whose cause is elsewhere.
    pub probation: Duration,
    /// The thresholds above which a version is rolled back.
    pub thresholds: FailureThresholds,
}

impl Default for Rollback {
    fn default() -> Self {
        Self {
            probation: limits::ROLLBACK_PROBATION,
            thresholds: FailureThresholds {
                window: limits::ROLLBACK_WINDOW,
                requests_min: limits::ROLLBACK_REQUESTS_MIN,
                clients_min: limits::ROLLBACK_CLIENTS_MIN,
                errors_max: limits::ROLLBACK_SHARE_MAX,
                traps_max: limits::ROLLBACK_SHARE_MAX,
                deadline_misses_max: limits::ROLLBACK_SHARE_MAX,
            },
        }
    }
}

/// How a new version serves some of the visitors before it serves all of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Canary {
    /// The share of the visitors, above 0 and below 1.
    pub share: f64,
    /// How long the canary serves its share before it serves all visitors, unless it is rolled back.
    pub duration: Duration,
}

impl Canary {
    /// Returns whether the canary serves this visitor. The answer for a visitor never changes, and it is the same on
    /// every host that has the same component.
    pub(crate) fn takes(&self, visitor: u64, digest: &ComponentDigest) -> bool {
        place(visitor, digest) < self.share
    }
}

/// Returns the place of a visitor among all visitors of a component, at least 0 and below 1. Hosts of different releases must agree
/// on it, so its hash is not the standard library's.
fn place(visitor: u64, digest: &ComponentDigest) -> f64 {
    let mut hasher = Sha256::new();
    hasher.update(visitor.to_be_bytes());
    hasher.update(digest.as_bytes());
    let hash: [u8; 32] = hasher.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = hash;
    // The upper 53 bits fill the fraction of an `f64`.
    (u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_takes_its_share_of_the_visitors_and_the_same_ones_always() {
        let canary = Canary {
            share: 0.1,
            duration: Duration::ZERO,
        };
        let (one, other) = (ComponentDigest::of(b"one"), ComponentDigest::of(b"other"));
        let taken: Vec<u64> = (0..10_000).filter(|n| canary.takes(*n, &one)).collect();
        assert!((800..1_200).contains(&taken.len()), "{}", taken.len());
        assert!(taken.iter().all(|n| canary.takes(*n, &one)));
        let again = taken.iter().filter(|n| canary.takes(**n, &other)).count();
        assert!(again < 300, "another component has other canaries: {again}");
    }

    #[test]
    fn the_canary_position_of_a_visitor_is_the_same_in_every_release() {
        let one = ComponentDigest::of(b"one");
        assert_eq!(place(0, &one), 0.7040854928621293);
        assert_eq!(place(7, &one), 0.5580893623209926);
    }
}
