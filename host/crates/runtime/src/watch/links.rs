//! The names that must be watched to detect every change of the file that a path leads to. Symbolic links are followed
//! here, because each of them may be replaced. Kubernetes, for example, mounts files as `name -> ..data/name` and
//! `..data -> ..2030_01_01`, and replaces the latter.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// As many links as Linux follows.
const LINKS_MAX: usize = 40;

/// The names that decide which file a path leads to. Each is a path without links.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkTrace {
    /// The file and every link on the way, or the first name that is missing.
    pub(crate) names: BTreeSet<PathBuf>,
    /// The directories that contain these names.
    pub(crate) directories: BTreeSet<PathBuf>,
}

impl LinkTrace {
    /// Follows `path` as far as possible. Blocks as long as the file system does.
    pub(crate) fn of(path: &Path) -> Self {
        let mut trace = Self::default();
        let Ok(path) = std::path::absolute(path) else {
            return trace;
        };
        let mut at = PathBuf::from("/");
        let mut ahead: VecDeque<OsString> = parts(&path).collect();
        let mut links = 0;
        while let Some(part) = ahead.pop_front() {
            if part == ".." {
                at.pop();
                continue;
            }
            let name = at.join(part);
            let metadata = name.symlink_metadata();
            let is_directory = metadata.as_ref().is_ok_and(std::fs::Metadata::is_dir);
            if is_directory && !ahead.is_empty() {
                at = name;
                continue;
            }
            trace.directories.insert(at.clone());
            trace.names.insert(name.clone());
            match std::fs::read_link(&name) {
                Ok(target) if links < LINKS_MAX => {
                    links += 1;
                    if target.is_absolute() {
                        at = PathBuf::from("/");
                    }
                    for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                        ahead.push_front(part);
                    }
                }
                // The file itself, or a missing name, after which nothing else can exist.
                _ => break,
            }
        }
        trace
    }
}

fn parts(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::stamp::FileStamp;
    use super::*;

    /// Returns a folder whose own path has no links, and that path.
    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        (folder, root)
    }

    fn short<'a>(root: &Path, paths: impl IntoIterator<Item = &'a PathBuf>) -> Vec<String> {
        let short = |path: &PathBuf| path.strip_prefix(root).unwrap().display().to_string();
        paths.into_iter().map(short).collect()
    }

    #[track_caller]
    fn check(root: &Path, path: &str, names: &[&str], directories: &[&str]) {
        let trace = LinkTrace::of(&root.join(path));
        assert_eq!(short(root, &trace.names), names);
        assert_eq!(short(root, &trace.directories), directories);
    }

    #[test]
    fn a_plain_file_is_watched_in_its_directory() {
        let (_folder, root) = folder();
        std::fs::create_dir(root.join("a")).unwrap();
        std::fs::write(root.join("a/x.wasm"), "").unwrap();
        check(&root, "a/x.wasm", &["a/x.wasm"], &["a"]);
        check(&root, "a/../a/./x.wasm", &["a/x.wasm"], &["a"]);
    }

    #[test]
    fn every_link_of_a_config_map_is_watched() {
        let (_folder, root) = folder();
        std::fs::create_dir_all(root.join("m/..1")).unwrap();
        std::fs::write(root.join("m/..1/x.wasm"), "").unwrap();
        symlink("..1", root.join("m/..data")).unwrap();
        symlink("..data/x.wasm", root.join("m/x.wasm")).unwrap();
        check(
            &root,
            "m/x.wasm",
            &["m/..1/x.wasm", "m/..data", "m/x.wasm"],
            &["m", "m/..1"],
        );
    }

    #[test]
    fn links_with_a_root_and_with_parents_are_followed() {
        let (_folder, root) = folder();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::create_dir_all(root.join("c")).unwrap();
        std::fs::write(root.join("c/x.wasm"), "").unwrap();
        symlink("../../c/x.wasm", root.join("a/b/parent.wasm")).unwrap();
        symlink(root.join("c"), root.join("a/root")).unwrap();
        check(
            &root,
            "a/b/parent.wasm",
            &["a/b/parent.wasm", "c/x.wasm"],
            &["a/b", "c"],
        );
        check(&root, "a/root/x.wasm", &["a/root", "c/x.wasm"], &["a", "c"]);
    }

    #[test]
    fn a_missing_path_is_watched_where_it_would_appear() {
        let (_folder, root) = folder();
        check(&root, "a/b/x.wasm", &["a"], &[""]);
        symlink("gone", root.join("dangling")).unwrap();
        check(&root, "dangling/x.wasm", &["dangling", "gone"], &[""]);
    }

    #[test]
    fn a_cycle_of_links_is_not_followed_forever() {
        let (_folder, root) = folder();
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        check(&root, "a", &["a", "b"], &[""]);
        assert_eq!(FileStamp::of(&root.join("a")), None);
    }
}
