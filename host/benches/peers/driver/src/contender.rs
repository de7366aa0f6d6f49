//! The contenders and the commands that start them: peers as their documentation recommends, Cloakroom with its defaults.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::mariadb::{PASSWORD, USER};
use crate::visitor::Answers;

/// The secret that signs cookies, for contenders that do not create a secret themselves.
pub const SECRET: &str = "a secret of the benchmark, 32 bytes or more";

/// One server in one configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contender {
    /// The name on the command line, which is also the name of its folder and its database.
    pub id: &'static str,
    /// The name in the table.
    pub label: &'static str,
    /// The program.
    pub program: Program,
    /// The session storage.
    pub sessions: Sessions,
}

/// A program.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Program {
    /// Node.js, Express, express-session.
    Express,
    /// axum and tower-sessions.
    Axum,
    /// `wasmtime serve`.
    Wasmtime,
    /// Cloakroom.
    Cloakroom,
}

/// The location of the sessions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sessions {
    /// In MariaDB.
    Mysql,
    /// In a file.
    Sqlite,
    /// In the process.
    Memory,
    /// No sessions: the server responds with `hello`.
    None,
}

const fn contender(
    id: &'static str,
    label: &'static str,
    program: Program,
    sessions: Sessions,
) -> Contender {
    Contender {
        id,
        label,
        program,
        sessions,
    }
}

/// All contenders, in the order of the table.
pub const ALL: [Contender; 9] = [
    contender(
        "express_mysql",
        "Express, express-session, express-mysql-session",
        Program::Express,
        Sessions::Mysql,
    ),
    contender(
        "axum_mysql",
        "axum, tower-sessions, its MySQL store (native)",
        Program::Axum,
        Sessions::Mysql,
    ),
    contender(
        "cloakroom_mysql",
        "Cloakroom, mysql://",
        Program::Cloakroom,
        Sessions::Mysql,
    ),
    contender(
        "cloakroom_sqlite",
        "Cloakroom, sqlite:",
        Program::Cloakroom,
        Sessions::Sqlite,
    ),
    contender(
        "express_memory",
        "Express, express-session, MemoryStore",
        Program::Express,
        Sessions::Memory,
    ),
    contender(
        "axum_memory",
        "axum, tower-sessions, MemoryStore (native)",
        Program::Axum,
        Sessions::Memory,
    ),
    contender(
        "cloakroom_memory",
        "Cloakroom, memory:",
        Program::Cloakroom,
        Sessions::Memory,
    ),
    contender(
        "wasmtime_hello",
        "wasmtime serve",
        Program::Wasmtime,
        Sessions::None,
    ),
    contender(
        "cloakroom_hello",
        "Cloakroom",
        Program::Cloakroom,
        Sessions::None,
    ),
];

/// Returns the contender of this name.
pub fn find(id: &str) -> anyhow::Result<Contender> {
    let found = ALL.into_iter().find(|contender| contender.id == id);
    found.with_context(|| format!("there is no `{id}`, but {}", ALL.map(|c| c.id).join(", ")))
}

/// The paths of the programs.
#[derive(Debug)]
pub struct Tools {
    /// Cloakroom's release binary.
    pub cloakroom: PathBuf,
    /// The axum peer.
    pub axum: PathBuf,
    /// `wasmtime`. Without it, its row is left out.
    pub wasmtime: Option<PathBuf>,
    /// The folder of the components.
    pub guests: PathBuf,
    /// The Express peer's script.
    pub express: PathBuf,
}

/// The environment in which a contender is started.
#[derive(Debug)]
pub struct Place<'a> {
    /// The address to listen on.
    pub address: SocketAddr,
    /// The contender's folder, kept between its starts.
    pub directory: &'a Path,
    /// The database server.
    pub mariadb: SocketAddr,
    /// An empty database, for contenders that use one.
    pub database: &'a str,
}

impl Contender {
    /// Returns the kind of its responses.
    pub fn answers(self) -> Answers {
        match self.sessions {
            Sessions::Mysql | Sessions::Sqlite | Sessions::Memory => Answers::Counter,
            Sessions::None => Answers::Hello,
        }
    }

    /// Whether it needs a database.
    pub fn uses_mariadb(self) -> bool {
        self.sessions == Sessions::Mysql
    }

    /// Returns the command that starts it.
    pub fn command(self, tools: &Tools, place: &Place) -> anyhow::Result<Command> {
        let mut command = match self.program {
            Program::Express => self.express(tools, place),
            Program::Axum => self.axum(tools, place),
            Program::Wasmtime => {
                let program = tools.wasmtime.as_ref().context("there is no wasmtime")?;
                let mut command = Command::new(program);
                // Rust's standard library imports more of WASI than the proxy world contains. The manual recommends `-S cli` for
                // that.
                command.args(["serve", "-S", "cli", "--addr", &place.address.to_string()]);
                command.arg(tools.guests.join("fixture-hello.wasm"));
                command
            }
            Program::Cloakroom => self.cloakroom(tools, place),
        };
        command.current_dir(place.directory);
        Ok(command)
    }

    fn express(self, tools: &Tools, place: &Place) -> Command {
        let mut command = Command::new("node");
        command.arg(&tools.express);
        command.env("NODE_ENV", "production");
        command.env("PORT", place.address.port().to_string());
        command.env("PEER_SECRET", SECRET);
        if self.uses_mariadb() {
            // All other options are express-mysql-session's defaults, including a pool of 10 connections.
            let store = format!(
                r#"{{"host":"{}","port":{},"user":"{USER}","password":"{PASSWORD}","database":"{}"}}"#,
                place.mariadb.ip(),
                place.mariadb.port(),
                place.database
            );
            command.env("PEER_STORE", store);
        }
        command
    }

    fn axum(self, tools: &Tools, place: &Place) -> Command {
        let mut command = Command::new(&tools.axum);
        command.arg(place.address.port().to_string());
        if self.uses_mariadb() {
            command.args([&mysql_url(place), place.database]);
        }
        command
    }

    fn cloakroom(self, tools: &Tools, place: &Place) -> Command {
        let mut command = Command::new(&tools.cloakroom);
        let component = match self.answers() {
            Answers::Counter => "counter.wasm",
            Answers::Hello => "fixture-hello.wasm",
        };
        command.arg("serve").arg(tools.guests.join(component));
        command.args(["--listen", &place.address.to_string()]);
        match self.sessions {
            Sessions::Mysql => {
                command.env("CLOAKROOM_STORE_URL", mysql_url(place));
                command.env("CLOAKROOM_SESSION_SECRETS", SECRET);
            }
            Sessions::Memory => {
                command.args(["--store", "memory:"]);
            }
            // Cloakroom's default store.
            Sessions::Sqlite | Sessions::None => {}
        }
        command
    }
}

fn mysql_url(place: &Place) -> String {
    database_url(place.mariadb, place.database)
}

/// Returns the URL of a database on the server, in the form that Cloakroom and axum use.
pub fn database_url(mariadb: SocketAddr, database: &str) -> String {
    format!("mysql://{USER}:{PASSWORD}@{mariadb}/{database}")
}
