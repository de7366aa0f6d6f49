//! A private MariaDB server in a temporary directory, for tests that need the real thing.
//!
//! No server outlives its test process, however that ends: a small shell process (the warden) holds the read end of a
//! pipe, and when the pipe closes it kills the server and removes the directory.
//!
//! The server writes its log to the file at each commit but flushes it once a second
//! (`innodb_flush_log_at_trx_commit=2`): a killed server loses nothing, a killed machine might. Tests that measure ask for
//! the durable setting with [`Mariadb::start_with`]`(&["--innodb-flush-log-at-trx-commit=1"])`, the last value given holds.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts, OptsBuilder};
use tokio::sync::OnceCell;

/// How long a server may take to come up on a busy machine.
const START_TIME_MAX: Duration = Duration::from_secs(60);
/// How often the installation is tried.
const INSTALL_ATTEMPTS_MAX: u32 = 3;
/// The account the tested program uses.
const USER: &str = "app";
/// Its password; odd enough to be searched for in logs.
const PASSWORD: &str = "pw-Zq7kT2mVx9";

/// What the warden runs: remembers the last server named on its standard input; at its end kills that and removes `$1`.
const WARDEN: &str = r#"
server=
while read -r line; do server=$line; done
if [ -n "$server" ]; then kill -KILL "$server"; fi
rm -rf "$1" || { sleep 1; rm -rf "$1"; }
"#;

/// A running (or stopped, or paused) server of our own.
///
/// All methods panic with a clear message when the server cannot do as asked: a test cannot go on without it.
pub struct Mariadb {
    directory: PathBuf,
    port: u16,
    extra_arguments: Vec<String>,
    server: Mutex<Option<Child>>,
    warden: Mutex<Warden>,
    databases: AtomicU32,
}

struct Warden {
    process: Child,
    stdin: Option<ChildStdin>,
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
        let mariadb = tokio::task::spawn_blocking(move || install(extra_arguments))
            .await
            .expect("the installation does not panic");
        mariadb.start_again().await;
        let mut admin = mariadb.admin().await;
        run(
            &mut admin,
            &format!("CREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}'"),
        )
        .await;
        mariadb
    }

    /// The TCP port on 127.0.0.1; it stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
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
            port: self.port,
        };
        database.url = database.url_through(self.port);
        database
    }

    /// A connection that may do everything, over the Unix socket.
    pub async fn admin(&self) -> Conn {
        match Conn::new(self.admin_options()).await {
            Ok(connection) => connection,
            Err(error) => panic!("no connection to mariadbd: {error}\n{}", self.log_tail()),
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
        self.spawn();
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

    fn spawn(&self) {
        let mut command = Command::new(find_program(&["mariadbd", "mysqld"]));
        command
            .args(common_arguments(&self.directory))
            .args([
                format!("--socket={}", self.socket().display()),
                format!("--port={}", self.port),
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
            // Its own group: an interrupt at the terminal reaches the test, whose end the warden notices.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let server = command.spawn().expect("mariadbd can be started");
        self.tell_warden(&server.id().to_string());
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
        self.tell_warden("");
    }

    fn tell_warden(&self, line: &str) {
        let mut warden = self.warden.lock().expect("no panic holds it");
        let stdin = warden.stdin.as_mut().expect("the warden listens");
        writeln!(stdin, "{line}").expect("the warden listens");
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
        if let Ok(mut warden) = self.warden.lock() {
            // It has been reaped: its number may belong to somebody else by now.
            if let Some(stdin) = warden.stdin.as_mut() {
                let _ = writeln!(stdin);
            }
            drop(warden.stdin.take());
            let _ = warden.process.wait();
        }
    }
}

fn install(extra_arguments: Vec<String>) -> Mariadb {
    let directory = tempfile::Builder::new()
        .prefix("cloakroom-mariadb-")
        .tempdir()
        .expect("a temporary directory can be made")
        .keep();
    let warden = start_warden(&directory);
    make_data_directory(&directory);
    Mariadb {
        directory,
        port: free_port(),
        extra_arguments,
        server: Mutex::new(None),
        warden: Mutex::new(warden),
        databases: AtomicU32::new(0),
    }
}

/// Makes the system tables. The server that does it crashes now and then (10.11.19 does, in its Aria engine), so a crash
/// is tried again; anything that is wrong fails each time.
fn make_data_directory(directory: &Path) {
    let mut said = String::new();
    for _ in 0..INSTALL_ATTEMPTS_MAX {
        // Fails where there is none yet.
        let _ = fs::remove_dir_all(directory.join("data"));
        let output = Command::new(find_program(&["mariadb-install-db", "mysql_install_db"]))
            .args(common_arguments(directory))
            .args([
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--skip-name-resolve",
            ])
            .stdin(Stdio::null())
            .output()
            .expect("mariadb-install-db can be started");
        if output.status.success() {
            return;
        }
        said = [output.stdout, output.stderr]
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .concat();
    }
    panic!("mariadb-install-db failed: {said}");
}

fn start_warden(directory: &Path) -> Warden {
    let mut process = Command::new("sh")
        .args(["-c", WARDEN, "warden"])
        .arg(directory)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh can be started");
    let stdin = process.stdin.take();
    Warden { process, stdin }
}

fn common_arguments(directory: &Path) -> Vec<String> {
    let mut arguments = vec![
        "--no-defaults".to_owned(),
        format!("--datadir={}", directory.join("data").display()),
    ];
    // mariadbd refuses to run as root without being told to.
    if fs::metadata(directory).is_ok_and(|m| m.uid() == 0) {
        arguments.push("--user=root".to_owned());
    }
    arguments
}

/// The first of `names` that is installed, on the path or where Debian puts servers.
fn find_program(names: &[&str]) -> PathBuf {
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
                _ => return candidate,
            }
        }
    }
    panic!(
        "{} is not installed: these tests run against a real MariaDB server (Debian: apt-get install mariadb-server)",
        names[0]
    );
}

/// Whether all threads of the process have taken a stop signal; the signal's sender does not wait for that.
fn is_stopped(process: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
        // No such file system here: nothing to look at.
        return true;
    };
    threads.flatten().all(|thread| {
        let status = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state follows the name, which is in parentheses and may hold anything.
        (status.rsplit_once(") ")).is_none_or(|(_, rest)| rest.starts_with('T'))
    })
}

/// A port that nobody listens on now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    listener.local_addr().expect("it is bound").port()
}

async fn run(connection: &mut Conn, statement: &str) {
    if let Err(error) = connection.query_drop(statement).await {
        panic!("{statement}: {error}");
    }
}
