//! The secrets that sign cookies: given by reference, or a random one that the host stores next to its embedded store.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::config_reader::Section;
use crate::config_reader::fault::ConfigFault;
use crate::config_reader::kinds::{self, boolean};
use crate::config_reader::random_secret::{SECRET_BYTES_MIN, random_secret};
use crate::stores::{ConfiguredStore, StoreLocation};
use cloakroom_base::files;
use cloakroom_base::files::FileError;
use cloakroom_base::telemetry::counted;

/// Minimum number of different bytes in a secret. 32 bytes of random hexadecimal digits have more, a repeated word has fewer.
const DIFFERENT_BYTES_MIN: usize = 8;

/// Secrets that occur in documentation and tutorials, in lower case.
const KNOWN_SECRETS: [&str; 12] = [
    "keyboard cat",
    "secret",
    "session secret",
    "cookie secret",
    "cookie_secret",
    "session_cookie_secret",
    "your secret key",
    "your-secret-key",
    "your_secret_key",
    "mysecret",
    "changeme",
    "shhhh, very secret",
];

/// The source of secrets.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// Secrets from the configuration. The first one signs, and all of them verify. Never empty.
    Given(Vec<Vec<u8>>),
    /// A secret in this file. The file is created with a random secret if it does not exist.
    GeneratedFile(PathBuf),
    /// A random secret that is lost when this process ends.
    PerProcess,
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(secrets) => write!(f, "Given({} secrets)", secrets.len()),
            Self::GeneratedFile(path) => f.debug_tuple("GeneratedFile").field(path).finish(),
            Self::PerProcess => f.write_str("PerProcess"),
        }
    }
}

impl SecretSource {
    /// Returns the secrets. The first one signs, and all of them verify. Creates the file of a stored secret if necessary. Two
    /// hosts that start at the same time use the same secret.
    ///
    /// # Errors
    /// Returns a fault if the file of a stored secret can neither be read nor created, or contains too few bytes.
    pub fn obtain(&self) -> Result<Vec<Vec<u8>>, ConfigFault> {
        match self {
            Self::Given(secrets) => Ok(secrets.clone()),
            Self::PerProcess => Ok(vec![random_secret()]),
            Self::GeneratedFile(path) => read_or_create_secret(path).map(|secret| vec![secret]),
        }
    }
}

/// Reads `secrets` and `allow_short_secrets` of `[session]`.
pub(crate) fn read(section: &mut Section<'_>, store: Option<&dyn ConfiguredStore>) -> SecretSource {
    if let Some(secrets) = given(section) {
        return SecretSource::Given(secrets);
    }
    match store.map(ConfiguredStore::location) {
        Some(StoreLocation::File(path)) => {
            let mut name = path.as_os_str().to_owned();
            name.push(".secret");
            SecretSource::GeneratedFile(name.into())
        }
        Some(StoreLocation::Server) if !section.is_given("secrets") => {
            section.fault(
                "secrets",
                "missing: all hosts and Express apps over one database must share their secrets",
                "write secrets = [\"env:NAME\"] under [session], and set NAME to the output of `openssl rand -base64 32`",
            );
            SecretSource::PerProcess
        }
        Some(StoreLocation::Memory | StoreLocation::Server) | None => SecretSource::PerProcess,
    }
}

/// Reads `secrets` and `allow_short_secrets` of a section, and checks the strength of the secrets.
pub(crate) fn given(section: &mut Section<'_>) -> Option<Vec<Vec<u8>>> {
    let is_short_allowed = section.get("allow_short_secrets", boolean).unwrap_or(false);
    let secrets = section.get("secrets", kinds::secrets)?;
    if secrets.is_empty() {
        section.fault(
            "secrets",
            "the list is empty",
            "write [\"env:NAME\"], or leave the key out",
        );
    }
    for (index, secret) in secrets.iter().enumerate() {
        check_strength(section, index, secret, is_short_allowed);
    }
    Some(secrets)
}

/// Returns the reason why a secret is weak, as far as this can be detected.
pub(crate) fn weakness(secret: &[u8]) -> Option<String> {
    let lower = secret.to_ascii_lowercase();
    if KNOWN_SECRETS.iter().any(|known| known.as_bytes() == lower) {
        Some("is a known default from public documentation".to_owned())
    } else if secret.len() < SECRET_BYTES_MIN {
        let length = counted(secret.len(), "byte");
        Some(format!(
            "has {length}; a secret has at least {SECRET_BYTES_MIN}"
        ))
    } else if different_bytes(secret) < DIFFERENT_BYTES_MIN {
        Some("repeats itself: a secret is random".to_owned())
    } else {
        None
    }
}

fn check_strength(section: &Section<'_>, index: usize, secret: &[u8], is_short_allowed: bool) {
    let Some(weakness) = weakness(secret) else {
        return;
    };
    let key = format!("secrets[{index}]");
    if is_short_allowed {
        section.warn(
            &key,
            &format!("{weakness}; rotate it: put a new one before it"),
        );
        return;
    }
    let remedy = "make one with `openssl rand -base64 32`; or, while a live Express app still signs with this one, \
                  set allow_short_secrets = true";
    let fault = ConfigFault::new(section.full(&key), weakness, remedy);
    section.reader.fault(fault.at(section.origin_of("secrets")));
}

fn different_bytes(secret: &[u8]) -> usize {
    let mut seen = [false; 256];
    for byte in secret {
        seen[usize::from(*byte)] = true;
    }
    seen.iter().filter(|seen| **seen).count()
}

fn read_or_create_secret(path: &Path) -> Result<Vec<u8>, ConfigFault> {
    let fault = |problem: String| {
        let remedy = "make its folder writable, or configure a secret: secrets = [\"env:NAME\"]";
        ConfigFault::new("session.secrets", problem, remedy)
    };
    let shown = path.display();
    let unreadable = |error: FileError| {
        let problem = format!("cannot read {shown}: {error}");
        match error {
            FileError::Io(_) => fault(problem),
            _ => ConfigFault::new("session.secrets", problem, error.remedy(&shown.to_string())),
        }
    };
    let mut secret = match files::read_own_secret(path) {
        Ok(secret) => secret,
        Err(error) if error.is_absent() => {
            make_secret(path)
                .map_err(|error| fault(format!("cannot keep a secret in {shown}: {error}")))?;
            // Another host may have created the file first. All hosts use the content of the file.
            files::read_own_secret(path).map_err(unreadable)?
        }
        Err(error) => return Err(unreadable(error)),
    };
    while secret.ends_with(b"\n") || secret.ends_with(b"\r") {
        secret.pop();
    }
    if secret.len() < SECRET_BYTES_MIN {
        let problem = format!(
            "{shown} holds {}; a secret has at least {SECRET_BYTES_MIN}",
            counted(secret.len(), "byte")
        );
        let remedy = "remove the file for a new secret (all sessions end), or put the old one back";
        return Err(ConfigFault::new("session.secrets", problem, remedy));
    }
    Ok(secret)
}

/// Creates the file completely or not at all, readable by its owner only. Does not change an existing file.
fn make_secret(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut salt = [0; 8];
    getrandom::fill(&mut salt).map_err(|error| io::Error::other(error.to_string()))?;
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", URL_SAFE_NO_PAD.encode(salt)));
    let draft = PathBuf::from(draft);
    let written = write_private(&draft).and_then(|()| match fs::hard_link(&draft, path) {
        // Another host has started at the same time, and its secret is used.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    let removed = fs::remove_file(&draft);
    written.and(removed)?;
    File::open(folder)?.sync_all()
}

fn write_private(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(&random_secret())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_secret_is_created_once_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let source = SecretSource::GeneratedFile(folder.path().join("new/sessions.sqlite.secret"));
        let first = source.obtain().unwrap();
        let second = source.obtain().unwrap();
        assert_eq!(first, second);
        assert!(first[0].len() >= SECRET_BYTES_MIN);
        let SecretSource::GeneratedFile(path) = source else {
            unreachable!("made above")
        };
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        let files = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(files, 1, "no draft is left");
    }

    #[test]
    fn concurrent_starts_generate_one_secret() {
        let folder = tempfile::tempdir().unwrap();
        let source = SecretSource::GeneratedFile(folder.path().join("secret"));
        let barrier = std::sync::Barrier::new(8);
        let mut secrets = std::thread::scope(|scope| {
            let start = || {
                barrier.wait();
                source.obtain().unwrap()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            let join =
                |thread: std::thread::ScopedJoinHandle<'_, Vec<Vec<u8>>>| thread.join().unwrap();
            threads.into_iter().map(join).collect::<Vec<_>>()
        });
        secrets.dedup();
        assert_eq!(secrets.len(), 1);
    }

    #[test]
    fn an_emptied_secret_file_is_refused_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&path, mode).unwrap();
        let fault = SecretSource::GeneratedFile(path.clone())
            .obtain()
            .unwrap_err();
        assert!(fault.problem.contains("holds 0 bytes"), "{fault}");
        assert_eq!(fs::read(path).unwrap(), b"\n");
    }

    #[test]
    fn debug_shows_no_secret() {
        let source = SecretSource::Given(vec![b"hunter2".to_vec()]);
        assert_eq!(format!("{source:?}"), "Given(1 secrets)");
    }
}
