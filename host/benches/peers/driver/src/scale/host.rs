//! A host: its configuration, its start and its end. All keys that are not named here have their defaults.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{bail, ensure};

use super::lab::Lab;
use super::log::Log;
use crate::contender::{self, SECRET};
use crate::measure;
use crate::process::{self, Server};
use crate::usage::{self, Memory};

/// How many of a log's lines an error shows.
const BAD_LINES_SHOWN: usize = 10;

/// How a host is started.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    /// Of its folder, where its compiled code stays from one start to the next.
    pub(super) name: String,
    /// Where its sessions are.
    pub(super) store: Store,
    /// Whole sections of the configuration.
    pub(super) settings: String,
    /// What it serves.
    pub(super) guests: Vec<Guest>,
}

/// Where sessions are.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Store {
    /// In this database of the lab's server.
    Mysql(String),
    /// In a file.
    Sqlite,
    /// In the process.
    Memory,
}

/// A guest and its route.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    /// Its name, which is also the first part of its paths.
    pub(super) name: String,
    /// Its component.
    pub(super) component: PathBuf,
}

/// A running host.
#[derive(Debug)]
pub(super) struct Host {
    server: Server,
    address: SocketAddr,
    log: PathBuf,
}

impl Spec {
    /// The counter alone, as `/session`.
    pub(super) fn counter(lab: &Lab, name: &str, store: Store) -> Self {
        Self {
            name: name.to_owned(),
            store,
            settings: String::new(),
            guests: vec![Guest::new(lab, "session", "counter.wasm")],
        }
    }

    /// The counter on a database of the same name.
    pub(super) fn counter_on_mysql(lab: &Lab, name: &str) -> Self {
        Self::counter(lab, name, Store::Mysql(name.to_owned()))
    }

    /// The same with these sections.
    pub(super) fn with(self, settings: &str) -> Self {
        Self {
            settings: settings.to_owned(),
            ..self
        }
    }

    fn configuration(&self, address: SocketAddr) -> String {
        let mut text = format!("listen = \"{address}\"\n{}", self.settings);
        for Guest { name, component } in &self.guests {
            let component = component.display();
            let _ = write!(
                text,
                "[guest.{name}]\ncomponent = \"{component}\"\nsession = \"write\"\n\
                 [[route]]\npath = \"/{name}/{{*rest}}\"\nguest = \"{name}\"\n"
            );
        }
        text
    }
}

impl Guest {
    /// One of the components that the repository makes.
    pub(super) fn new(lab: &Lab, name: &str, component: &str) -> Self {
        Self {
            name: name.to_owned(),
            component: lab.tools.components.join(component),
        }
    }
}

impl Host {
    /// Starts it. Sessions in a file are those of this start alone.
    pub(super) fn start(lab: &Lab, spec: &Spec) -> anyhow::Result<Self> {
        let directory = lab.scratch.join(&spec.name);
        fs::create_dir_all(&directory)?;
        measure::forget_sessions(&directory);
        let address = process::free_address()?;
        let configuration = directory.join("cloakroom.toml");
        fs::write(&configuration, spec.configuration(address))?;
        let mut command = Command::new(&lab.tools.cloakroom);
        command
            .args(["serve", "--config"])
            .arg(&configuration)
            .current_dir(&directory);
        match &spec.store {
            Store::Mysql(database) => {
                let url = contender::database_url(lab.mariadb.address(), database);
                command.env("CLOAKROOM_STORE_URL", url);
                command.env("CLOAKROOM_SESSION_SECRETS", SECRET);
            }
            Store::Memory => {
                command.env("CLOAKROOM_STORE_URL", "memory:");
            }
            // The default.
            Store::Sqlite => {}
        }
        let log = directory.join("log");
        Ok(Self {
            server: Server::start(command, address, &log)?,
            address,
            log,
        })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process.
    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// How long its start took.
    pub(super) fn start_time(&self) -> Duration {
        self.server.start_time()
    }

    /// Its memory now.
    pub(super) fn memory(&self) -> anyhow::Result<Memory> {
        usage::memory_of(self.server.id())
    }

    /// Ends it in good order, and says what its log says.
    ///
    /// # Errors
    /// Another exit code than 0, or a warning or an error in the log.
    pub(super) fn stop(self) -> anyhow::Result<Log> {
        let log = self.end()?;
        if let Some(bad) = log.bad.first() {
            bail!(
                "{} warnings or errors in a host's log: {bad}",
                log.bad.len()
            );
        }
        Ok(log)
    }

    /// The same, whatever the log says.
    pub(super) fn end(self) -> anyhow::Result<Log> {
        let status = self.server.stop()?;
        ensure!(status.success(), "a host ended with {status}");
        let log = Log::read(&self.log)?;
        // Under load it is large, and nobody reads one that has nothing bad in it.
        if log.bad.is_empty() {
            fs::remove_file(&self.log)?;
        }
        Ok(log)
    }
}

/// The result; where it is an error, with what is bad in the hosts' logs, or else with how they end.
pub(super) fn explained<T>(result: anyhow::Result<T>, hosts: &[&Host]) -> anyhow::Result<T> {
    result.map_err(|error| {
        let mut text = format!("{error:#}");
        for host in hosts {
            let bad = Log::read(&host.log).map_or_else(|_| Vec::new(), |log| log.bad);
            for line in bad.iter().take(BAD_LINES_SHOWN) {
                let _ = write!(text, "\n{line}");
            }
            if bad.is_empty() && hosts.len() == 1 {
                let _ = write!(text, "\nIts log ends:\n{}", host.server.log());
            }
        }
        anyhow::anyhow!(text)
    })
}
