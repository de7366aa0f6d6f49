//! The texts of all statements, built once per table. They use the subset of SQL that MySQL, MariaDB, Galera, Group
//! Replication, TiDB and Vitess run alike: no upsert, no explicit locks, no multi-statements, rows named by primary
//! key.

use cloakroom_base::limits::STORE_BATCH_ROWS_MAX;

use super::options::SchemaNames;
use super::schema::TableColumns;

/// The numbers of ids in statements over many rows. Shorter lists are padded. The numbers are few, so that the
/// statements stay prepared.
const SHAPES: [usize; 5] = [1, 4, 16, 64, STORE_BATCH_ROWS_MAX];
/// The numbers of rows in batched swaps. Shorter batches are padded. A swap of one row is a separate statement.
const SWAPPED: [usize; 4] = [4, 16, 64, STORE_BATCH_ROWS_MAX];
/// The numbers of rows in touch statements. Shorter lists are padded.
const TOUCHED: [usize; 4] = [1, 16, 64, STORE_BATCH_ROWS_MAX];
/// The numbers of rows in insert statements. An insert cannot be padded, so a batch is split into powers of two.
const INSERTED: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, STORE_BATCH_ROWS_MAX];

/// Maximum number of rows that one statement names.
pub(crate) const ROWS_MAX: usize = STORE_BATCH_ROWS_MAX;

/// All statements on one table.
///
/// An id is compared twice: by the column's collation, which finds it through the key, and by its bytes, because every
/// such collation ignores at least trailing spaces. Tokens are sent as hexadecimal text, because the driver sends bytes
/// as text.
pub(crate) struct TableStatements {
    /// `(id...), now` by shape.
    load: Vec<(usize, String)>,
    /// `(id...), now` by shape.
    delete_expired: Vec<(usize, String)>,
    /// `id, token` of `(id...)` by shape.
    tokens: Vec<(usize, String)>,
    /// By shape: `(hex(id), value)...` for each of `expires, data, token[, created]`, then `(id...)`, then `(hex(id),
    /// hex(base token) hash(base data))...`, then `now`.
    update_many: Vec<(usize, String)>,
    /// `(id, expires, data[, token][, created])...` by number.
    insert_many: Vec<(usize, String)>,
    /// `(hex(id), expires)..., (id)..., (hex(id))..., now` by shape.
    touch: Vec<(usize, String)>,
    /// `id, expires, data[, token][, created]`
    pub(crate) insert: String,
    /// `expires, data[, token][, created], id, hex(id)[, base token], hash(base data), now`
    pub(crate) update: String,
    /// Like `update`, preceded by `new id`.
    pub(crate) renew: String,
    /// `id, hex(id)[, base token], hash(base data), now`
    pub(crate) find_base: String,
    /// `id, hex(id)`
    pub(crate) delete: String,
    /// `id, hex(id)[, base token], hash(base data), now`
    pub(crate) delete_base: String,
    /// `now, rows`
    pub(crate) list_expired: String,
}

impl TableStatements {
    pub(crate) fn new(names: &SchemaNames, columns: TableColumns) -> Self {
        let SchemaNames {
            table,
            session_id: id,
            expires,
            data,
        } = names;
        let token = columns.has_token.then_some("`cloakroom_token`");
        let created = columns.has_created.then_some("`cloakroom_created`");

        let mut inserted = format!("{id}, {expires}, {data}");
        let mut values = "?, ?, ?".to_owned();
        let mut assignments = format!("{expires} = ?, {data} = ?");
        if let Some(token) = token {
            inserted += &format!(", {token}");
            values += ", UNHEX(?)";
            assignments += &format!(", {token} = UNHEX(?)");
        }
        if let Some(created) = created {
            inserted += &format!(", {created}");
            values += ", ?";
            assignments += &format!(", {created} = COALESCE({created}, ?)");
        }
        let is_row = format!("{id} = ? AND HEX({id}) = ?");
        let hashed = if columns.is_data_converted {
            format!("CONVERT({data} USING utf8mb4)")
        } else {
            data.to_string()
        };
        // The token is NULL if another program created the column without NOT NULL. NULL is loaded as an empty token,
        // so compare it as one.
        let has_base_token = token.map_or(String::new(), |t| {
            format!(" AND COALESCE({t}, '') = UNHEX(?)")
        });
        let is_base =
            format!("{is_row}{has_base_token} AND SHA2({hashed}, 256) = ? AND {expires} >= ?");
        let select = format!(
            "SELECT {id}, {expires}, {data}, {}, {} FROM {table}",
            token.unwrap_or("''"),
            created.unwrap_or("NULL")
        );
        let swapped: &[usize] = match columns.has_token && columns.is_id_primary {
            true => &SWAPPED,
            false => &[],
        };
        let (touched, by_key): (&[usize], _) = match columns.is_id_primary {
            true => (&TOUCHED, " FORCE INDEX (PRIMARY)"),
            false => (&[1], ""),
        };
        let update_many = |rows: usize| {
            let case = format!("CASE HEX({id}){} END", " WHEN ? THEN ?".repeat(rows));
            let token = token.unwrap_or_default();
            let mut sql = format!(
                "UPDATE {table} FORCE INDEX (PRIMARY) SET {expires} = {case}, {data} = {case}, {token} = UNHEX({case})"
            );
            if let Some(created) = created {
                sql += &format!(", {created} = COALESCE({created}, {case})");
            }
            let ids = placeholders(rows);
            sql + &format!(
                " WHERE {id} IN ({ids}) AND CONCAT(HEX(COALESCE({token}, '')), SHA2({hashed}, 256)) = {case} \
                 AND {expires} >= ?"
            )
        };
        let insert_many = |rows: usize| {
            let rows = vec![format!("({values})"); rows].join(", ");
            format!("INSERT INTO {table} ({inserted}) VALUES {rows}")
        };
        Self {
            load: by_shape(&SHAPES, |rows| {
                let ids = placeholders(rows);
                format!("{select} WHERE {id} IN ({ids}) AND {expires} >= ?")
            }),
            delete_expired: by_shape(&SHAPES, |rows| {
                let ids = placeholders(rows);
                format!("DELETE FROM {table} WHERE {id} IN ({ids}) AND {expires} < ?")
            }),
            tokens: by_shape(&SHAPES, |rows| {
                let (token, ids) = (token.unwrap_or("''"), placeholders(rows));
                format!("SELECT {id}, {token} FROM {table} WHERE {id} IN ({ids})")
            }),
            update_many: by_shape(swapped, update_many),
            insert_many: by_shape(&INSERTED, insert_many),
            touch: by_shape(touched, |rows| {
                let (case, ids) = ("WHEN ? THEN ? ".repeat(rows), placeholders(rows));
                format!(
                    "UPDATE {table}{by_key} SET {expires} = CASE HEX({id}) {case}END \
                     WHERE {id} IN ({ids}) AND HEX({id}) IN ({ids}) AND {expires} >= ?"
                )
            }),
            insert: format!("INSERT INTO {table} ({inserted}) VALUES ({values})"),
            update: format!("UPDATE {table} SET {assignments} WHERE {is_base}"),
            renew: format!("UPDATE {table} SET {id} = ?, {assignments} WHERE {is_base}"),
            find_base: format!("SELECT 1 FROM {table} WHERE {is_base}"),
            delete: format!("DELETE FROM {table} WHERE {is_row}"),
            delete_base: format!("DELETE FROM {table} WHERE {is_base}"),
            list_expired: format!("SELECT {id} FROM {table} WHERE {expires} < ? LIMIT ?"),
        }
    }

    /// Returns the statement that loads `rows` ids (at most [`ROWS_MAX`]) and the number of ids it takes.
    pub(crate) fn load(&self, rows: usize) -> (usize, &str) {
        shape(&self.load, rows)
    }

    /// Returns the statement that reads the tokens of `rows` ids and the number of ids it takes.
    pub(crate) fn tokens(&self, rows: usize) -> (usize, &str) {
        shape(&self.tokens, rows)
    }

    /// Returns whether many rows can be swapped in one statement. This requires tokens, which show the swapped rows,
    /// and an id that is the primary key, which limits the locks to these rows.
    pub(crate) fn swaps_many(&self) -> bool {
        !self.update_many.is_empty()
    }

    /// Returns the statement that swaps `rows` rows (at most [`STORE_BATCH_ROWS_MAX`]) and the number of rows it takes.
    /// Only available if [`TableStatements::swaps_many`].
    ///
    /// The statement is forced to use the primary key. On a small table the optimizer would otherwise scan all rows, or
    /// all rows that are not expired, lock each of them, and wait for rows that other transactions have locked.
    pub(crate) fn update_many(&self, rows: usize) -> (usize, &str) {
        shape(&self.update_many, rows)
    }

    /// Returns the largest insert statement for at most `rows` rows (at least one) and the number of rows it takes.
    pub(crate) fn insert_many(&self, rows: usize) -> (usize, &str) {
        let fitting = self.insert_many.iter().rfind(|(size, _)| *size <= rows);
        let (size, text) = fitting.expect("callers have a row");
        (*size, text)
    }

    /// Returns the maximum number of rows in one touch statement.
    pub(crate) fn touched_rows_max(&self) -> usize {
        self.touch.last().map_or(1, |(size, _)| *size)
    }

    /// Returns the statement that touches `rows` rows (at most [`TableStatements::touched_rows_max`]) and the number of rows it
    /// takes.
    pub(crate) fn touch(&self, rows: usize) -> (usize, &str) {
        shape(&self.touch, rows)
    }

    /// Returns the statement that deletes `rows` ids (at most [`ROWS_MAX`]) if they are expired, and the number of ids
    /// it takes.
    pub(crate) fn delete_expired(&self, rows: usize) -> (usize, &str) {
        shape(&self.delete_expired, rows)
    }
}

fn by_shape(sizes: &[usize], text: impl Fn(usize) -> String) -> Vec<(usize, String)> {
    sizes.iter().map(|size| (*size, text(*size))).collect()
}

fn placeholders(count: usize) -> String {
    vec!["?"; count].join(", ")
}

fn shape(shapes: &[(usize, String)], rows: usize) -> (usize, &str) {
    let fitting = shapes.iter().find(|(size, _)| *size >= rows);
    let (size, text) = fitting.expect("callers cut their rows to what one statement takes");
    (*size, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom_session::record::Charset;

    const OURS: TableColumns = TableColumns {
        has_token: true,
        has_created: true,
        is_data_converted: false,
        is_id_primary: true,
        is_id_loose: false,
        id_chars_max: Some(128),
        charset: Charset::Unicode,
    };

    #[test]
    fn a_commit_compares_token_and_data_and_sets_the_creation_time_once() {
        let sql = TableStatements::new(&SchemaNames::default(), OURS);
        assert_eq!(
            sql.update,
            "UPDATE `sessions` SET `expires` = ?, `data` = ?, `cloakroom_token` = UNHEX(?), \
             `cloakroom_created` = COALESCE(`cloakroom_created`, ?) \
             WHERE `session_id` = ? AND HEX(`session_id`) = ? \
             AND COALESCE(`cloakroom_token`, '') = UNHEX(?) AND SHA2(`data`, 256) = ? AND `expires` >= ?"
        );
    }

    #[test]
    fn without_the_cloakroom_columns_no_statement_names_them() {
        let columns = TableColumns {
            has_token: false,
            has_created: false,
            is_data_converted: true,
            is_id_primary: true,
            is_id_loose: false,
            id_chars_max: Some(128),
            charset: Charset::Unicode,
        };
        let sql = TableStatements::new(&SchemaNames::default(), columns);
        let texts = [
            &sql.insert,
            &sql.update,
            &sql.renew,
            &sql.find_base,
            &sql.delete,
            &sql.delete_base,
            &sql.touch[0].1,
            &sql.list_expired,
            &sql.load[0].1,
            &sql.delete_expired[0].1,
            &sql.insert_many[1].1,
        ];
        assert!(texts.iter().all(|text| !text.contains("cloakroom")));
        assert!(
            sql.update
                .contains("SHA2(CONVERT(`data` USING utf8mb4), 256)")
        );
        assert!(!sql.swaps_many());
    }

    #[test]
    fn row_counts_are_rounded_up_to_a_few_statement_sizes() {
        let sql = TableStatements::new(&SchemaNames::default(), OURS);
        for (rows, expected) in [
            (1, 1),
            (2, 4),
            (4, 4),
            (5, 16),
            (100, 128),
            (ROWS_MAX, ROWS_MAX),
        ] {
            let (size, text) = sql.load(rows);
            assert_eq!(size, expected);
            assert_eq!(text.matches('?').count(), size + 1);
        }
    }

    #[test]
    fn many_swaps_name_their_rows_by_the_key_and_by_their_bytes() {
        let sql = TableStatements::new(&SchemaNames::default(), OURS);
        let (size, text) = sql.update_many(2);
        assert_eq!(size, 4);
        let case =
            "CASE HEX(`session_id`) WHEN ? THEN ? WHEN ? THEN ? WHEN ? THEN ? WHEN ? THEN ? END";
        assert_eq!(
            text,
            format!(
                "UPDATE `sessions` FORCE INDEX (PRIMARY) SET `expires` = {case}, `data` = {case}, \
                 `cloakroom_token` = UNHEX({case}), `cloakroom_created` = COALESCE(`cloakroom_created`, {case}) \
                 WHERE `session_id` IN (?, ?, ?, ?) \
                 AND CONCAT(HEX(COALESCE(`cloakroom_token`, '')), SHA2(`data`, 256)) = {case} AND `expires` >= ?"
            )
        );
    }

    #[test]
    fn an_insert_is_rounded_down_and_never_padded() {
        let sql = TableStatements::new(&SchemaNames::default(), OURS);
        for (rows, expected) in [(1, 1), (3, 2), (64, 64), (127, 64), (128, 128)] {
            let (size, text) = sql.insert_many(rows);
            assert_eq!(size, expected);
            assert_eq!(text.matches('?').count(), size * 5);
        }
    }
}
