//! Prepares a new connection: session settings, the server's variables, causality. Rejects a server that cannot serve
//! now.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error};
use parking_lot::Mutex;

use super::error::{ReadOnlyServer, StatementError, StatementErrorClass, StatementProgress};
use super::server::{
    CausalReads, GALERA_STATUS, GROUP_MEMBERS, GroupMemberState, MEMBERS_RIGHT, ServerDescription,
    ServerVariables, VARIABLES,
};

/// The privilege that MySQL requires of an account that sets a restricted variable for its own session.
const VARIABLES_RIGHT: &str = "SESSION_VARIABLES_ADMIN";
/// Errors of a server that does not have a variable: unknown variable, syntax error, not supported, and Vitess's error
/// for everything else.
const NO_SUCH_VARIABLE: [u16; 4] = [1193, 1064, 1235, 1105];
/// Errors for a table that the account must not read (privilege on the table, column or database), or that does not
/// exist.
const NO_SUCH_TABLE: [u16; 4] = [1142, 1143, 1044, 1146];

/// The facts about a server that its newest connections have learned.
#[derive(Default)]
pub(crate) struct LearnedFacts(Mutex<LearnedState>);

#[derive(Default)]
struct LearnedState {
    server: Option<ServerDescription>,
    /// The remedy if the account must not set the causality.
    remedy: Option<String>,
    /// Whether it was already logged that the members of the group cannot be read.
    is_unknown_state_logged: bool,
}

/// The reason why the check of a new connection rejected the server.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
struct RefusedServer {
    class: StatementErrorClass,
    detail: String,
}

impl LearnedFacts {
    /// Returns the server as the last connection described it.
    pub(crate) fn server(&self) -> Option<ServerDescription> {
        self.0.lock().server.clone()
    }

    /// Returns the SQL that an administrator must run before the account can be used on this server.
    pub(crate) fn remedy(&self) -> Option<String> {
        self.0.lock().remedy.clone()
    }
}

/// Returns the fault of a connection that was not opened.
pub(crate) fn fault_of(error: &Error) -> StatementError {
    let refused_server = match error {
        Error::Other(error) => error.downcast_ref::<RefusedServer>(),
        _ => None,
    };
    match refused_server {
        Some(RefusedServer { class, detail }) => {
            StatementError::new(*class, StatementProgress::NotSent, detail.as_str())
        }
        None => StatementError::from_driver(error, StatementProgress::NotSent),
    }
}

/// Prepares a new connection: strict mode (a text that is too long is an error and is not cut), autocommit, bounded
/// lock waits, and reads that see every earlier commit. Rejects a server that takes no writes or is outside its
/// cluster.
pub(crate) fn set_up<'a>(
    connection: &'a mut Conn,
    lock_wait_s: u64,
    reads_only: bool,
    learned: &Arc<LearnedFacts>,
) -> BoxFuture<'a, Result<(), Error>> {
    let learned = Arc::clone(learned);
    Box::pin(async move {
        let facts = read_variables(connection).await?;
        if facts.read_only().is_some() && !reads_only {
            return Err(Error::Other(Box::new(ReadOnlyServer)));
        }
        if let Some(detail) = facts.is_galera().then(|| facts.galera_fault()).flatten() {
            return Err(refused_server(StatementErrorClass::ServerUnfit, detail));
        }
        let membership = membership(connection, &facts, &learned).await?;
        if membership == GroupMemberState::Unfit {
            let detail =
                "the member of the group is not ONLINE, or does not see a majority of its group";
            return Err(refused_server(StatementErrorClass::ServerUnfit, detail));
        }
        set_session_variables(connection, lock_wait_s).await?;
        match facts.causality() {
            Ok(Some(causality)) => set_causality(connection, causality, &learned).await?,
            Ok(None) => {}
            Err(detail) => return Err(refused_server(StatementErrorClass::Broken, detail)),
        }
        let mut state = learned.0.lock();
        state.server = Some(facts.server(membership));
        state.remedy = None;
        Ok(())
    })
}

async fn read_variables(connection: &mut Conn) -> Result<ServerVariables, Error> {
    let mut facts = ServerVariables::default();
    let variables = connection
        .query::<(String, Option<String>), _>(VARIABLES)
        .await;
    facts.add(accept_refusal(variables, &NO_SUCH_VARIABLE)?.unwrap_or_default());
    if facts.is_galera() {
        let status = connection
            .query::<(String, Option<String>), _>(GALERA_STATUS)
            .await;
        facts.add(accept_refusal(status, &NO_SUCH_VARIABLE)?.unwrap_or_default());
    }
    Ok(facts)
}

async fn membership(
    connection: &mut Conn,
    facts: &ServerVariables,
    learned: &LearnedFacts,
) -> Result<GroupMemberState, Error> {
    if facts.is_galera() || !facts.is_grouped() {
        return Ok(GroupMemberState::Unknown);
    }
    let members = connection
        .query::<(Option<i64>, Option<String>), _>(GROUP_MEMBERS)
        .await;
    let Some(members) = accept_refusal(members, &NO_SUCH_TABLE)? else {
        if !std::mem::replace(&mut learned.0.lock().is_unknown_state_logged, true) {
            tracing::warn!(
                grant = MEMBERS_RIGHT,
                "the account of the session store may not read the members of the group: a server that was left after a failure is \
                 not used again before `cloakroom store prefer-first` or a restart; grant the account this right"
            );
        }
        return Ok(GroupMemberState::Unknown);
    };
    let members: Vec<_> = members
        .into_iter()
        .map(|(is_own, state)| (is_own == Some(1), state.unwrap_or_default()))
        .collect();
    Ok(GroupMemberState::of(&members))
}

async fn set_session_variables(connection: &mut Conn, lock_wait_s: u64) -> Result<(), Error> {
    connection
        .query_drop(
            "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION', autocommit = 1, time_zone = '+00:00'",
        )
        .await?;
    let waits = format!(
        "SET SESSION innodb_lock_wait_timeout = {lock_wait_s}, lock_wait_timeout = {lock_wait_s}"
    );
    accept_refusal(connection.query_drop(waits).await, &NO_SUCH_VARIABLE)?;
    Ok(())
}

/// Sets the causality. Without it, a logout on one server is not seen on the next one, so a refusal is an error.
async fn set_causality(
    connection: &mut Conn,
    causality: CausalReads,
    learned: &LearnedFacts,
) -> Result<(), Error> {
    let CausalReads {
        variable,
        sql,
        global,
    } = causality;
    let code = match connection.query_drop(sql.as_str()).await {
        Ok(()) => return Ok(()),
        Err(error) if fault_of(&error).class != StatementErrorClass::Broken => return Err(error),
        Err(Error::Server(error)) => error.code,
        Err(error) => return Err(error),
    };
    let account = connection
        .query_first::<String, _>("SELECT CURRENT_USER()")
        .await;
    let account = quoted(account.ok().flatten().as_deref());
    let remedy = format!(
        "run `GRANT {VARIABLES_RIGHT} ON *.* TO {account}` (MySQL), or `{global}` on every server of the cluster"
    );
    let detail = format!(
        "the account may not run `{sql}` (server error {code}); without {variable} a logout is not seen by every host: {remedy}"
    );
    learned.0.lock().remedy = Some(remedy);
    Err(refused_server(StatementErrorClass::Broken, detail))
}

/// Quotes `app@%` as `GRANT` requires it. The name comes from the configuration or the server; a quote in it is
/// doubled.
fn quoted(account: Option<&str>) -> String {
    let Some((user, host)) = account.and_then(|account| account.rsplit_once('@')) else {
        return "the account".to_owned();
    };
    let quote = |text: &str| format!("'{}'", text.replace('\'', "''"));
    format!("{}@{}", quote(user), quote(host))
}

fn refused_server(class: StatementErrorClass, detail: impl Into<String>) -> Error {
    Error::Other(Box::new(RefusedServer {
        class,
        detail: detail.into(),
    }))
}

/// Accepts these errors of a statement. Not every server of the protocol knows every variable, and a server that
/// reports one of these errors is used without the variable. Any other error says nothing about the kind of the server,
/// and a cluster member must not be mistaken for a single server.
fn accept_refusal<T>(outcome: Result<T, Error>, accepted: &[u16]) -> Result<Option<T>, Error> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(Error::Server(error)) if accepted.contains(&error.code) => {
            tracing::debug!(code = error.code, "a session setting was refused");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_quoted_as_a_grant_wants_it() {
        assert_eq!(quoted(Some("app@%")), "'app'@'%'");
        assert_eq!(quoted(Some("a@b@10.0.0.1")), "'a@b'@'10.0.0.1'");
        assert_eq!(quoted(Some("o'neil@%")), "'o''neil'@'%'");
        assert_eq!(quoted(None), "the account");
    }

    #[test]
    fn only_errors_of_a_missing_variable_or_table_are_ignored_at_setup() {
        let accept = |code, accepted: &[u16]| {
            let error = mysql_async::ServerError {
                code,
                message: String::new(),
                state: "HY000".to_owned(),
            };
            let outcome: Result<(), Error> = Err(error.into());
            matches!(accept_refusal(outcome, accepted), Ok(None))
        };
        assert!(accept(1193, &NO_SUCH_VARIABLE) && accept(1142, &NO_SUCH_TABLE));
        // Shutting down, out of memory, outside of its cluster, killed, a revoked privilege, a lock wait.
        for code in [1053, 1037, 1047, 1317, 1227, 1205] {
            assert!(!accept(code, &NO_SUCH_VARIABLE), "{code}");
            assert!(!accept(code, &NO_SUCH_TABLE), "{code}");
        }
        assert!(!accept(1142, &NO_SUCH_VARIABLE));
    }

    #[test]
    fn a_refused_server_keeps_its_error_class_and_reason() {
        let fault = fault_of(&refused_server(
            StatementErrorClass::ServerUnfit,
            "not ready",
        ));
        assert_eq!(fault.class, StatementErrorClass::ServerUnfit);
        assert_eq!(fault.detail, "not ready");
        let fault = fault_of(&Error::Other(Box::new(ReadOnlyServer)));
        assert_eq!(fault.class, StatementErrorClass::ServerUnfit);
    }
}
