//! The state of the sources at the last check, and the changes since then. A file has changed only if its content has: saving
//! it unmodified triggers nothing. File system calls block. This module does not handle events.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

use cloakroom_base::files;
use cloakroom_runtime::{FileStamp, Identity};

/// The maximum number of files checked per target. A directory with more files does not contain only sources.
const FILES_MAX: usize = 20_000;
/// The maximum depth of nested directories.
const DEPTH_MAX: usize = 32;
/// The maximum size in bytes of a file whose content is compared. Larger files are compared by their metadata only.
const READ_BYTES_MAX: u64 = 8 << 20;

/// Directories that tools fill.
const FOLDERS_OF_TOOLS: [&str; 4] = ["node_modules", "target", "__pycache__", "venv"];
/// Name endings of files that editors and interpreters create.
const ENDS_OF_TOOLS: [&str; 7] = ["~", ".swp", ".swx", ".tmp", ".bak", ".pyc", "___"];

/// The owner that a file belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FileOwner {
    /// All guests: the file is the configuration.
    Config,
    /// This guest.
    Guest(String),
}

/// A file or a directory tree that is watched for an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WatchedPath {
    pub(crate) owner: FileOwner,
    /// An absolute path.
    pub(crate) path: PathBuf,
    /// Absolute paths below `path` that builds write. They are not watched.
    pub(crate) outputs: Vec<PathBuf>,
}

impl WatchedPath {
    /// Returns whether a path belongs to this target.
    pub(crate) fn wants(&self, path: &Path) -> bool {
        let Ok(inside) = path.strip_prefix(&self.path) else {
            return false;
        };
        let is_of_tools = inside.iter().any(|name| is_of_tools(Path::new(name)));
        !is_of_tools && !self.outputs.iter().any(|output| path.starts_with(output))
    }
}

/// Returns whether a file name inside a directory belongs to a tool: a hidden file or a well-known name.
fn is_of_tools(name: &Path) -> bool {
    let name = name.to_string_lossy();
    name.starts_with('.')
        || (name.starts_with('#') && name.ends_with('#'))
        // Vim creates a file of this name to test whether it may write.
        || name == "4913"
        || FOLDERS_OF_TOOLS.contains(&&*name)
        || ENDS_OF_TOOLS.iter().any(|end| name.ends_with(end))
}

/// The known files of the targets.
#[derive(Debug, Default)]
pub(crate) struct SourceTree {
    targets: Vec<WatchedPath>,
    files: BTreeMap<PathBuf, KnownFile>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KnownFile {
    stamp: FileStamp,
    /// `None` if the file is too large or could not be read.
    content: Option<blake3::Hash>,
}

/// The result of a check.
#[derive(Debug, Default)]
pub(crate) struct TreeChange {
    /// The paths that were changed, added or removed, and the owners they affect.
    pub(crate) changed: BTreeMap<PathBuf, BTreeSet<FileOwner>>,
    /// The directories to watch.
    pub(crate) folders: BTreeMap<PathBuf, Identity>,
    /// Targets with more than [`FILES_MAX`] files.
    pub(crate) too_large: Vec<PathBuf>,
}

impl SourceTree {
    /// Replaces the targets. Returns the changes in the targets that stay.
    pub(crate) fn follow(&mut self, targets: Vec<WatchedPath>) -> TreeChange {
        let former = std::mem::replace(&mut self.targets, targets);
        self.files.retain(|path, _| is_wanted(&self.targets, path));
        // Files of new targets are not reported: they existed before.
        self.scan(&BTreeSet::new(), |stranger| is_wanted(&former, stranger))
    }

    /// Checks all targets. Files in `event_paths` are read again even if their stamps are unchanged, because a file may be written
    /// twice within one tick of the clock.
    pub(crate) fn look(&mut self, event_paths: &BTreeSet<PathBuf>) -> TreeChange {
        self.scan(event_paths, |_stranger| true)
    }

    /// Checks all targets as [`SourceTree::look`] does. `is_new` decides whether a previously unknown file was just created.
    fn scan(
        &mut self,
        event_paths: &BTreeSet<PathBuf>,
        is_new: impl Fn(&Path) -> bool,
    ) -> TreeChange {
        let mut seen = TreeChange::default();
        let mut found = BTreeMap::new();
        for target in &self.targets {
            let mut walk = TreeWalk {
                target,
                found: &mut found,
                folders: &mut seen.folders,
                files: 0,
            };
            walk.begin();
            if walk.files > FILES_MAX {
                seen.too_large.push(target.path.clone());
            }
        }
        let mut files = BTreeMap::new();
        for (path, stamp) in found {
            let before = self.files.remove(&path);
            let known = match before {
                Some(known) if known.stamp == stamp && !event_paths.contains(&path) => known,
                _ => KnownFile {
                    stamp,
                    content: content(&path, stamp.bytes()),
                },
            };
            let is_changed = match before {
                Some(before) if known.content.is_some() => before.content != known.content,
                Some(before) => !before.stamp.is_same_content(known.stamp),
                None => is_new(&path),
            };
            if is_changed {
                seen.changed.insert(path.clone(), self.owners(&path));
            }
            files.insert(path, known);
        }
        for gone in std::mem::replace(&mut self.files, files).into_keys() {
            let owners = self.owners(&gone);
            seen.changed.insert(gone, owners);
        }
        seen
    }

    fn owners(&self, path: &Path) -> BTreeSet<FileOwner> {
        let wants = self.targets.iter().filter(|target| target.wants(path));
        wants.map(|target| target.owner.clone()).collect()
    }
}

fn is_wanted(targets: &[WatchedPath], path: &Path) -> bool {
    targets.iter().any(|target| target.wants(path))
}

/// A walk through one target.
struct TreeWalk<'a> {
    target: &'a WatchedPath,
    found: &'a mut BTreeMap<PathBuf, FileStamp>,
    folders: &'a mut BTreeMap<PathBuf, Identity>,
    files: usize,
}

impl TreeWalk<'_> {
    fn begin(&mut self) {
        let path = &self.target.path;
        // The parent directory is watched too, because the target may be created or replaced.
        if let Some(parent) = path.parent()
            && let Ok(metadata) = parent.metadata()
        {
            let stamp = FileStamp::from(&metadata);
            self.folders.insert(parent.to_owned(), stamp.identity());
        }
        // Only a link at the root of a target is followed to a directory: links inside may form a cycle.
        if let Ok(metadata) = path.metadata() {
            self.enter(path.clone(), &metadata, 0);
        }
    }

    fn enter(&mut self, path: PathBuf, metadata: &Metadata, depth: usize) {
        let stamp = FileStamp::from(metadata);
        if metadata.is_file() {
            self.files += 1;
            self.found.insert(path, stamp);
            return;
        }
        if !metadata.is_dir() || depth > DEPTH_MAX {
            return;
        }
        // A directory that cannot be read contains no sources.
        let Ok(entries) = fs::read_dir(&path) else {
            return;
        };
        self.folders.insert(path, stamp.identity());
        for entry in entries.flatten() {
            if self.files > FILES_MAX {
                return;
            }
            let path = entry.path();
            if !self.target.wants(&path) {
                continue;
            }
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            let metadata = fs::metadata(&path).ok();
            // Links to files count as sources, links to directories do not.
            if let Some(metadata) = metadata.filter(|it| !is_link || it.is_file()) {
                self.enter(path, &metadata, depth + 1);
            }
        }
    }
}

fn content(path: &Path, bytes: u64) -> Option<blake3::Hash> {
    if bytes > READ_BYTES_MAX {
        return None;
    }
    let bytes = files::read(path, READ_BYTES_MAX).ok()?;
    Some(blake3::hash(&bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Project {
        folder: tempfile::TempDir,
        tree: SourceTree,
    }

    impl Project {
        fn new(files: &[&str], watch: &[&str]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path().to_owned();
            let target = |path: &&str| WatchedPath {
                owner: FileOwner::Guest("g".to_owned()),
                path: root.join(path),
                outputs: vec![root.join("build")],
            };
            let mut project = Self {
                folder,
                tree: SourceTree::default(),
            };
            for file in files {
                project.write(file, "old");
            }
            let seen = project.tree.follow(watch.iter().map(target).collect());
            assert!(seen.changed.is_empty(), "{seen:?}");
            project
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// Returns the paths that a check reports, after events for these files.
        fn look(&mut self, event_paths: &[&str]) -> Vec<String> {
            let event_paths = event_paths.iter().map(|name| self.path(name)).collect();
            let seen = self.tree.look(&event_paths);
            let short = |path: &PathBuf| {
                let short = path.strip_prefix(self.folder.path()).unwrap();
                short.display().to_string()
            };
            seen.changed.keys().map(short).collect()
        }
    }

    #[test]
    fn files_written_added_or_removed_are_reported_as_changed() {
        let mut project = Project::new(
            &["src/a.js", "src/sub/b.js", "package.json"],
            &["src", "package.json"],
        );
        project.write("src/sub/b.js", "new!");
        project.write("src/new/c.js", "");
        project.write("package.json", "{}");
        fs::remove_file(project.path("src/a.js")).unwrap();
        let all = ["package.json", "src/a.js", "src/new/c.js", "src/sub/b.js"];
        assert_eq!(project.look(&[]), all);
        assert!(project.look(&all).is_empty());
    }

    #[test]
    fn a_file_saved_with_the_same_content_is_not_reported_as_changed() {
        let mut project = Project::new(&["src/a.js"], &["src"]);
        project.write("src/a.js", "old");
        assert!(project.look(&["src/a.js"]).is_empty());
        project.write("src/a.tmp", "new");
        fs::rename(project.path("src/a.tmp"), project.path("src/a.js")).unwrap();
        assert_eq!(project.look(&["src/a.js"]), ["src/a.js"]);
    }

    #[test]
    fn files_written_by_tools_and_builds_are_ignored() {
        let mut project = Project::new(&["app.py"], &["."]);
        for file in [
            ".git/index",
            "node_modules/x/index.js",
            "sub/target/debug/x",
            "build/g.wasm",
            "__pycache__/app.pyc",
            "app.py~",
            ".app.py.swp",
            "4913",
            "#app.py#",
        ] {
            project.write(file, "new");
        }
        assert!(project.look(&[]).is_empty());
        project.write("rebuild/x", "new");
        assert_eq!(project.look(&[]), ["rebuild/x"]);
    }

    #[test]
    fn an_explicitly_watched_file_is_never_ignored() {
        let mut project = Project::new(&[".env"], &[".env"]);
        project.write(".env", "new");
        assert_eq!(project.look(&[".env"]), [".env"]);
    }

    #[test]
    fn a_missing_or_unreadable_folder_causes_no_error() {
        use std::os::unix::fs::PermissionsExt as _;
        let mut project = Project::new(&["other"], &["src", "locked"]);
        assert!(project.look(&[]).is_empty());
        fs::create_dir(project.path("locked")).unwrap();
        fs::set_permissions(project.path("locked"), fs::Permissions::from_mode(0o000)).unwrap();
        project.write("src/a.js", "");
        assert_eq!(project.look(&[]), ["src/a.js"]);
        fs::set_permissions(project.path("locked"), fs::Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn a_cycle_of_links_ends_and_linked_files_are_watched() {
        let mut project = Project::new(&["src/a.js", "shared.js"], &["src"]);
        symlink("..", project.path("src/ring")).unwrap();
        symlink("../shared.js", project.path("src/shared.js")).unwrap();
        assert_eq!(project.look(&[]), ["src/shared.js"]);
        project.write("shared.js", "new!");
        assert_eq!(project.look(&[]), ["src/shared.js"]);
    }

    #[test]
    fn a_file_created_while_the_watched_paths_change_is_reported() {
        let mut project = Project::new(&["src/a.js", "lib/b.js"], &["src"]);
        project.write("src/new.js", "");
        let target = |path: &str| WatchedPath {
            owner: FileOwner::Guest("g".to_owned()),
            path: project.path(path),
            outputs: Vec::new(),
        };
        let seen = project.tree.follow(vec![target("src"), target("lib")]);
        let changed: Vec<_> = seen.changed.into_keys().collect();
        assert_eq!(changed, [project.path("src/new.js")]);
        assert!(project.look(&[]).is_empty());
    }

    #[test]
    fn a_change_of_the_watched_paths_is_not_reported_as_a_file_change() {
        let mut project = Project::new(&["src/a.js", "lib/b.js"], &["src"]);
        project.write("src/a.js", "new!");
        let target = |path: &str, name: &str| WatchedPath {
            owner: FileOwner::Guest(name.to_owned()),
            path: project.path(path),
            outputs: Vec::new(),
        };
        let targets = vec![target("src", "g"), target("lib", "g"), target("lib", "h")];
        let seen = project.tree.follow(targets);
        assert_eq!(seen.changed.len(), 1, "{seen:?}");
        project.write("lib/b.js", "new!");
        let seen = project.tree.look(&BTreeSet::new());
        let owners = &seen.changed[&project.path("lib/b.js")];
        let both = ["g", "h"].map(|name| FileOwner::Guest(name.to_owned()));
        assert_eq!(*owners, BTreeSet::from(both));
    }
}
