//! Measures visits per second on one session with folding and without it:
//! `cargo run --release -p cloakroom --example folding sqlite:DIRECTORY|mysql://USER:PASSWORD@HOST:PORT/DATABASE [SECONDS]`.
//!
//! All clients use the same session, so their commits contend. With two hosts, two managers share the store, as two processes
//! would. Each measurement uses a session of its own, and fails if a change was lost. A guest and HTTP are not involved.
#![allow(
    clippy::print_stdout,
    reason = "it is a measurement: its output is its purpose"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use cloakroom_base::clock::Clock;
use cloakroom_session::cookie::{self, KeyRing, PresentedCookies, Secret};
use cloakroom_session::store::{CommitVerdict, SessionStore};
use cloakroom_session::{
    Attempt, ReplayPolicy, Session, SessionCallError, SessionGrant, SessionManager, SessionOptions,
    TransactionOutcome, Visit, VisitStart,
};
use cloakroom_store_mysql::{MysqlOptions, MysqlStore, ServerAddress};
use cloakroom_store_sqlite::{SqliteOptions, SqliteStore};
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use mysql_async::Opts;
use secrecy::SecretString;
use tokio::task::JoinSet;

const USAGE: &str =
    "usage: folding sqlite:DIRECTORY|mysql://USER:PASSWORD@HOST:PORT/DATABASE [SECONDS]";
const COOKIE_NAME: &str = "sid";
/// Longer than any visit waits.
const DEADLINE: Duration = Duration::from_secs(60);
/// Enough for all clients, so that none is refused.
const WAITERS_MAX: usize = 1024;

/// The change that each visit makes to the session's only entry.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// `add`, which reads nothing.
    Add,
    /// `get` and `set`, which runs again if another visit came first.
    GetAndSet,
}

/// Whether waiting commits are folded.
#[derive(Clone, Copy, Debug)]
enum Folding {
    On,
    Off,
}

/// One measurement.
#[derive(Clone, Copy)]
struct Load {
    folding: Folding,
    host_count: usize,
    client_count: usize,
    change: Change,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let place = arguments.next().context(USAGE)?;
    let seconds = arguments.next().map(|text| text.parse());
    let time = Duration::from_secs_f64(seconds.transpose().context(USAGE)?.unwrap_or(5.0));
    if let Some(directory) = place.strip_prefix("sqlite:") {
        // An existing directory may contain real sessions, so only a new one is created, and removed afterwards.
        let directory = Path::new(directory).join(format!("run-{}", std::process::id()));
        ensure!(!directory.exists(), "{} exists", directory.display());
        let options = SqliteOptions::new(directory.join("sessions.db"));
        measure_all(Arc::new(SqliteStore::open(&options)?), &[1], time).await?;
        return std::fs::remove_dir_all(directory).context("removing the measured database");
    }
    if !place.starts_with("mysql://") {
        bail!(USAGE);
    }
    let store = Arc::new(MysqlStore::connect(&mysql_options(&Opts::from_url(&place)?)?).await?);
    measure_all(store.clone(), &[1, 2], time).await?;
    store.shutdown().await;
    Ok(())
}

fn mysql_options(server: &Opts) -> Result<MysqlOptions> {
    let host = ServerAddress {
        name: server.ip_or_hostname().to_owned(),
        port: server.tcp_port(),
    };
    let user = server.user().context("the URL names no user")?.to_owned();
    let database = server.db_name().context("the URL names no database")?;
    let mut options = MysqlOptions::new(vec![host], user, database.to_owned());
    options.password = server.pass().map(SecretString::from);
    Ok(options)
}

async fn measure_all(
    store: Arc<dyn SessionStore>,
    host_counts: &[usize],
    time: Duration,
) -> Result<()> {
    for &host_count in host_counts {
        for change in [Change::Add, Change::GetAndSet] {
            for client_count in [1, 4, 16, 64] {
                for folding in [Folding::Off, Folding::On] {
                    let load = Load {
                        folding,
                        host_count,
                        client_count,
                        change,
                    };
                    measure(&store, load, time).await?;
                }
            }
        }
    }
    Ok(())
}

async fn measure(store: &Arc<dyn SessionStore>, load: Load, time: Duration) -> Result<()> {
    let hosts: Vec<_> = (0..load.host_count)
        .map(|_| host(Arc::clone(store), load.folding))
        .collect::<Result<_>>()?;
    let visitor = Visitor::create(&hosts[0], store).await?;
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..load.client_count {
        let host = Arc::clone(&hosts[client % hosts.len()]);
        clients.spawn(visitor.clone().repeat(host, load.change, started + time));
    }
    let mut latencies = Vec::new();
    while let Some(done) = clients.join_next().await {
        latencies.extend(done??);
    }
    let elapsed_s = started.elapsed().as_secs_f64();
    let (mut commits, mut folded, mut reruns) = (0, 0, 0);
    for host in &hosts {
        let counters = host.counters();
        commits += counters.commits.get();
        folded += counters.folded_commits.get();
        reruns += counters.reruns.get();
    }
    let persisted = visitor.visit(&hosts[0], Change::GetAndSet).await? - 1;
    ensure!(
        persisted == latencies.len() as i64,
        "{persisted} changes were kept of {}",
        latencies.len()
    );
    latencies.sort_unstable();
    let at = |share: f64| latencies[(latencies.len() as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{:<9} {} host(s), {:>2} clients, folding {:<3}: {:>6.0} visits/s, {:>6.0} row writes/s, \
         {:>4.0} re-runs per 1,000 visits, p50 {:.2} ms, p99 {:.2} ms",
        format!("{:?}", load.change),
        load.host_count,
        load.client_count,
        format!("{:?}", load.folding).to_lowercase(),
        latencies.len() as f64 / elapsed_s,
        (commits - folded) as f64 / elapsed_s,
        reruns as f64 * 1e3 / latencies.len() as f64,
        at(0.5),
        at(0.99),
    );
    Ok(())
}

/// Creates a manager like that of one host process.
fn host(store: Arc<dyn SessionStore>, folding: Folding) -> Result<Arc<SessionManager>> {
    let options = SessionOptions {
        lock_waiters_max: WAITERS_MAX,
        fold_commits: matches!(folding, Folding::On),
        ..SessionOptions::default()
    };
    let secret = Secret::new(b"a secret of more than thirty-two bytes".to_vec());
    let keys = KeyRing::new(vec![secret]).context("a secret that signs")?;
    Ok(SessionManager::new(options, keys, store, Clock::system()))
}

/// The visitor that all clients act as.
#[derive(Clone)]
struct Visitor {
    presented: PresentedCookies,
    grant: Arc<SessionGrant>,
}

impl Visitor {
    /// Stores a session and returns its visitor.
    async fn create(host: &SessionManager, store: &Arc<dyn SessionStore>) -> Result<Self> {
        let seed = host.seed([("n", "0")])?;
        let now_s = Clock::system().now_s();
        let verdicts = store.commit_many(&[seed.commit], now_s).await;
        ensure!(
            matches!(verdicts[..], [CommitVerdict::Committed]),
            "{verdicts:?}"
        );
        let pair = HeaderValue::from_str(&format!("{COOKIE_NAME}={}", seed.cookie))?;
        let mut headers = HeaderMap::from_iter([(COOKIE, pair)]);
        Ok(Self {
            presented: cookie::take_from(&mut headers, COOKIE_NAME),
            grant: Arc::new(SessionGrant::write()),
        })
    }

    async fn repeat(
        self,
        host: Arc<SessionManager>,
        change: Change,
        until: Instant,
    ) -> Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        while Instant::now() < until {
            let started = Instant::now();
            self.visit(&host, change).await?;
            latencies.push(started.elapsed());
        }
        Ok(latencies)
    }

    /// Makes one visit. Returns the entry after a change that reads it.
    async fn visit(&self, host: &SessionManager, change: Change) -> Result<i64> {
        let visit = Visit {
            presented: self.presented.clone(),
            host: "localhost".to_owned(),
            path: "/".to_owned(),
            is_secure: false,
            grant: Arc::clone(&self.grant),
            deadline: (Instant::now() + DEADLINE).into(),
            start: VisitStart::Optimistic,
            reservation: None,
        };
        match host.transact(visit, &mut Counting(change)).await {
            TransactionOutcome::Answered { answer, .. } => Ok(answer),
            TransactionOutcome::Failed { failure, .. } => Err(failure.into()),
            TransactionOutcome::Refused { refusal, .. } => bail!("refused: {refusal:?}"),
        }
    }
}

/// A guest in native code.
struct Counting(Change);

impl Attempt for Counting {
    type Answer = i64;
    type Failure = SessionCallError;

    async fn run(&mut self, session: Session, _number: u32) -> Result<i64, SessionCallError> {
        match self.0 {
            Change::Add => {
                session.add("n", 1).await?;
                Ok(0)
            }
            Change::GetAndSet => {
                let n = session.get("n").await?;
                let n = n.and_then(|text| text.parse::<i64>().ok()).unwrap_or(0) + 1;
                session.set("n", &n.to_string()).await?;
                Ok(n)
            }
        }
    }

    fn replay(&self) -> ReplayPolicy {
        ReplayPolicy::Possible
    }
}
