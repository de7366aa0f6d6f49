//! Writes a set of files to a directory as a whole. The files are first written to a temporary directory next to the final one,
//! or inside it if it exists and is empty. Then they are moved into place by renaming. A failed run removes its files.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::ScaffoldError;

/// A file to be written.
#[derive(Debug)]
pub(crate) struct ProjectFile {
    /// The path relative to the project's directory, with `/` as the separator.
    pub(crate) path: String,
    pub(crate) content: Vec<u8>,
}

/// Writes the files into `folder`. It must be empty or not exist.
///
/// # Errors
/// Returns the errors of [`super::NewProject::create`].
pub(crate) fn write(folder: &Path, files: &[ProjectFile]) -> Result<(), ScaffoldError> {
    let failed = |error| ScaffoldError::Failed {
        folder: folder.to_owned(),
        error,
    };
    let is_there = folder.symlink_metadata().is_ok();
    let place = if is_there {
        let is_free = folder.is_dir() && fs::read_dir(folder).map_err(failed)?.next().is_none();
        if !is_free {
            let folder = folder.to_owned();
            return Err(ScaffoldError::Occupied { folder });
        }
        folder.canonicalize().map_err(failed)?
    } else {
        folder.to_owned()
    };
    let parent = match place.parent() {
        // The directory may be a mount point, so files cannot be renamed into it from outside.
        _ if is_there => &place,
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    };
    if !parent.is_dir() {
        let parent = parent.to_owned();
        return Err(ScaffoldError::NoPlace { parent });
    }
    let staged = StagedFolder::new(parent).map_err(failed)?;
    let written = files.iter().try_for_each(|file| staged.write(file));
    let moved = written.and_then(|()| {
        if is_there {
            staged.empty_into(&place)
        } else {
            fs::rename(&staged.0, &place)
        }
    });
    moved.map_err(failed)
}

/// A temporary directory next to the final one, or inside it. Dropping this value removes it.
struct StagedFolder(PathBuf);

impl StagedFolder {
    fn new(parent: &Path) -> io::Result<Self> {
        let path = parent.join(staged_name());
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn write(&self, file: &ProjectFile) -> io::Result<()> {
        let path = self.0.join(&file.path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, &file.content)?;
        if file.content.starts_with(b"#!") {
            let mut permissions = fs::metadata(&path)?.permissions();
            // Every user that may read the file may also execute it.
            permissions.set_mode(permissions.mode() | (permissions.mode() & 0o444) >> 2);
            fs::set_permissions(&path, permissions)?;
        }
        Ok(())
    }

    /// Moves the content into an existing directory. The directory itself is not replaced, because it may be the working
    /// directory of a shell.
    fn empty_into(&self, place: &Path) -> io::Result<()> {
        let mut moved = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            let target = place.join(entry.file_name());
            if let Err(error) = fs::rename(entry.path(), &target) {
                for (from, to) in moved {
                    // A reverse rename on the same file system is expected to succeed.
                    let _ = fs::rename(to, from);
                }
                return Err(error);
            }
            moved.push((entry.path(), target));
        }
        Ok(())
    }
}

fn staged_name() -> String {
    format!(".cloakroom-new-{}", std::process::id())
}

impl Drop for StagedFolder {
    fn drop(&mut self) {
        // After a successful rename the directory no longer exists.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &str) -> ProjectFile {
        ProjectFile {
            path: path.to_owned(),
            content: content.as_bytes().to_vec(),
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_written_and_scripts_can_be_run() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("shop");
        let files = [file("src/a.js", "a"), file("run.sh", "#!/bin/sh\n")];
        write(&folder, &files).unwrap();
        assert_eq!(fs::read_to_string(folder.join("src/a.js")).unwrap(), "a");
        let mode = |name| {
            fs::metadata(folder.join(name))
                .unwrap()
                .permissions()
                .mode()
        };
        assert_eq!(mode("run.sh") & 0o100, 0o100);
        assert_eq!(mode("src/a.js") & 0o111, 0);
        assert_eq!(names(home.path()), ["shop"], "nothing beside it");
    }

    #[test]
    fn an_existing_empty_folder_is_filled_in_place() {
        use std::os::unix::fs::MetadataExt as _;
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("shop");
        fs::create_dir(&folder).unwrap();
        let before = fs::metadata(&folder).unwrap().ino();
        write(&folder.join("."), &[file("src/a.js", "a"), file("b", "b")]).unwrap();
        assert_eq!(names(&folder), ["b", "src"]);
        assert_eq!(fs::metadata(&folder).unwrap().ino(), before);
        assert_eq!(names(home.path()), ["shop"]);
    }

    #[test]
    fn an_empty_folder_is_filled_without_writing_to_its_parent() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("shop");
        fs::create_dir(&folder).unwrap();
        // Simulates a mount point, for which a rename from a directory next to it fails, too.
        let sibling = home.path().join(staged_name());
        fs::write(&sibling, "").unwrap();
        write(&folder, &[file("src/a.js", "a"), file("b", "b")]).unwrap();
        assert_eq!(names(&folder), ["b", "src"]);
        // A failed write leaves the directory empty.
        fs::remove_dir_all(folder.join("src")).unwrap();
        fs::remove_file(folder.join("b")).unwrap();
        write(&folder, &[file("a", "a"), file("a/b", "b")]).unwrap_err();
        assert_eq!(names(&folder), [""; 0]);
    }

    #[test]
    fn a_folder_that_is_not_empty_is_refused_and_left_unchanged() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("shop");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("mine"), "mine").unwrap();
        let occupied = write(&folder, &[file("a", "a")]).unwrap_err();
        assert!(occupied.is_usage(), "{occupied}");
        let occupied = write(&folder.join("mine"), &[file("a", "a")]).unwrap_err();
        assert!(matches!(occupied, ScaffoldError::Occupied { .. }));
        assert_eq!(names(&folder), ["mine"]);
        let nowhere = write(&home.path().join("x/y"), &[file("a", "a")]).unwrap_err();
        assert!(matches!(nowhere, ScaffoldError::NoPlace { .. }));
        assert_eq!(names(home.path()), ["shop"]);
    }

    #[test]
    fn a_write_that_fails_leaves_nothing() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("shop");
        // The second path needs a directory where the first one creates a file.
        let failed = write(&folder, &[file("a", "a"), file("a/b", "b")]).unwrap_err();
        assert!(!failed.is_usage(), "{failed}");
        assert_eq!(names(home.path()), [""; 0]);
    }
}
