//! A private MariaDB server in a temporary directory, for tests that need the real thing.
//!
//! No server outlives its test process, however that ends: a small shell process (`warden.rs`) kills it and removes its
//! directory.
//!
//! The server writes its log to the file at each commit but flushes it once a second
//! (`innodb_flush_log_at_trx_commit=2`): a killed server loses nothing, a killed machine might. Tests that measure ask for
//! the durable setting with [`Mariadb::start_with`]`(&["--innodb-flush-log-at-trx-commit=1"])`, the last value given holds.

mod install;

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts, OptsBuilder};
use tokio::sync::OnceCell;

use self::install::{common_arguments, find_program, is_stopped};
use crate::port::Port;
use crate::warden::Warden;

/// How long a server may take to come up on a busy machine.
const START_TIME_MAX: Duration = Duration::from_secs(60);
/// Longest wait for a connection of the administrator.
const ADMIN_WAIT_MAX: Duration = Duration::from_secs(10);
/// The account the tested program uses.
const USER: &str = "app";
/// Its password; odd enough to be searched for in logs.
const PASSWORD: &str = "pw-Zq7kT2mVx9";

/// A running (or stopped, or paused) server of our own.
///
/// All methods panic with a clear message when the server cannot do as asked: a test cannot go on without it.
pub struct Mariadb {
    directory: PathBuf,
    port: Port,
    extra_arguments: Vec<String>,
    /// Where the server looks for programs, unless as this process does.
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
    /// The account, which has every right on this database and none elsewhere.
    pub user: String,
    /// The account's password.
    pub password: String,
    /// The server's TCP port on 127.0.0.1.
    pub port: u16,
}

impl Database {
    /// The same database reached through another port of 127.0.0.1, a [`crate::chaos_proxy::ChaosProxy`]'s for example.
    pub fn url_through(&self, port: u16) -> String {
        format!(
            "mysql://{}:{}@127.0.0.1:{port}/{}",
            self.user, self.password, self.name
        )
    }
}

impl Mariadb {
    /// The server that all tests of this process share; tests that stop, kill or pause a server start their own.
    pub async fn shared() -> &'static Mariadb {
        static SHARED: OnceCell<Mariadb> = OnceCell::const_new();
        SHARED.get_or_init(Mariadb::start).await
    }

    /// Starts a server of the caller's own.
    pub async fn start() -> Mariadb {
        Self::start_with(&[]).await
    }

    /// Starts a server with further `mariadbd` arguments, which outrank the usual ones.
    pub async fn start_with(extra_arguments: &[&str]) -> Mariadb {
        let extra_arguments = extra_arguments.iter().map(|a| (*a).to_owned()).collect();
        let mariadb = Self::installed(extra_arguments, None).await;
        mariadb.start_again().await;
        mariadb.create_account().await;
        mariadb
    }

    /// A server with its system tables, not started yet; it looks for programs at `path`, if there is one.
    pub(crate) async fn installed(extra_arguments: Vec<String>, path: Option<OsString>) -> Mariadb {
        tokio::task::spawn_blocking(move || install(extra_arguments, path))
            .await
            .expect("the installation does not panic")
    }

    /// Makes the account that [`Mariadb::fresh_database`] grants its rights to.
    pub(crate) async fn create_account(&self) {
        let mut admin = self.admin().await;
        run(
            &mut admin,
            &format!("CREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}'"),
        )
        .await;
    }

    /// The TCP port on 127.0.0.1; it stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The path of the Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    /// Makes an empty database that only its own caller knows.
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

    /// A connection that may do everything, over the Unix socket. A node that joins its cluster may drop the first ones.
    pub async fn admin(&self) -> Conn {
        let until = Instant::now() + ADMIN_WAIT_MAX;
        loop {
            match Conn::new(self.admin_options()).await {
                Ok(connection) => return connection,
                Err(_) if Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => panic!("no connection to mariadbd: {error}\n{}", self.log_tail()),
            }
        }
    }

    /// Stops the server as a service manager would, and waits for its end.
    pub async fn stop(&self) {
        self.signal("-TERM");
        self.reap();
    }

    /// Kills the server on the spot.
    pub async fn kill(&self) {
        self.signal("-KILL");
        self.reap();
    }

    /// Starts the stopped or killed server on the same data, port and socket, and waits until it answers.
    pub async fn start_again(&self) {
        self.start_again_with(&[]).await;
    }

    /// As [`Mariadb::start_again`], with further arguments for this start alone.
    pub(crate) async fn start_again_with(&self, arguments: &[&str]) {
        self.spawn(arguments);
        let started_at = Instant::now();
        while let Err(error) = Conn::new(self.admin_options()).await {
            let ended = (self.server.lock().expect("no panic holds it").as_mut())
                .is_some_and(|server| !matches!(server.try_wait(), Ok(None)));
            assert!(
                !ended && started_at.elapsed() < START_TIME_MAX,
                "mariadbd did not come up: {error}\n{}",
                self.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Halts the server: connections stay open and get no answer. When this returns no thread of it runs any more.
    pub fn pause(&self) {
        self.signal("-STOP");
        let server = self.server.lock().expect("no panic holds it");
        let id = server.as_ref().expect("the server runs").id();
        while !is_stopped(id) {
            std::thread::yield_now();
        }
    }

    /// Lets a paused server go on.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    /// The last lines of the server's error log.
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
        let mut command = Command::new(find_program(&["mariadbd", "mysqld"]));
        command
            .args(common_arguments(&self.directory))
            .args([
                format!("--socket={}", self.socket().display()),
                format!("--port={}", self.port()),
                format!("--pid-file={}", self.directory.join("pid").display()),
                format!("--log-error={}", self.directory.join("error.log").display()),
                "--bind-address=127.0.0.1".to_owned(),
                "--skip-name-resolve".to_owned(),
                "--skip-log-bin".to_owned(),
                "--performance-schema=off".to_owned(),
                "--innodb-buffer-pool-size=64M".to_owned(),
                "--innodb-flush-log-at-trx-commit=2".to_owned(),
                "--max-connections=500".to_owned(),
            ])
            .args(&self.extra_arguments)
            .args(arguments)
            .envs(self.path.as_ref().map(|path| ("PATH", path)))
            // Its own group: an interrupt at the terminal reaches the test, whose end the warden notices.
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
            // Both fail only where the server has ended by itself.
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
    install::make_data_directory(&directory);
    Mariadb {
        directory,
        port: Port::free(),
        extra_arguments,
        path,
        server: Mutex::new(None),
        databases: AtomicU32::new(0),
        _warden: warden,
    }
}

pub(crate) async fn run(connection: &mut Conn, statement: &str) {
    if let Err(error) = connection.query_drop(statement).await {
        panic!("{statement}: {error}");
    }
}
