//! A server as a child process: started on a free port, awaited and stopped. Does not know the server's protocol.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

/// The longest time from the start to the first accepted connection. Cloakroom compiles its guests, up to 200, on its first
/// start.
const START_TIME_MAX: Duration = Duration::from_secs(300);
/// The longest time from SIGTERM to the exit.
const STOP_TIME_MAX: Duration = Duration::from_secs(30);
/// The interval between checks for both.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// The number of bytes of a log that an error shows.
const LOG_BYTES_SHOWN: usize = 2000;

/// A running server. It is killed when this value is dropped, and when this process ends for any reason.
#[derive(Debug)]
pub struct Server {
    child: Child,
    name: String,
    log: PathBuf,
    start_time: Duration,
}

impl Server {
    /// Starts a server that writes its log to `log`, and waits until it accepts connections on `address`.
    ///
    /// Its environment contains only `PATH`, `HOME` and the variables of `command`.
    pub fn start(command: Command, address: SocketAddr, log: &Path) -> anyhow::Result<Self> {
        let program = Path::new(command.get_program());
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let output = File::create(log)?;
        let started_at = Instant::now();
        let child = wrapped(&command)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        let mut server = Self {
            child,
            name: name.into_owned(),
            log: log.to_owned(),
            start_time: Duration::ZERO,
        };
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!("{} ended with {status}:\n{}", server.name, server.log());
            }
            let in_time = started_at.elapsed() < START_TIME_MAX;
            ensure!(
                in_time,
                "{} takes no connections: {}",
                server.name,
                server.log()
            );
            std::thread::sleep(LOOK_INTERVAL);
        }
        server.start_time = started_at.elapsed();
        Ok(server)
    }

    /// Returns the time until the server accepted a connection, accurate to a few hundredths of a second.
    pub fn start_time(&self) -> Duration {
        self.start_time
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the end of the log.
    pub fn log(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let shown = &log[log.len().saturating_sub(LOG_BYTES_SHOWN)..];
        String::from_utf8_lossy(shown).into_owned()
    }

    /// Asks the server to exit, and waits for it.
    pub fn stop(mut self) -> anyhow::Result<ExitStatus> {
        let id = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).status()?;
        ensure!(asked.success(), "kill -TERM {id} failed");
        let asked_at = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            let in_time = asked_at.elapsed() < STOP_TIME_MAX;
            ensure!(in_time, "{} does not end: {}", self.name, self.log());
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both calls only fail if the server has already been stopped and awaited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Wraps the command so that the kernel kills it when this process ends, and replaces its environment.
fn wrapped(command: &Command) -> Command {
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--pdeathsig", "KILL", "--"]);
    wrapped.arg(command.get_program()).args(command.get_args());
    wrapped.env_clear();
    // Programs use these variables to find other programs and their own files.
    for (name, value) in std::env::vars_os() {
        if name == "PATH" || name == "HOME" {
            wrapped.env(name, value);
        }
    }
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            wrapped.env(name, value);
        }
    }
    if let Some(directory) = command.get_current_dir() {
        wrapped.current_dir(directory);
    }
    wrapped
}

/// Returns an unused address on the loopback interface.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?)
}

/// Runs a program and returns its output without the line break at the end.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let said = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} cannot be started", command.get_program().display()))?;
    ensure!(
        said.status.success(),
        "{} ended with {}: {}{}",
        command.get_program().display(),
        said.status,
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    );
    Ok(String::from_utf8_lossy(&said.stdout).trim_end().to_owned())
}
