//! The texts of all statements, made once for a table: the subset that MySQL, MariaDB, Galera, Group Replication, TiDB and
//! Vitess run alike (no upsert, no locks, no several statements at once, rows named by primary key).

use crate::limits::REAP_BATCH_ROWS_MAX;

use super::options::SchemaNames;
use super::schema::Columns;

/// The numbers of ids that statements over many rows come with; fewer are filled up. Few, so that they stay prepared.
const SHAPES: [usize; 6] = [1, 4, 16, 64, 128, REAP_BATCH_ROWS_MAX];

/// Most rows that one statement names.
pub(super) const ROWS_MAX: usize = REAP_BATCH_ROWS_MAX;

/// All statements on one table.
///
/// An id is compared twice: by the column's collation, which finds it by the key, and by its bytes, because that collation
/// ignores trailing spaces at the least. Tokens travel as hexadecimal text, because the driver sends bytes as text.
pub(super) struct Sql {
    /// `(id...), now` by shape.
    load: Vec<(usize, String)>,
    /// `(id...), now` by shape.
    delete_expired: Vec<(usize, String)>,
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
    /// `expires, id, hex(id), now`
    pub(super) touch: String,
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
        Self {
            load: by_shape(|ids| format!("{select} WHERE {id} IN ({ids}) AND {expires} >= ?")),
            delete_expired: by_shape(|ids| {
                format!("DELETE FROM {table} WHERE {id} IN ({ids}) AND {expires} < ?")
            }),
            insert: format!("INSERT INTO {table} ({inserted}) VALUES ({values})"),
            update: format!("UPDATE {table} SET {assignments} WHERE {is_base}"),
            renew: format!("UPDATE {table} SET {id} = ?, {assignments} WHERE {is_base}"),
            find_base: format!("SELECT 1 FROM {table} WHERE {is_base}"),
            delete: format!("DELETE FROM {table} WHERE {is_row}"),
            delete_base: format!("DELETE FROM {table} WHERE {is_base}"),
            touch: format!("UPDATE {table} SET {expires} = ? WHERE {is_row} AND {expires} >= ?"),
            list_expired: format!("SELECT {id} FROM {table} WHERE {expires} < ? LIMIT ?"),
        }
    }

    /// The statement that loads `rows` ids (at most [`ROWS_MAX`]), and how many it wants to be given.
    pub(super) fn load(&self, rows: usize) -> (usize, &str) {
        shape(&self.load, rows)
    }

    /// The statement that deletes `rows` ids (at most [`ROWS_MAX`]) if they are expired, and how many it wants to be given.
    pub(super) fn delete_expired(&self, rows: usize) -> (usize, &str) {
        shape(&self.delete_expired, rows)
    }
}

fn by_shape(text: impl Fn(&str) -> String) -> Vec<(usize, String)> {
    let with_ids = |n: usize| (n, text(&vec!["?"; n].join(", ")));
    SHAPES.map(with_ids).to_vec()
}

fn shape(shapes: &[(usize, String)], rows: usize) -> (usize, &str) {
    let fitting = shapes.iter().find(|(size, _)| *size >= rows);
    let (size, text) = fitting.expect("callers cut their rows to ROWS_MAX");
    (*size, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Columns = Columns {
        has_token: true,
        has_created: true,
        is_data_converted: false,
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
        };
        let sql = Sql::new(&SchemaNames::default(), columns);
        let texts = [
            &sql.insert,
            &sql.update,
            &sql.renew,
            &sql.find_base,
            &sql.delete,
            &sql.delete_base,
            &sql.touch,
            &sql.list_expired,
            &sql.load[0].1,
            &sql.delete_expired[0].1,
        ];
        assert!(texts.iter().all(|text| !text.contains("cloakroom")));
        assert!(
            sql.update
                .contains("SHA2(CONVERT(`data` USING utf8mb4), 256)")
        );
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
            (129, ROWS_MAX),
            (ROWS_MAX, ROWS_MAX),
        ] {
            let (size, text) = sql.load(rows);
            assert_eq!(size, expected);
            assert_eq!(text.matches('?').count(), size + 1);
        }
    }
}
