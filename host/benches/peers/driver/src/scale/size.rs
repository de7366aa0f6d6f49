//! The series `size`: the counter with sessions of increasing size.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context as _, ensure};

use super::host::{self, Guest, Host, Spec, Store};
use super::lab::Lab;
use super::page::{self, Section};
use crate::load::{Load, Size, Target};
use crate::measure::Cell;
use crate::response;
use crate::visitor::Answers;

const DATABASE: &str = "size";
const SIZE: Size = Size {
    connections: 32,
    sessions: 256,
};
/// The approximate size of a row without ballast: the cookie's attributes and the count.
const BARE_BYTES: usize = 130;
/// The approximate sizes of the rows. The first one has no ballast.
const POINTS: [(&str, usize); 4] = [
    ("100 B", 0),
    ("1 kB", 1_000),
    ("10 kB", 10_000),
    ("100 kB", 100_000),
];
/// The default of 64 KiB would refuse the largest sessions.
const SETTINGS: &str = "[session.limits]\nsession = \"128KiB\"\n";

/// Runs the series.
pub(super) fn measure(lab: &Lab) -> anyhow::Result<Section> {
    let stores = [Store::Mysql(DATABASE.to_owned()), Store::Sqlite];
    let points: Vec<_> = (stores.iter())
        .flat_map(|store| POINTS.map(|(name, bytes)| (store.clone(), name, bytes)))
        .collect();
    let label = |(store, name, _): &(Store, &str, usize)| match store {
        Store::Mysql(_) => format!("{name}, mysql://"),
        Store::Sqlite => format!("{name}, sqlite:"),
        Store::Memory => format!("{name}, memory:"),
    };
    let mut row_bytes = Vec::new();
    let all = lab.cells_in_turn(&points, label, |(store, name, bytes)| {
        let (cell, stored) = turn(lab, store, *bytes)?;
        row_bytes.extend(stored.map(|stored| format!("{name}: {stored:.0}")));
        Ok(cell)
    })?;
    row_bytes.truncate(POINTS.len());
    Ok(Section {
        figures: format!(
            "{}\n{}",
            page::CELLS_NOTE,
            page::cells("session, store", &all)
        ),
        notes: vec![
            format!(
                "The counter, {} connections, {} sessions. Another guest has written ballast into each session beside the count: \
                 one key, which the counter never asks for. MySQL's rows then have so many bytes of data ({}).",
                SIZE.connections,
                SIZE.sessions,
                row_bytes.join(", "),
            ),
            "`[session.limits] session` is 128 KiB instead of 64.".to_owned(),
            lab.pace.note(),
        ],
        others: page::others(&all),
        faults: Vec::new(),
    })
}

/// Runs one turn. For MySQL, also returns the mean size of the rows' data.
fn turn(lab: &Lab, store: &Store, bytes: usize) -> anyhow::Result<(Cell, Option<f64>)> {
    if let Store::Mysql(database) = store {
        lab.mariadb.make_database(database)?;
    }
    let mut spec = Spec::counter(lab, "size", store.clone()).with(SETTINGS);
    (spec.guests).push(Guest::new(lab, "ballast", "fixture-session.wasm"));
    let host = Host::start(lab, &spec)?;
    let mut load = Load::connect(&Target::one(host.address(), Answers::Counter), SIZE)?;
    let made = load
        .visit_all()
        .and_then(|()| add_ballast(host.address(), &load, bytes.saturating_sub(BARE_BYTES)));
    host::explained(made, &[&host])?;
    let mut cell = host::explained(lab.under_load(&mut load, &[&host]), &[&host])?;
    drop(load);
    host.stop()?;
    let stored = match store {
        Store::Mysql(database) => {
            let statement = format!("SELECT AVG(LENGTH(data)) FROM {database}.sessions");
            Some(lab.mariadb.query(&statement)?.parse()?)
        }
        Store::Sqlite | Store::Memory => {
            cell.database = None;
            None
        }
    };
    Ok((cell, stored))
}

/// Writes this many bytes of ballast into each session.
fn add_ballast(address: SocketAddr, load: &Load, bytes: usize) -> anyhow::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    let mut stream = TcpStream::connect(address)?;
    let script = format!("set ballast \"{}\"", ballast(bytes));
    for visitor in load.visitors() {
        let head = format!(
            "POST /ballast HTTP/1.1\r\nhost: {address}\r\ncookie: {}\r\ncontent-length: {}\r\n\r\n",
            String::from_utf8_lossy(visitor.cookie()),
            script.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(script.as_bytes())?;
        let said = answer(&mut stream).context("writing ballast")?;
        ensure!(said == "200 ok\n", "ballast was answered with {said}");
    }
    Ok(())
}

/// Returns the status and the body of the next response.
fn answer(stream: &mut TcpStream) -> anyhow::Result<String> {
    let mut input = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let bytes = stream.read(&mut buffer)?;
        ensure!(bytes > 0, "the server closed the connection");
        input.extend_from_slice(&buffer[..bytes]);
        if let Some(response) = response::parse(&input)? {
            let body = String::from_utf8_lossy(&response.body);
            return Ok(format!("{} {body}", response.status));
        }
    }
}

/// Returns pseudorandom letters, so that the database cannot compress them.
fn ballast(bytes: usize) -> String {
    let mut state = 1_u32;
    let letter = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'a' + (state >> 24) as u8 % 26)
    };
    (0..bytes).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ballast_has_the_requested_length_and_needs_no_json_escapes() {
        let text = ballast(1000);
        assert_eq!(text.len(), 1000);
        assert!(text.bytes().all(|byte| byte.is_ascii_lowercase()));
    }
}
