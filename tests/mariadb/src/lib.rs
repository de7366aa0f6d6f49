//! The programs and the data directory of a private MariaDB server, for the end-to-end tests and for the benchmark's driver
//! (`host/benches/peers`). The driver is in another cargo workspace and connects through MariaDB's client program, so accounts and
//! connections are not here. Settings that cost durability or speed are the caller's.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// The number of attempts to create the system tables.
const INSTALL_ATTEMPTS_MAX: u32 = 3;

/// A folder with the data directory of a server in it.
#[derive(Debug)]
pub struct Installation {
    folder: PathBuf,
}

impl Installation {
    /// Creates the system tables in `data` below the folder. The server that creates them sometimes crashes (10.11.19 does, in its Aria
    /// engine), so this retries. An error other than a crash occurs at each attempt.
    ///
    /// # Errors
    /// If MariaDB is not installed or cannot create the tables.
    pub fn create(folder: &Path) -> anyhow::Result<Self> {
        let installation = Self {
            folder: folder.to_owned(),
        };
        let mut said = String::new();
        for _ in 0..INSTALL_ATTEMPTS_MAX {
            // Fails where no such directory exists yet.
            let _ = fs::remove_dir_all(installation.data());
            let output = installation
                .command(&["mariadb-install-db", "mysql_install_db"])?
                .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
                .stdin(Stdio::null())
                .output()
                .context("mariadb-install-db cannot be started")?;
            if output.status.success() {
                return Ok(installation);
            }
            said = [output.stdout, output.stderr]
                .map(|text| String::from_utf8_lossy(&text).into_owned())
                .concat();
        }
        bail!("mariadb-install-db failed: {said}")
    }

    /// Returns the command that starts the server on this port of 127.0.0.1, with MariaDB's own settings. The caller adds the path of the
    /// socket, which must be short.
    ///
    /// # Errors
    /// If MariaDB is not installed.
    pub fn server(&self, port: u16) -> anyhow::Result<Command> {
        let mut command = self.command(&["mariadbd", "mysqld"])?;
        command.args([
            "--bind-address=127.0.0.1".to_owned(),
            format!("--port={port}"),
            format!("--pid-file={}", self.folder.join("pid").display()),
        ]);
        Ok(command)
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Returns a command with the arguments that both programs need. `--no-defaults` must be the first one.
    fn command(&self, names: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(find_program(names)?);
        command.args([
            "--no-defaults".to_owned(),
            format!("--datadir={}", self.data().display()),
            "--skip-name-resolve".to_owned(),
        ]);
        // mariadbd refuses to run as root unless this option is given.
        if fs::metadata(&self.folder).is_ok_and(|folder| folder.uid() == 0) {
            command.arg("--user=root");
        }
        Ok(command)
    }
}

/// Returns the first of `names` that is installed, on the path or in the folders where distributions install servers.
fn find_program(names: &[&str]) -> anyhow::Result<PathBuf> {
    for name in names {
        for candidate in [
            PathBuf::from(name),
            Path::new("/usr/sbin").join(name),
            Path::new("/usr/libexec").join(name),
        ] {
            let probe = Command::new(&candidate)
                .args(["--no-defaults", "--version"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            match probe {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                _ => return Ok(candidate),
            }
        }
    }
    bail!(
        "{} is not installed: tests/setup.sh installs it (Debian: apt-get install mariadb-server)",
        names[0]
    )
}
