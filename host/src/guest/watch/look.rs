//! One look at a component's file: what is there, whether it is new, whether it is whole; what is both is proposed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Mutex;

use super::directories::{Directories, Name};
use super::trace::Stamp;
use crate::guest::admission::{Admission, Proposal, Source};
use crate::guest::digest::Digest;
use crate::guest::loader::{self, LoadError};
use crate::guest::registry::{Deployment, Origin};

/// What is remembered of a file between two looks.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// Its content when it was last read, whether or not it was admitted.
    content: Option<Digest>,
    /// What could not be read and was told; `Some(None)`: a file without a stamp.
    refused: Option<Option<Stamp>>,
    is_absence_told: bool,
    /// When it was last looked at.
    pub(super) stamp: Option<Stamp>,
}

impl Memory {
    /// Of a file that was last read by others, with this content.
    pub(super) fn of(content: Option<Digest>) -> Self {
        Self {
            content,
            ..Self::default()
        }
    }
}

/// A look to be taken.
pub(super) struct Look {
    pub(super) guest: Name,
    pub(super) deployment: Arc<Deployment>,
    pub(super) path: PathBuf,
    pub(super) memory: Memory,
    /// Whether what is there is taken for whole: the file has been left alone for long.
    pub(super) is_final: bool,
}

/// What came of a look.
pub(super) struct Seen {
    pub(super) memory: Memory,
    /// If not, somebody has to look again.
    pub(super) is_whole: bool,
}

/// What is where the file should be.
enum Found {
    /// Nothing.
    Absent,
    /// Something that is being written.
    Unstable,
    /// Something that is not even read.
    Unreadable,
    /// Bytes.
    Content {
        bytes: Bytes,
        digest: Digest,
        /// Whether they could be the beginning of something.
        is_partial: bool,
    },
}

impl Look {
    /// Takes it. What is new and whole has been admitted or refused when this returns.
    ///
    /// Safe to cancel, as [`Admission::admit`] is.
    pub(super) async fn take(
        mut self,
        directories: Arc<Mutex<Directories>>,
        admission: &Admission,
    ) -> Seen {
        let found = self.find(directories).await;
        let is_whole = match found {
            Found::Unstable => false,
            Found::Absent => self.miss(),
            Found::Unreadable => {
                if self.memory.refused != Some(self.memory.stamp) {
                    self.memory.refused = Some(self.memory.stamp);
                    self.propose(Source::File, admission).await;
                }
                true
            }
            Found::Content {
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
                        self.propose(Source::Bytes(bytes), admission).await;
                    }
                    true
                }
            }
        };
        Seen {
            memory: self.memory,
            is_whole,
        }
    }

    /// A file is missing while it is removed and made again; only one that stays away is told of.
    fn miss(&mut self) -> bool {
        // One that was never there is not gone.
        let is_missed = self.deployment.live_version() > 0;
        if self.is_final && is_missed && !self.memory.is_absence_told {
            self.memory.is_absence_told = true;
            let (guest, file) = (&*self.guest, self.path.display());
            tracing::warn!(guest, %file, "the component's file is gone; what is live serves on");
        }
        self.is_final
    }

    async fn propose(&self, source: Source, admission: &Admission) {
        let proposal = Proposal {
            source,
            settings: None,
            origin: Origin::File,
            expected: None,
        };
        // Either way the log has it, and so has the list of versions.
        let _ = admission.admit(&self.deployment, proposal).await;
    }

    async fn find(&mut self, directories: Arc<Mutex<Directories>>) -> Found {
        let (guest, path) = (Arc::clone(&self.guest), self.path.clone());
        let mut directories = directories.lock_owned().await;
        let found = tokio::task::spawn_blocking(move || {
            // Before the file is read: what changes from here on is heard, and looked at again.
            directories.follow(&guest, &path);
            (Stamp::of(&path), find(&path))
        });
        match found.await {
            Ok((stamp, found)) => {
                self.memory.stamp = stamp;
                found
            }
            Err(error) => {
                tracing::error!(%error, "a look at a component ended badly");
                Found::Unstable
            }
        }
    }
}

fn find(path: &Path) -> Found {
    match loader::read(path) {
        Ok(bytes) => Found::Content {
            digest: Digest::of(&bytes),
            is_partial: is_partial(&bytes),
            bytes: bytes.into(),
        },
        Err(LoadError::Changing { .. }) => Found::Unstable,
        Err(LoadError::Unreadable { error, .. })
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            Found::Absent
        }
        Err(_) => Found::Unreadable,
    }
}

/// Whether these bytes look like what a writer is not yet done with: too few, space that is still to be filled, or a
/// component that breaks off.
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
    fn a_beginning_is_told_from_a_whole() {
        // A component with one custom section: id, size, name.
        let component = b"\0asm\x0d\0\x01\0\0\x05\x04name";
        assert!(!is_partial(component));
        for bytes in [&b""[..], &component[..4], &component[..12], &[0; 4096]] {
            assert!(is_partial(bytes), "{bytes:?}");
        }
        assert!(!is_partial(b"this is a text"), "it will not get better");
    }
}
