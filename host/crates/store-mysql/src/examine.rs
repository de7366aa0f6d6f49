//! Examines the servers of a list and their tables, each server on its own. Changes nothing: its writing statements
//! match no row. The checks of the table are the checks of a starting host.

mod list;

use std::time::{Duration, Instant};

use mysql_async::Value;

use super::connect_error::{ConnectErrorClass, MysqlConnectError};
use super::options::{MysqlOptions, SchemaNames};
use super::server::{
    GALERA_STATUS, GROUP_MEMBERS, GroupMemberState, MEMBERS_RIGHT, READ_ONLY, ServerVariables,
    VARIABLES,
};
use super::{MysqlShared, MysqlStore};
use cloakroom_base::clock::Clock;
use cloakroom_base::limits::{
    CHECK_CLOCK_SKEW_WARN, CHECK_LATENCY_READS, MYSQL_CHECK_LATENCY_WARN,
};
use cloakroom_session::store::StoreError;
use cloakroom_session::store::examine::ExamineFinding;
use list::ReachedServer;

/// Examines each server: schema, charset, privileges, causality, latency and clock, in this order, with one finding
/// each. Then examines the list as a whole. Servers that take no writes are examined as well.
///
/// # Errors
/// Returns an error if the only server is unreachable.
///
/// Cancel safety: dropping it changes nothing.
pub async fn examine(
    options: &MysqlOptions,
    clock: &Clock,
) -> Result<Vec<ExamineFinding>, MysqlConnectError> {
    let servers = list::each(options);
    let is_list = servers.len() > 1;
    let (mut findings, mut reached) = (Vec::new(), Vec::new());
    for (name, options) in servers {
        let found = match MysqlStore::connect(&options).await {
            Ok(store) => {
                let (found, server) = store.examine(&name, clock).await;
                store.shutdown().await;
                reached.extend(server);
                found
            }
            Err(error) if error.culprit == ConnectErrorClass::Reach && !is_list => {
                return Err(error);
            }
            Err(error) => vec![unusable(error)],
        };
        findings.extend(found.into_iter().map(|finding| match is_list {
            true => finding.at(&name),
            false => finding,
        }));
    }
    findings.extend(list::judge(&reached));
    Ok(findings)
}

impl MysqlStore {
    /// Returns the findings, and the description of the server for the comparison with the other servers of the list.
    async fn examine(
        &self,
        name: &str,
        clock: &Clock,
    ) -> (Vec<ExamineFinding>, Option<ReachedServer>) {
        let shared = &*self.shared;
        let mut findings = self.table();
        let facts = facts(shared).await;
        findings.push(privileges(shared, facts.as_ref().ok()).await);
        let causality = facts.as_ref().map(|(facts, _)| causality(facts));
        findings.push(causality.unwrap_or_else(|error| unanswered("causality", error)));
        let latency = latency(shared).await;
        findings.push(latency.unwrap_or_else(|error| unanswered("latency", &error)));
        let skew = clock_skew(shared, clock).await;
        findings.push(skew.unwrap_or_else(|error| unanswered("clock", &error)));
        let reached = facts.ok().map(|(facts, members)| ReachedServer {
            name: name.to_owned(),
            server: facts.server(members.unwrap_or(GroupMemberState::Unknown)),
            is_closed: facts.read_only().is_some(),
        });
        (findings, reached)
    }

    /// Returns the findings on the table from start, by subject.
    fn table(&self) -> Vec<ExamineFinding> {
        let SchemaNames {
            table, session_id, ..
        } = &self.shared.names;
        let of = |subject: &str| {
            let of_subject = |finding: &&ExamineFinding| finding.subject == subject;
            self.findings().iter().filter(of_subject).cloned().collect()
        };
        let mut problems: Vec<_> = of("schema");
        if !self.shared.columns.is_id_primary {
            let found = "the id alone is not the primary key, so commits cannot be batched";
            let sql =
                format!("ALTER TABLE {table} DROP PRIMARY KEY, ADD PRIMARY KEY ({session_id})");
            problems.push(ExamineFinding::warning("schema", found, sql));
        }
        let good = format!("the table {table} has all columns, its key and its index");
        let held = "the data column holds all characters, ids are compared byte for byte";
        vec![
            ExamineFinding::of_problems("schema", good, problems),
            ExamineFinding::of_problems("charset", held, of("charset")),
        ]
    }

    /// Returns the variable that keeps the server from taking writes, or `None` if it takes writes.
    ///
    /// # Errors
    /// Returns an error if the server does not answer.
    ///
    /// Cancel safety: a read; dropping it changes nothing.
    pub async fn read_only(&self) -> Result<Option<&'static str>, StoreError> {
        let mut facts = ServerVariables::default();
        add(&mut facts, &self.shared, READ_ONLY).await?;
        Ok(facts.read_only())
    }
}

/// Converts the reason why a server cannot serve to a finding.
fn unusable(error: MysqlConnectError) -> ExamineFinding {
    let subject = match error.culprit {
        ConnectErrorClass::Reach => "reach",
        ConnectErrorClass::Table | ConnectErrorClass::Columns => "schema",
        _ => "privileges",
    };
    ExamineFinding::fault(subject, error.detail, error.remedy)
}

/// Reads the server's variables, and its membership if it is in a group. The membership is `None` if the account must
/// not read it.
async fn facts(
    shared: &MysqlShared,
) -> Result<(ServerVariables, Option<GroupMemberState>), StoreError> {
    let mut facts = ServerVariables::default();
    add(&mut facts, shared, VARIABLES).await?;
    if facts.is_galera() {
        add(&mut facts, shared, GALERA_STATUS).await?;
        return Ok((facts, None));
    }
    if !facts.is_grouped() {
        return Ok((facts, None));
    }
    let members = shared.ask(GROUP_MEMBERS, Vec::new()).await.ok();
    let member = |cells: &Vec<Value>| {
        let is_own = cell_text(cells.first()).as_deref() == Some("1");
        (is_own, cell_text(cells.get(1)).unwrap_or_default())
    };
    let members = members.map(|rows| rows.iter().map(member).collect::<Vec<_>>());
    Ok((facts, members.map(|members| GroupMemberState::of(&members))))
}

async fn add(
    facts: &mut ServerVariables,
    shared: &MysqlShared,
    show: &str,
) -> Result<(), StoreError> {
    let rows = shared.ask(show, Vec::new()).await?;
    let pair = |cells: &Vec<Value>| Some((cell_text(cells.first())?, cell_text(cells.get(1))));
    facts.add(rows.iter().filter_map(pair));
    Ok(())
}

/// Runs the statements that sessions need, each on no row: the server checks the privileges before it looks for rows.
async fn privileges(
    shared: &MysqlShared,
    facts: Option<&(ServerVariables, Option<GroupMemberState>)>,
) -> ExamineFinding {
    const SUBJECT: &str = "privileges";
    let table = &shared.names.table;
    let closed = facts.and_then(|(facts, _)| facts.read_only());
    let mut problems = Vec::new();
    for (verb, statement) in statements(&shared.names) {
        // A read-only server refuses every writing statement, whatever the account's privileges are.
        if closed.is_some() && verb != "SELECT" {
            continue;
        }
        if let Err(error) = shared.ask(&statement, Vec::new()).await {
            let found = format!("{verb} on the table is refused ({})", error.detail);
            let remedy = format!("GRANT {verb} ON {table} TO the account of the URL");
            problems.push(ExamineFinding::fault(SUBJECT, found, remedy));
        }
    }
    if facts.is_some_and(|(facts, members)| facts.is_grouped() && members.is_none()) {
        let found = "the account may not read the members of the group, so a server that was left is not used again automatically";
        let remedy = format!("GRANT {MEMBERS_RIGHT} TO the account of the URL");
        problems.push(ExamineFinding::warning(SUBJECT, found, remedy));
    }
    let good = match closed {
        None => "the account may SELECT, INSERT, UPDATE and DELETE".to_owned(),
        Some(name) => format!(
            "the account may SELECT; the server takes no writes ({name} is on), so nothing else was tried"
        ),
    };
    ExamineFinding::of_problems(SUBJECT, good, problems)
}

fn statements(names: &SchemaNames) -> [(&'static str, String); 4] {
    let SchemaNames {
        table,
        session_id,
        expires,
        data,
    } = names;
    let columns = format!("{session_id}, {expires}, {data}");
    [
        (
            "SELECT",
            format!("SELECT {columns} FROM {table} WHERE 1 = 0"),
        ),
        (
            "INSERT",
            format!("INSERT INTO {table} ({columns}) SELECT {columns} FROM {table} WHERE 1 = 0"),
        ),
        (
            "UPDATE",
            format!("UPDATE {table} SET {expires} = {expires} WHERE 1 = 0"),
        ),
        ("DELETE", format!("DELETE FROM {table} WHERE 1 = 0")),
    ]
}

/// Returns the finding on whether a read on this server sees the commits of another server.
fn causality(facts: &ServerVariables) -> ExamineFinding {
    const SUBJECT: &str = "causality";
    let Some(setting) = facts.causality_setting() else {
        return ExamineFinding::good(
            SUBJECT,
            "a single server: each read sees all committed writes",
        );
    };
    let found = format!("a cluster, {setting} on the store's connections");
    match facts.causality() {
        Ok(None) => ExamineFinding::good(SUBJECT, found),
        Ok(Some(lacking)) => ExamineFinding::fault(
            SUBJECT,
            format!("{found}: a member may answer without the last logout of another member"),
            format!("{} on each member", lacking.global),
        ),
        Err(problem) => ExamineFinding::fault(SUBJECT, problem, "update the servers"),
    }
}

async fn latency(shared: &MysqlShared) -> Result<ExamineFinding, StoreError> {
    let mut took = Vec::new();
    // The first round prepares the statement and is not measured.
    for round in 0..=CHECK_LATENCY_READS {
        let started_at = Instant::now();
        shared.ask("SELECT 1", Vec::new()).await?;
        if round > 0 {
            took.push(started_at.elapsed());
        }
    }
    took.sort_unstable();
    let (median, longest) = (took[took.len() / 2], took[took.len() - 1]);
    let found = format!(
        "a round trip takes {} ms, at most {} ms of {CHECK_LATENCY_READS} trips",
        in_ms(median),
        in_ms(longest)
    );
    if median > MYSQL_CHECK_LATENCY_WARN {
        let remedy = "run host and database in one data centre: each visit with a session waits for one round trip at least";
        return Ok(ExamineFinding::warning("latency", found, remedy));
    }
    Ok(ExamineFinding::good("latency", found))
}

async fn clock_skew(shared: &MysqlShared, clock: &Clock) -> Result<ExamineFinding, StoreError> {
    const SUBJECT: &str = "clock";
    let asked_at_ms = clock.now_ms();
    let rows = shared
        .ask("SELECT UNIX_TIMESTAMP(NOW(6))", Vec::new())
        .await?;
    let answered_at_ms = clock.now_ms();
    let seconds = rows.first().and_then(|cells| cell_text(cells.first()));
    let Some(seconds) = seconds.and_then(|text| text.parse::<f64>().ok()) else {
        let remedy = "compare `SELECT NOW()` with the clock of this machine by hand";
        return Ok(ExamineFinding::warning(
            SUBJECT,
            "the server tells no time",
            remedy,
        ));
    };
    let middle_ms = (asked_at_ms + answered_at_ms) as f64 / 2.0;
    let ahead_s = seconds - middle_ms / 1000.0;
    let direction = if ahead_s < 0.0 { "behind" } else { "ahead of" };
    let found = format!(
        "the database's clock is {:.1} s {direction} the clock of this machine",
        ahead_s.abs()
    );
    if ahead_s.abs() > CHECK_CLOCK_SKEW_WARN.as_secs_f64() {
        let remedy = "synchronize both clocks (chrony, systemd-timesyncd): sessions expire by the clock of each host";
        return Ok(ExamineFinding::warning(SUBJECT, found, remedy));
    }
    Ok(ExamineFinding::good(SUBJECT, found))
}

fn unanswered(subject: &'static str, error: &StoreError) -> ExamineFinding {
    let remedy = "correct what the server's error names, then run the command again";
    ExamineFinding::fault(subject, error.detail.clone(), remedy)
}

/// Returns a cell as text; `None` for NULL.
fn cell_text(cell: Option<&Value>) -> Option<String> {
    match cell? {
        Value::Bytes(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::Int(n) => Some(n.to_string()),
        Value::UInt(n) => Some(n.to_string()),
        Value::Double(n) => Some(n.to_string()),
        Value::Float(n) => Some(n.to_string()),
        _ => None,
    }
}

fn in_ms(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}
