//! The real `cloakroom` binary as a child process, with a configuration of the test's own. Its log is kept for assertions.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::wait::{block_until, wait_until};
use crate::warden::Warden;

/// Longest wait until a host has compiled its guests and listens. A busy machine with two cores compiles StarlingMonkey for over a minute.
const START_WAIT_MAX: Duration = Duration::from_secs(240);
/// Longest wait for a line of the log.
const LOG_WAIT_MAX: Duration = Duration::from_secs(30);

/// Returns the repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ has a parent")
        .to_owned()
}

/// Returns the path of a component that `make guests` builds.
///
/// # Panics
/// If the file does not exist.
pub fn component(name: &str) -> PathBuf {
    let path = repository()
        .join("target/guests")
        .join(format!("{name}.wasm"));
    assert!(
        path.is_file(),
        "{} is missing: run `make guests`",
        path.display()
    );
    path
}

/// Returns the binary that cargo built next to this test, or the one that `CLOAKROOM_TEST_BINARY` names.
///
/// # Panics
/// If the binary does not exist.
pub fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("CLOAKROOM_TEST_BINARY") {
        let path = PathBuf::from(named);
        assert!(
            path.is_file(),
            "CLOAKROOM_TEST_BINARY names no file: {}",
            path.display()
        );
        return path;
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    let path = test
        .ancestors()
        .nth(2)
        .expect("target/PROFILE/deps/TEST")
        .join("cloakroom");
    assert!(
        path.is_file(),
        "{} is missing: run the tests with `make test`",
        path.display()
    );
    path
}

/// Returns the code cache folder shared by the hosts of all tests.
fn kept_code() -> PathBuf {
    binary().with_file_name("kept-code")
}

/// A configuration under construction; [`Config::start`] runs the binary with it.
#[derive(Clone, Debug)]
pub struct Config {
    store: String,
    top: String,
    session: String,
    store_keys: String,
    tables: String,
    environment: Vec<(String, String)>,
}

/// The secret that the hosts and Express peers of the tests share.
pub const SECRET: &str = "a secret of the tests, 32 bytes or more";

impl Config {
    /// Returns the configuration of a host on a free port over the store at `url`, with the tests' secret and without guests.
    pub fn over(url: &str) -> Self {
        Self {
            store: url.to_owned(),
            top: String::new(),
            session: String::new(),
            store_keys: String::new(),
            tables: String::new(),
            environment: vec![("COOKIE_SECRET".into(), SECRET.into())],
        }
    }

    /// Adds a guest with write access to sessions, routed at `path` and everything below it.
    pub fn guest(self, path: &str, component_name: &str) -> Self {
        self.guest_with(path, component_name, "session = \"write\"")
    }

    /// Adds a guest with further keys (TOML lines), routed at `path` and everything below it.
    pub fn guest_with(mut self, path: &str, component_name: &str, keys: &str) -> Self {
        let name = format!("{component_name}{}", self.tables.matches("[guest.").count());
        let below = format!("{}/{{*rest}}", path.trim_end_matches('/'));
        let file = component(component_name);
        self.tables += &format!(
            "[guest.{name}]\ncomponent = {:?}\n{keys}\n[[route]]\npath = {below:?}\nguest = {name:?}\n",
            file.display().to_string()
        );
        self
    }

    /// Opens the admin interface on a free port, with further keys of `[admin]` (TOML lines).
    pub fn admin(mut self, keys: &str) -> Self {
        self.tables += &format!("[admin]\nlisten = \"127.0.0.1:0\"\n{keys}\n");
        self
    }

    /// Adds a guest with this name and component file and further keys (TOML lines), routed at `path` and everything below it.
    pub fn guest_at(mut self, path: &str, name: &str, file: &Path, keys: &str) -> Self {
        let below = format!("{}/{{*rest}}", path.trim_end_matches('/'));
        self.tables += &format!(
            "[guest.{name}]\ncomponent = {:?}\n{keys}\n[[route]]\npath = {below:?}\nguest = {name:?}\n",
            file.display().to_string()
        );
        self
    }

    /// Adds top-level keys (TOML lines).
    pub fn top(mut self, keys: &str) -> Self {
        self.top += &format!("{keys}\n");
        self
    }

    /// Adds keys of `[session]` (TOML lines).
    pub fn session(mut self, keys: &str) -> Self {
        self.session += &format!("{keys}\n");
        self
    }

    /// Adds keys of `[store]` (TOML lines).
    pub fn store(mut self, keys: &str) -> Self {
        self.store_keys += &format!("{keys}\n");
        self
    }

    /// Sets an environment variable of the host.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Returns the text of the configuration file. A MySQL URL is left out: it holds a password, which the host takes only from the
    /// environment.
    pub fn text(&self) -> String {
        let secrets = if self.session.contains("secrets") {
            ""
        } else {
            "secrets = [\"env:COOKIE_SECRET\"]\n"
        };
        let url = if self.store.starts_with("mysql:") {
            String::new()
        } else {
            format!("url = {:?}\n", self.store)
        };
        format!(
            "listen = \"127.0.0.1:0\"\n{}[session]\n{secrets}{}[store]\n{url}{}{}",
            self.top, self.session, self.store_keys, self.tables
        )
    }

    /// Starts the host and waits until it listens.
    ///
    /// # Panics
    /// If it does not listen in time; the panic shows its log.
    pub fn start(&self) -> Host {
        self.start_by(Command::new(binary()))
    }

    /// Like [`Config::start`], but through a program that receives `arguments` and the host's command line, and then executes the host.
    ///
    /// # Panics
    /// In the same cases as [`Config::start`].
    pub fn start_through(&self, program: &str, arguments: &[&str]) -> Host {
        let mut command = Command::new(program);
        command.args(arguments).arg(binary());
        self.start_by(command)
    }

    fn start_by(&self, command: Command) -> Host {
        let directory = tempfile::tempdir().expect("a temporary folder");
        Host::spawn(self.serve(command, directory.path()), directory)
    }

    /// Runs the binary with a configuration that it refuses. Returns its exit code and output.
    ///
    /// # Panics
    /// If the host serves.
    pub async fn refused(&self) -> (Option<i32>, String) {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let command = self.serve(Command::new(binary()), directory.path());
        let mut command = tokio::process::Command::from(command);
        let output = timeout(START_WAIT_MAX, command.kill_on_drop(true).output()).await;
        let output = output.expect("the host ends").expect("the binary starts");
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }

    /// Returns a command that serves with this configuration, which it writes to the folder.
    fn serve(&self, mut command: Command, directory: &Path) -> Command {
        let file = directory.join("cloakroom.toml");
        std::fs::write(&file, self.text()).expect("the configuration is written");
        command
            .arg("serve")
            .arg("--config")
            .arg(&file)
            .current_dir(directory);
        // All hosts share one code cache, so that each component is compiled only once.
        command.env("CLOAKROOM_SERVER_CODE_CACHE", kept_code());
        command.envs(self.environment.iter().map(|(k, v)| (k, v)));
        if self.store.starts_with("mysql:") {
            command.env("CLOAKROOM_STORE_URL", &self.store);
        }
        command
    }
}

/// A running host. Killed when dropped.
#[derive(Debug)]
pub struct Host {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<String>>,
    _warden: Warden,
    /// The folder with the configuration file and the host's working files.
    pub directory: tempfile::TempDir,
}

impl Host {
    /// Runs `command` (a `cloakroom serve ...`) and waits until it reports its address.
    ///
    /// # Panics
    /// If the process ends or reports no address. The panic shows its output.
    pub fn spawn(mut command: Command, directory: tempfile::TempDir) -> Self {
        let warden = Warden::over(directory.path());
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let log = Arc::new(Mutex::new(String::new()));
        let (found, address) = mpsc::channel();
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        follow(stdout, Arc::clone(&log), Some(found));
        follow(stderr, Arc::clone(&log), None);
        let Ok(address) = address.recv_timeout(START_WAIT_MAX) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the host did not listen; it said:\n{}", log.lock().unwrap());
        };
        Self {
            child,
            address,
            log,
            _warden: warden,
            directory,
        }
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the address that the host listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns a URL on this host.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns the URL of the host's admin interface, without a path.
    ///
    /// # Panics
    /// If the host does not report an admin interface in time.
    pub fn admin(&self) -> String {
        const NAMED: &str = "The admin interface is ";
        block_until("the log names the admin interface", START_WAIT_MAX, || {
            let log = self.log();
            let named = log.lines().find_map(|line| line.strip_prefix(NAMED));
            let url = named.with_context(|| log.clone())?;
            Ok(url.trim_end_matches('.').to_owned())
        })
    }

    /// Returns everything that the host has written to stdout and stderr so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the log contains `text`.
    ///
    /// # Panics
    /// After half a minute without `text`.
    pub async fn wait_for_log(&self, text: &str) {
        self.wait_for_log_count(text, 1).await;
    }

    /// Waits until the log contains `text` at least `count` times.
    ///
    /// # Panics
    /// After half a minute without that.
    pub async fn wait_for_log_count(&self, text: &str, count: usize) {
        let what = format!("the log contains {text:?} {count} times");
        wait_until(&what, LOG_WAIT_MAX, async || {
            let found = self.log_count(text);
            ensure!(found >= count, "{found} times in\n{}", self.log());
            Ok(())
        })
        .await;
    }

    /// Requests `path` on a new connection and waits for the line of this request in the access log. The host writes a line only after the
    /// last byte of the answer, so the lines that are already in the log may belong to an earlier request.
    ///
    /// # Panics
    /// If the connection fails or the line is missing after half a minute.
    pub async fn access_line(&self, path: &str) -> String {
        let mut connection = TcpStream::connect(self.address)
            .await
            .expect("the host listens");
        let peer = connection
            .local_addr()
            .expect("a connection has an address");
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
            self.address
        );
        let sent = connection.write_all(request.as_bytes()).await;
        sent.expect("the host reads");
        let read = connection.read_to_end(&mut Vec::new()).await;
        read.expect("the host answers");
        let named = format!("peer={peer}");
        self.wait_for_log(&named).await;
        let log = self.log();
        log.lines()
            .rfind(|line| line.contains(&named))
            .expect("it was waited for")
            .to_owned()
    }

    /// Returns how often the log contains `text`.
    pub fn log_count(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    /// Replaces the configuration file. The host reads it at the next reload.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn configure(&self, config: &Config) {
        let file = self.directory.path().join("cloakroom.toml");
        std::fs::write(file, config.text()).expect("the configuration is written");
    }

    /// Kills the host as `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().expect("the host is running");
        self.child.wait().expect("a killed host ends");
    }

    /// Sends a signal by its name: `TERM`, `INT`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status();
        assert!(sent.expect("kill runs").success());
    }

    /// Returns whether the host is still running.
    pub fn is_running(&mut self) -> bool {
        let ended = self.child.try_wait();
        ended.expect("a child can be waited for").is_none()
    }

    /// Sends SIGTERM and waits until the host has ended.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.child.wait().expect("a terminated host ends")
    }

    /// Waits until the host has ended by itself.
    ///
    /// # Panics
    /// If it is still running after `time_max`.
    pub async fn ended(&mut self, time_max: Duration) -> ExitStatus {
        wait_until("the host has ended", time_max, async || {
            let ended = self.child.try_wait().expect("a child can be waited for");
            ended.with_context(|| format!("it is still running:\n{}", self.log()))
        })
        .await
    }

    /// Returns the resident memory in KiB, from `/proc`.
    pub fn resident_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    /// Returns the swapped-out memory in KiB, from `/proc`.
    pub fn swapped_kib(&self) -> u64 {
        self.status_kib("VmSwap:")
    }

    /// Returns the peak of resident memory since [`Host::forget_peak`], in KiB.
    pub fn peak_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    /// Resets the peak of resident memory.
    ///
    /// # Panics
    /// If the host is not running.
    pub fn forget_peak(&self) {
        let path = format!("/proc/{}/clear_refs", self.child.id());
        std::fs::write(path, "5").expect("the host is running");
    }

    fn status_kib(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the host is running");
        let line = status
            .lines()
            .find(|line| line.starts_with(key))
            .expect("Linux tells it");
        line.split_whitespace()
            .nth(1)
            .and_then(|n| n.parse().ok())
            .expect("it is a number")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Copies a stream into the log, line by line, and sends each address in it to `found`.
fn follow(
    stream: impl Read + Send + 'static,
    log: Arc<Mutex<String>>,
    found: Option<mpsc::Sender<SocketAddr>>,
) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            if let (Some(found), Some(address)) = (&found, address_in(&line)) {
                let _ = found.send(address);
            }
            let mut log = log.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
        }
    });
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("http://")?;
    rest.split(['/', ' ']).next()?.parse().ok()
}
