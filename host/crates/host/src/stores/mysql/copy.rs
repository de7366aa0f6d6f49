//! Opens a MySQL store for a copy or an examination: a source is read as it is, a target is created if it is missing, and an
//! examination changes nothing.

use std::sync::Arc;

use super::super::{CopySource, CopyTarget, SourceWriters};
use crate::config_reader::fault::ConfigFault;
use crate::failure::{StartError, StartFailure};
use cloakroom_base::clock::Clock;
use cloakroom_base::limits::COPY_STATEMENT_TIMEOUT;
use cloakroom_base::telemetry;
use cloakroom_session::store::examine::ExamineFinding;
use cloakroom_store_mysql as mysql;
use cloakroom_store_mysql::{ConnectErrorClass, MysqlConnectError, MysqlOptions, MysqlStore};

pub(crate) async fn open_source(
    options: &MysqlOptions,
    flag: &str,
    writers: SourceWriters,
) -> Result<CopySource, StartError> {
    let store = connect(&as_it_is(patient(options)), flag).await?;
    if writers == SourceWriters::Excluded && matches!(store.read_only().await, Ok(None)) {
        telemetry::print_stderr(&format!(
            "warning: {flag}: the server accepts writes: data that a host or an Express app writes there from now on is lost; \
                         stop each of them, or set read_only on the server"
        ));
    }
    Ok(CopySource {
        scan: Arc::clone(&store) as _,
        store: Some(Box::new(store)),
    })
}

pub(crate) async fn open_target(
    options: &MysqlOptions,
    flag: &str,
) -> Result<CopyTarget, StartError> {
    let options = patient(options);
    let store = connect(&options, flag).await?;
    if store.rewrites_data() {
        return Err(json(&options, flag));
    }
    for finding in store.findings() {
        let warning = format!("warning: {flag}: {}: {}", finding.found, finding.remedy);
        telemetry::print_stderr(&telemetry::escape(&warning));
    }
    Ok(CopyTarget {
        scan: Arc::clone(&store) as _,
        store: Box::new(store),
    })
}

pub(crate) async fn examine(
    options: &MysqlOptions,
    flag: &str,
    clock: &Clock,
) -> Result<Vec<ExamineFinding>, StartError> {
    let examined = mysql::examine(&patient(options), clock).await;
    examined.map_err(|error| refused(error, flag))
}

async fn connect(options: &MysqlOptions, flag: &str) -> Result<Arc<MysqlStore>, StartError> {
    let connected = MysqlStore::connect(options).await;
    connected
        .map(Arc::new)
        .map_err(|error| refused(error, flag))
}

/// Returns the options with time for the long statements of a copy.
fn patient(options: &MysqlOptions) -> MysqlOptions {
    let mut options = options.clone();
    options.statement_timeout = options.statement_timeout.max(COPY_STATEMENT_TIMEOUT);
    options
}

/// Returns the options for a store in which nothing is created or altered. A read-only server is accepted only if it is the
/// only one in the list: among several servers, a read-only one may lack the last commits.
fn as_it_is(options: MysqlOptions) -> MysqlOptions {
    MysqlOptions {
        create_database_table: false,
        alter_table: false,
        reads_only: options.socket.is_some() || options.hosts.len() == 1,
        ..options
    }
}

/// MySQL's JSON type does not preserve the text of a document. Every row would differ from its source forever, and every pass
/// would write all rows again.
fn json(options: &MysqlOptions, flag: &str) -> StartError {
    let names = &options.schema;
    let problem = format!(
        "the column {} has the type json: the server rewrites the text of each session, so no copy can be compared with its source",
        names.data
    );
    let remedy = format!(
        "run `ALTER TABLE {} MODIFY {} mediumtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`",
        names.table, names.data
    );
    ConfigFault::new(flag, problem, remedy).into()
}

fn refused(error: MysqlConnectError, flag: &str) -> StartError {
    let usual = match error.culprit {
        ConnectErrorClass::Reach => {
            return StartError::Failed(StartFailure {
                problem: format!("{flag}: the store cannot be reached: {}", error.detail),
                remedy: "start the database, or correct its address in the URL; a read-only source must be the only server in the URL"
                    .to_owned(),
            });
        }
        ConnectErrorClass::Account => {
            "correct the user in the URL or its password, or create the account in the database"
        }
        ConnectErrorClass::Database => {
            "correct the database's name in the URL, create the database, or grant the account its privileges"
        }
        ConnectErrorClass::Tls => {
            "name a configuration whose [store] has the `tls` and `ca_file` of this server"
        }
        _ => {
            "correct the table, or name a configuration whose [store] has the names of the table and its columns"
        }
    };
    let remedy = match error.remedy.is_empty() {
        true => usual.to_owned(),
        false => error.remedy,
    };
    ConfigFault::new(flag, error.detail, remedy).into()
}
