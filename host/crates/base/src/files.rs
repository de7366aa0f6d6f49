//! How the host opens files that other users may have put in its place. Only regular files of bounded size are read, and
//! neither a pipe nor a device makes the host wait. Secrets are also opened here, and only here.
//!
//! Every file that an operator names is opened here.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

use crate::limits::SECRET_FILE_BYTES_MAX;

/// Mode bits that allow the group or others to write.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// Mode bit that allows all users to read.
const READABLE_BY_ALL: u32 = 0o004;
/// Mode bits that a file created by the host does not have.
const ANY_BUT_OWNER: u32 = 0o077;

/// Why a file was not read. `Display` continues the text "cannot read PATH: ".
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The path is a folder, a pipe, a socket or a device.
    #[error("it is {0}, not a file")]
    NotAFile(&'static str),
    /// The file is larger than any valid one.
    #[error("it has more than {0} bytes")]
    TooLarge(u64),
    /// Users other than its owner may write to it.
    #[error("users other than its owner may write to it (mode {0:03o})")]
    Writable(u32),
    /// The host created it for its owner alone, and now other users may read or write it.
    #[error("users other than its owner may read it (mode {0:03o})")]
    NotPrivate(u32),
}

impl FileError {
    /// Returns whether the path does not exist.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// Returns advice for the user. `shown` is the path.
    pub fn remedy(&self, shown: &str) -> String {
        match self {
            Self::Io(_) => format!("make {shown} readable, or name another file"),
            Self::NotAFile(_) | Self::TooLarge(_) => "name a regular file".to_owned(),
            Self::Writable(_) => {
                format!("run `chmod go-w {shown}`, if no other user has changed it")
            }
            Self::NotPrivate(_) => format!("run `chmod 600 {shown}`, if no other user has read it"),
        }
    }
}

/// Opens a regular file for reading and follows links. Never blocks, whereas opening a pipe without a writer would block forever.
///
/// # Errors
/// [`FileError::Io`], [`FileError::NotAFile`].
pub fn open(path: &Path) -> Result<(File, Metadata), FileError> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        // A socket cannot be opened at all.
        .map_err(|error| match std::fs::metadata(path) {
            Ok(found) if !found.is_file() => FileError::NotAFile(kind(&found)),
            _ => error.into(),
        })?;
    let found = file.metadata()?;
    match found.is_file() {
        true => Ok((file, found)),
        false => Err(FileError::NotAFile(kind(&found))),
    }
}

/// Reads a whole regular file of at most `bytes_max` bytes.
///
/// # Errors
/// As [`open`], and [`FileError::TooLarge`].
pub fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, FileError> {
    let (file, _) = open(path)?;
    read_open(&file, bytes_max)
}

/// A secret, and whether all users of the machine may read it. This is common in containers, which have no other users, and
/// worth a warning.
pub struct SecretFile {
    bytes: Vec<u8>,
    /// Whether the file's mode lets all users read it.
    pub is_readable_by_all: bool,
}

impl std::fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretFile").finish_non_exhaustive()
    }
}

impl SecretFile {
    /// Returns the content of the file.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads a secret that another program or user maintains. Links are followed.
///
/// # Errors
/// As [`read`], and [`FileError::Writable`].
pub fn read_secret(path: &Path) -> Result<SecretFile, FileError> {
    let (file, found) = open(path)?;
    if found.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(FileError::Writable(found.mode() & 0o777));
    }
    Ok(SecretFile {
        bytes: read_open(&file, SECRET_FILE_BYTES_MAX)?,
        is_readable_by_all: found.mode() & READABLE_BY_ALL != 0,
    })
}

/// Reads a secret that the host has created for its owner alone.
///
/// # Errors
/// As [`read`], and [`FileError::NotPrivate`].
pub fn read_own_secret(path: &Path) -> Result<Vec<u8>, FileError> {
    let (file, found) = open(path)?;
    if found.mode() & ANY_BUT_OWNER != 0 {
        return Err(FileError::NotPrivate(found.mode() & 0o777));
    }
    read_open(&file, SECRET_FILE_BYTES_MAX)
}

fn read_open(file: &File, bytes_max: u64) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > bytes_max {
        true => Err(FileError::TooLarge(bytes_max)),
        false => Ok(bytes),
    }
}

fn kind(found: &Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt as _;
    let kind = found.file_type();
    if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn file(folder: &Path, name: &str, mode: u32) -> std::path::PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, "content").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_file_that_is_not_regular_is_refused_without_blocking() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mode = rustix::fs::Mode::RUSR;
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), fifo, mode, 0).unwrap();
        let _listener = UnixListener::bind(at("socket")).unwrap();
        symlink(at("pipe"), at("link")).unwrap();
        symlink(at("round"), at("round")).unwrap();
        for (path, expected) in [
            (at("pipe"), "it is a pipe, not a file"),
            (at("link"), "it is a pipe, not a file"),
            (at("socket"), "it is a socket, not a file"),
            (folder.path().to_owned(), "it is a folder, not a file"),
            ("/dev/zero".into(), "it is a device, not a file"),
            (
                at("round"),
                "Too many levels of symbolic links (os error 40)",
            ),
        ] {
            for error in [
                read(&path, 100).unwrap_err(),
                read_secret(&path).unwrap_err(),
                read_own_secret(&path).unwrap_err(),
            ] {
                assert_eq!(error.to_string(), expected, "{}", path.display());
            }
        }
        assert!(read(&at("absent"), 100).unwrap_err().is_absent());
    }

    #[test]
    fn a_file_is_read_up_to_its_bound_behind_links() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), "file", 0o644);
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        assert_eq!(read(&link, 7).unwrap(), b"content");
        let error = read(&link, 6).unwrap_err();
        assert_eq!(error.to_string(), "it has more than 6 bytes");
    }

    #[test]
    fn a_secret_file_is_accepted_or_refused_by_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        // Kubernetes and Docker provide secrets with modes 0644, 0444 and, owned by root, 0440, behind links.
        for (mode, is_taken, is_open, is_own) in [
            (0o600, true, false, true),
            (0o400, true, false, true),
            (0o440, true, false, false),
            (0o644, true, true, false),
            (0o444, true, true, false),
            (0o660, false, false, false),
            (0o602, false, false, false),
            (0o777, false, false, false),
        ] {
            let path = file(folder.path(), &format!("{mode:o}"), mode);
            let link = folder.path().join(format!("link-{mode:o}"));
            symlink(&path, &link).unwrap();
            let read = read_secret(&link);
            assert_eq!(read.is_ok(), is_taken, "{mode:o}");
            assert!(
                read.is_err() || read.unwrap().is_readable_by_all == is_open,
                "{mode:o}"
            );
            assert_eq!(read_own_secret(&link).is_ok(), is_own, "{mode:o}");
        }
    }
}
