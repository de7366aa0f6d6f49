//! A cache of compiled code on disk, so that a component is not compiled again at the next start.
//!
//! A file is named after the component, the engine it was compiled for, and a keyed hash of its content. So a file that is changed,
//! truncated or foreign is not used: it is removed, and the component is compiled again. The folder belongs to the host's user alone. Files
//! are written under a temporary name, then renamed, and never overwritten, because they are mapped while they serve. This module knows
//! bytes and names. It knows no guest and does not compile.
//!
//! The hash is in the file's name, so one rename publishes the code and its hash together. Only a process of the same user could
//! change a file between the check and its mapping, and such a process could change the host itself. Modification times record
//! the last use, because access times are often not kept. Decision 4 in `host/docs/decisions` has the reasons.

mod folder;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use super::digest::ComponentDigest;
use crate::engine::EngineFingerprint;
use crate::hex::hex;
use cloakroom_base::limits;
use folder::{CacheEntry, CacheFolder, OWNER_READS};
use parking_lot::Mutex;

pub(crate) use folder::CacheFolderError;

/// Name of the file with the hash key, which only this folder's user can read.
const KEY: &str = "key";
/// Suffix of files of compiled code.
const SUFFIX: &str = ".code";

/// The component and the engine that compiled code belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CodeKey {
    pub(crate) component: ComponentDigest,
    pub(crate) engine: EngineFingerprint,
}

impl fmt::Display for CodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.component, self.engine)
    }
}

/// Limits above which a folder evicts the least recently used files.
#[derive(Clone, Copy, Debug)]
struct CacheBounds {
    files_max: usize,
    bytes_max: u64,
}

/// A folder of compiled code. The processes of one user share it.
pub(crate) struct CodeCache {
    folder: CacheFolder,
    key: [u8; 32],
    bounds: CacheBounds,
    in_use: Arc<FilesInUse>,
}

/// Names of the files that guests of this process run from, with the number of holders of each.
#[derive(Debug, Default)]
struct FilesInUse(Mutex<HashMap<String, usize>>);

/// A guard that marks a file as in use until dropped.
#[derive(Debug)]
pub(crate) struct FileInUse {
    name: String,
    in_use: Arc<FilesInUse>,
}

/// An open file of code that was checked, or was written by this process. The file is not evicted while this exists.
#[derive(Debug)]
pub(crate) struct CachedCode {
    pub(crate) file: File,
    pub(crate) file_in_use: FileInUse,
}

impl CodeCache {
    /// Opens a folder, or creates it.
    ///
    /// # Errors
    /// Fails if other users could write to the folder, or if it cannot be used at all.
    pub(crate) fn open(path: &Path) -> Result<Self, CacheFolderError> {
        Self::open_within(
            path,
            CacheBounds {
                files_max: limits::CODE_FILES_MAX,
                bytes_max: limits::CODE_BYTES_MAX,
            },
        )
    }

    fn open_within(path: &Path, bounds: CacheBounds) -> Result<Self, CacheFolderError> {
        let folder = CacheFolder::open(path)?;
        let key = folder.key(KEY)?;
        folder.sweep();
        Ok(Self {
            folder,
            key,
            bounds,
            in_use: Arc::default(),
        })
    }

    /// Returns the cached code of a key, if its file is intact. Removes files of this key that are not.
    pub(crate) fn fetch(&self, key: &CodeKey) -> Option<CachedCode> {
        self.entries_of(key)
            .into_iter()
            .find_map(|entry| match self.check(key, &entry) {
                Ok(file) => {
                    folder::mark_used(&file);
                    Some(self.cached(entry.name, file))
                }
                Err(problem) => {
                    tracing::warn!(file = entry.name, %problem, "cached code is not used, and the component is compiled again");
                    self.folder.remove(&entry.name);
                    None
                }
            })
    }

    /// Stores code in place of any other file of this key. Evicts the least recently used files if the folder exceeds its limits.
    ///
    /// # Errors
    /// Fails if the file cannot be written. Existing files then stay as they are.
    pub(crate) fn publish(&self, key: &CodeKey, code: &[u8]) -> io::Result<CachedCode> {
        let name = self.name(key, self.hash(key).update(code).finalize());
        let draft = self.folder.draft()?;
        let written = write_whole(&draft.path, code).and_then(|file| {
            self.folder.rename(&draft, &name)?;
            Ok(file)
        });
        if written.is_err() {
            draft.discard();
        }
        let cached = self.cached(name, written?);
        for other in self.entries_of(key) {
            if other.name != cached.file_in_use.name {
                self.folder.remove(&other.name);
            }
        }
        self.make_room();
        Ok(cached)
    }

    fn cached(&self, name: String, file: File) -> CachedCode {
        *self.in_use.0.lock().entry(name.clone()).or_default() += 1;
        let file_in_use = FileInUse {
            name,
            in_use: Arc::clone(&self.in_use),
        };
        CachedCode { file, file_in_use }
    }

    fn entries_of(&self, key: &CodeKey) -> Vec<CacheEntry> {
        let beginning = format!("{key}-");
        let mut entries = self.folder.entries();
        entries.retain(|entry| entry.name.starts_with(&beginning) && entry.name.ends_with(SUFFIX));
        entries
    }

    fn check(&self, key: &CodeKey, entry: &CacheEntry) -> Result<File, CacheFolderError> {
        let mut file = self
            .folder
            .open_private(&entry.name, folder::NOT_WRITABLE)?;
        let mut hash = self.hash(key);
        let content = hash.update_reader(&mut file).map(|hash| hash.finalize());
        let content = content.map_err(CacheFolderError::Io)?;
        if self.name(key, content) == entry.name {
            Ok(file)
        } else {
            Err(CacheFolderError::Changed)
        }
    }

    /// Hashes the key before the content, so code of another component or engine does not match under this name.
    fn hash(&self, key: &CodeKey) -> blake3::Hasher {
        let mut hash = blake3::Hasher::new_keyed(&self.key);
        hash.update(key.to_string().as_bytes());
        hash
    }

    fn name(&self, key: &CodeKey, content: blake3::Hash) -> String {
        format!("{key}-{}{SUFFIX}", hex(content.as_bytes()))
    }

    fn make_room(&self) {
        let mut entries = self.folder.entries();
        entries.retain(|entry| entry.name.ends_with(SUFFIX));
        entries.sort_by_key(|entry| entry.used_at);
        let mut files = entries.len();
        let mut bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
        let in_use: HashSet<String> = self.in_use.0.lock().keys().cloned().collect();
        for entry in entries.iter().filter(|entry| !in_use.contains(&entry.name)) {
            if files <= self.bounds.files_max && bytes <= self.bounds.bytes_max {
                return;
            }
            self.folder.remove(&entry.name);
            files -= 1;
            bytes -= entry.bytes;
        }
    }
}

impl fmt::Debug for CodeCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeCache")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl Drop for FileInUse {
    fn drop(&mut self) {
        let mut names = self.in_use.0.lock();
        if let Some(count) = names.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                names.remove(&self.name);
            }
        }
    }
}

fn write_whole(path: &Path, code: &[u8]) -> io::Result<File> {
    let mut file = folder::create_private(path, OWNER_READS)?;
    file.write_all(code)?;
    file.rewind()?;
    Ok(file)
}

#[cfg(test)]
mod tests;
