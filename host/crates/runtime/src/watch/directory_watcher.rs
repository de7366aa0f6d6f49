//! Watches on directories through the operating system. Directories are watched instead of files, because a replaced file is a
//! different file. This module reads no file and knows no guest.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::stamp::Identity;
use cloakroom_base::limits::WATCH_QUIET;

/// An event of a watched directory. Events that only report a read are left out.
#[derive(Debug)]
pub enum DirectoryEvent {
    /// The watched directory itself or a name in it was changed.
    Changed {
        /// The changed path.
        path: PathBuf,
        /// The system's description of the change.
        kind: EventKind,
    },
    /// Events were lost, so every path may have changed.
    Lost,
}

/// A set of watched directories. All methods block as long as the file system does.
#[derive(Debug)]
pub struct DirectoryWatcher {
    /// `None` if the system offers no notifications.
    system: Option<RecommendedWatcher>,
    watched: HashMap<PathBuf, Identity>,
    /// The directories that the system refused to watch.
    refused: HashSet<PathBuf>,
}

impl DirectoryWatcher {
    /// Watches nothing at first. Events are passed to `on_event` on a thread of their own.
    pub fn new(on_event: impl Fn(DirectoryEvent) + Send + 'static) -> Self {
        let system = notify::recommended_watcher(move |event| forward(event, &on_event));
        let system = system.inspect_err(|error| {
            tracing::warn!(
                %error,
                "the system does not report file changes: checking every {WATCH_QUIET:?}"
            );
        });
        Self {
            system: system.ok(),
            watched: HashMap::new(),
            refused: HashSet::new(),
        }
    }

    /// Returns whether this very directory is watched.
    pub fn is_watched(&self, path: &Path, identity: Identity) -> bool {
        self.watched.get(path) == Some(&identity)
    }

    /// Returns whether no directory is watched.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }

    /// Watches a directory, in place of another one that had this path before. For a watched directory this renews the watch,
    /// which the system drops without a report when the directory is moved.
    ///
    /// # Errors
    /// Returns the system's refusal, but only once for each directory.
    pub fn watch(&mut self, path: PathBuf, identity: Identity) -> notify::Result<()> {
        if self.watched.get(&path).is_some_and(|it| *it != identity) {
            self.unwatch(&path);
        }
        let Some(system) = &mut self.system else {
            return Ok(());
        };
        match system.watch(&path, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.watched.insert(path, identity);
                Ok(())
            }
            Err(error) if self.refused.insert(path) => Err(error),
            Err(_) => Ok(()),
        }
    }

    /// Stops watching all other directories.
    pub fn retain(&mut self, is_wanted: impl Fn(&Path) -> bool) {
        let unwanted = self.watched.keys().filter(|path| !is_wanted(path));
        let unwanted: Vec<_> = unwanted.cloned().collect();
        for path in unwanted {
            self.unwatch(&path);
        }
        self.refused.retain(|path| is_wanted(path));
    }

    fn unwatch(&mut self, path: &Path) {
        self.watched.remove(path);
        if let Some(system) = &mut self.system {
            // The directory may have been removed, which ends its watch.
            let _ = system.unwatch(path);
        }
    }
}

/// Returns whether an event only reports that a file was opened, read, or closed after reading. This includes the host's own reads.
pub(crate) fn is_read(kind: &EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if *access != AccessKind::Close(AccessMode::Write))
}

fn forward(event: notify::Result<Event>, on_event: &impl Fn(DirectoryEvent)) {
    match event {
        Ok(event) if event.need_rescan() => on_event(DirectoryEvent::Lost),
        Ok(event) if is_read(&event.kind) => {}
        Ok(event) => {
            let kind = event.kind;
            for path in event.paths {
                on_event(DirectoryEvent::Changed { path, kind });
            }
        }
        Err(error) => {
            tracing::debug!(%error, "the system could not report a file change");
            on_event(DirectoryEvent::Lost);
        }
    }
}
