//! A folder that belongs to one user. Creates it, checks it and opens its files, and trusts nothing that other users could have written.
//! This module knows nothing of code.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{OFlags, Timespec, Timestamps, UTIME_NOW};

use crate::hex::hex;

/// Modes of the folder, of its key, and of files that never change again.
const OWNER_ENTERS: u32 = 0o700;
const OWNER_WRITES: u32 = 0o600;
pub(crate) const OWNER_READS: u32 = 0o400;
/// Mode bits that a folder or file must not have: write permission for others, any permission for others.
pub(crate) const NOT_WRITABLE: u32 = 0o022;
const NOT_READABLE: u32 = 0o077;
/// Suffix of files that are being written.
const DRAFT: &str = ".draft";
/// Age above which a draft is abandoned: the host that wrote it was killed.
const DRAFT_AGE_MAX: Duration = Duration::from_secs(3600);

/// Error returned when a folder, or a file in it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheFolderError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is not a {0}")]
    NotA(&'static str),
    #[error("it belongs to another user ({0})")]
    OtherOwner(u32),
    #[error("other users have access that they must not have (mode {0:03o})")]
    Open(u32),
    #[error("its content has changed since it was written")]
    Changed,
}

/// A folder that has been checked.
#[derive(Debug)]
pub(crate) struct CacheFolder(PathBuf);

/// A file of the folder, as listed.
#[derive(Debug)]
pub(crate) struct CacheEntry {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) used_at: Option<SystemTime>,
}

/// A temporary name for a file that is being written.
pub(crate) struct DraftFile {
    pub(crate) path: PathBuf,
}

impl DraftFile {
    pub(crate) fn discard(&self) {
        remove(&self.path);
    }
}

impl CacheFolder {
    /// Creates the folder if it is missing, and checks it.
    pub(crate) fn open(path: &Path) -> Result<Self, CacheFolderError> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        match DirBuilder::new().mode(OWNER_ENTERS).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        let found = fs::metadata(path)?;
        if !found.is_dir() {
            return Err(CacheFolderError::NotA("folder"));
        }
        check_private(&found, NOT_WRITABLE)?;
        Ok(Self(path.to_owned()))
    }

    /// Returns the key stored in a file of the folder. Creates a random key if there is none, or if the existing one was readable to other
    /// users or is damaged. Files that were hashed under the old key then no longer match.
    pub(crate) fn key(&self, name: &str) -> Result<[u8; 32], CacheFolderError> {
        match self.read_key(name) {
            Ok(key) => return Ok(key),
            Err(CacheFolderError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(problem) => {
                tracing::warn!(%problem, "the key of the compiled code is replaced");
                self.remove(name);
            }
        }
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
        let draft = self.draft()?;
        let written = create_private(&draft.path, OWNER_WRITES)
            .and_then(|mut file| {
                file.write_all(&key)?;
                file.sync_all()
            })
            .and_then(|()| match fs::hard_link(&draft.path, self.0.join(name)) {
                // Two hosts started at once: the key of the other one is used.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                linked => linked,
            });
        draft.discard();
        written?;
        self.read_key(name)
    }

    fn read_key(&self, name: &str) -> Result<[u8; 32], CacheFolderError> {
        let mut file = self.open_private(name, NOT_READABLE)?;
        let mut key = [0; 32];
        if file.metadata()?.len() != key.len() as u64 {
            return Err(CacheFolderError::Changed);
        }
        file.read_exact(&mut key)?;
        Ok(key)
    }

    /// Opens a file for reading. The file must belong to the user, and its mode must have none of the bits of `not`. The checks and the
    /// reads use the same descriptor, so replacing the name has no effect.
    pub(crate) fn open_private(&self, name: &str, not: u32) -> Result<File, CacheFolderError> {
        // Does not follow a link to another place, and does not block on a pipe.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(self.0.join(name))?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(CacheFolderError::NotA("file"));
        }
        check_private(&found, not)?;
        Ok(file)
    }

    /// Lists the files of the folder. Returns none if the folder cannot be listed.
    pub(crate) fn entries(&self) -> Vec<CacheEntry> {
        let Ok(entries) = fs::read_dir(&self.0) else {
            return Vec::new();
        };
        let entry = |entry: fs::DirEntry| {
            let found = entry.metadata().ok()?;
            Some(CacheEntry {
                name: entry.file_name().into_string().ok()?,
                bytes: found.len(),
                used_at: found.modified().ok(),
            })
        };
        entries.filter_map(Result::ok).filter_map(entry).collect()
    }

    pub(crate) fn draft(&self) -> io::Result<DraftFile> {
        let mut salt = [0; 8];
        getrandom::fill(&mut salt).map_err(|error| io::Error::other(error.to_string()))?;
        let path = self.0.join(format!("{}{DRAFT}", hex(&salt)));
        Ok(DraftFile { path })
    }

    pub(crate) fn rename(&self, draft: &DraftFile, name: &str) -> io::Result<()> {
        fs::rename(&draft.path, self.0.join(name))
    }

    pub(crate) fn remove(&self, name: &str) {
        remove(&self.0.join(name));
    }

    /// Removes drafts whose writer is gone.
    pub(crate) fn sweep(&self) {
        let is_old = |entry: &CacheEntry| {
            let age = entry.used_at.and_then(|written| written.elapsed().ok());
            age.is_some_and(|age| age > DRAFT_AGE_MAX)
        };
        for entry in self.entries() {
            if entry.name.ends_with(DRAFT) && is_old(&entry) {
                self.remove(&entry.name);
            }
        }
    }
}

/// Records that a file was used now, in its modification time. Access times are often not recorded.
pub(crate) fn mark_used(file: &File) {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_NOW,
    };
    let times = Timestamps {
        last_access: now,
        last_modification: now,
    };
    if let Err(error) = rustix::fs::futimens(file, &times) {
        tracing::debug!(%error, "the use of cached code cannot be recorded");
    }
}

/// Creates a new file that has this mode from the start.
pub(crate) fn create_private(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
}

fn check_private(found: &Metadata, not: u32) -> Result<(), CacheFolderError> {
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(CacheFolderError::OtherOwner(found.uid()));
    }
    if found.mode() & not != 0 {
        return Err(CacheFolderError::Open(found.mode() & 0o777));
    }
    Ok(())
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "a file of the code cache cannot be removed");
        }
        _ => {}
    }
}
