//! A disk that fails on command and records flushes: `disk.c`, preloaded into the host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::host::{Config, repository};

/// A fault-injecting disk. It holds one folder of files, and the path of each contains the folder's name.
#[derive(Debug)]
pub struct Disk {
    directory: tempfile::TempDir,
    library: PathBuf,
}

/// One record of the log of calls.
#[derive(Debug)]
enum Event {
    Write {
        file: String,
        offset: usize,
        bytes: Vec<u8>,
    },
    Flush {
        file: String,
    },
    Truncate {
        file: String,
        length: usize,
    },
    Unlink {
        file: String,
    },
}

/// The name of the folder.
const FOLDER: &str = "files";

/// The files of a folder and their content, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

impl Disk {
    /// Creates an empty disk.
    ///
    /// # Panics
    /// If there is no C compiler.
    pub fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("cloakroom-disk-")
            .tempdir()
            .expect("a temporary folder");
        let library = directory.path().join("disk.so");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(repository().join("tests/src/disk.c"))
            .args(["-ldl", "-lpthread"])
            .status();
        assert!(built.expect("cc is there, as for rustc").success());
        std::fs::create_dir(directory.path().join(FOLDER)).expect("a folder");
        Self { directory, library }
    }

    /// Returns the folder of the files.
    pub fn files(&self) -> PathBuf {
        self.directory.path().join(FOLDER)
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// Returns the configuration with the disk preloaded: the host's files in [`Disk::files`] are then on this disk.
    pub fn under(&self, config: Config) -> Config {
        config
            .env("LD_PRELOAD", &self.library.display().to_string())
            .env("DISK_OF", &self.files().display().to_string())
            .env("DISK_LOG", &self.path("log"))
            .env("DISK_FAULT", &self.path("fault"))
    }

    /// Makes all further calls of this kind (`write`, `flush`) fail with this error (`EIO`, `ENOSPC`).
    ///
    /// # Panics
    /// If the file that sets the fault cannot be written.
    pub fn fail(&self, kind: &str, error: &str) {
        let new = self.directory.path().join("fault.new");
        std::fs::write(&new, format!("{kind} {error}")).expect("it is written");
        std::fs::rename(new, self.path("fault")).expect("it is renamed");
    }

    /// Removes the fault set by [`Disk::fail`].
    ///
    /// # Panics
    /// If no fault was set.
    pub fn mend(&self) {
        std::fs::remove_file(self.path("fault")).expect("it failed");
    }

    /// Clears the log: everything written so far counts as flushed.
    pub fn settle(&self) {
        // The log does not exist before the first write.
        let _ = std::fs::remove_file(self.path("log"));
    }

    /// Returns the files that a power cut leaves of `base` and all later writes. Flushed data is always there. `chance` decides whether
    /// other data is there completely, torn at a sector boundary, or not at all. Files of memory shared between processes (`-shm`) are
    /// never there.
    pub fn after_power_cut(&self, base: &Files, chance: &mut fastrand::Rng) -> Files {
        let events = read_log(Path::new(&self.path("log")));
        let mut last_flush = BTreeMap::new();
        for (at, event) in events.iter().enumerate() {
            if let Event::Flush { file } = event {
                last_flush.insert(file.clone(), at);
            }
        }
        let mut files = base.clone();
        for (at, event) in events.into_iter().enumerate() {
            let is_flushed = |file: &String| last_flush.get(file).is_some_and(|last| *last > at);
            match event {
                Event::Flush { .. } => {}
                // An unlink is durable after a flush of the folder.
                Event::Unlink { file } => {
                    if is_flushed(&FOLDER.to_owned()) || chance.bool() {
                        files.remove(&file);
                    }
                }
                Event::Truncate { file, length } => {
                    if is_flushed(&file) || chance.bool() {
                        files.entry(file).or_default().resize(length, 0);
                    }
                }
                Event::Write {
                    file,
                    offset,
                    bytes,
                } => {
                    let kept = match chance.u8(..3) {
                        _ if is_flushed(&file) => bytes.len(),
                        0 => 0,
                        1 => bytes.len(),
                        _ => chance.usize(..=bytes.len()) / 512 * 512,
                    };
                    if kept == 0 {
                        continue;
                    }
                    let held = files.entry(file).or_default();
                    let end = offset + kept;
                    if held.len() < end {
                        held.resize(end, 0);
                    }
                    held[offset..end].copy_from_slice(&bytes[..kept]);
                }
            }
        }
        files.retain(|name, _| !name.ends_with("-shm"));
        files
    }

    /// Replaces the files on the disk by these files.
    ///
    /// # Panics
    /// If they cannot be written.
    pub fn replace(&self, files: &Files) {
        std::fs::remove_dir_all(self.files()).expect("a folder of our own");
        std::fs::create_dir(self.files()).expect("a folder");
        for (name, bytes) in files {
            std::fs::write(self.files().join(name), bytes).expect("a file is written");
        }
        self.settle();
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

fn read_log(path: &Path) -> Vec<Event> {
    let log = std::fs::read(path).unwrap_or_default();
    let mut rest = log.as_slice();
    let mut events = Vec::new();
    // A killed host may leave the last record torn, because its call had not returned.
    while let Some(event) = next_event(&mut rest) {
        events.push(event);
    }
    events
}

fn next_event(rest: &mut &[u8]) -> Option<Event> {
    let (head, after) = rest.split_at_checked(24)?;
    let short = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
    let long = |at: usize| {
        let number = u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
        usize::try_from(number).expect("it fits in memory")
    };
    let (kind, path_bytes, offset, count) = (short(0), short(4) as usize, long(8), long(16));
    let (path, after) = after.split_at_checked(path_bytes)?;
    let path = String::from_utf8_lossy(path);
    let file = path.rsplit('/').next().unwrap_or_default().to_owned();
    let (event, after) = match kind {
        1 => {
            let (bytes, after) = after.split_at_checked(count)?;
            let bytes = bytes.to_vec();
            (
                Event::Write {
                    file,
                    offset,
                    bytes,
                },
                after,
            )
        }
        2 => (Event::Flush { file }, after),
        4 => (Event::Unlink { file }, after),
        _ => (
            Event::Truncate {
                file,
                length: offset,
            },
            after,
        ),
    };
    *rest = after;
    Some(event)
}
