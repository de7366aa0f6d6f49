//! The looks that the store takes by itself: whether the server in use still takes writes, and whether an earlier one of the list is
//! healthy again.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::future::join;
use mysql_async::{Row, from_row_opt};
use tokio::task::JoinHandle;

use super::super::Shared;
use super::super::error::{Class, Fault, Progress};
use super::super::link::Statement;
use super::super::pool::Times;
use super::super::server::{Facts, READ_ONLY};
use super::Hosts;

/// Time between two looks at the server in use: how long a host that only reads may go on at a primary that was demoted.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Longest wait for a connection to look with.
const LOOK_PATIENCE: Duration = Duration::from_millis(500);
/// Time between two looks at the servers that stand before the one in use.
const EARLIER_INTERVAL: Duration = Duration::from_secs(5);

/// The looks. They end when it is dropped.
pub(in crate::store::mysql) struct Watch(JoinHandle<()>);

impl Watch {
    /// Looks from now on, for as long as the store is there.
    pub(in crate::store::mysql) fn over(shared: &Arc<Shared>) -> Self {
        let shared = Arc::downgrade(shared);
        Self(tokio::spawn(async move {
            // Beside each other: an earlier server that gives no answer delays no look at the one in use.
            join(watch_used(&shared), watch_earlier(&shared)).await;
        }))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn watch_used(shared: &Weak<Shared>) {
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        shared.hosts.look().await;
        shared.hosts.tell_end_of_help();
    }
}

async fn watch_earlier(shared: &Weak<Shared>) {
    loop {
        tokio::time::sleep(EARLIER_INTERVAL).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        shared.hosts.look_at_earlier().await;
    }
}

impl Hosts {
    /// Leaves the server in use if it takes no writes any more: its rows are those of a replica then.
    ///
    /// Cancel safety: dropping it costs a connection at most.
    async fn look(&self) {
        let current = self.choice().current();
        let server = &self.servers[current];
        let times = Times {
            acquire: LOOK_PATIENCE,
            ..self.times
        };
        let deadline = Instant::now() + LOOK_PATIENCE + self.times.connect;
        // A failure to connect has its own consequences.
        let Ok(mut link) = server.link(times, deadline).await else {
            return;
        };
        let statement = Statement {
            text: READ_ONLY,
            values: Vec::new(),
        };
        let Ok(answer) = link.run(&statement).await else {
            return;
        };
        drop(link);
        let mut facts = Facts::default();
        facts.add(answer.rows.into_iter().filter_map(variable));
        if let Some(name) = facts.read_only() {
            let detail = format!("the server takes no writes any more: {name} is on");
            let fault = Fault::new(Class::HostUnfit, Progress::NotSent, detail);
            server.leave(&fault.at(server.name()));
        }
    }

    /// Goes back to an earlier server of the list that is a healthy member of the cluster of the one in use, once it was so for
    /// long enough.
    ///
    /// Cancel safety: dropping it changes nothing.
    async fn look_at_earlier(&self) {
        let (earlier, cluster) = {
            let choice = self.choice();
            (choice.earlier(), choice.cluster().cloned())
        };
        // Of single servers only the operator knows which one has the latest rows.
        let Some(cluster) = cluster else {
            return;
        };
        for index in earlier {
            let server = &self.servers[index];
            let found = server.probe(self.times.connect).await;
            let is_healthy =
                found.is_some_and(|it| it.is_healthy_member && it.shares_cluster_with(&cluster));
            if is_healthy {
                server.is_back();
            }
            let (before, returns) = {
                let mut choice = self.choice();
                let before = choice.current();
                let returns = choice.looked_at(index, is_healthy, Instant::now());
                (before, returns)
            };
            if returns {
                self.switched(
                    before,
                    index,
                    "it has been a healthy member of the cluster for a while",
                );
                return;
            }
        }
    }
}

fn variable(row: Row) -> Option<(String, Option<String>)> {
    from_row_opt(row).ok()
}
