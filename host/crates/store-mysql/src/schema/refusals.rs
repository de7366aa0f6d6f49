//! The rows that a table refuses permanently, as far as this can be detected at start. Each kind is reported once, with
//! helpful SQL. At run time the host answers 500 if the table refuses a row. A problem is a fault if the table refuses
//! every row. Knows no connection.

use super::TableDescription;
use crate::options::SchemaNames;
use cloakroom_session::record::{Charset, SessionId};
use cloakroom_session::store::examine::ExamineFinding;

/// Returns a finding for each kind of row that the table would refuse.
pub(crate) fn of(table: &TableDescription, names: &SchemaNames) -> Vec<ExamineFinding> {
    let mut refusals = Vec::new();
    refusals.extend(data_charset(table, names));
    refusals.extend(data_json(table, names));
    refusals.extend(id_length(table, names));
    refusals.extend(expiry_range(table, names));
    refusals.extend(foreign_columns(table, names));
    refusals.extend(checks(table, names));
    refusals
}

/// Characters that the data column cannot hold. They are escaped, so no row is refused, but the spelling changes.
fn data_charset(table: &TableDescription, names: &SchemaNames) -> Option<ExamineFinding> {
    let set = table.column(names.data.as_str())?.character_set.as_deref();
    (table.charset != Charset::Unicode).then(|| ExamineFinding::warning(
        "charset",
        format!(
            "the column {} has the character set {}, which lacks some characters: the host writes these as \\uXXXX, so a \
             guest may read another spelling of the same JSON; run this SQL, then restart",
            names.data,
            set.unwrap_or("binary")
        ),
        format!(
            "ALTER TABLE {} MODIFY {} mediumtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            names.table, names.data
        ),
    ))
}

/// MySQL's JSON type: it rewrites each text and refuses some texts that express-session may write.
fn data_json(table: &TableDescription, names: &SchemaNames) -> Option<ExamineFinding> {
    is_json(table, names).then(|| ExamineFinding::warning(
        "schema",
        format!(
            "the column {} has the type json: the server rewrites the text of each session, so the host has to \
             read a session again that it has just written, and the server refuses half of a surrogate pair (a 500); run \
             this SQL, then restart",
            names.data
        ),
        format!(
            "ALTER TABLE {} MODIFY {} mediumtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            names.table, names.data
        ),
    ))
}

/// Returns whether the data column has MySQL's JSON type. MariaDB's JSON type is a text.
pub(crate) fn is_json(table: &TableDescription, names: &SchemaNames) -> bool {
    (table.column(names.data.as_str())).is_some_and(|it| it.kind.eq_ignore_ascii_case("json"))
}

fn id_length(table: &TableDescription, names: &SchemaNames) -> Option<ExamineFinding> {
    let column = table.column(names.session_id.as_str())?;
    let chars_max = column.chars_max?;
    (chars_max < SessionId::GENERATED_CHARS as u64).then(|| ExamineFinding::fault(
        "schema",
        format!(
            "the column {} has room for {chars_max} characters, and the id of a new session has {}: each new session is answered with \
             500; run this SQL, then restart",
            names.session_id,
            SessionId::GENERATED_CHARS
        ),
        format!(
            "ALTER TABLE {} MODIFY {} varchar(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL",
            names.table, names.session_id
        ),
    ))
}

fn expiry_range(table: &TableDescription, names: &SchemaNames) -> Option<ExamineFinding> {
    // These types are too small for the expiry of any session, or do not hold numbers.
    const HOLD_NO_EXPIRY: [&str; 8] = [
        "tinyint",
        "smallint",
        "mediumint",
        "bit",
        "date",
        "time",
        "year",
        "bool",
    ];
    let kind = &table.column(names.expires.as_str())?.kind;
    let kind = kind.to_ascii_lowercase();
    if kind.starts_with("bigint") || kind.starts_with("int") && kind.contains("unsigned") {
        return None;
    }
    let sql = format!(
        "ALTER TABLE {} MODIFY {} int unsigned NOT NULL",
        names.table, names.expires
    );
    if HOLD_NO_EXPIRY.iter().any(|it| kind.starts_with(it)) {
        let problem = format!(
            "the column {} has the type {kind}, which holds no time in seconds: each new session is answered with 500; run this SQL",
            names.expires
        );
        return Some(ExamineFinding::fault("schema", problem, sql));
    }
    let problem = format!(
        "the column {} has the type {kind}, which does not hold all times up to 2106 in seconds (a signed int ends on 2038-01-19): a \
         session that ends later is answered with 500; run this SQL",
        names.expires
    );
    Some(ExamineFinding::warning("schema", problem, sql))
}

/// Columns that belong neither to Express nor to Cloakroom and require a value.
fn foreign_columns(table: &TableDescription, names: &SchemaNames) -> Option<ExamineFinding> {
    let known = [
        names.session_id.as_str(),
        names.expires.as_str(),
        names.data.as_str(),
        "cloakroom_token",
        "cloakroom_created",
    ];
    let is_known = |name: &str| known.iter().any(|known| known.eq_ignore_ascii_case(name));
    let foreign: Vec<_> = (table.columns.iter())
        .filter(|column| !column.is_optional && !is_known(&column.name))
        .collect();
    let listed: Vec<_> = (foreign.iter())
        .map(|column| format!("`{}`", column.name))
        .collect();
    let changes: Vec<_> = (foreign.iter())
        .map(|column| format!("MODIFY `{}` {} NULL", column.name, column.kind))
        .collect();
    (!foreign.is_empty()).then(|| ExamineFinding::fault(
        "schema",
        format!(
            "the table {} has columns of another program that are NOT NULL without a default ({}): unless a trigger fills them in, each \
             new session is answered with 500; run this SQL, or give them a default",
            names.table,
            listed.join(", ")
        ),
        format!("ALTER TABLE {} {}", names.table, changes.join(", ")),
    ))
}

fn checks(table: &TableDescription, names: &SchemaNames) -> Option<ExamineFinding> {
    // MariaDB's JSON type is a text with a CHECK that has the column's name. It is removed only together with the type.
    let drop = |name: &String| match name.eq_ignore_ascii_case(names.data.as_str()) {
        true => format!(
            "MODIFY {} mediumtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            names.data
        ),
        false => format!("DROP CONSTRAINT `{name}`"),
    };
    let drops: Vec<_> = table.checks.iter().map(drop).collect();
    (!drops.is_empty()).then(|| ExamineFinding::warning(
        "schema",
        format!(
            "the table {} has CHECK constraints ({}): a session that fails one is answered with 500; run this SQL if a session may fail \
             them",
            names.table,
            table.checks.join(", ")
        ),
        format!("ALTER TABLE {} {}", names.table, drops.join(", ")),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::ColumnDescription;
    use cloakroom_session::store::examine::ExamineState;

    fn column(name: &str, kind: &str) -> ColumnDescription {
        ColumnDescription {
            name: name.to_owned(),
            kind: kind.to_owned(),
            character_set: None,
            collation: None,
            chars_max: None,
            is_optional: false,
        }
    }

    /// A table that refuses nothing.
    fn table() -> TableDescription {
        let id = ColumnDescription {
            chars_max: Some(128),
            ..column("session_id", "varchar(128)")
        };
        let data = ColumnDescription {
            character_set: Some("utf8mb4".to_owned()),
            ..column("data", "mediumtext")
        };
        TableDescription {
            columns: vec![id, column("expires", "int(11) unsigned"), data],
            indexes: Vec::new(),
            charset: Charset::Unicode,
            checks: Vec::new(),
        }
    }

    /// Changes the table and returns the only finding on it.
    fn finding(change: impl FnOnce(&mut TableDescription)) -> ExamineFinding {
        let mut table = table();
        change(&mut table);
        let mut refusals = of(&table, &SchemaNames::default());
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        refusals.remove(0)
    }

    #[test]
    fn a_table_as_express_makes_it_refuses_nothing() {
        assert!(of(&table(), &SchemaNames::default()).is_empty());
        let mut bigint = table();
        bigint.columns[1].kind = "bigint(20)".to_owned();
        assert!(of(&bigint, &SchemaNames::default()).is_empty());
    }

    #[test]
    fn restrictions_of_a_table_are_reported_with_the_sql_remedy() {
        let charset = finding(|table| {
            table.columns[2].character_set = Some("latin1".to_owned());
            table.charset = Charset::Ascii;
        });
        assert!(
            charset.found.contains("character set latin1"),
            "{charset:?}"
        );
        assert!(
            charset
                .remedy
                .contains("MODIFY `data` mediumtext CHARACTER SET utf8mb4")
        );

        let json = finding(|table| table.columns[2] = column("data", "json"));
        assert!(json.found.contains("the type json"), "{json:?}");
        let mut native = table();
        native.columns[2] = column("data", "json");
        assert!(is_json(&native, &SchemaNames::default()));
        assert!(!is_json(&table(), &SchemaNames::default()));

        let id = finding(|table| table.columns[0].chars_max = Some(16));
        assert!(id.found.contains("room for 16 characters"), "{id:?}");
        assert!(id.remedy.contains("MODIFY `session_id` varchar(128)"));

        for (kind, state) in [
            ("int(11)", ExamineState::Warning),
            ("int", ExamineState::Warning),
            ("mediumint(9) unsigned", ExamineState::Fault),
            ("smallint", ExamineState::Fault),
            ("datetime", ExamineState::Fault),
            ("timestamp", ExamineState::Fault),
        ] {
            let expiry = finding(|table| table.columns[1].kind = kind.to_owned());
            assert!(expiry.found.contains(kind), "{expiry:?}");
            assert_eq!(expiry.state, state, "{expiry:?}");
        }

        let foreign = finding(|table| table.columns.push(column("who", "varchar(9)")));
        assert!(foreign.found.contains("`who`"), "{foreign:?}");
        assert!(foreign.remedy.ends_with("MODIFY `who` varchar(9) NULL"));

        let check = finding(|table| table.checks.push("short".to_owned()));
        assert!(
            check.remedy.ends_with("DROP CONSTRAINT `short`"),
            "{check:?}"
        );
    }
}
