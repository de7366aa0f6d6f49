//! One connection of a pool and one statement at a time on it, with a time limit: how links are opened (session settings,
//! read-only servers turned away) and how a statement's end is told.

use std::time::Duration;

use futures_util::future::BoxFuture;
use mysql_async::prelude::Queryable as _;
use mysql_async::{
    Conn, Error, Opts, OptsBuilder, Params, PoolConstraints, PoolOpts, Row, SslOpts, Value,
};
use secrecy::ExposeSecret as _;
use tokio::time::timeout;

use super::error::{Class, Fault, Progress, ReadOnlyServer};
use super::options::{Host, Options, Tls};

/// Statements that each connection keeps prepared; more than there are shapes.
const STATEMENT_CACHE: usize = 64;
/// A connection's longest life, before jitter: under what load balancers and PlanetScale (24 h) allow.
const CONNECTION_LIFE_MAX: Duration = Duration::from_secs(3600);
const CONNECTION_LIFE_JITTER: Duration = Duration::from_secs(600);
/// Time without traffic after which the kernel asks whether the peer is there.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// What a statement gave.
pub(super) struct Answer {
    pub(super) rows: Vec<Row>,
    pub(super) affected_rows: u64,
}

/// A statement's text and what it is executed with.
#[derive(Clone)]
pub(super) struct Statement<'a> {
    pub(super) text: &'a str,
    pub(super) values: Vec<Value>,
}

/// Runs a statement once (twice where the server has forgotten the prepared statement, which then had not run).
///
/// Cancel safety: dropping it drops the link's use, the driver throws the connection away; the statement may still run.
pub(super) async fn run(
    connection: &mut Conn,
    statement: &Statement<'_>,
    time_max: Duration,
) -> Result<Answer, Fault> {
    let mut progress = Progress::NotSent;
    let attempt = async {
        match execute(connection, statement, &mut progress).await {
            Err(fault) if fault.class == Class::Reprepare => {
                forget(connection, statement.text).await?;
                execute(connection, statement, &mut progress).await
            }
            outcome => outcome,
        }
    };
    let outcome = timeout(time_max, attempt).await;
    outcome.unwrap_or_else(|_| Err(Fault::timed_out(progress, time_max)))
}

async fn execute(
    connection: &mut Conn,
    statement: &Statement<'_>,
    progress: &mut Progress,
) -> Result<Answer, Fault> {
    *progress = Progress::NotSent;
    let prepared = (connection.prep(statement.text).await)
        .map_err(|e| Fault::from_driver(&e, Progress::NotSent))?;
    *progress = Progress::Sent;
    let values = match statement.values.as_slice() {
        [] => Params::Empty,
        values => Params::Positional(values.to_vec()),
    };
    let rows = (connection.exec(prepared, values).await)
        .map_err(|e| Fault::from_driver(&e, Progress::Sent))?;
    Ok(Answer {
        rows,
        affected_rows: connection.affected_rows(),
    })
}

/// Drops a prepared statement from the connection's cache.
async fn forget(connection: &mut Conn, text: &str) -> Result<(), Fault> {
    let not_sent = |e: Error| Fault::from_driver(&e, Progress::NotSent);
    let stale = connection.prep(text).await.map_err(not_sent)?;
    connection.close(stale).await.map_err(not_sent)
}

/// The driver's options for one host (or the socket).
///
/// They hold the password and print it with `Debug`: nothing may print them.
pub(super) fn driver_options(options: &Options, host: Option<&Host>) -> Opts {
    let limit = options.connection_limit.max(1);
    let pool = PoolOpts::default()
        .with_constraints(PoolConstraints::new(limit, limit).expect("the bounds are equal"))
        // A reset would cost a round trip per use and empty the statement cache.
        .with_reset_connection(false)
        .with_abs_conn_ttl(Some(CONNECTION_LIFE_MAX))
        .with_abs_conn_ttl_jitter(Some(CONNECTION_LIFE_JITTER));
    let lock_wait_s = options.statement_timeout.as_secs().saturating_sub(1).max(1);
    let builder = OptsBuilder::default()
        .user(Some(options.user.clone()))
        .pass((options.password.as_ref()).map(|p| p.expose_secret().to_owned()))
        .db_name(Some(options.database.clone()))
        .pool_opts(pool)
        .stmt_cache_size(STATEMENT_CACHE)
        .client_found_rows(true)
        // Else the driver leaves the link it was told to use for the server's socket.
        .prefer_socket(false)
        .tcp_keepalive(Some(KEEPALIVE))
        .after_connect(move |connection| settle(connection, lock_wait_s));
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

fn tls_options(options: &Options, host: &Host) -> Option<SslOpts> {
    let is_encrypted = match options.tls {
        Tls::Required => true,
        Tls::Off => false,
        Tls::Auto => !host.is_loopback(),
    };
    let tls = match &options.ca_file {
        Some(file) => SslOpts::default()
            .with_root_certs(vec![file.clone().into()])
            .with_disable_built_in_roots(true),
        None => SslOpts::default(),
    };
    is_encrypted.then_some(tls)
}

/// Makes a fresh connection ours: strict (a text too long is an error, not cut), each statement its own transaction, waits
/// for locks bounded; turns a read-only server away.
fn settle(connection: &mut Conn, lock_wait_s: u64) -> BoxFuture<'_, Result<(), Error>> {
    Box::pin(async move {
        connection
            .query_drop(
                "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION', autocommit = 1, time_zone = '+00:00'",
            )
            .await?;
        let waits = format!(
            "SET SESSION innodb_lock_wait_timeout = {lock_wait_s}, lock_wait_timeout = {lock_wait_s}"
        );
        accept_refusal(connection.query_drop(waits).await)?;
        let is_read_only = connection
            .query_first::<Value, _>("SELECT @@global.read_only")
            .await;
        match accept_refusal(is_read_only)?.flatten() {
            Some(Value::Int(0) | Value::UInt(0)) | None => Ok(()),
            Some(Value::Bytes(text)) if text == b"0" || text.eq_ignore_ascii_case(b"OFF") => Ok(()),
            Some(_) => Err(Error::Other(Box::new(ReadOnlyServer))),
        }
    })
}

/// Not every server of the protocol knows every variable: one that does not is used without it.
fn accept_refusal<T>(outcome: Result<T, Error>) -> Result<Option<T>, Error> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(Error::Server(error)) => {
            tracing::debug!(code = error.code, "a session setting was refused");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
