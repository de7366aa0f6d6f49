//! Watches on the directories along the paths of the components, which collect changes until the component watcher takes them.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use notify::EventKind;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::directory_watcher::{DirectoryEvent, DirectoryWatcher};
use super::hint::ChangeHint;
use super::links::LinkTrace;
use super::stamp::FileStamp;
use cloakroom_base::limits::WATCH_QUIET;

/// The name of a guest whose file must be checked.
pub(crate) type Name = Arc<str>;

/// Changes that were not yet taken, with at most one hint per guest.
#[derive(Debug, Default)]
pub(crate) struct PendingHints {
    hints: Mutex<HashMap<Name, ChangeHint>>,
    arrived: Notify,
    interests: ArcSwap<WatchInterests>,
}

/// The guests that each path affects.
#[derive(Debug, Default)]
struct WatchInterests {
    names: HashMap<PathBuf, Vec<Name>>,
    directories: HashMap<PathBuf, Vec<Name>>,
}

impl PendingHints {
    /// Waits until there are hints to take.
    ///
    /// Cancel safe.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Takes all hints since the last call.
    pub(crate) fn take(&self) -> HashMap<Name, ChangeHint> {
        std::mem::take(&mut *self.hints.lock())
    }

    fn record(&self, event: DirectoryEvent) {
        let interests = self.interests.load();
        match event {
            DirectoryEvent::Changed { path, kind } => self.record_change(&path, &kind, &interests),
            DirectoryEvent::Lost => self.record_loss(&interests),
        }
    }

    fn record_change(&self, path: &Path, kind: &EventKind, interests: &WatchInterests) {
        for (guests, is_directory) in [
            (interests.names.get(path), false),
            (interests.directories.get(path), true),
        ] {
            let Some(guests) = guests else { continue };
            let is_link = || path.is_symlink();
            if let Some(hint) = ChangeHint::of(kind, is_directory, is_link) {
                self.put(guests, hint);
            }
        }
    }

    /// Events were lost, so any file may have changed.
    fn record_loss(&self, interests: &WatchInterests) {
        for guests in interests.names.values() {
            self.put(guests, ChangeHint::Settled);
        }
    }

    fn put(&self, guests: &[Name], hint: ChangeHint) {
        let mut hints = self.hints.lock();
        for guest in guests {
            let combined = hints.entry(Arc::clone(guest)).or_insert(hint);
            *combined = combined.and(hint);
        }
        drop(hints);
        self.arrived.notify_one();
    }
}

/// The directories on the paths of all guests' components. All methods block as long as the file system does.
#[derive(Debug)]
pub(crate) struct WatchedDirectories {
    watcher: DirectoryWatcher,
    traces: HashMap<Name, LinkTrace>,
    pending: Arc<PendingHints>,
}

impl WatchedDirectories {
    /// Watches nothing at first. Changes are put into `pending`.
    pub(crate) fn new(pending: Arc<PendingHints>) -> Self {
        let shared = Arc::clone(&pending);
        Self {
            watcher: DirectoryWatcher::new(move |event| shared.record(event)),
            traces: HashMap::new(),
            pending,
        }
    }

    /// Watches every directory whose change may affect the file that `path` leads to. From now on, all such changes are
    /// reported.
    pub(crate) fn follow(&mut self, guest: &Name, path: &Path) {
        let trace = LinkTrace::of(path);
        let directories = trace.directories.clone();
        if self.traces.get(guest) != Some(&trace) {
            self.traces.insert(Arc::clone(guest), trace);
            self.publish();
        }
        for directory in directories {
            self.watch(directory);
        }
    }

    /// Forgets all guests that are not in `guests`.
    pub(crate) fn retain(&mut self, guests: &HashSet<Name>) {
        let before = self.traces.len();
        self.traces.retain(|guest, _| guests.contains(guest));
        if self.traces.len() != before {
            self.publish();
        }
    }

    /// Publishes the paths of all guests, and stops watching directories that no guest needs.
    fn publish(&mut self) {
        let mut interests = WatchInterests::default();
        for (guest, trace) in &self.traces {
            for (paths, map) in [
                (&trace.names, &mut interests.names),
                (&trace.directories, &mut interests.directories),
            ] {
                for path in paths {
                    let guests = map.entry(path.clone()).or_default();
                    guests.push(Arc::clone(guest));
                }
            }
        }
        let interests = Arc::new(interests);
        self.pending.interests.store(Arc::clone(&interests));
        self.watcher
            .retain(|path| interests.directories.contains_key(path));
    }

    /// Watches a directory. Callers repeat this for watched directories, because a moved directory loses its watch.
    fn watch(&mut self, path: PathBuf) {
        let Some(stamp) = FileStamp::of(&path) else {
            return;
        };
        if let Err(error) = self.watcher.watch(path.clone(), stamp.identity()) {
            let directory = path.display();
            tracing::warn!(
                %directory, %error,
                "cannot watch a directory: checking its files every {WATCH_QUIET:?}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::*;

    struct Fixture {
        folder: tempfile::TempDir,
        pending: Arc<PendingHints>,
        directories: WatchedDirectories,
        name: Name,
    }

    impl Fixture {
        fn new() -> Self {
            let pending = Arc::new(PendingHints::default());
            Self {
                folder: tempfile::tempdir().unwrap(),
                directories: WatchedDirectories::new(Arc::clone(&pending)),
                pending,
                name: "g".into(),
            }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn follow(&mut self, name: &str) {
            let path = self.path(name);
            let guest = Arc::clone(&self.name);
            self.directories.follow(&guest, &path);
            self.pending.take();
        }

        /// Waits until the combined hint is this one.
        async fn expect(&self, hint: ChangeHint) {
            let combined = async {
                let mut all: Option<ChangeHint> = None;
                while all != Some(hint) {
                    self.pending.arrived().await;
                    if let Some(new) = self.pending.take().remove(&self.name) {
                        all = Some(all.map_or(new, |old| old.and(new)));
                    }
                }
            };
            let in_time = tokio::time::timeout(Duration::from_secs(10), combined).await;
            assert!(in_time.is_ok(), "nothing was heard of {hint:?}");
        }

        async fn expect_nothing(&self) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(self.pending.take().is_empty());
        }
    }

    #[tokio::test]
    async fn a_write_and_then_the_close_of_a_file_are_reported() {
        use std::io::Write as _;
        let mut fixture = Fixture::new();
        fs::write(fixture.path("x.wasm"), "old").unwrap();
        fixture.follow("x.wasm");
        let mut file = fs::File::create(fixture.path("x.wasm")).unwrap();
        file.write_all(b"half").unwrap();
        fixture.expect(ChangeHint::Writing).await;
        drop(file);
        fixture.expect(ChangeHint::Settled).await;
    }

    #[tokio::test]
    async fn writes_to_other_files_and_reads_are_not_reported() {
        let mut fixture = Fixture::new();
        fs::write(fixture.path("x.wasm"), "old").unwrap();
        fixture.follow("x.wasm");
        fs::write(fixture.path("y.wasm"), "new").unwrap();
        fs::read(fixture.path("x.wasm")).unwrap();
        fixture.expect_nothing().await;
    }

    #[tokio::test]
    async fn a_replaced_link_is_reported_and_its_new_target_is_watched() {
        let mut fixture = Fixture::new();
        for version in ["1", "2"] {
            fs::create_dir(fixture.path(version)).unwrap();
            fs::write(fixture.path(version).join("x.wasm"), version).unwrap();
        }
        symlink("1", fixture.path("data")).unwrap();
        symlink("data/x.wasm", fixture.path("x.wasm")).unwrap();
        fixture.follow("x.wasm");

        symlink("2", fixture.path("data.new")).unwrap();
        fs::rename(fixture.path("data.new"), fixture.path("data")).unwrap();
        fixture.expect(ChangeHint::Settled).await;

        fixture.follow("x.wasm");
        fs::write(fixture.path("1/x.wasm"), "not any more").unwrap();
        fixture.expect_nothing().await;
        fs::write(fixture.path("2/x.wasm"), "this one").unwrap();
        fixture.expect(ChangeHint::Settled).await;
    }

    #[tokio::test]
    async fn a_directory_that_is_removed_and_created_again_is_watched_again() {
        let mut fixture = Fixture::new();
        let make = |fixture: &Fixture| {
            fs::create_dir(fixture.path("d")).unwrap();
            fs::write(fixture.path("d/x.wasm"), "").unwrap();
        };
        make(&fixture);
        fixture.follow("d/x.wasm");
        for _ in 0..3 {
            fs::remove_dir_all(fixture.path("d")).unwrap();
            fixture.expect(ChangeHint::Settled).await;
            fixture.follow("d/x.wasm");
            make(&fixture);
            fixture.expect(ChangeHint::Settled).await;
            fixture.follow("d/x.wasm");
            fs::write(fixture.path("d/x.wasm"), "new").unwrap();
            fixture.expect(ChangeHint::Settled).await;
        }
    }

    #[tokio::test]
    async fn a_directory_that_is_exchanged_is_watched_again() {
        let mut fixture = Fixture::new();
        for name in ["d", "e"] {
            fs::create_dir(fixture.path(name)).unwrap();
            fs::write(fixture.path(name).join("x.wasm"), name).unwrap();
        }
        fixture.follow("d/x.wasm");
        fs::rename(fixture.path("d"), fixture.path("old")).unwrap();
        fs::rename(fixture.path("e"), fixture.path("d")).unwrap();
        fixture.expect(ChangeHint::Settled).await;
        fixture.follow("d/x.wasm");
        fs::write(fixture.path("old/x.wasm"), "nobody cares").unwrap();
        fixture.expect_nothing().await;
        fs::write(fixture.path("d/x.wasm"), "new").unwrap();
        fixture.expect(ChangeHint::Settled).await;
    }

    #[tokio::test]
    async fn a_removed_guest_is_no_longer_watched() {
        let mut fixture = Fixture::new();
        fs::write(fixture.path("x.wasm"), "").unwrap();
        fixture.follow("x.wasm");
        fixture.directories.retain(&HashSet::new());
        fs::write(fixture.path("x.wasm"), "new").unwrap();
        fixture.expect_nothing().await;
        assert!(fixture.directories.watcher.is_empty());
    }
}
