//! One check of a component's file: whether it exists, is new and is complete. A new and complete file is proposed as a
//! version.
//!
//! A file counts only if its content differs from the content from which a version was last made, also at SIGHUP. Reading the
//! same bytes again therefore never replaces a version that was uploaded, and never revives one that was rolled back.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Mutex;

use super::directories::{Name, WatchedDirectories};
use super::stamp::FileStamp;
use crate::load::digest::ComponentDigest;
use crate::load::loader;
use crate::load::loader::LoadError;
use crate::versions::deploy::{ComponentSource, DeployRequest, Deployer};
use crate::versions::{Deployment, VersionOrigin};
use cloakroom_base::telemetry::COMPONENT_FILE_TARGET;

/// The state of a file between two checks.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastSeen {
    /// The content when it was last read, whether or not it was deployed.
    content: Option<ComponentDigest>,
    /// The stamp of the unreadable file that was reported last. `Some(None)` is a file without a stamp.
    refused: Option<Option<FileStamp>>,
    is_absence_told: bool,
    /// The stamp at the last check.
    pub(crate) stamp: Option<FileStamp>,
}

impl LastSeen {
    /// Returns the state of a file that other code read last, with this content.
    pub(crate) fn of(content: Option<ComponentDigest>) -> Self {
        Self {
            content,
            ..Self::default()
        }
    }
}

/// A pending file check.
pub(crate) struct FileCheck {
    pub(crate) guest: Name,
    pub(crate) deployment: Arc<Deployment>,
    pub(crate) path: PathBuf,
    pub(crate) memory: LastSeen,
    /// Whether the content is assumed to be complete, because the file has not changed for a long time.
    pub(crate) is_final: bool,
}

/// The result of a file check.
pub(crate) struct FileCheckResult {
    pub(crate) memory: LastSeen,
    /// If false, the file must be checked again.
    pub(crate) is_whole: bool,
}

/// The state of the file's path.
enum FoundFile {
    /// There is no file.
    Absent,
    /// The file is being written.
    Unstable,
    /// The file cannot be read.
    Unreadable,
    /// The file was read.
    Content {
        bytes: Bytes,
        digest: ComponentDigest,
        /// Whether the bytes may be an incomplete file.
        is_partial: bool,
    },
}

impl FileCheck {
    /// Runs the check. A new and complete file has been deployed or refused when this returns.
    ///
    /// Cancel safe, like [`Deployer::deploy`].
    pub(crate) async fn take(
        mut self,
        directories: Arc<Mutex<WatchedDirectories>>,
        deployer: &Deployer,
    ) -> FileCheckResult {
        let found = self.find(directories).await;
        let is_whole = match found {
            FoundFile::Unstable => false,
            FoundFile::Absent => self.miss(),
            FoundFile::Unreadable => {
                if self.memory.refused != Some(self.memory.stamp) {
                    self.memory.refused = Some(self.memory.stamp);
                    self.deploy(ComponentSource::File, deployer).await;
                }
                true
            }
            FoundFile::Content {
                bytes,
                digest,
                is_partial,
            } => {
                self.memory.refused = None;
                self.memory.is_absence_told = false;
                let is_new = self.memory.content != Some(digest);
                if is_new && is_partial && !self.is_final {
                    false
                } else {
                    if is_new {
                        self.memory.content = Some(digest);
                        self.deploy(ComponentSource::Bytes(bytes), deployer).await;
                    }
                    true
                }
            }
        };
        FileCheckResult {
            memory: self.memory,
            is_whole,
        }
    }

    /// Handles a missing file and returns whether the check is complete. A file that is being replaced may be missing
    /// for a moment, so a warning is logged only if it stays missing.
    fn miss(&mut self) -> bool {
        // A file from which no version was ever made is not missed.
        let is_missed = self.deployment.live_version() > 0;
        if self.is_final && is_missed && !self.memory.is_absence_told {
            self.memory.is_absence_told = true;
            let (guest, file) = (&*self.guest, self.path.display());
            tracing::warn!(
                target: COMPONENT_FILE_TARGET, guest, %file,
                "the component's file is gone; the live version continues to serve"
            );
        }
        self.is_final
    }

    async fn deploy(&self, source: ComponentSource, deployer: &Deployer) {
        let request = DeployRequest {
            source,
            settings: None,
            origin: VersionOrigin::File,
            expected: None,
        };
        // The log and the list of versions have the outcome in either case.
        let _ = deployer.deploy(&self.deployment, request).await;
    }

    async fn find(&mut self, directories: Arc<Mutex<WatchedDirectories>>) -> FoundFile {
        let (guest, path) = (Arc::clone(&self.guest), self.path.clone());
        let mut directories = directories.lock_owned().await;
        let found = tokio::task::spawn_blocking(move || {
            // Watch before reading the file, so that any later change causes another check.
            directories.follow(&guest, &path);
            (FileStamp::of(&path), find(&path))
        });
        match found.await {
            Ok((stamp, found)) => {
                self.memory.stamp = stamp;
                found
            }
            Err(error) => {
                tracing::error!(target: COMPONENT_FILE_TARGET, %error, "a component's file check failed");
                FoundFile::Unstable
            }
        }
    }
}

fn find(path: &Path) -> FoundFile {
    match loader::read(path) {
        Ok(bytes) => FoundFile::Content {
            digest: ComponentDigest::of(&bytes),
            is_partial: is_partial(&bytes),
            bytes: bytes.into(),
        },
        Err(LoadError::Changing { .. }) => FoundFile::Unstable,
        Err(LoadError::Unreadable { error, .. })
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            FoundFile::Absent
        }
        Err(_) => FoundFile::Unreadable,
    }
}

/// Returns whether a writer seems to be unfinished with these bytes: too few of them, zeros that are still to be
/// filled, or a truncated component.
fn is_partial(bytes: &[u8]) -> bool {
    const HEADER_BYTES: usize = 8;
    bytes.len() < HEADER_BYTES
        || bytes.starts_with(&[0; HEADER_BYTES])
        || matches!(loader::outline(bytes), Err(LoadError::Damaged { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_component_is_distinguished_from_a_complete_one() {
        // A component with one custom section: ID, size, name.
        let component = b"\0asm\x0d\0\x01\0\0\x05\x04name";
        assert!(!is_partial(component));
        for bytes in [&b""[..], &component[..4], &component[..12], &[0; 4096]] {
            assert!(is_partial(bytes), "{bytes:?}");
        }
        assert!(!is_partial(b"this is a text"), "it will not get better");
    }
}
