//! Collects the metrics of all parts for one scrape.

use super::AdminServices;
use cloakroom_base::telemetry;
use cloakroom_base::telemetry::metrics::{Label, Scrape};
use cloakroom_runtime::LimitUsage;
use cloakroom_session::SessionCounters;
use cloakroom_session::store::SessionStore as _;

pub(crate) fn text(parts: &AdminServices) -> String {
    let scrape = Scrape::default();
    collect_host(parts, &scrape);
    collect_guests(parts, &scrape);
    collect_pools(parts, &scrape);
    collect_outbound(parts, &scrape);
    collect_sessions(parts.sessions.counters(), &scrape);
    parts.store.collect_into(&scrape);
    telemetry::collect_dropped(&scrape);
    (parts.others)(&scrape);
    scrape.text()
}

fn collect_host(parts: &AdminServices, scrape: &Scrape) {
    scrape.gauge(
        "cloakroom_build_info",
        "1, with the version of the host.",
        &[("version", env!("CARGO_PKG_VERSION"))],
        1,
    );
    scrape.gauge(
        "cloakroom_serves_since_seconds",
        "When the host began to serve, in seconds since the epoch.",
        &[],
        parts.serves_since_s,
    );
    scrape.gauge(
        "cloakroom_ready",
        "1 while the host serves, 0 from the start of its shutdown or if its store needs a restart.",
        &[],
        i64::from(!parts.shutdown.is_cancelled() && parts.store.halted().is_none()),
    );
}

fn collect_guests(parts: &AdminServices, scrape: &Scrape) {
    for deployment in parts.registry.deployments().values() {
        deployment.metrics().collect_into(scrape);
        let guest = [("guest", deployment.name())];
        scrape.gauge(
            "cloakroom_guest_live_version",
            "The number of the version that is live.",
            &guest,
            i64::try_from(deployment.live_version()).unwrap_or(i64::MAX),
        );
        if let Some(live) = deployment.live() {
            let names = [
                "cloakroom_guest_instances",
                "cloakroom_guest_instances_max",
                "cloakroom_guest_instance_waiters",
            ];
            collect_usage(scrape, names, live.usage(), &guest);
            scrape.gauge(
                "cloakroom_guest_instances_parked",
                "Idle guest instances that wait for another request.",
                &guest,
                i64::try_from(live.idle_count().unwrap_or(0)).unwrap_or(i64::MAX),
            );
            scrape.gauge(
                "cloakroom_guest_outbound_connections",
                "Open outgoing connections of a guest, including idle ones.",
                &guest,
                i64::try_from(live.outbound_connections()).unwrap_or(i64::MAX),
            );
        }
    }
}

fn collect_pools(parts: &AdminServices, scrape: &Scrape) {
    let names = [
        "cloakroom_instances",
        "cloakroom_instances_max",
        "cloakroom_instance_waiters",
    ];
    for (world, usage) in parts.deployer.runtime().usage() {
        let world = world.to_string();
        collect_usage(scrape, names, usage, &[("world", &world)]);
    }
}

fn collect_outbound(parts: &AdminServices, scrape: &Scrape) {
    let usage = parts.deployer.runtime().outbound_usage();
    let gauges = [
        (
            "cloakroom_outbound_connections",
            "Open outgoing connections of all guests, including idle ones.",
            usage.open,
        ),
        (
            "cloakroom_outbound_connections_idle",
            "Idle outgoing connections, which wait for another request of their guest.",
            usage.idle,
        ),
        (
            "cloakroom_outbound_connections_max",
            "Outgoing connections that may be open at once.",
            usage.max,
        ),
    ];
    for (name, help, value) in gauges {
        scrape.gauge(name, help, &[], i64::try_from(value).unwrap_or(i64::MAX));
    }
}

fn collect_usage(scrape: &Scrape, names: [&str; 3], usage: LimitUsage, labels: &[Label<'_>]) {
    let helps = [
        "Guest instances that run.",
        "Guest instances that may run at once.",
        "Runs that wait for an instance.",
    ];
    let values = [usage.inside, usage.inside_max, usage.waiting];
    for ((name, help), value) in names.iter().zip(helps).zip(values) {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        scrape.gauge(name, help, labels, value);
    }
}

fn collect_sessions(counters: &SessionCounters, scrape: &Scrape) {
    for (name, help, total) in row_totals(counters)
        .into_iter()
        .chain(visit_totals(counters))
    {
        let name = format!("cloakroom_session_{name}_total");
        scrape.total(&name, help, &[], total);
    }
    for (reason, total) in [
        ("signature", &counters.bad_cookies),
        ("several", &counters.ambiguous_cookies),
        ("stray", &counters.stray_cookies),
        ("session-gone", &counters.dead_cookies),
    ] {
        scrape.total(
            "cloakroom_session_cookies_rejected_total",
            "Session cookies that were rejected.",
            &[("reason", reason)],
            total.get(),
        );
    }
}

/// The name of a total, its help text and its value.
type SessionTotal = (&'static str, &'static str, u64);

fn row_totals(counters: &SessionCounters) -> [SessionTotal; 8] {
    [
        (
            "loads",
            "Session rows requested from the store.",
            counters.loads.get(),
        ),
        (
            "snapshots",
            "Visits that began with a snapshot of their session.",
            counters.snapshots.get(),
        ),
        (
            "stale_snapshots",
            "Visits that began with a snapshot older than the row in the store.",
            counters.stale_snapshots.get(),
        ),
        (
            "commits",
            "Rows created, changed, moved or deleted.",
            counters.commits.get(),
        ),
        (
            "folded_commits",
            "Commits written to the row together with another request's commit.",
            counters.folded_commits.get(),
        ),
        (
            "touches",
            "Rows whose expiry was moved without a write.",
            counters.touches.get(),
        ),
        (
            "lost_replies",
            "Commits whose reply was lost.",
            counters.ambiguous_commits.get(),
        ),
        (
            "corrupt_rows",
            "Rows that could not be read as a session.",
            counters.corrupt_rows.get(),
        ),
    ]
}

fn visit_totals(counters: &SessionCounters) -> [SessionTotal; 6] {
    [
        (
            "conflicts",
            "Conflicts: another commit had changed the row first.",
            counters.conflicts.get(),
        ),
        (
            "reapplies",
            "Conflicts resolved by applying a request's changes to the newer row.",
            counters.reapplies.get(),
        ),
        (
            "reruns",
            "Conflicts resolved by running the guest again.",
            counters.reruns.get(),
        ),
        (
            "runs",
            "Runs of guests that may use a session, re-runs included.",
            counters.runs.get(),
        ),
        (
            "undeliverable_cookies",
            "Sessions that were not stored because their secure cookie could not be sent.",
            counters.undeliverable_cookies.get(),
        ),
        (
            "several_refused",
            "Requests refused because of cookies of several sessions.",
            counters.several_refused.get(),
        ),
    ]
}
