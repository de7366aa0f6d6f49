//! The counter with axum and tower-sessions, set up as their documentation shows.
//!
//! Usage: `axum-peer PORT [mysql://… SCHEMA]`. Without a database, sessions are in tower-sessions' `MemoryStore`.

use std::env;

use anyhow::Context as _;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tower_sessions::{Expiry, MemoryStore, Session, SessionManagerLayer, SessionStore};
use tower_sessions_sqlx_store::MySqlStore;
use tower_sessions_sqlx_store::sqlx::MySqlPool;

/// The lifetime of an unused session, which is also the default of express-mysql-session and Cloakroom.
const IDLE_TIME_MAX: Duration = Duration::hours(24);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut words = env::args().skip(1);
    let port = words.next().context("a port is wanted")?.parse()?;
    match words.next() {
        None => serve(port, MemoryStore::default()).await,
        Some(url) => {
            let schema = words.next().context("a schema's name is wanted")?;
            serve(port, mysql(&url, &schema).await?).await
        }
    }
}

/// Opens the store. sqlx's pool has at most 10 connections, like express-mysql-session's and Cloakroom's.
async fn mysql(url: &str, schema: &str) -> anyhow::Result<MySqlStore> {
    let pool = MySqlPool::connect(url).await?;
    let store = MySqlStore::new(pool)
        .with_schema_name(schema)
        .map_err(anyhow::Error::msg)?;
    store.migrate().await?;
    Ok(store)
}

async fn serve(port: u16, store: impl SessionStore + Clone) -> anyhow::Result<()> {
    let sessions = SessionManagerLayer::new(store)
        // The connection is plain HTTP on the loopback interface.
        .with_secure(false)
        .with_expiry(Expiry::OnInactivity(IDLE_TIME_MAX));
    let app = Router::new().route("/session", get(count)).layer(sessions);
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            terminate.recv().await;
        })
        .await?;
    Ok(())
}

async fn count(session: Session) -> Result<String, StatusCode> {
    let refused = |_| StatusCode::INTERNAL_SERVER_ERROR;
    let count = session.get::<u64>("num").await.map_err(refused)?;
    let count = count.unwrap_or(0) + 1;
    session.insert("num", count).await.map_err(refused)?;
    Ok(format!("{count}번 접속"))
}
