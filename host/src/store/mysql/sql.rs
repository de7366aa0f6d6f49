//! The texts of all statements, made once for a table: the subset that MySQL, MariaDB, Galera, Group Replication, TiDB and
//! Vitess run alike (no upsert, no locks, no several statements at once, rows named by primary key).

use crate::limits::STORE_BATCH_ROWS_MAX;

use super::options::SchemaNames;
use super::schema::Columns;

/// The numbers of ids that statements over many rows come with; fewer are filled up. Few, so that they stay prepared.
const SHAPES: [usize; 5] = [1, 4, 16, 64, STORE_BATCH_ROWS_MAX];
/// The numbers of rows that are swapped at once; fewer are filled up. One has a statement of its own.
const SWAPPED: [usize; 4] = [4, 16, 64, STORE_BATCH_ROWS_MAX];
/// The numbers of rows whose expiry is moved at once; fewer are filled up.
const TOUCHED: [usize; 4] = [1, 16, 64, STORE_BATCH_ROWS_MAX];
/// The numbers of rows that are inserted at once: nothing can fill those up, so they come as powers of two.
const INSERTED: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, STORE_BATCH_ROWS_MAX];

/// Most rows that one statement names.
pub(super) const ROWS_MAX: usize = STORE_BATCH_ROWS_MAX;

/// All statements on one table.
///
/// An id is compared twice: by the column's collation, which finds it by the key, and by its bytes, because that collation
/// ignores trailing spaces at the least. Tokens travel as hexadecimal text, because the driver sends bytes as text.
pub(super) struct Sql {
    /// `(id...), now` by shape.
    load: Vec<(usize, String)>,
    /// `(id...), now` by shape.
    delete_expired: Vec<(usize, String)>,
    /// `id, token` of `(id...)` by shape.
    tokens: Vec<(usize, String)>,
    /// By shape, `(hex(id), value)...` for each of `expires, data, token[, created]`, then `(id...)`, then
    /// `(hex(id), hex(base token) hash(base data))...`, then `now`.
    update_many: Vec<(usize, String)>,
    /// `(id, expires, data[, token][, created])...` by number.
    insert_many: Vec<(usize, String)>,
    /// `(hex(id), expires)..., (id)..., (hex(id))..., now` by shape.
    touch: Vec<(usize, String)>,
    /// `id, expires, data[, token][, created]`
    pub(super) insert: String,
    /// `expires, data[, token][, created], id, hex(id)[, base token], hash(base data), now`
    pub(super) update: String,
    /// As `update`, `new id` in front.
    pub(super) renew: String,
    /// `id, hex(id)[, base token], hash(base data), now`
    pub(super) find_base: String,
    /// `id, hex(id)`
    pub(super) delete: String,
    /// `id, hex(id)[, base token], hash(base data), now`
    pub(super) delete_base: String,
    /// `now, rows`
    pub(super) list_expired: String,
}

impl Sql {
    pub(super) fn new(names: &SchemaNames, columns: Columns) -> Self {
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
        // NULL where somebody else made the column without our NOT NULL: it is loaded as no bytes, and compared as such.
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

    /// The statement that loads `rows` ids (at most [`ROWS_MAX`]), and how many it wants to be given.
    pub(super) fn load(&self, rows: usize) -> (usize, &str) {
        shape(&self.load, rows)
    }

    /// The statement that reads the tokens of `rows` ids, and how many it wants to be given.
    pub(super) fn tokens(&self, rows: usize) -> (usize, &str) {
        shape(&self.tokens, rows)
    }

    /// Whether many rows can be swapped at once: their tokens tell which of them were, and the key holds the locks to them.
    pub(super) fn swaps_many(&self) -> bool {
        !self.update_many.is_empty()
    }

    /// The statement that swaps `rows` rows (at most [`STORE_BATCH_ROWS_MAX`]), and how many it wants to be given; only where
    /// [`Sql::swaps_many`].
    ///
    /// It is held to the primary key: on a small table the optimizer would rather walk all of it, or all that is not
    /// expired, lock every row there, and wait for whatever somebody else has locked.
    pub(super) fn update_many(&self, rows: usize) -> (usize, &str) {
        shape(&self.update_many, rows)
    }

    /// The statement that inserts as many of `rows` rows (at least one) as one can, and how many these are.
    pub(super) fn insert_many(&self, rows: usize) -> (usize, &str) {
        let fitting = self.insert_many.iter().rfind(|(size, _)| *size <= rows);
        let (size, text) = fitting.expect("callers have a row");
        (*size, text)
    }

    /// How many rows can be touched at once.
    pub(super) fn touched_rows_max(&self) -> usize {
        self.touch.last().map_or(1, |(size, _)| *size)
    }

    /// The statement that touches `rows` rows (at most [`Sql::touched_rows_max`]), and how many it wants to be given.
    pub(super) fn touch(&self, rows: usize) -> (usize, &str) {
        shape(&self.touch, rows)
    }

    /// The statement that deletes `rows` ids (at most [`ROWS_MAX`]) if they are expired, and how many it wants to be given.
    pub(super) fn delete_expired(&self, rows: usize) -> (usize, &str) {
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
    use crate::record::Charset;

    const OURS: Columns = Columns {
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
        let sql = Sql::new(&SchemaNames::default(), OURS);
        assert_eq!(
            sql.update,
            "UPDATE `sessions` SET `expires` = ?, `data` = ?, `cloakroom_token` = UNHEX(?), \
             `cloakroom_created` = COALESCE(`cloakroom_created`, ?) \
             WHERE `session_id` = ? AND HEX(`session_id`) = ? \
             AND COALESCE(`cloakroom_token`, '') = UNHEX(?) AND SHA2(`data`, 256) = ? AND `expires` >= ?"
        );
    }

    #[test]
    fn without_our_columns_nothing_names_them() {
        let columns = Columns {
            has_token: false,
            has_created: false,
            is_data_converted: true,
            is_id_primary: true,
            is_id_loose: false,
            id_chars_max: Some(128),
            charset: Charset::Unicode,
        };
        let sql = Sql::new(&SchemaNames::default(), columns);
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
    fn many_rows_come_in_few_shapes() {
        let sql = Sql::new(&SchemaNames::default(), OURS);
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
        let sql = Sql::new(&SchemaNames::default(), OURS);
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
    fn an_insert_is_never_filled_up() {
        let sql = Sql::new(&SchemaNames::default(), OURS);
        for (rows, expected) in [(1, 1), (3, 2), (64, 64), (127, 64), (128, 128)] {
            let (size, text) = sql.insert_many(rows);
            assert_eq!(size, expected);
            assert_eq!(text.matches('?').count(), size * 5);
        }
    }
}
