//! MySQL clusters from an unpacked server (`tests/mysql.sh`): Group Replication, and a primary with a replica.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

use crate::host::repository;
use crate::port::Port;
use crate::warden::Warden;

/// The distances above the script's port at which its servers and their groups listen.
const DISTANCES: [u16; 6] = [1, 2, 3, 11, 12, 13];

/// A private MySQL cluster. Its servers are numbered from 1 and end when it is dropped.
pub struct MysqlCluster {
    unpacked: OsString,
    folder: PathBuf,
    port: u16,
    _ports: Vec<Port>,
    _warden: Warden,
}

impl MysqlCluster {
    /// Starts a cluster with a command of the script, such as `group single`. Returns `None` where `CLOAKROOM_MYSQL` names no unpacked
    /// server.
    ///
    /// # Panics
    /// If the cluster does not start.
    pub async fn start(command: &[&str]) -> Option<Self> {
        let unpacked = std::env::var_os("CLOAKROOM_MYSQL")?;
        let folder = tempfile::Builder::new()
            .prefix("cloakroom-mysql-")
            .tempdir()
            .expect("a temporary folder")
            .keep();
        let (port, ports) = Port::above(&DISTANCES);
        let cluster = Self {
            unpacked,
            _warden: Warden::over(&folder),
            folder,
            port,
            _ports: ports,
        };
        cluster.run(command).await;
        Some(cluster)
    }

    /// Runs a command of the script and returns its output.
    ///
    /// # Panics
    /// If the command fails.
    pub async fn run(&self, command: &[&str]) -> String {
        let output = Command::new(repository().join("tests/mysql.sh"))
            .arg("--run")
            // The servers' folder is below the warden's folder, so that the warden also ends the script.
            .arg(self.folder.join("servers"))
            .arg(self.port.to_string())
            .args(command)
            .env("CLOAKROOM_MYSQL", &self.unpacked)
            .stdin(Stdio::null())
            .output()
            .await
            .expect("the script can be started");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let failed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {text}{failed}");
        text
    }

    /// Returns a URL of the database for each of three hosts. Each URL names all servers, with a different one first where all servers
    /// accept writes.
    pub async fn urls(&self) -> Vec<String> {
        let text = self.run(&["urls"]).await;
        text.split_whitespace().map(str::to_owned).collect()
    }
}
