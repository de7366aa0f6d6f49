//! Three MariaDB servers that form one Galera cluster on 127.0.0.1, and the faults that a test brings on one of them.
//!
//! Debian's `galera-4` is the provider, `rsync` copies the state to a node that was killed (`tests/sst`). The time-outs of the group are
//! Galera's own: a member that falls silent is given up after 5 seconds.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error, OptsBuilder};
use tokio::time::{sleep, timeout};

use crate::host::repository;
use crate::mariadb::{Database, Mariadb, run};
use crate::port::Port;

/// How many nodes there are: the fewest that lose one and have a majority.
pub const NODES: usize = 3;
/// Longest wait for a node to be a member that has caught up; a copy of the whole state included.
const SYNC_TIME_MAX: Duration = Duration::from_secs(90);
/// Where Debian and others put the provider.
const PROVIDERS: [&str; 3] = [
    "/usr/lib/galera/libgalera_smm.so",
    "/usr/lib/libgalera_smm.so",
    "/usr/lib64/galera-4/libgalera_smm.so",
];
/// `wsrep_local_state` of a member that has caught up.
const SYNCED: &str = "4";
/// The servers' usual limit of connections (`mariadb.rs`).
const CONNECTIONS_MAX: usize = 500;
/// Too many connections.
const ER_CON_COUNT_ERROR: u16 = 1040;

/// A cluster of our own. Nodes are numbered from 0.
///
/// All methods panic with a clear message when a node cannot do as asked, as those of [`Mariadb`] do.
pub struct Galera {
    nodes: Vec<Mariadb>,
    /// Kept for nodes that start again.
    _ports: Vec<Ports>,
}

/// What a node listens on beside its clients' port.
struct Ports {
    group: Port,
    incremental: Port,
    snapshot: Port,
}

impl Galera {
    /// Starts a cluster of the caller's own and waits until all of its nodes are members.
    pub async fn start() -> Galera {
        Self::of(NODES).await
    }

    /// Starts a node that is a cluster by itself.
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
        // One after the other: a node that gives its state to another one gives it to one at a time.
        for node in 1..nodes {
            cluster.start_again(node).await;
        }
        cluster.nodes[0].create_account().await;
        cluster
    }

    /// One of the servers: killed, halted, stopped and looked into as any other.
    pub fn node(&self, node: usize) -> &Mariadb {
        &self.nodes[node]
    }

    /// Makes an empty database and waits until each node has it.
    pub async fn fresh_database(&self) -> Database {
        let database = self.nodes[0].fresh_database().await;
        for node in &self.nodes {
            let mut admin = node.admin().await;
            run(&mut admin, "SET SESSION wsrep_sync_wait = 7").await;
            // The grant came last.
            let granted = format!(
                "SELECT COUNT(*) FROM mysql.db WHERE Db = '{}'",
                database.name
            );
            let granted: Option<u64> = admin.query_first(granted).await.expect("the node answers");
            assert_eq!(granted, Some(1), "the statements of a cluster are ordered");
        }
        database
    }

    /// The URL of a database at one node alone.
    pub fn url(&self, database: &Database, node: usize) -> String {
        database.url_through(self.nodes[node].port())
    }

    /// The URL of a database at all nodes, `first` the first of them.
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

    /// Starts a node that was stopped or killed and waits until it has caught up.
    pub async fn start_again(&self, node: usize) {
        // It listens before it has its state, and greets after that.
        let started = timeout(SYNC_TIME_MAX, self.nodes[node].start_again()).await;
        assert!(
            started.is_ok(),
            "node {node} got no state:\n{}",
            self.nodes[node].log_tail()
        );
        self.wait_until_synced(node).await;
    }

    /// Starts a node that was stopped or killed as a server of its own, outside of the cluster.
    pub async fn start_alone(&self, node: usize) {
        let alone = &["--wsrep-on=OFF", "--wsrep-provider=none"];
        self.nodes[node].start_again_with(alone).await;
    }

    /// Stops a node as a service manager does and starts it again.
    pub async fn restart(&self, node: usize) {
        self.nodes[node].stop().await;
        self.start_again(node).await;
    }

    /// Cuts a node off from the others; its clients still reach it. Returns when it knows that it has no majority.
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

    /// Lets a node take writes again.
    pub async fn promote(&self, node: usize) {
        self.set(node, "read_only = 0").await;
    }

    /// Locks all tables of a node against writes, as a backup does, for as long as the connection is kept.
    pub async fn lock(&self, node: usize) -> Conn {
        let mut admin = self.nodes[node].admin().await;
        run(&mut admin, "FLUSH TABLES WITH READ LOCK").await;
        admin
    }

    /// Lets the node take `connections_max` connections and opens all that are left of them.
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

    /// Ends these connections and gives the node its usual limit.
    pub async fn empty(&self, node: usize, strangers: Vec<Conn>) {
        for stranger in strangers {
            let ended = stranger.disconnect().await;
            ended.expect("the connection ends in order");
        }
        let usual = format!("max_connections = {CONNECTIONS_MAX}");
        self.set(node, &usual).await;
    }

    /// A connection of the tested program's account; none where the node has no place left.
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

    /// Waits until a node takes statements and has applied what it missed.
    pub async fn wait_until_synced(&self, node: usize) {
        self.wait_for_status(
            node,
            &[("wsrep_ready", "ON"), ("wsrep_local_state", SYNCED)],
        )
        .await;
    }

    async fn wait_for_status(&self, node: usize, expected: &[(&str, &str)]) {
        let reached = async {
            // It answers `SHOW STATUS` in every state.
            let mut admin = self.nodes[node].admin().await;
            for (name, value) in expected {
                while status(&mut admin, name).await != *value {
                    sleep(Duration::from_millis(50)).await;
                }
            }
        };
        if timeout(SYNC_TIME_MAX, reached).await.is_err() {
            panic!(
                "node {node} never had {expected:?}:\n{}",
                self.nodes[node].log_tail()
            );
        }
    }
}

async fn status(admin: &mut Conn, name: &str) -> String {
    let row: Option<(String, String)> = admin
        .query_first(format!("SHOW GLOBAL STATUS LIKE '{name}'"))
        .await
        .expect("the node answers");
    row.map(|(_, value)| value).unwrap_or_default()
}

/// What makes a server a node: the group's members, and ports of its own, since all nodes share one address.
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
        // Clusters of other tests run at the same time.
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

/// This process's path and the folder of `wsrep_sst_here`.
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
