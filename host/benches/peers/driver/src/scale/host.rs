//! A host: its configuration, its start and its end. All keys that this module does not set have their defaults.

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

/// The number of log lines that an error shows.
const BAD_LINES_SHOWN: usize = 10;

/// The settings of a host.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    /// The name of the host's folder, where compiled code is kept between starts.
    pub(super) name: String,
    /// The session storage.
    pub(super) store: Store,
    /// Whole sections of the configuration.
    pub(super) settings: String,
    /// The guests.
    pub(super) guests: Vec<Guest>,
}

/// The location of the sessions.
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
    /// The name, which is also the first segment of its paths.
    pub(super) name: String,
    /// The component.
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
    /// Returns a host with only the counter, on `/session`.
    pub(super) fn counter(lab: &Lab, name: &str, store: Store) -> Self {
        Self {
            name: name.to_owned(),
            store,
            settings: String::new(),
            guests: vec![Guest::new(lab, "session", "counter.wasm")],
        }
    }

    /// Returns a host with only the counter, on a database that has the host's name.
    pub(super) fn counter_on_mysql(lab: &Lab, name: &str) -> Self {
        Self::counter(lab, name, Store::Mysql(name.to_owned()))
    }

    /// Returns the host with these sections of the configuration.
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
    /// Returns a guest with one of the components that the repository builds.
    pub(super) fn new(lab: &Lab, name: &str, component: &str) -> Self {
        Self {
            name: name.to_owned(),
            component: lab.tools.components.join(component),
        }
    }
}

impl Host {
    /// Starts the host. Sessions in a file do not survive from an earlier start.
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
            // Cloakroom's default store.
            Store::Sqlite => {}
        }
        let log = directory.join("log");
        Ok(Self {
            server: Server::start(command, address, &log)?,
            address,
            log,
        })
    }

    /// Returns the address that the host listens on.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the process.
    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Returns the duration of the start.
    pub(super) fn start_time(&self) -> Duration {
        self.server.start_time()
    }

    /// Returns the current memory.
    pub(super) fn memory(&self) -> anyhow::Result<Memory> {
        usage::memory_of(self.server.id())
    }

    /// Stops the host gracefully and returns its log.
    ///
    /// # Errors
    /// If the exit code is not 0, or the log contains a warning or an error.
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

    /// Stops the host gracefully and returns its log, even if the log contains warnings or errors.
    pub(super) fn end(self) -> anyhow::Result<Log> {
        let status = self.server.stop()?;
        ensure!(status.success(), "a host ended with {status}");
        let log = Log::read(&self.log)?;
        // Under load the log is large, and it is not needed if it contains no bad lines.
        if log.bad.is_empty() {
            fs::remove_file(&self.log)?;
        }
        Ok(log)
    }
}

/// Adds the bad lines of the hosts' logs to an error. If there are none and there is only one host, adds the end of its log.
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
