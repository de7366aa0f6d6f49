//! One connection that runs one statement at a time with a time limit: the driver's options, and the result of a
//! statement.

use std::sync::Arc;
use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use mysql_async::{
    Conn, Error, Opts, OptsBuilder, Params, PoolConstraints, PoolOpts, Row, SslOpts, Value,
};
use secrecy::ExposeSecret as _;
use tokio::time::timeout;

use super::error::{StatementError, StatementErrorClass, StatementProgress};
use super::options::{CertificateCheck, MysqlOptions, MysqlTls, ServerAddress};
use super::setup::{LearnedFacts, settle};

/// Number of prepared statements that each connection caches. Larger than the number of distinct statements.
const STATEMENT_CACHE: usize = 64;
/// Time without traffic after which the kernel probes whether the peer is alive.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// The result of a statement.
pub(crate) struct StatementResult {
    pub(crate) rows: Vec<Row>,
    pub(crate) affected_rows: u64,
}

/// A statement's text and parameter values.
#[derive(Clone)]
pub(crate) struct Statement<'a> {
    pub(crate) text: &'a str,
    pub(crate) values: Vec<Value>,
}

/// Runs a statement once. Runs it a second time if the server has forgotten the prepared statement, which then did not
/// run.
///
/// Cancel safety: if dropped, the driver closes the connection, and the statement may still run.
pub(crate) async fn run(
    connection: &mut Conn,
    statement: &Statement<'_>,
    time_max: Duration,
) -> Result<StatementResult, StatementError> {
    let mut progress = StatementProgress::NotSent;
    let attempt = async {
        match execute(connection, statement, &mut progress).await {
            Err(fault) if fault.class == StatementErrorClass::Reprepare => {
                forget(connection, statement.text).await?;
                execute(connection, statement, &mut progress).await
            }
            outcome => outcome,
        }
    };
    let outcome = timeout(time_max, attempt).await;
    outcome.unwrap_or_else(|_| Err(StatementError::timed_out(progress, time_max)))
}

async fn execute(
    connection: &mut Conn,
    statement: &Statement<'_>,
    progress: &mut StatementProgress,
) -> Result<StatementResult, StatementError> {
    *progress = StatementProgress::NotSent;
    let prepared = (connection.prep(statement.text).await)
        .map_err(|e| StatementError::from_driver(&e, StatementProgress::NotSent))?;
    *progress = StatementProgress::Sent;
    let values = match statement.values.as_slice() {
        [] => Params::Empty,
        values => Params::Positional(values.to_vec()),
    };
    let rows = (connection.exec(prepared, values).await)
        .map_err(|e| StatementError::from_driver(&e, StatementProgress::Sent))?;
    Ok(StatementResult {
        rows,
        affected_rows: connection.affected_rows(),
    })
}

/// Drops a prepared statement from the connection's cache.
async fn forget(connection: &mut Conn, text: &str) -> Result<(), StatementError> {
    let not_sent = |e: Error| StatementError::from_driver(&e, StatementProgress::NotSent);
    let stale = connection.prep(text).await.map_err(not_sent)?;
    connection.close(stale).await.map_err(not_sent)
}

/// Returns how long a statement waits for a lock. This is less than the statement timeout, so that the server ends the
/// wait itself. Servers count in seconds, so a statement timeout of one second or less expires first.
pub(crate) fn lock_wait(statement_timeout: Duration) -> Duration {
    Duration::from_secs(statement_timeout.as_secs().saturating_sub(1).max(1))
}

/// Returns the driver's options for one host (or the socket). New connections store the server's description in
/// `learned`.
///
/// The options hold the password, and their `Debug` prints it: never print them.
pub(crate) fn driver_options(
    options: &MysqlOptions,
    host: Option<&ServerAddress>,
    learned: &Arc<LearnedFacts>,
) -> Opts {
    let pool = PoolOpts::default()
        .with_constraints(PoolConstraints::new(1, 1).expect("the bounds are equal"))
        // A reset would cost a round trip per use and empty the statement cache.
        .with_reset_connection(false);
    let learned = Arc::clone(learned);
    let lock_wait_s = lock_wait(options.statement_timeout).as_secs();
    let reads_only = options.reads_only;
    let builder = OptsBuilder::default()
        .user(Some(options.user.clone()))
        .pass((options.password.as_ref()).map(|p| p.expose_secret().to_owned()))
        .db_name(Some(options.database.clone()))
        .pool_opts(pool)
        .stmt_cache_size(STATEMENT_CACHE)
        .client_found_rows(true)
        // Otherwise the driver replaces the configured link with the server's Unix socket.
        .prefer_socket(false)
        .tcp_keepalive(Some(KEEPALIVE))
        .after_connect(move |connection| settle(connection, lock_wait_s, reads_only, &learned));
    match host {
        None => {
            let socket = options.socket.as_deref().map(|s| s.to_string_lossy());
            builder.socket(socket).into()
        }
        Some(host) => builder
            .ip_or_hostname(host.name.clone())
            .tcp_port(host.port)
            .ssl_opts(tls_options(options, host))
            .into(),
    }
}

fn tls_options(options: &MysqlOptions, host: &ServerAddress) -> Option<SslOpts> {
    let is_encrypted = match options.tls {
        MysqlTls::Required => true,
        MysqlTls::Off => false,
        MysqlTls::Auto => !host.is_loopback(),
    };
    let tls = match &options.ca_file {
        Some(file) => SslOpts::default()
            .with_root_certs(vec![file.clone().into()])
            .with_disable_built_in_roots(true),
        None => SslOpts::default(),
    };
    let tls = match options.verify {
        CertificateCheck::Full => tls,
        // Once the chain is verified, the driver ignores an error whose text contains `NotValidForName`. rustls reports
        // "not valid for name" together with the requested name, so this override makes the text match.
        CertificateCheck::Ca => tls
            .with_danger_skip_domain_validation(true)
            .with_danger_tls_hostname_override(Some("NotValidForName")),
    };
    is_encrypted.then_some(tls)
}
