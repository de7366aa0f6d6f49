//! HAProxy as a child process: a load balancer in front of hosts or of the database.

use std::fs::File;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use crate::port::Port;
use crate::wait::block_until;
use crate::warden::Warden;

/// Longest wait until it listens on a busy machine.
const START_TIME_MAX: Duration = Duration::from_secs(30);

/// A running HAProxy. Killed when dropped.
#[derive(Debug)]
pub struct Haproxy {
    child: Child,
    port: Port,
    _warden: Warden,
    directory: tempfile::TempDir,
}

impl Haproxy {
    /// Starts HAProxy with these lines in its one `listen` section, and waits until it listens.
    ///
    /// # Panics
    /// If HAProxy is not installed or does not start.
    pub fn start(lines: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let warden = Warden::over(directory.path());
        let port = Port::free();
        let text = format!(
            "global\n    maxconn 2000\nlisten front\n    bind 127.0.0.1:{}\n{lines}\n",
            port.number()
        );
        let file = directory.path().join("haproxy.cfg");
        std::fs::write(&file, text).expect("the configuration is written");
        let log = File::create(directory.path().join("log")).expect("a log file");
        // In the foreground and as a single process, so that killing the child ends all of it.
        let child = Command::new(program())
            .arg("-db")
            .arg("-f")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("haproxy starts: run tests/setup.sh");
        let mut haproxy = Self {
            child,
            port,
            _warden: warden,
            directory,
        };
        haproxy.wait_until_it_listens();
        haproxy
    }

    fn wait_until_it_listens(&mut self) {
        let address = ("127.0.0.1", self.port.number());
        block_until("HAProxy listens", START_TIME_MAX, || {
            let ended = !matches!(self.child.try_wait(), Ok(None));
            assert!(!ended, "HAProxy ended: {}", self.log());
            TcpStream::connect(address).with_context(|| self.log())
        });
    }

    /// Returns the port that it listens on.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Returns its URL without a path.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    /// Returns its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // Both calls fail only when the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the path of the program. Debian installs it in a folder that an ordinary user's PATH may lack.
fn program() -> PathBuf {
    let place = PathBuf::from("/usr/sbin/haproxy");
    if place.is_file() {
        place
    } else {
        "haproxy".into()
    }
}
