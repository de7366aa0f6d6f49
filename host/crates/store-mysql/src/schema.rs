//! The table: creates it if it is missing, checks it if it exists, and adds Cloakroom's columns if that is allowed.
//! Runs only at start.

mod describe;
mod refusals;

use std::time::Duration;

use super::connect_error::{ConnectErrorClass, MysqlConnectError};
use super::connection::{Statement, StatementResult};
use super::error::{StatementError, StatementErrorClass};
use super::options::{MysqlOptions, SchemaNames};
use super::servers::{PooledConnection, ServerList};
use cloakroom_session::record::Charset;
use cloakroom_session::store::examine::ExamineFinding;
use cloakroom_session::store::{Commit, RowChange, StoreError, StoreErrorKind};
use describe::describe;

/// Time limit for a change of the table. Adding an index to a full table takes a while.
const CHANGE_TIME_MAX: Duration = Duration::from_secs(300);

/// A table that was found or created.
pub(crate) struct PreparedTable {
    pub(crate) columns: TableColumns,
    /// Findings for the operator, in the subjects `schema` and `charset`. The remedies are SQL.
    pub(crate) findings: Vec<ExamineFinding>,
    /// Whether the data column has MySQL's JSON type, which does not keep a text as it was written.
    pub(crate) rewrites_data: bool,
}

/// The table's columns in addition to Express's, and how its data is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableColumns {
    /// Whether the table has `cloakroom_token`.
    pub(crate) has_token: bool,
    /// Whether the table has `cloakroom_created`.
    pub(crate) has_created: bool,
    /// Whether the data column has a character set other than the link's. The bytes that are read then differ from the
    /// stored bytes.
    pub(crate) is_data_converted: bool,
    /// Whether the id alone is the primary key, so that a statement can be forced to use that key.
    pub(crate) is_id_primary: bool,
    /// Whether the id column compares different texts as equal: texts that differ in case, accents or characters
    /// without weight.
    pub(crate) is_id_loose: bool,
    /// The maximum number of characters in the id column, if the server reports it.
    pub(crate) id_chars_max: Option<u64>,
    /// The characters that the data column can hold.
    pub(crate) charset: Charset,
}

impl TableColumns {
    /// Returns an error if a commit's new id is longer than the id column. The server would report the same error as
    /// for data that is too long.
    pub(crate) fn refusal(&self, commit: &Commit) -> Option<StoreError> {
        let new_id = match &commit.change {
            RowChange::Create(_) => &commit.id,
            RowChange::Update { new_id, .. } => new_id.as_ref()?,
            RowChange::Delete { .. } => return None,
        };
        let (chars, chars_max) = (new_id.as_str().chars().count(), self.id_chars_max?);
        (chars as u64 > chars_max).then(|| StoreError {
            kind: StoreErrorKind::Refused,
            detail: format!(
                "the id column has room for {chars_max} characters, and the session's id has {chars}: make it a varchar(128), \
                 then restart"
            ),
        })
    }
}

/// A table as the server describes it.
struct TableDescription {
    columns: Vec<ColumnDescription>,
    indexes: Vec<IndexDescription>,
    /// The characters that the data column can hold.
    charset: Charset,
    /// The names of its CHECK constraints, as far as the server shows them.
    checks: Vec<String>,
}

struct ColumnDescription {
    name: String,
    /// The type as SQL writes it, such as `varchar(128)`.
    kind: String,
    character_set: Option<String>,
    collation: Option<String>,
    chars_max: Option<u64>,
    /// Whether a row can be inserted without a value for this column.
    is_optional: bool,
}

struct IndexDescription {
    name: String,
    is_unique: bool,
    /// The indexed columns, in order.
    columns: Vec<String>,
}

/// Finds or creates the table and returns its properties.
///
/// # Errors
/// Returns an error with helpful SQL if the table is not usable and must not be changed.
pub(crate) async fn prepare(
    hosts: &ServerList,
    options: &MysqlOptions,
) -> Result<PreparedTable, MysqlConnectError> {
    let mut link = hosts.link().await.map_err(|f| f.to_connect_error())?;
    let names = &options.schema;
    let mut table = describe(&mut link, names).await?;
    if table.columns.is_empty() {
        create(&mut link, options).await?;
        table = describe(&mut link, names).await?;
    }
    check(&table, options)?;
    if let Some(change) = missing_change(&table, names).filter(|_| options.alter_table) {
        alter(&mut link, &change).await?;
        table = describe(&mut link, names).await?;
    }
    let findings = judge(&table, names);
    for finding in &findings {
        tracing::warn!(sql = finding.remedy, "{}", finding.found);
    }
    Ok(PreparedTable {
        columns: table.summary(names),
        findings,
        rewrites_data: refusals::is_json(&table, names),
    })
}

/// Returns all findings on a table that can serve.
fn judge(table: &TableDescription, names: &SchemaNames) -> Vec<ExamineFinding> {
    let mut findings = Vec::new();
    if let Some(change) = missing_change(table, names) {
        let found = "the session table lacks Cloakroom's columns or index: the outcome of a commit whose answer is lost stays unknown, \
                     finding expired rows is slow; run this SQL, or set alter_table = true";
        findings.push(ExamineFinding::warning("schema", found, change));
    }
    if let Some(change) = table.binary_ids(names) {
        let found = "the session table compares ids without regard to case or accents, so a cookie that a guest signs with the \
                     session's secrets could be another session's id: texts that are not ASCII are not signed with them; run this SQL, \
                     then restart";
        findings.push(ExamineFinding::warning("charset", found, change));
    }
    findings.extend(refusals::of(table, names));
    findings
}

async fn create(
    link: &mut PooledConnection<'_>,
    options: &MysqlOptions,
) -> Result<(), MysqlConnectError> {
    let sql = create_statement(&options.schema);
    if !options.create_database_table {
        let what = format!("there is no table {}", options.schema.table);
        let remedy = format!("run `{sql}`, or set create_database_table = true");
        return Err(MysqlConnectError::new(
            ConnectErrorClass::Table,
            what,
            remedy,
        ));
    }
    match change(link, &sql).await {
        Ok(_) => Ok(()),
        Err(fault) if fault.class == StatementErrorClass::Broken => {
            let what = format!("the table cannot be created ({})", fault.detail);
            Err(remedy_by_hand(&what, &sql))
        }
        Err(fault) => Err(fault.to_connect_error()),
    }
}

async fn alter(link: &mut PooledConnection<'_>, sql: &str) -> Result<(), MysqlConnectError> {
    tracing::info!(
        sql,
        "adding missing columns and indexes to the session table"
    );
    match change(link, sql).await {
        Ok(_) => Ok(()),
        // Another host that starts at the same time was faster: "duplicate column", "duplicate key name".
        Err(fault)
            if fault.detail.contains("error 1060") || fault.detail.contains("error 1061") =>
        {
            Ok(())
        }
        Err(fault) if fault.class == StatementErrorClass::Broken => {
            let what = format!("the table cannot be altered ({})", fault.detail);
            Err(remedy_by_hand(&what, sql))
        }
        Err(fault) => Err(fault.to_connect_error()),
    }
}

/// Checks whether the table can serve at all.
fn check(table: &TableDescription, options: &MysqlOptions) -> Result<(), MysqlConnectError> {
    let names = &options.schema;
    let missing: Vec<_> = [&names.session_id, &names.expires, &names.data]
        .into_iter()
        .filter(|name| !table.has_column(name.as_str()))
        .map(ToString::to_string)
        .collect();
    if !missing.is_empty() {
        let what = format!(
            "the table {} has no column {}",
            names.table,
            missing.join(" and ")
        );
        let remedy = "name its columns under schema.column_names";
        return Err(MysqlConnectError::new(
            ConnectErrorClass::Columns,
            what,
            remedy,
        ));
    }
    if !table.indexes.iter().any(|index| index.is_key(names)) {
        let what = format!("the table {} may hold an id twice", names.table);
        let sql = format!(
            "ALTER TABLE {} ADD PRIMARY KEY ({})",
            names.table, names.session_id
        );
        return Err(remedy_by_hand(&what, &sql));
    }
    Ok(())
}

/// Returns the statement that adds the missing columns and index, or `None` if the table has all of them.
fn missing_change(table: &TableDescription, names: &SchemaNames) -> Option<String> {
    let mut additions = Vec::new();
    if !table.has_column("cloakroom_token") {
        additions.push("ADD COLUMN `cloakroom_token` varbinary(32) NOT NULL DEFAULT ''".to_owned());
    }
    if !table.has_column("cloakroom_created") {
        additions.push("ADD COLUMN `cloakroom_created` int unsigned NULL".to_owned());
    }
    let expires = names.expires.as_str();
    let is_expiry_index = |index: &IndexDescription| index.columns[0].eq_ignore_ascii_case(expires);
    if !table.indexes.iter().any(is_expiry_index) {
        additions.push(format!("ADD INDEX `cloakroom_expires` ({})", names.expires));
    }
    (!additions.is_empty()).then(|| format!("ALTER TABLE {} {}", names.table, additions.join(", ")))
}

/// Returns the statement for express-mysql-session's table with Cloakroom's columns and index.
fn create_statement(names: &SchemaNames) -> String {
    let SchemaNames {
        table,
        session_id,
        expires,
        data,
    } = names;
    format!(
        "CREATE TABLE IF NOT EXISTS {table} (\
         {session_id} varchar(128) COLLATE utf8mb4_bin NOT NULL, \
         {expires} int(11) unsigned NOT NULL, \
         {data} mediumtext COLLATE utf8mb4_bin, \
         `cloakroom_token` varbinary(32) NOT NULL DEFAULT '', \
         `cloakroom_created` int unsigned NULL, \
         PRIMARY KEY ({session_id}), \
         KEY `cloakroom_expires` ({expires})\
         ) ENGINE=InnoDB"
    )
}

impl IndexDescription {
    /// Returns whether the index keeps ids unique.
    fn is_key(&self, names: &SchemaNames) -> bool {
        let is_id = |column: &str| column.eq_ignore_ascii_case(names.session_id.as_str());
        self.is_unique && matches!(&self.columns[..], [only] if is_id(only))
    }
}

impl TableDescription {
    fn has_column(&self, name: &str) -> bool {
        self.column(name).is_some()
    }

    fn column(&self, name: &str) -> Option<&ColumnDescription> {
        (self.columns.iter()).find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// Returns the statement that makes the server compare ids byte for byte, or `None` if it already does. `VARBINARY`
    /// has no collation, or "binary".
    fn binary_ids(&self, names: &SchemaNames) -> Option<String> {
        let column = self.column(names.session_id.as_str())?;
        let collation = column.collation.as_deref()?;
        let is_binary = collation == "binary" || collation.ends_with("_bin");
        let set = column.character_set.as_deref().unwrap_or("utf8mb4");
        (!is_binary).then(|| {
            format!(
                "ALTER TABLE {} MODIFY {} {} CHARACTER SET {set} COLLATE {set}_bin NOT NULL",
                names.table, names.session_id, column.kind
            )
        })
    }

    fn summary(&self, names: &SchemaNames) -> TableColumns {
        let character_set = self.column(names.data.as_str());
        let character_set = character_set.and_then(|column| column.character_set.as_deref());
        let id = self.column(names.session_id.as_str());
        TableColumns {
            has_token: self.has_column("cloakroom_token"),
            has_created: self.has_column("cloakroom_created"),
            // Blobs and native JSON have no character set, or "binary".
            is_data_converted: character_set.is_some_and(|set| {
                !["utf8mb4", "utf8mb3", "utf8", "ascii", "binary"].contains(&set)
            }),
            is_id_primary: (self.indexes.iter())
                .any(|index| index.name.eq_ignore_ascii_case("PRIMARY") && index.is_key(names)),
            is_id_loose: self.binary_ids(names).is_some(),
            id_chars_max: id.and_then(|column| column.chars_max),
            charset: self.charset,
        }
    }
}

async fn change(
    link: &mut PooledConnection<'_>,
    text: &str,
) -> Result<StatementResult, StatementError> {
    let statement = Statement {
        text,
        values: Vec::new(),
    };
    link.run_for(&statement, CHANGE_TIME_MAX).await
}

fn remedy_by_hand(what: &str, sql: &str) -> MysqlConnectError {
    let remedy = format!("let an account that may run `{sql}`");
    MysqlConnectError::new(ConnectErrorClass::Table, what, remedy)
}
