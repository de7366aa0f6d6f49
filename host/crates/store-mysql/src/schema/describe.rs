//! Reads the server's description of the table.

use mysql_async::{Row, Value, from_value_opt};

use super::{ColumnDescription, IndexDescription, TableDescription};
use crate::connect_error::MysqlConnectError;
use crate::connection::Statement;
use crate::options::SchemaNames;
use crate::servers::PooledConnection;
use cloakroom_session::record::Charset;

/// Describes the table with these names. The result has no columns if the table does not exist.
pub(crate) async fn describe(
    link: &mut PooledConnection<'_>,
    names: &SchemaNames,
) -> Result<TableDescription, MysqlConnectError> {
    let table_name = || vec![Value::from(names.table.as_str())];
    let columns = query(
        link,
        "SELECT COLUMN_NAME, COLUMN_TYPE, CHARACTER_SET_NAME, COLLATION_NAME, CHARACTER_MAXIMUM_LENGTH, IS_NULLABLE, \
         COLUMN_DEFAULT, EXTRA FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?",
        table_name(),
    );
    let columns = columns.await?;
    let indexes = query(
        link,
        "SELECT INDEX_NAME, NON_UNIQUE, COLUMN_NAME FROM information_schema.STATISTICS \
         WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? ORDER BY INDEX_NAME, SEQ_IN_INDEX",
        table_name(),
    );
    let mut grouped: Vec<IndexDescription> = Vec::new();
    for row in indexes.await? {
        let (Some(name), Some(column)) = (text(&row, 0), text(&row, 2)) else {
            continue;
        };
        let is_unique = text(&row, 1).as_deref() == Some("0");
        match grouped.last_mut() {
            Some(last) if last.name == name => last.columns.push(column),
            _ => grouped.push(IndexDescription {
                name,
                is_unique,
                columns: vec![column],
            }),
        }
    }
    let columns: Vec<ColumnDescription> = columns
        .iter()
        .filter_map(ColumnDescription::of_row)
        .collect();
    let data = columns
        .iter()
        .find(|it| it.name.eq_ignore_ascii_case(names.data.as_str()));
    let charset = charset(link, data.and_then(|data| data.character_set.as_deref())).await;
    Ok(TableDescription {
        columns,
        indexes: grouped,
        charset,
        checks: checks(link, names).await,
    })
}

/// Returns the characters that the character set with this name can hold. For a single-byte set, asks the server for
/// all of them, because a server's table can differ from other tables of the same name.
async fn charset(link: &mut PooledConnection<'_>, name: Option<&str>) -> Charset {
    let known = Charset::of_mysql(name);
    let is_name = |name: &&str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let Some(name) = name.filter(is_name).filter(|_| known == Charset::Ascii) else {
        return known;
    };
    let bytes: String = (0x80..=0xff)
        .map(|byte: u8| format!("{byte:02X}"))
        .collect();
    let sql = format!(
        "SELECT CONVERT(CONVERT(UNHEX('{bytes}') USING {name}) USING utf8mb4) FROM information_schema.CHARACTER_SETS \
         WHERE CHARACTER_SET_NAME = ? AND MAXLEN = 1"
    );
    let rows = query(link, &sql, vec![Value::from(name)]).await;
    let held = rows.ok().and_then(|rows| text(rows.first()?, 0));
    // A byte without a character is converted to `?` or U+FFFD.
    let chars = held
        .unwrap_or_default()
        .chars()
        .filter(|c| *c != '\u{fffd}')
        .collect();
    Charset::listed(chars)
}

/// Returns the names of the table's CHECK constraints. Empty if the server does not show them to this account.
async fn checks(link: &mut PooledConnection<'_>, names: &SchemaNames) -> Vec<String> {
    // MariaDB has the table's name in this view and lists column constraints only here. MySQL's view has no table name.
    const OF_MARIADB: &str = "SELECT CONSTRAINT_NAME FROM information_schema.CHECK_CONSTRAINTS \
                              WHERE CONSTRAINT_SCHEMA = DATABASE() AND TABLE_NAME = ?";
    const OF_MYSQL: &str = "SELECT CONSTRAINT_NAME FROM information_schema.TABLE_CONSTRAINTS \
                            WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? AND CONSTRAINT_TYPE = 'CHECK'";
    for sql in [OF_MARIADB, OF_MYSQL] {
        if let Ok(rows) = query(link, sql, vec![Value::from(names.table.as_str())]).await {
            return rows.iter().filter_map(|row| text(row, 0)).collect();
        }
    }
    Vec::new()
}

impl ColumnDescription {
    /// Converts a row of `information_schema.COLUMNS` with the columns that [`describe`] selects.
    fn of_row(row: &Row) -> Option<Self> {
        let kind = text(row, 1).unwrap_or_default();
        let is_nullable = text(row, 5).is_some_and(|word| word.eq_ignore_ascii_case("YES"));
        let extra = text(row, 7).unwrap_or_default().to_ascii_lowercase();
        // The server generates the value itself. For an ENUM it uses the first member.
        let is_made = ["auto_increment", "generated"]
            .iter()
            .any(|word| extra.contains(word))
            || kind.starts_with("enum(");
        Some(Self {
            name: text(row, 0)?,
            character_set: text(row, 2),
            collation: text(row, 3),
            chars_max: text(row, 4).and_then(|number| number.parse().ok()),
            is_optional: is_nullable || is_made || text(row, 6).is_some(),
            kind,
        })
    }
}

async fn query(
    link: &mut PooledConnection<'_>,
    text: &str,
    values: Vec<Value>,
) -> Result<Vec<Row>, MysqlConnectError> {
    let answer = link.run(&Statement { text, values }).await;
    answer
        .map(|answer| answer.rows)
        .map_err(|fault| fault.to_connect_error())
}

/// Returns a cell as text. The server's own tables contain text or numbers.
fn text(row: &Row, index: usize) -> Option<String> {
    match row.as_ref(index)? {
        Value::NULL => None,
        Value::Int(n) => Some(n.to_string()),
        Value::UInt(n) => Some(n.to_string()),
        value => from_value_opt(value.clone()).ok(),
    }
}
