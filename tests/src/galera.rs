//! Three MariaDB servers that form one Galera cluster on 127.0.0.1, and the faults that a test injects into one of them.
//!
//! The provider is Debian's `galera-4`. `rsync` copies the state to a node that was killed (`tests/sst`). The group's time limits are
//! Galera's defaults: the group drops a silent member after 5 seconds.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use futures_util::future::join_all;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error, OptsBuilder};

use crate::host::repository;
use crate::mariadb::{Database, Mariadb, run};
use crate::port::Port;
use crate::wait::wait_until;

/// The number of nodes: the smallest cluster that keeps a majority when it loses one node.
pub const NODES: usize = 3;
/// Longest wait for a node to become a member that has caught up, including a copy of the whole state.
const SYNC_TIME_MAX: Duration = Duration::from_secs(90);
/// The paths where Debian and other distributions install the provider.
const PROVIDERS: [&str; 3] = [
    "/usr/lib/galera/libgalera_smm.so",
    "/usr/lib/libgalera_smm.so",
    "/usr/lib64/galera-4/libgalera_smm.so",
];
/// `wsrep_local_state` of a member that has caught up.
const SYNCED: &str = "4";
/// The usual connection limit of the servers (`mariadb.rs`).
const CONNECTIONS_MAX: usize = 500;
/// The error code for too many connections.
const ER_CON_COUNT_ERROR: u16 = 1040;

/// A private Galera cluster. Nodes are numbered from 0.
///
/// All methods panic with a clear message when a node cannot do as asked, as the methods of [`Mariadb`] do.
pub struct Galera {
    nodes: Vec<Mariadb>,
    /// Kept for nodes that are started again.
    _ports: Vec<Ports>,
}

/// The ports that a node listens on in addition to its clients' port.
struct Ports {
    group: Port,
    incremental: Port,
    snapshot: Port,
}

impl Galera {
    /// Starts a private cluster and waits until all of its nodes are members.
    pub async fn start() -> Galera {
        Self::of(NODES).await
    }

    /// Starts a cluster of one node.
    pub async fn alone() -> Galera {
        Self::of(1).await
    }

    async fn of(nodes: usize) -> Galera {
        let free = |_| Ports {
            group: Port::free(),
            incremental: Port::free(),
            snapshot: Port::free(),
        };
        let ports: Vec<_> = (0..nodes).map(free).collect();
        let installed =
            (0..nodes).map(|node| Mariadb::installed(arguments(&ports, node), Some(path())));
        let cluster = Self {
            nodes: join_all(installed).await,
            _ports: ports,
        };
        cluster.nodes[0]
            .start_again_with(&["--wsrep-new-cluster"])
            .await;
        cluster.wait_until_synced(0).await;
        // One node after the other, because a node sends its state to one other node at a time.
        for node in 1..nodes {
            cluster.start_again(node).await;
        }
        cluster.nodes[0].create_account().await;
        cluster
    }

    /// Returns a node, which can be killed, paused, stopped and inspected like any other server.
    pub fn node(&self, node: usize) -> &Mariadb {
        &self.nodes[node]
    }

    /// Creates an empty database and waits until each node has it.
    pub async fn fresh_database(&self) -> Database {
        let database = self.nodes[0].fresh_database().await;
        for node in &self.nodes {
            let mut admin = node.admin().await;
            run(&mut admin, "SET SESSION wsrep_sync_wait = 7").await;
            // The grant is the last statement.
            let granted = format!(
                "SELECT COUNT(*) FROM mysql.db WHERE Db = '{}'",
                database.name
            );
            let granted: Option<u64> = admin.query_first(granted).await.expect("the node answers");
            assert_eq!(granted, Some(1), "the statements of a cluster are ordered");
        }
        database
    }

    /// Returns the URL of a database at one node.
    pub fn url(&self, database: &Database, node: usize) -> String {
        database.url_through(self.nodes[node].port())
    }

    /// Returns the URL of a database at all nodes, starting with node `first`.
    pub fn urls(&self, database: &Database, first: usize) -> String {
        let in_order = self.nodes.iter().cycle().skip(first);
        let servers: Vec<_> = in_order
            .take(self.nodes.len())
            .map(|node| format!("127.0.0.1:{}", node.port()))
            .collect();
        format!(
            "mysql://{}:{}@{}/{}",
            database.user,
            database.password,
            servers.join(","),
            database.name
        )
    }

    /// Starts a stopped or killed node and waits until it has caught up.
    pub async fn start_again(&self, node: usize) {
        // The node listens before it has its state, and greets clients only after that.
        self.nodes[node].start_again().await;
        self.wait_until_synced(node).await;
    }

    /// Starts a stopped or killed node as a single server outside the cluster.
    pub async fn start_alone(&self, node: usize) {
        let alone = &["--wsrep-on=OFF", "--wsrep-provider=none"];
        self.nodes[node].start_again_with(alone).await;
    }

    /// Stops a node as a service manager does, and starts it again.
    pub async fn restart(&self, node: usize) {
        self.nodes[node].stop().await;
        self.start_again(node).await;
    }

    /// Cuts a node off from the others; its clients still reach it. Returns when the node knows that it has no majority.
    pub async fn isolate(&self, node: usize) {
        self.set(node, "wsrep_provider_options = 'gmcast.isolate=1'")
            .await;
        self.wait_for_status(node, &[("wsrep_cluster_status", "non-Primary")])
            .await;
    }

    /// Lets an isolated node reach the others again and waits until it has caught up.
    pub async fn rejoin(&self, node: usize) {
        self.set(node, "wsrep_provider_options = 'gmcast.isolate=0'")
            .await;
        self.wait_until_synced(node).await;
    }

    /// Makes a node refuse writes, as an operator does before a switch.
    pub async fn demote(&self, node: usize) {
        self.set(node, "read_only = 1").await;
    }

    /// Lets a node accept writes again.
    pub async fn promote(&self, node: usize) {
        self.set(node, "read_only = 0").await;
    }

    /// Locks all tables of a node against writes, as a backup does, until the connection is closed.
    pub async fn lock(&self, node: usize) -> Conn {
        let mut admin = self.nodes[node].admin().await;
        run(&mut admin, "FLUSH TABLES WITH READ LOCK").await;
        admin
    }

    /// Limits the node to `connections_max` connections and opens all that are left of them.
    pub async fn fill(
        &self,
        node: usize,
        database: &Database,
        connections_max: usize,
    ) -> Vec<Conn> {
        self.set(node, &format!("max_connections = {connections_max}"))
            .await;
        let mut strangers = Vec::new();
        while let Some(stranger) = self.connect(node, database).await {
            strangers.push(stranger);
            assert!(strangers.len() <= connections_max, "the limit holds");
        }
        strangers
    }

    /// Closes these connections and restores the node's usual limit.
    pub async fn empty(&self, node: usize, strangers: Vec<Conn>) {
        for stranger in strangers {
            let ended = stranger.disconnect().await;
            ended.expect("the connection ends in order");
        }
        let usual = format!("max_connections = {CONNECTIONS_MAX}");
        self.set(node, &usual).await;
    }

    /// Opens a connection of the tested program's account. Returns `None` where the node has no connection left.
    async fn connect(&self, node: usize, database: &Database) -> Option<Conn> {
        let options = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.nodes[node].port())
            .user(Some(&database.user))
            .pass(Some(&database.password))
            .db_name(Some(&database.name))
            .prefer_socket(false);
        match Conn::new(options).await {
            Ok(connection) => Some(connection),
            Err(Error::Server(error)) if error.code == ER_CON_COUNT_ERROR => None,
            Err(error) => panic!("no connection to node {node}: {error}"),
        }
    }

    async fn set(&self, node: usize, assignment: &str) {
        let mut admin = self.nodes[node].admin().await;
        run(&mut admin, &format!("SET GLOBAL {assignment}")).await;
    }

    /// Waits until a node accepts statements and has applied all writes that it missed.
    pub async fn wait_until_synced(&self, node: usize) {
        self.wait_for_status(
            node,
            &[("wsrep_ready", "ON"), ("wsrep_local_state", SYNCED)],
        )
        .await;
    }

    async fn wait_for_status(&self, node: usize, expected: &[(&str, &str)]) {
        // A node answers `SHOW STATUS` in every state.
        let mut admin = self.nodes[node].admin().await;
        let what = format!("node {node} has {expected:?}");
        wait_until(&what, SYNC_TIME_MAX, async || {
            for (name, value) in expected {
                let status = status(&mut admin, name).await;
                let log = || self.nodes[node].log_tail();
                ensure!(status == *value, "{name} {status}\n{}", log());
            }
            Ok(())
        })
        .await;
    }
}

async fn status(admin: &mut Conn, name: &str) -> String {
    let row: Option<(String, String)> = admin
        .query_first(format!("SHOW GLOBAL STATUS LIKE '{name}'"))
        .await
        .expect("the node answers");
    row.map(|(_, value)| value).unwrap_or_default()
}

/// Returns the arguments that make a server a node: the group's members, and ports of its own because all nodes share one address.
fn arguments(ports: &[Ports], node: usize) -> Vec<String> {
    let address = |port: &Port| format!("127.0.0.1:{}", port.number());
    let members: Vec<_> = ports.iter().map(|ports| address(&ports.group)).collect();
    let Ports {
        group,
        incremental,
        snapshot,
    } = &ports[node];
    let (group, incremental) = (address(group), address(incremental));
    vec![
        "--wsrep-on=ON".to_owned(),
        format!("--wsrep-provider={}", provider()),
        // Clusters of other tests run at the same time, so the name must be unique.
        format!("--wsrep-cluster-name=cloakroom-{}", ports[0].group.number()),
        format!("--wsrep-cluster-address=gcomm://{}", members.join(",")),
        format!("--wsrep-node-name=node{node}"),
        format!("--wsrep-node-address={group}"),
        "--wsrep-sst-method=here".to_owned(),
        format!("--wsrep-sst-receive-address={}", address(snapshot)),
        format!(
            "--wsrep-provider-options=gmcast.listen_addr=tcp://{group};ist.recv_addr={incremental};gcache.size=32M"
        ),
        "--binlog-format=ROW".to_owned(),
        "--innodb-autoinc-lock-mode=2".to_owned(),
    ]
}

/// Returns this process's path with the folder of `wsrep_sst_here` appended.
fn path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":");
    path.push(repository().join("tests/sst"));
    path
}

fn provider() -> &'static str {
    let found = PROVIDERS.into_iter().find(|path| Path::new(path).is_file());
    found.expect(
        "libgalera_smm.so is not installed: run tests/setup.sh (Debian: apt-get install galera-4)",
    )
}
