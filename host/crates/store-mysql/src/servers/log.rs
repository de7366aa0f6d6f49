//! The reports on the servers for the operator: log lines, the listing of the admin interface, and metrics.

use std::sync::Arc;
use std::time::Instant;

use super::super::pool::ServerPool;
use super::ServerList;
use cloakroom_base::telemetry::metrics::Scrape;
use cloakroom_session::store::ServerStanding;

impl ServerList {
    pub(crate) fn log_switch(&self, index: usize, reason: &str) {
        let (host, first) = (self.servers[index].name(), self.servers[0].name());
        if index == 0 {
            tracing::info!(
                host,
                reason,
                "the session store uses the first server of its list"
            );
        } else {
            tracing::warn!(
                host,
                first,
                reason,
                "the session store uses a server that is not the first of its list"
            );
        }
    }

    /// Logs the start of a fallback period. Called once per period.
    pub(crate) fn log_fallback(&self, full: usize, fallback: usize, reason: &str) {
        tracing::warn!(
            host = self.servers[full].name(),
            helper = self.servers[fallback].name(),
            reason,
            "the session store's server refuses more connections: another member of the cluster helps out"
        );
    }

    /// Logs the end of a fallback period, once.
    pub(crate) fn log_end_of_fallback(&self) {
        let is_over = self.fallback.lock().is_over(Instant::now());
        if is_over {
            let in_use = self.choice.lock().current();
            let host = self.servers[in_use].name();
            tracing::info!(
                host,
                "the session store's server gives enough connections again: no other server helps out now"
            );
        }
    }

    /// Returns the state of the servers for the operator, in list order.
    pub(crate) fn standings(&self) -> Vec<ServerStanding> {
        let choice = self.choice.lock();
        let (current, servers) = (choice.current(), self.servers.len());
        let barred: Vec<_> = (0..servers).map(|i| choice.is_barred(i)).collect();
        drop(choice);
        let fallback = self.fallback.lock().server(Instant::now());
        let standing = |(index, server): (usize, &Arc<ServerPool>)| {
            let usage = server.usage();
            ServerStanding {
                name: server.name().to_owned(),
                is_in_use: index == current,
                is_helping: fallback == Some(index),
                is_barred: barred[index] && index != current,
                is: server.server().map(|it| it.to_string()),
                connections: usage.open,
                connections_max: usage.most,
                failure: server.refusal().map(|fault| fault.detail),
            }
        };
        self.servers.iter().enumerate().map(standing).collect()
    }

    /// Adds the metrics of the servers.
    pub(crate) fn add_metrics(&self, scrape: &Scrape) {
        scrape.add(&self.deadlocks);
        scrape.add(&self.switches);
        let in_use = self.choice.lock().current();
        let fallback = self.fallback.lock().server(Instant::now());
        scrape.gauge(
            "cloakroom_store_server_preferred",
            "1 while the first server of the session store's list is in use, 0 while another one is in use or helps out.",
            &[],
            i64::from(in_use == 0 && fallback.is_none()),
        );
        for (index, server) in self.servers.iter().enumerate() {
            let (usage, labels) = (server.usage(), [("server", server.name())]);
            let gauge = |name, help, value| scrape.gauge(name, help, &labels, value);
            let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
            gauge(
                "cloakroom_store_server_in_use",
                "1 for the server that the session store uses now, 0 for the others of its list.",
                i64::from(index == in_use),
            );
            gauge(
                "cloakroom_store_server_helps_out",
                "1 for a server that recently gave a connection because the server in use gave none.",
                i64::from(fallback == Some(index)),
            );
            gauge(
                "cloakroom_store_connections",
                "Connections to a server of the session store.",
                count(usage.open),
            );
            gauge(
                "cloakroom_store_connections_max",
                "Maximum number of connections: lower than the configured one while the server refuses more.",
                count(usage.most),
            );
        }
    }
}
