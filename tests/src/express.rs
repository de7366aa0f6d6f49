//! The Express peers (`express/app.js`, `express/cookies.js`) as child processes.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::host::repository;

/// A running Express app. Killed when dropped.
#[derive(Debug)]
pub struct Express {
    child: Child,
    port: u16,
}

/// A database that an Express app connects to.
#[derive(Clone, Debug)]
pub struct Database {
    /// The TCP port on 127.0.0.1.
    pub port: u16,
    /// The account.
    pub user: String,
    /// The password of the account.
    pub password: String,
    /// The name of the schema.
    pub name: String,
}

impl Express {
    /// Starts the app over a MySQL database with express-session's options (`secret` and so on) as JSON, and waits until it listens.
    ///
    /// # Panics
    /// If Node.js or its packages are missing, or the app does not start.
    pub fn start(database: &Database, session: &Value) -> Self {
        let options = json!({
            "session": session,
            "store": {
                "host": "127.0.0.1",
                "port": database.port,
                "user": database.user,
                "password": database.password,
                "database": database.name,
            },
        });
        Self::spawn("app.js", &options)
    }

    /// Starts the app that reads cookies with cookie-parser and writes them with `res.cookie`. The first secret signs.
    ///
    /// # Panics
    /// In the same cases as [`Express::start`].
    pub fn cookies(secrets: &[&str]) -> Self {
        Self::spawn("cookies.js", &json!({ "secrets": secrets }))
    }

    fn spawn(script: &str, options: &Value) -> Self {
        let directory = repository().join("tests/express");
        assert!(
            directory.join("node_modules/cookie-parser").is_dir(),
            "the Express peers are not installed: run tests/setup.sh"
        );
        let mut child = Command::new("node")
            .arg(script)
            .current_dir(&directory)
            .env("PEER_OPTIONS", options.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node starts: run tests/setup.sh");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("the peer prints its port");
        let port = line
            .trim()
            .parse()
            .expect("the peer prints its port; its error is above");
        Self { child, port }
    }

    /// Returns a URL of the app.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

impl Drop for Express {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
