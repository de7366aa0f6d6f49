//! Compares the files of an open database with the paths at which the next start would look for them. Knows no rows and
//! no log lines.
//!
//! A file that was removed or replaced stays open and accepts every write, but all these writes are lost after a
//! restart.
//!
//! The files are compared by device, inode and link count before each transaction, at each checkpoint and once a second, together
//! with the log and its index. When one was removed or replaced, all writes are refused until a restart. A symbolic link that is
//! given another target counts, too. The lock against a second host is on the path and, on Linux, on the file, so a hard link is
//! the same file. The lock's descriptor is closed after every connection, because closing it releases SQLite's own locks of the
//! process.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::log::beside;

/// The files as they were opened.
#[derive(Debug)]
pub(crate) struct DatabaseWatch {
    /// The database. Shared with the store, because closing any descriptor of it releases SQLite's locks of this
    /// process.
    database: Arc<File>,
    path: PathBuf,
    places: Vec<WatchedFile>,
}

/// A path and the file that belongs there.
#[derive(Debug)]
struct WatchedFile {
    path: PathBuf,
    file: FileId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

impl DatabaseWatch {
    /// Watches the open `database`, its log and its index. `given` is the configured path, `path` the path with links
    /// resolved.
    ///
    /// # Errors
    /// Returns an error if the operating system does not report which file is open.
    pub(crate) fn new(database: Arc<File>, given: &Path, path: &Path) -> io::Result<Self> {
        let file = FileId::of(&database.metadata()?);
        let mut places = vec![WatchedFile {
            path: path.to_owned(),
            file,
        }];
        // A symbolic link whose target changes leads the next start to another file.
        if given != path {
            places.push(WatchedFile {
                path: given.to_owned(),
                file,
            });
        }
        for path in ["-wal", "-shm"].map(|suffix| beside(path, suffix)) {
            if let Ok(metadata) = fs::metadata(&path) {
                let file = FileId::of(&metadata);
                places.push(WatchedFile { path, file });
            }
        }
        Ok(Self {
            database,
            path: path.to_owned(),
            places,
        })
    }

    /// Describes a file that is no longer at its path, in a sentence with the remedy. Returns `None` while all files
    /// are in place.
    ///
    /// Makes one system call per file. A path that cannot be checked for another reason, such as missing permission, is
    /// ignored.
    pub(crate) fn fault(&self) -> Option<String> {
        let misplaced = self.places.iter().find_map(|place| {
            let change = match fs::metadata(&place.path) {
                Ok(found) if FileId::of(&found) == place.file => return None,
                Ok(_) => "replaced by another file",
                Err(error) if is_absence(&error) => "removed",
                Err(_) => return None,
            };
            Some(sentence(&place.path, change))
        });
        misplaced.or_else(|| {
            let metadata = self.database.metadata().ok()?;
            (metadata.nlink() == 0).then(|| sentence(&self.path, "removed"))
        })
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn sentence(path: &Path, change: &str) -> String {
    format!(
        "{} was {change} while the host had it open: sessions are not written until restart, since they would be lost; \
         put the right file at this path, then restart the host",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    struct Fixture {
        path: PathBuf,
        watch: DatabaseWatch,
        _directory: TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            let directory = TempDir::new().unwrap();
            let path = directory.path().canonicalize().unwrap().join("sessions.db");
            for file in ["", "-wal", "-shm"].map(|suffix| beside(&path, suffix)) {
                fs::write(file, "").unwrap();
            }
            let given = directory.path().join("link.db");
            std::os::unix::fs::symlink(&path, &given).unwrap();
            let database = Arc::new(File::open(&path).unwrap());
            let watch = DatabaseWatch::new(database, &given, &path).unwrap();
            Self {
                path,
                watch,
                _directory: directory,
            }
        }

        #[track_caller]
        fn assert_fault(&self, file: &str, change: &str) {
            let fault = self.watch.fault().expect("a fault");
            assert!(
                fault.contains(&format!("{file} was {change}"))
                    && fault.contains("restart the host"),
                "{fault}"
            );
        }
    }

    #[test]
    fn files_at_their_paths_are_no_fault_and_a_second_name_is_none() {
        let it = Fixture::new();
        assert_eq!(it.watch.fault(), None);
        fs::hard_link(&it.path, it.path.with_extension("twin")).unwrap();
        assert_eq!(it.watch.fault(), None);
    }

    #[test]
    fn a_file_that_was_removed_or_renamed_is_named() {
        let it = Fixture::new();
        fs::remove_file(&it.path).unwrap();
        it.assert_fault("sessions.db", "removed");

        let it = Fixture::new();
        fs::rename(&it.path, it.path.with_extension("moved")).unwrap();
        it.assert_fault("sessions.db", "removed");
    }

    #[test]
    fn a_file_log_or_index_that_was_replaced_is_named() {
        for suffix in ["", "-wal", "-shm"] {
            let it = Fixture::new();
            let other = it.path.with_extension("other");
            fs::write(&other, "").unwrap();
            fs::rename(&other, beside(&it.path, suffix)).unwrap();
            it.assert_fault(&format!("sessions.db{suffix}"), "replaced by another file");
        }
    }

    #[test]
    fn a_link_that_leads_elsewhere_is_named() {
        let it = Fixture::new();
        let given = it.path.with_file_name("link.db");
        let other = it.path.with_extension("other");
        fs::write(&other, "").unwrap();
        fs::remove_file(&given).unwrap();
        std::os::unix::fs::symlink(&other, &given).unwrap();
        it.assert_fault("link.db", "replaced by another file");
    }
}
