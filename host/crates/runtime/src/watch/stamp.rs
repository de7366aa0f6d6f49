//! The identities of files and directories, and the stamps that show their changes.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

/// The device and inode numbers of a file or directory, which do not depend on its name.
pub type Identity = (u64, u64);

/// The identity of a file and its last change. Equal stamps do not prove equal content: a file may be written twice
/// within one clock tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    identity: Identity,
    bytes: u64,
    modified: Option<SystemTime>,
    changed: (i64, i64),
}

impl FileStamp {
    /// Returns the stamp of the file that the path leads to now. `None` if there is none, or if it cannot be read.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        Some(Self::from(&path.metadata().ok()?))
    }

    /// Returns the identity of the file.
    #[must_use]
    pub fn identity(self) -> Identity {
        self.identity
    }

    /// Returns whether the stamps show the same content: the same file with the same size and time of modification. A change of
    /// the mode, the owner or the number of links changes a stamp without that.
    #[must_use]
    pub fn is_same_content(self, other: Self) -> bool {
        let content = |stamp: Self| (stamp.identity.1, stamp.bytes, stamp.modified);
        content(self) == content(other)
    }

    /// Returns the size of the file in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.bytes
    }
}

impl From<&Metadata> for FileStamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            identity: (metadata.dev(), metadata.ino()),
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}
