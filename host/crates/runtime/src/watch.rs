//! Detection of changed component files. When a file may have changed, the watcher checks it and proposes a new
//! version.
//!
//! Notifications of the operating system make this fast. In addition, the stamps of all files are compared every two
//! seconds, which also works on file systems without notifications. This module only decides when to check.
//! [`Deployer`] decides whether a new component may serve.

mod check;
mod directories;
mod directory_watcher;
mod hint;
mod links;
mod stamp;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::{JoinError, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use self::check::{FileCheck, FileCheckResult, LastSeen};
use self::directories::{Name, PendingHints, WatchedDirectories};
use self::hint::{ChangeHint, CheckTime};
use super::versions::deploy::Deployer;
use super::versions::{Deployment, GuestRegistry};
use cloakroom_base::limits::WATCH_QUIET;

pub use self::directory_watcher::{DirectoryEvent, DirectoryWatcher};
pub use self::stamp::{FileStamp, Identity};

/// Watches the components of all guests in `registry`, including those of later configurations, until `shutdown`.
///
/// A file counts as changed only if its content has changed. Touching it, or writing the same content again, has no
/// effect.
///
/// Cancel safety: dropping the future withdraws versions that are being deployed.
pub async fn watch(
    registry: Arc<GuestRegistry>,
    deployer: Arc<Deployer>,
    shutdown: CancellationToken,
) {
    let pending = Arc::new(PendingHints::default());
    let watcher = ComponentWatcher {
        directories: Arc::new(tokio::sync::Mutex::new(WatchedDirectories::new(
            Arc::clone(&pending),
        ))),
        registry,
        deployer,
        pending,
        targets: HashMap::new(),
        tasks: JoinSet::new(),
        last_serial: 0,
    };
    shutdown.run_until_cancelled(watcher.run()).await;
}

struct ComponentWatcher {
    registry: Arc<GuestRegistry>,
    deployer: Arc<Deployer>,
    pending: Arc<PendingHints>,
    /// Locked while a file is read, so that only one is read at a time. Files with a whole interpreter are large, and
    /// fifty of them at once would take a gigabyte.
    directories: Arc<tokio::sync::Mutex<WatchedDirectories>>,
    targets: HashMap<Name, WatchedGuest>,
    tasks: JoinSet<WatchResult>,
    last_serial: u64,
}

/// A guest whose file is watched.
struct WatchedGuest {
    /// Distinguishes this target from an earlier one with the same name.
    serial: u64,
    deployment: Arc<Deployment>,
    path: PathBuf,
    due: CheckTime,
    memory: LastSeen,
    /// Whether a file check of this target is in progress.
    is_busy: bool,
}

/// The result of a task that waited for the disk or the compiler.
enum WatchResult {
    Checked {
        guest: Name,
        serial: u64,
        seen: FileCheckResult,
    },
    Stamped(Vec<(Name, u64, Option<FileStamp>)>),
}

impl ComponentWatcher {
    async fn run(mut self) {
        self.adopt();
        let mut round = tokio::time::interval(WATCH_QUIET);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        round.reset();
        loop {
            let next = self.next_due();
            tokio::select! {
                () = self.registry.replaced() => self.adopt(),
                () = self.pending.arrived() => self.take_hints(),
                Some(report) = self.tasks.join_next(), if !self.tasks.is_empty() => self.note(report),
                () = sleep_until(next) => {}
                _ = round.tick() => self.stamp_all(),
            }
            self.check_due();
        }
    }

    /// Takes over the current guests of the registry. A first check of each finds changes from before it was watched.
    fn adopt(&mut self) {
        let deployments = self.registry.deployments();
        self.targets
            .retain(|guest, _| deployments.contains_key(&**guest));
        for (name, deployment) in deployments.iter() {
            let path = deployment.settings().component;
            let is_known = self.targets.get(name.as_str()).is_some_and(|target| {
                Arc::ptr_eq(&target.deployment, deployment) && target.path == path
            });
            if is_known {
                continue;
            }
            self.last_serial += 1;
            let target = WatchedGuest {
                serial: self.last_serial,
                deployment: Arc::clone(deployment),
                path,
                due: CheckTime::Settled(Instant::now()),
                memory: LastSeen::of(deployment.file()),
                is_busy: false,
            };
            self.targets.insert(name.as_str().into(), target);
        }
        self.check_due();
    }

    fn take_hints(&mut self) {
        let now = Instant::now();
        for (guest, hint) in self.pending.take() {
            if let Some(target) = self.targets.get_mut(&guest) {
                target.due = target.due.after(hint, now);
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let idle = self.targets.values().filter(|target| !target.is_busy);
        idle.filter_map(|target| target.due.at()).min()
    }

    fn check_due(&mut self) {
        let now = Instant::now();
        for (guest, target) in &mut self.targets {
            if target.is_busy || !target.due.has_come(now) {
                continue;
            }
            let look = FileCheck {
                guest: Arc::clone(guest),
                deployment: Arc::clone(&target.deployment),
                path: target.path.clone(),
                memory: target.memory.clone(),
                is_final: target.due.is_final(),
            };
            target.due = CheckTime::Never;
            target.is_busy = true;
            let (guest, serial) = (Arc::clone(guest), target.serial);
            let (directories, deployer) =
                (Arc::clone(&self.directories), Arc::clone(&self.deployer));
            self.tasks.spawn(async move {
                let seen = look.take(directories, &deployer).await;
                WatchResult::Checked {
                    guest,
                    serial,
                    seen,
                }
            });
        }
    }

    fn stamp_all(&mut self) {
        let paths: Vec<_> = self
            .targets
            .iter()
            .map(|(guest, target)| (Arc::clone(guest), target.serial, target.path.clone()))
            .collect();
        let directories = Arc::clone(&self.directories);
        self.tasks.spawn(async move {
            let mut directories = directories.lock_owned().await;
            let stamps = tokio::task::spawn_blocking(move || {
                let guests: HashSet<Name> = paths.iter().map(|(it, ..)| Arc::clone(it)).collect();
                directories.retain(&guests);
                let stamp = |(guest, serial, path): (Name, u64, PathBuf)| {
                    directories.follow(&guest, &path);
                    (guest, serial, FileStamp::of(&path))
                };
                paths.into_iter().map(stamp).collect()
            });
            WatchResult::Stamped(stamps.await.unwrap_or_default())
        });
    }

    fn note(&mut self, report: Result<WatchResult, JoinError>) {
        let now = Instant::now();
        match report {
            Ok(WatchResult::Checked {
                guest,
                serial,
                seen,
            }) => {
                let Some(target) = self.target(&guest, serial) else {
                    return;
                };
                target.is_busy = false;
                target.memory = seen.memory;
                if !seen.is_whole {
                    target.due = target.due.after(ChangeHint::Something, now);
                }
            }
            Ok(WatchResult::Stamped(stamps)) => {
                for (guest, serial, stamp) in stamps {
                    let target = self.target(&guest, serial);
                    // A check in progress takes its own stamp.
                    let Some(target) = target.filter(|it| !it.is_busy) else {
                        continue;
                    };
                    if target.memory.stamp != stamp {
                        target.memory.stamp = stamp;
                        target.due = target.due.after(ChangeHint::Something, now);
                    }
                }
            }
            Err(error) => tracing::error!(%error, "a component's file check failed"),
        }
    }

    fn target(&mut self, guest: &Name, serial: u64) -> Option<&mut WatchedGuest> {
        let target = self.targets.get_mut(guest);
        target.filter(|target| target.serial == serial)
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
