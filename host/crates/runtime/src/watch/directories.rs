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

    fn hear(&self, event: DirectoryEvent) {
        let interests = self.interests.load();
        match event {
            DirectoryEvent::Changed { path, kind } => self.hear_of(&path, &kind, &interests),
            DirectoryEvent::Lost => self.hear_of_loss(&interests),
        }
    }

    fn hear_of(&self, path: &Path, kind: &EventKind, interests: &WatchInterests) {
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
    fn hear_of_loss(&self, interests: &WatchInterests) {
        for guests in interests.names.values() {
            self.put(guests, ChangeHint::Settled);
        }
    }

    fn put(&self, guests: &[Name], hint: ChangeHint) {
        let mut hints = self.hints.lock();
        for guest in guests {
            let heard = hints.entry(Arc::clone(guest)).or_insert(hint);
            *heard = heard.and(hint);
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
    inbox: Arc<PendingHints>,
}

impl WatchedDirectories {
    /// Watches nothing at first. Changes are put into `inbox`.
    pub(crate) fn new(inbox: Arc<PendingHints>) -> Self {
        let hearing = Arc::clone(&inbox);
        Self {
            watcher: DirectoryWatcher::new(move |event| hearing.hear(event)),
            traces: HashMap::new(),
            inbox,
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
        self.inbox.interests.store(Arc::clone(&interests));
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

    struct Ear {
        folder: tempfile::TempDir,
        inbox: Arc<PendingHints>,
        directories: WatchedDirectories,
        name: Name,
    }

    impl Ear {
        fn new() -> Self {
            let inbox = Arc::new(PendingHints::default());
            Self {
                folder: tempfile::tempdir().unwrap(),
                directories: WatchedDirectories::new(Arc::clone(&inbox)),
                inbox,
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
            self.inbox.take();
        }

        /// Waits until the combined hint is this one.
        async fn expect(&self, hint: ChangeHint) {
            let heard = async {
                let mut all: Option<ChangeHint> = None;
                while all != Some(hint) {
                    self.inbox.arrived().await;
                    if let Some(new) = self.inbox.take().remove(&self.name) {
                        all = Some(all.map_or(new, |old| old.and(new)));
                    }
                }
            };
            let in_time = tokio::time::timeout(Duration::from_secs(10), heard).await;
            assert!(in_time.is_ok(), "nothing was heard of {hint:?}");
        }

        async fn expect_nothing(&self) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(self.inbox.take().is_empty());
        }
    }

    #[tokio::test]
    async fn writing_is_heard_and_then_closing() {
        use std::io::Write as _;
        let mut ear = Ear::new();
        fs::write(ear.path("x.wasm"), "old").unwrap();
        ear.follow("x.wasm");
        let mut file = fs::File::create(ear.path("x.wasm")).unwrap();
        file.write_all(b"half").unwrap();
        ear.expect(ChangeHint::Writing).await;
        drop(file);
        ear.expect(ChangeHint::Settled).await;
    }

    #[tokio::test]
    async fn neighbours_and_readers_are_not_heard() {
        let mut ear = Ear::new();
        fs::write(ear.path("x.wasm"), "old").unwrap();
        ear.follow("x.wasm");
        fs::write(ear.path("y.wasm"), "new").unwrap();
        fs::read(ear.path("x.wasm")).unwrap();
        ear.expect_nothing().await;
    }

    #[tokio::test]
    async fn a_link_that_is_replaced_is_heard_and_so_is_its_new_target() {
        let mut ear = Ear::new();
        for version in ["1", "2"] {
            fs::create_dir(ear.path(version)).unwrap();
            fs::write(ear.path(version).join("x.wasm"), version).unwrap();
        }
        symlink("1", ear.path("data")).unwrap();
        symlink("data/x.wasm", ear.path("x.wasm")).unwrap();
        ear.follow("x.wasm");

        symlink("2", ear.path("data.new")).unwrap();
        fs::rename(ear.path("data.new"), ear.path("data")).unwrap();
        ear.expect(ChangeHint::Settled).await;

        ear.follow("x.wasm");
        fs::write(ear.path("1/x.wasm"), "not any more").unwrap();
        ear.expect_nothing().await;
        fs::write(ear.path("2/x.wasm"), "this one").unwrap();
        ear.expect(ChangeHint::Settled).await;
    }

    #[tokio::test]
    async fn a_directory_that_is_removed_and_made_again_is_heard_again() {
        let mut ear = Ear::new();
        let make = |ear: &Ear| {
            fs::create_dir(ear.path("d")).unwrap();
            fs::write(ear.path("d/x.wasm"), "").unwrap();
        };
        make(&ear);
        ear.follow("d/x.wasm");
        for _ in 0..3 {
            fs::remove_dir_all(ear.path("d")).unwrap();
            ear.expect(ChangeHint::Settled).await;
            ear.follow("d/x.wasm");
            make(&ear);
            ear.expect(ChangeHint::Settled).await;
            ear.follow("d/x.wasm");
            fs::write(ear.path("d/x.wasm"), "new").unwrap();
            ear.expect(ChangeHint::Settled).await;
        }
    }

    #[tokio::test]
    async fn a_directory_that_is_exchanged_is_heard_again() {
        let mut ear = Ear::new();
        for name in ["d", "e"] {
            fs::create_dir(ear.path(name)).unwrap();
            fs::write(ear.path(name).join("x.wasm"), name).unwrap();
        }
        ear.follow("d/x.wasm");
        fs::rename(ear.path("d"), ear.path("old")).unwrap();
        fs::rename(ear.path("e"), ear.path("d")).unwrap();
        ear.expect(ChangeHint::Settled).await;
        ear.follow("d/x.wasm");
        fs::write(ear.path("old/x.wasm"), "nobody cares").unwrap();
        ear.expect_nothing().await;
        fs::write(ear.path("d/x.wasm"), "new").unwrap();
        ear.expect(ChangeHint::Settled).await;
    }

    #[tokio::test]
    async fn a_guest_that_went_is_not_listened_for() {
        let mut ear = Ear::new();
        fs::write(ear.path("x.wasm"), "").unwrap();
        ear.follow("x.wasm");
        ear.directories.retain(&HashSet::new());
        fs::write(ear.path("x.wasm"), "new").unwrap();
        ear.expect_nothing().await;
        assert!(ear.directories.watcher.is_empty());
    }
}
