//! A private MariaDB server in a temporary directory.
//!
//! No server outlives its test process, however that process ends: a small shell process (`warden.rs`) kills the server and removes its
//! directory.
//!
//! The server writes its log to the file at each commit but flushes it once a second (`innodb_flush_log_at_trx_commit=2`). A killed server
//! loses nothing; a machine that loses power might. Measurements ask for the durable setting with
//! [`Mariadb::start_with`]`(&["--innodb-flush-log-at-trx-commit=1"])`: the last value given applies.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{anyhow, ensure};
use cloakroom_mariadb::Installation;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts, OptsBuilder};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use crate::port::Port;
use crate::wait::{block_until, wait_until};
use crate::warden::Warden;

/// Longest wait for a server to start on a busy machine. A node of a cluster first gets a copy of the whole state.
const START_TIME_MAX: Duration = Duration::from_secs(90);
/// Longest wait for an administrator's connection.
const ADMIN_WAIT_MAX: Duration = Duration::from_secs(10);
/// Longest time from a stop signal until all threads have stopped.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);
/// The account of the tested program.
const USER: &str = "app";
/// The account's password, unusual enough to search logs for it.
const PASSWORD: &str = "pw-Zq7kT2mVx9";

/// A private server, which is running, stopped or paused.
///
/// All methods panic with a clear message when the server cannot do as asked: a test cannot go on without it.
pub struct Mariadb {
    directory: PathBuf,
    installation: Installation,
    port: Port,
    extra_arguments: Vec<String>,
    /// The server's search path for programs, if it differs from the path of this process.
    path: Option<OsString>,
    server: Mutex<Option<Child>>,
    databases: AtomicU32,
    _warden: Warden,
}

/// A fresh database and the account that owns it.
#[derive(Clone)]
pub struct Database {
    /// `mysql://user:password@127.0.0.1:port/name`.
    pub url: String,
    /// The database's name.
    pub name: String,
    /// The account, which has all privileges on this database and none elsewhere.
    pub user: String,
    /// The account's password.
    pub password: String,
    /// The server's TCP port on 127.0.0.1.
    pub port: u16,
}

impl Database {
    /// Returns the URL of the same database at another port of 127.0.0.1, for example the port of a [`crate::chaos_proxy::ChaosProxy`].
    pub fn url_through(&self, port: u16) -> String {
        format!(
            "mysql://{}:{}@127.0.0.1:{port}/{}",
            self.user, self.password, self.name
        )
    }
}

impl Mariadb {
    /// Returns the server that all tests of this process share. Tests that stop, kill or pause a server start their own.
    pub async fn shared() -> &'static Mariadb {
        static SHARED: OnceCell<Mariadb> = OnceCell::const_new();
        SHARED.get_or_init(Mariadb::start).await
    }

    /// Starts a private server.
    pub async fn start() -> Mariadb {
        Self::start_with(&[]).await
    }

    /// Starts a private server with further `mariadbd` arguments, which override the usual ones.
    pub async fn start_with(extra_arguments: &[&str]) -> Mariadb {
        let extra_arguments = extra_arguments.iter().map(|a| (*a).to_owned()).collect();
        let mariadb = Self::installed(extra_arguments, None).await;
        mariadb.start_again().await;
        mariadb.create_account().await;
        mariadb
    }

    /// Creates a server with its system tables and does not start it. The server searches `path` for programs, if it is given.
    pub(crate) async fn installed(extra_arguments: Vec<String>, path: Option<OsString>) -> Mariadb {
        tokio::task::spawn_blocking(move || install(extra_arguments, path))
            .await
            .expect("the installation does not panic")
    }

    /// Creates the account to which [`Mariadb::fresh_database`] grants its privileges.
    pub(crate) async fn create_account(&self) {
        let mut admin = self.admin().await;
        run(
            &mut admin,
            &format!("CREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}'"),
        )
        .await;
    }

    /// Returns the TCP port on 127.0.0.1, which stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Returns the path of the Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    /// Creates an empty database that no other test uses.
    pub async fn fresh_database(&self) -> Database {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut admin = self.admin().await;
        run(&mut admin, &format!("CREATE DATABASE {name}")).await;
        run(
            &mut admin,
            &format!("GRANT ALL ON {name}.* TO '{USER}'@'%'"),
        )
        .await;
        let mut database = Database {
            url: String::new(),
            name,
            user: USER.to_owned(),
            password: PASSWORD.to_owned(),
            port: self.port(),
        };
        database.url = database.url_through(self.port());
        database
    }

    /// Opens an administrator's connection over the Unix socket. A node that is joining its cluster may drop the first ones.
    pub async fn admin(&self) -> Conn {
        wait_until(
            "mariadbd accepts a connection",
            ADMIN_WAIT_MAX,
            async || {
                let connected = Conn::new(self.admin_options()).await;
                connected.map_err(|error| anyhow!("{error}\n{}", self.log_tail()))
            },
        )
        .await
    }

    /// Stops the server as a service manager would, and waits until it has ended.
    pub async fn stop(&self) {
        self.signal("-TERM");
        self.reap();
    }

    /// Kills the server at once.
    pub async fn kill(&self) {
        self.signal("-KILL");
        self.reap();
    }

    /// Starts the stopped or killed server on the same data, port and socket, and waits until it answers.
    pub async fn start_again(&self) {
        self.start_again_with(&[]).await;
    }

    /// Like [`Mariadb::start_again`], with further arguments for this start only.
    pub(crate) async fn start_again_with(&self, arguments: &[&str]) {
        self.spawn(arguments);
        wait_until("mariadbd has started", START_TIME_MAX, async || {
            let connected = Conn::new(self.admin_options()).await;
            let ended = (self.server.lock().expect("no panic holds it").as_mut())
                .is_some_and(|server| !matches!(server.try_wait(), Ok(None)));
            assert!(
                connected.is_ok() || !ended,
                "mariadbd ended:\n{}",
                self.log_tail()
            );
            connected.map_err(|error| anyhow!("{error}\n{}", self.log_tail()))?;
            // The server may listen on its socket a moment before it listens on its port.
            Ok(TcpStream::connect(("127.0.0.1", self.port())).await?)
        })
        .await;
    }

    /// Pauses the server: connections stay open and get no answer. On return no thread of the server is running.
    pub fn pause(&self) {
        self.signal("-STOP");
        let server = self.server.lock().expect("no panic holds it");
        let id = server.as_ref().expect("the server runs").id();
        block_until(
            "all threads of mariadbd have stopped",
            STOP_TIME_MAX,
            || {
                ensure!(is_stopped(id));
                Ok(())
            },
        );
    }

    /// Resumes a paused server.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    /// Returns the last lines of the server's error log.
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.directory.join("error.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn admin_options(&self) -> Opts {
        OptsBuilder::default()
            .socket(Some(self.socket().to_string_lossy()))
            .user(Some("root"))
            .into()
    }

    fn spawn(&self, arguments: &[&str]) {
        let mut command = self
            .installation
            .server(self.port())
            .expect("mariadbd is installed");
        command
            .args([
                format!("--socket={}", self.socket().display()),
                format!("--log-error={}", self.directory.join("error.log").display()),
                "--skip-log-bin".to_owned(),
                "--performance-schema=off".to_owned(),
                "--innodb-buffer-pool-size=64M".to_owned(),
                "--innodb-flush-log-at-trx-commit=2".to_owned(),
                "--max-connections=500".to_owned(),
            ])
            .args(&self.extra_arguments)
            .args(arguments)
            .envs(self.path.as_ref().map(|path| ("PATH", path)))
            // A process group of its own: an interrupt at the terminal reaches only the test, and the warden notices when the test ends.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let server = command.spawn().expect("mariadbd can be started");
        *self.server.lock().expect("no panic holds it") = Some(server);
    }

    fn signal(&self, signal: &str) {
        let server = self.server.lock().expect("no panic holds it");
        let id = server.as_ref().expect("the server runs").id().to_string();
        let status = Command::new("kill").args([signal, &id]).status();
        assert!(
            status.is_ok_and(|s| s.success()),
            "kill {signal} {id} failed"
        );
    }

    fn reap(&self) {
        let server = self.server.lock().expect("no panic holds it").take();
        let status = server.expect("the server runs").wait();
        status.expect("an own child can be waited for");
    }
}

impl Drop for Mariadb {
    fn drop(&mut self) {
        let server = self.server.lock().map(|mut server| server.take());
        if let Ok(Some(mut server)) = server {
            // Both calls fail only when the server has already ended.
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

fn install(extra_arguments: Vec<String>, path: Option<OsString>) -> Mariadb {
    let directory = tempfile::Builder::new()
        .prefix("cloakroom-mariadb-")
        .tempdir()
        .expect("a temporary directory can be made")
        .keep();
    let warden = Warden::over(&directory);
    let installation = Installation::create(&directory);
    Mariadb {
        directory,
        installation: installation.expect("the system tables are created"),
        port: Port::free(),
        extra_arguments,
        path,
        server: Mutex::new(None),
        databases: AtomicU32::new(0),
        _warden: warden,
    }
}

/// Returns whether all threads of the process have stopped. Sending a stop signal does not wait for that.
fn is_stopped(process: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
        // This system has no `/proc`, so there is nothing to check.
        return true;
    };
    threads.flatten().all(|thread| {
        let status = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state follows the name, which is in parentheses and may contain any character.
        (status.rsplit_once(") ")).is_none_or(|(_, rest)| rest.starts_with('T'))
    })
}

pub(crate) async fn run(connection: &mut Conn, statement: &str) {
    if let Err(error) = connection.query_drop(statement).await {
        panic!("{statement}: {error}");
    }
}
