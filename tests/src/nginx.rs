//! nginx as a child process: a cache or a load balancer in front of hosts.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use crate::port::Port;
use crate::wait::block_until;
use crate::warden::Warden;

/// Longest wait until it listens on a busy machine.
const START_WAIT_MAX: Duration = Duration::from_secs(30);

/// A running nginx. Killed when dropped.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    port: Port,
    _warden: Warden,
    directory: tempfile::TempDir,
}

impl Nginx {
    /// Starts nginx with these lines in `http { }` and in its one `server { }`, and waits until it listens.
    ///
    /// # Panics
    /// If nginx is not installed or does not start.
    pub fn start(http: &str, server: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let warden = Warden::over(directory.path());
        let port = Port::free();
        let at = directory.path().display();
        // A single process, so that killing the child ends all of it and it runs as the user of the test.
        let text = format!(
            "daemon off;\nmaster_process off;\npid {at}/pid;\nerror_log {at}/error.log info;\nevents {{ worker_connections 512; }}\n\
             http {{\naccess_log off;\nclient_body_temp_path {at}/body;\nproxy_temp_path {at}/proxy;\n\
             fastcgi_temp_path {at}/f;\nuwsgi_temp_path {at}/u;\nscgi_temp_path {at}/s;\n\
             {}\nserver {{\nlisten 127.0.0.1:{};\n{}\n}}\n}}\n",
            http.replace("{at}", &at.to_string()),
            port.number(),
            server
        );
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, text).expect("the configuration is written");
        let child = Command::new(program())
            .arg("-c")
            .arg(&file)
            .arg("-p")
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx starts: run tests/setup.sh");
        let mut nginx = Self {
            child,
            port,
            _warden: warden,
            directory,
        };
        nginx.wait_until_it_listens();
        nginx
    }

    fn wait_until_it_listens(&mut self) {
        let address = ("127.0.0.1", self.port.number());
        block_until("nginx listens", START_WAIT_MAX, || {
            let ended = !matches!(self.child.try_wait(), Ok(None));
            assert!(!ended, "nginx ended: {}", self.log());
            TcpStream::connect(address).with_context(|| self.log())
        });
    }

    /// Returns a URL of the server.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port.number())
    }

    /// Returns the error log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("error.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the path of the program. Debian installs it in a folder that an ordinary user's PATH may lack.
fn program() -> PathBuf {
    let place = PathBuf::from("/usr/sbin/nginx");
    if place.is_file() {
        place
    } else {
        "nginx".into()
    }
}
