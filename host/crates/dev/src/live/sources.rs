//! Reports changes of the sources. Listens for events of their directories, waits until a series of events has ended, and then
//! checks the files. System events make this fast. A check every two seconds also finds changes on file systems without events
//! (shared and network directories).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::tree::{FileOwner, SourceTree, TreeChange, WatchedPath};
use cloakroom_base::limits::WATCH_QUIET;
use cloakroom_runtime::{DirectoryEvent, DirectoryWatcher, Identity};

/// The debounce time: the sources are checked after this time without an event. An editor writes, renames and removes several
/// files in a row.
const QUIET: Duration = Duration::from_millis(40);
/// The longest time for which further events can delay a check.
const QUIET_WAIT_MAX: Duration = Duration::from_millis(500);

/// The changed paths and the owners they affect.
pub(crate) type Changes = BTreeMap<PathBuf, BTreeSet<FileOwner>>;

/// The sources of all guests and the configuration. A task watches them until this value is dropped.
#[derive(Debug)]
pub(crate) struct Sources {
    orders: mpsc::UnboundedSender<Order>,
    changes: mpsc::UnboundedReceiver<Changes>,
}

/// New targets, and a channel that confirms that they are watched.
type Order = (Vec<WatchedPath>, oneshot::Sender<()>);

impl Sources {
    /// Creates a watcher without targets. Must be called inside a Tokio runtime.
    pub(crate) fn new() -> Self {
        let ((orders, ordered), (sender, changes)) =
            (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        tokio::spawn(SourceWatcher::new(sender).run(ordered));
        Self { orders, changes }
    }

    /// Replaces the targets. Changes made after this call has returned are reported.
    pub(crate) async fn follow(&self, targets: Vec<WatchedPath>) {
        let (done, is_done) = oneshot::channel();
        if self.orders.send((targets, done)).is_ok() {
            // The task ends only with the runtime.
            let _ = is_done.await;
        }
    }

    /// Waits for changes.
    ///
    /// Cancel safety: dropping the future loses no changes.
    pub(crate) async fn changed(&mut self) -> Changes {
        match self.changes.recv().await {
            Some(changes) => changes,
            None => std::future::pending().await,
        }
    }
}

#[derive(Debug)]
struct SourceWatcher {
    tree: SourceTree,
    directories: DirectoryWatcher,
    events: mpsc::UnboundedReceiver<PathBuf>,
    /// Paths of events that have not been checked yet.
    event_paths: BTreeSet<PathBuf>,
    targets: Arc<ArcSwap<Vec<WatchedPath>>>,
    /// The targets that were reported as too large.
    reported: HashSet<PathBuf>,
    sender: mpsc::UnboundedSender<Changes>,
}

impl SourceWatcher {
    fn new(sender: mpsc::UnboundedSender<Changes>) -> Self {
        let (event_paths, events) = mpsc::unbounded_channel();
        let targets = Arc::new(ArcSwap::default());
        let interests = Arc::clone(&targets);
        let hear = move |event| hear(event, &interests, &event_paths);
        Self {
            tree: SourceTree::default(),
            directories: DirectoryWatcher::new(hear),
            events,
            event_paths: BTreeSet::new(),
            targets,
            reported: HashSet::new(),
            sender,
        }
    }

    async fn run(mut self, mut ordered: mpsc::UnboundedReceiver<Order>) {
        loop {
            tokio::select! {
                order = ordered.recv() => {
                    let Some((targets, done)) = order else { return };
                    self.targets.store(Arc::new(targets.clone()));
                    self.look(move |tree| tree.follow(targets)).await;
                    // The caller may have been dropped.
                    let _ = done.send(());
                }
                () = self.hear() => {
                    let event_paths = std::mem::take(&mut self.event_paths);
                    self.look(move |tree| tree.look(&event_paths)).await;
                }
            }
        }
    }

    /// Waits for an event and then for the debounce time, or for the time of the next periodic check.
    ///
    /// Cancel safety: dropping the future loses no events.
    async fn hear(&mut self) {
        if self.event_paths.is_empty() {
            match timeout(WATCH_QUIET, self.events.recv()).await {
                Ok(Some(path)) => self.event_paths.insert(path),
                // The system does not report events.
                Ok(None) => return tokio::time::sleep(WATCH_QUIET).await,
                Err(_quiet) => return,
            };
        }
        let at_last = Instant::now() + QUIET_WAIT_MAX;
        while Instant::now() < at_last {
            match timeout(QUIET, self.events.recv()).await {
                Ok(Some(path)) => self.event_paths.insert(path),
                Ok(None) | Err(_) => return,
            };
        }
    }

    async fn look(&mut self, look: impl FnOnce(&mut SourceTree) -> TreeChange + Send + 'static) {
        let mut tree = std::mem::take(&mut self.tree);
        let looked = tokio::task::spawn_blocking(move || {
            let seen = look(&mut tree);
            (tree, seen)
        });
        let (tree, seen) = looked
            .await
            .expect("a look neither panics nor is cancelled");
        self.tree = tree;
        for folder in &seen.too_large {
            if self.reported.insert(folder.clone()) {
                let folder = folder.display();
                tracing::warn!(
                    "{folder} contains too many files to watch: name the source directories in `watch`"
                );
            }
        }
        self.watch(seen.folders);
        if !seen.changed.is_empty() {
            // Fails if the receiver is already dropped during shutdown.
            let _ = self.sender.send(seen.changed);
        }
    }

    /// Watches exactly these directories.
    fn watch(&mut self, folders: BTreeMap<PathBuf, Identity>) {
        self.directories.retain(|path| folders.contains_key(path));
        for (path, identity) in folders {
            if self.directories.is_watched(&path, identity) {
                continue;
            }
            if let Err(error) = self.directories.watch(path.clone(), identity) {
                let folder = path.display();
                tracing::warn!(%error, "cannot watch {folder}: checking its files every {WATCH_QUIET:?}");
            }
        }
    }
}

/// Forwards paths that belong to a target. Runs on the thread that receives the events.
fn hear(
    event: DirectoryEvent,
    targets: &ArcSwap<Vec<WatchedPath>>,
    event_paths: &mpsc::UnboundedSender<PathBuf>,
) {
    let path = match event {
        DirectoryEvent::Changed { path, .. } => {
            if !targets.load().iter().any(|target| target.wants(&path)) {
                return;
            }
            path
        }
        // An empty path requests a check without reading a certain file again.
        DirectoryEvent::Lost => PathBuf::new(),
    };
    // Fails if the receiver is already dropped during shutdown.
    let _ = event_paths.send(path);
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn target(path: PathBuf) -> WatchedPath {
        WatchedPath {
            owner: FileOwner::Config,
            path,
            outputs: Vec::new(),
        }
    }

    async fn changed(sources: &mut Sources) -> Vec<PathBuf> {
        let changed = tokio::time::timeout(Duration::from_secs(20), sources.changed()).await;
        changed.expect("a change is heard").into_keys().collect()
    }

    #[tokio::test]
    async fn a_file_that_is_saved_in_several_steps_is_one_change() {
        let folder = tempfile::tempdir().unwrap();
        let (file, new) = (folder.path().join("a.js"), folder.path().join("a.js.new"));
        fs::write(&file, "old").unwrap();
        let mut sources = Sources::new();
        sources.follow(vec![target(file.clone())]).await;
        let started_at = Instant::now();
        fs::write(&new, "half").unwrap();
        fs::write(&new, "whole").unwrap();
        fs::rename(&new, &file).unwrap();
        assert_eq!(changed(&mut sources).await, [file]);
        assert!(
            started_at.elapsed() < WATCH_QUIET,
            "it was heard, not found"
        );
    }

    #[tokio::test]
    async fn folders_that_are_created_later_are_watched() {
        let folder = tempfile::tempdir().unwrap();
        let src = folder.path().join("src");
        let mut sources = Sources::new();
        sources.follow(vec![target(src.clone())]).await;
        fs::create_dir_all(src.join("deep/er")).unwrap();
        fs::write(src.join("deep/er/a.js"), "1").unwrap();
        assert_eq!(changed(&mut sources).await, [src.join("deep/er/a.js")]);
        let started_at = Instant::now();
        fs::write(src.join("deep/er/a.js"), "2").unwrap();
        assert_eq!(changed(&mut sources).await, [src.join("deep/er/a.js")]);
        assert!(
            started_at.elapsed() < WATCH_QUIET,
            "it was heard, not found"
        );
    }
}
