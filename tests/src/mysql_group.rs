//! Clusters of MySQL from an unpacked server (`tests/mysql.sh`): Group Replication, and a primary with a replica.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

use crate::host::repository;
use crate::port::Port;
use crate::warden::Warden;

/// How far above the script's port its servers and their groups listen.
const DISTANCES: [u16; 6] = [1, 2, 3, 11, 12, 13];

/// A cluster of our own. Its servers are numbered from 1. They end when it is dropped.
pub struct MysqlCluster {
    unpacked: OsString,
    folder: PathBuf,
    port: u16,
    _ports: Vec<Port>,
    _warden: Warden,
}

impl MysqlCluster {
    /// Starts one by a command of the script: `group single`. None where `CLOAKROOM_MYSQL` names no unpacked server.
    ///
    /// # Panics
    /// If it does not start.
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

    /// Runs a command of the script and gives what it says.
    ///
    /// # Panics
    /// If it fails.
    pub async fn run(&self, command: &[&str]) -> String {
        let output = Command::new(repository().join("tests/mysql.sh"))
            .arg("--run")
            // Below the folder, so that the warden ends the script, too.
            .arg(self.folder.join("servers"))
            .arg(self.port.to_string())
            .args(command)
            .env("CLOAKROOM_MYSQL", &self.unpacked)
            .stdin(Stdio::null())
            .output()
            .await
            .expect("the script can be started");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let failed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {said}{failed}");
        said
    }

    /// A URL of the database for each of three hosts: all servers, and another one first where each takes writes.
    pub async fn urls(&self) -> Vec<String> {
        let said = self.run(&["urls"]).await;
        said.split_whitespace().map(str::to_owned).collect()
    }
}
