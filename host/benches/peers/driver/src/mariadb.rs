//! A private MariaDB server with MariaDB's own defaults, which are durable: a commit is flushed before it is acknowledged
//! (`innodb_flush_log_at_trx_commit=1`). All contenders that use a database use this server, each time with a new database.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::process::{self, Server};

/// `mariadb-install-db` crashes now and then (version 10.11.19, in its Aria engine).
const INSTALL_ATTEMPTS_MAX: u32 = 3;
/// The folders of the server's programs. The empty one means `PATH`. Debian installs some programs in the others, which are not
/// in an ordinary user's `PATH`.
const FOLDERS: [&str; 3] = ["", "/usr/sbin", "/usr/libexec"];

/// The account of all contenders.
pub const USER: &str = "bench";
/// The account's password.
pub const PASSWORD: &str = "bench";

/// The running server.
#[derive(Debug)]
pub struct Mariadb {
    server: Server,
    address: SocketAddr,
}

impl Mariadb {
    /// Creates a data directory in `directory` and starts the server on it.
    pub fn start(directory: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(directory)?;
        let data = directory.join("data");
        install(&data)?;
        let address = process::free_address()?;
        let mut command = Command::new(find("mariadbd")?);
        command.args(common_arguments(&data)?).args([
            "--bind-address=127.0.0.1".to_owned(),
            format!("--port={}", address.port()),
            // Relative to the data directory, because the path of a socket must be short.
            "--socket=socket".to_owned(),
            format!("--pid-file={}", directory.join("pid").display()),
        ]);
        let server = Server::start(command, address, &directory.join("log"))?;
        let mariadb = Self { server, address };
        mariadb.query(&format!(
            "CREATE USER '{USER}'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';
             GRANT ALL ON *.* TO '{USER}'@'127.0.0.1'"
        ))?;
        Ok(mariadb)
    }

    /// Creates an empty database, replacing one of the same name.
    pub fn make_database(&self, name: &str) -> anyhow::Result<()> {
        self.query(&format!(
            "DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name}"
        ))?;
        Ok(())
    }

    /// Executes the statements and returns their output, one row per line.
    pub fn query(&self, statements: &str) -> anyhow::Result<String> {
        let port = format!("--port={}", self.address.port());
        let words = [
            "--no-defaults",
            "--protocol=tcp",
            "--host=127.0.0.1",
            "--user=root",
        ];
        let said = process::output(
            Command::new("mariadb")
                .args(words)
                .args([&port, "--batch", "--skip-column-names", "--execute"])
                .arg(statements),
        );
        said.with_context(|| format!("MariaDB's log ends: {}", self.server.log()))
    }

    /// Returns the address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.server.id()
    }

    /// Stops the server gracefully.
    pub fn stop(self) -> anyhow::Result<()> {
        self.server.stop().map(drop)
    }
}

fn install(data: &Path) -> anyhow::Result<()> {
    let mut attempts = 1;
    loop {
        // An earlier attempt may have left files.
        let _ = fs::remove_dir_all(data);
        let made = process::output(
            Command::new(find("mariadb-install-db")?)
                .args(common_arguments(data)?)
                .args(["--auth-root-authentication-method=normal", "--skip-test-db"]),
        );
        match made {
            Err(error) if attempts == INSTALL_ATTEMPTS_MAX => return Err(error),
            Err(_) => attempts += 1,
            Ok(_) => return Ok(()),
        }
    }
}

fn common_arguments(data: &Path) -> anyhow::Result<Vec<String>> {
    let mut arguments = vec![
        "--no-defaults".to_owned(),
        format!("--datadir={}", data.display()),
        "--skip-name-resolve".to_owned(),
    ];
    let above = data.parent().context("a data directory is in another")?;
    // mariadbd refuses to run as root without this option.
    if fs::metadata(above)?.uid() == 0 {
        arguments.push("--user=root".to_owned());
    }
    Ok(arguments)
}

fn find(program: &str) -> anyhow::Result<PathBuf> {
    let runs = |candidate: &PathBuf| {
        let mut probe = Command::new(candidate);
        probe.args(["--no-defaults", "--version"]);
        probe
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        probe.spawn().is_ok_and(|mut child| child.wait().is_ok())
    };
    let candidates = FOLDERS.map(|folder| Path::new(folder).join(program));
    candidates
        .into_iter()
        .find(runs)
        .with_context(|| format!("{program} is not installed: tests/setup.sh installs it"))
}
