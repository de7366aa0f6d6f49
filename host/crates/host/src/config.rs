//! The host's configuration. A TOML file, the environment and command-line options become one validated [`Config`], or a list
//! of every fault.
//!
//! Precedence: command-line options, then the environment, then the file, then the defaults. The modules below do not use
//! `Config`: each has its own options, which are read into their own types. No other module reads the environment.
//!
//! A configuration that is read for tests (`ConfigMode`) is checked as usual, but secrets, the database and its certificate
//! authority need not exist: substitutes take their place, so that no test signs with a real secret or meets a visitor's session.

mod admin;
mod changes;
mod cookie;
mod cookies;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod guest;
mod rollout;
mod route;
mod secrets;
mod server;
mod session;
mod store;
mod store_options;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use crate::config_reader::ConfigMode;
pub use crate::config_reader::environment::{Environment, ProcessEnvironment};
pub use crate::config_reader::fault::{ConfigFault, SettingOrigin};
pub use admin::DEFAULT_ADMIN_LISTEN;
pub use cookie::Compat;
pub use cookies::CookiesSettings;
pub use guest::{BuildSettings, changed_limits};
pub use secrets::SecretSource;
pub use server::{DEFAULT_LISTEN, ServerSettings};
pub use session::SessionSettings;
pub use store::StoreSettings;
pub use store_options::{NamedStore, StoreOptions};

pub use crate::stores::{lasting_store_urls, store_urls};

use crate::admin::AdminOptions;
use crate::config_reader::source::{self, Table, TomlValue, ValueNode};
use crate::config_reader::{ConfigReader, Section};
use crate::handler;
use crate::route::{Route, Target};
use crate::stores::StoreLocation;
use cloakroom_base::files;
use cloakroom_base::files::FileError;
use cloakroom_base::limits::CONFIG_FILE_BYTES_MAX;
use cloakroom_base::telemetry;
use cloakroom_runtime::GuestSettings;
use cloakroom_session::{SessionOptions, TouchPolicy};

/// The file that is read if neither a file nor a component is given.
pub const DEFAULT_FILE: &str = "cloakroom.toml";

/// The variable that names the configuration file if no command-line option does.
const FILE_VARIABLE: &str = "CLOAKROOM_CONFIG";

/// The variable by which `cloakroom test` passes the URL of its control interface to the tests. It is not a configuration key,
/// and setting it is not a mistake.
pub const TEST_VARIABLE: &str = "CLOAKROOM_TEST_URL";

/// The complete, validated configuration. Contains secrets, none of which `Debug` shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The listener, and the resources that all guests share.
    pub server: ServerSettings,
    /// Sessions and their cookie.
    pub session: SessionSettings,
    /// The guests' own cookies.
    pub cookies: CookiesSettings,
    /// The session store.
    pub store: StoreSettings,
    /// The guests, in alphabetical order of their names. Never empty.
    pub guests: Vec<GuestSettings>,
    /// How guests are built from their sources, by their names. Guests without a build command are missing.
    pub builds: BTreeMap<String, BuildSettings>,
    /// The routes, in the order of the file. Never empty. Each route names one of `guests`.
    pub routes: Vec<Route>,
    /// The admin interface. `None` if it was not requested.
    pub admin: Option<AdminOptions>,
    /// The log.
    pub log: telemetry::TelemetryOptions,
    /// Warnings about settings that are allowed and probably not intended. Each is logged once at the start.
    pub warnings: Vec<String>,
}

/// The command-line options.
#[derive(Clone, Debug, Default)]
pub struct CliOptions {
    /// The configuration file.
    pub file: Option<PathBuf>,
    /// A component to serve on every path, instead of guests and routes.
    pub component: Option<PathBuf>,
    /// The address to listen on.
    pub listen: Option<String>,
    /// The URL of the store.
    pub store: Option<String>,
    /// The address that the admin interface listens on.
    pub admin: Option<String>,
    /// Whether the components must exist.
    pub components: ComponentFiles,
    /// The purpose for which the configuration is read.
    pub mode: ConfigMode,
}

/// Whether the guests' components must exist when the configuration is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ComponentFiles {
    /// All components must exist.
    #[default]
    MustExist,
    /// Components of guests with a build command may be missing.
    ToBeBuilt,
}

/// Error returned when a configuration is refused. Contains every fault that was found, and the guests that could still be
/// read, so that their components can be checked in the same run.
#[derive(Debug)]
pub struct ConfigError {
    /// The faults, in the order of the file. Never empty.
    pub faults: Vec<ConfigFault>,
    /// The guests without faults.
    pub guests: Vec<GuestSettings>,
    /// Warnings about settings that are allowed and probably not intended. They may explain why a setting is missing.
    pub warnings: Vec<String>,
}

impl Config {
    /// Returns the path of the file to read: the one named by an option or the environment, or [`DEFAULT_FILE`] if no component
    /// is given.
    pub fn file(cli: &CliOptions, environment: &dyn Environment) -> Option<PathBuf> {
        let named = cli.file.clone().or_else(|| {
            let name = environment.get(FILE_VARIABLE);
            name.filter(|name| !name.is_empty()).map(PathBuf::from)
        });
        named.or_else(|| cli.component.is_none().then(|| DEFAULT_FILE.into()))
    }

    /// Reads, merges and validates all settings.
    ///
    /// # Errors
    /// Returns [`ConfigError`] with every fault.
    pub fn load(cli: &CliOptions, environment: &dyn Environment) -> Result<Self, ConfigError> {
        let file = Self::file(cli, environment);
        match &file {
            None => Self::of_text(Path::new(""), "", cli, environment),
            Some(path) => match read_file(path) {
                Ok(text) => Self::of_text(path, &text, cli, environment),
                Err(error) => Err(unreadable(path, &error, cli)),
            },
        }
    }

    /// Returns the options of the sessions. Those that concern their rows are keys of `[store]`.
    pub(crate) fn session_options(&self) -> SessionOptions {
        let options = self.session.options.clone();
        SessionOptions {
            idle_expiration: self.store.expiration,
            touch: match self.store.disable_touch {
                true => TouchPolicy::Never,
                false => options.touch,
            },
            snapshots_bytes_max: match self.store.backend.location() {
                // Reading the rows themselves is as fast as reading a snapshot.
                StoreLocation::Memory => 0,
                StoreLocation::File(_) | StoreLocation::Server => options.snapshots_bytes_max,
            },
            ..options
        }
    }

    /// Returns the options of the handler. Their keys are in `[server]` and `[session]`.
    pub(crate) fn handler_options(&self) -> handler::Options {
        handler::Options {
            cookie_name: self.session.options.cookie.name.clone(),
            proxy_trust: self.session.proxy_trust(),
            head_bytes_max: self.server.listener.head_bytes_max,
            headers_max: self.server.listener.headers_max,
            target_bytes_max: self.server.request_target_bytes_max,
        }
    }

    /// Reads the configuration as [`Config::load`] does, with `text` as the content of the file at `path`.
    fn of_text(
        path: &Path,
        text: &str,
        cli: &CliOptions,
        environment: &dyn Environment,
    ) -> Result<Self, ConfigError> {
        let (mut table, syntax_faults) = source::parse(path, text);
        overlay(&mut table, cli);
        let folder = path.parent().unwrap_or(Path::new(""));
        let reader = ConfigReader::new(environment, folder, cli.mode);
        for known in [FILE_VARIABLE, TEST_VARIABLE] {
            reader.environment().get(known);
        }
        let is_whole = syntax_faults.is_empty();
        for fault in syntax_faults {
            reader.fault(fault);
        }
        let config = read(&reader, table, cli, is_whole);
        let findings = reader.finish();
        if findings.faults.is_empty() {
            return Ok(Self {
                warnings: findings.warnings,
                ..config
            });
        }
        let is_sound = |guest: &GuestSettings| {
            let key = format!("guest.{}", guest.name);
            let is_its =
                |fault: &ConfigFault| fault.key == key || fault.key.starts_with(&format!("{key}."));
            !findings.faults.iter().any(is_its)
        };
        let guests = config.guests.into_iter().filter(is_sound).collect();
        Err(ConfigError {
            faults: findings.faults,
            guests,
            warnings: findings.warnings,
        })
    }
}

fn read_file(path: &Path) -> Result<String, FileError> {
    let bytes = files::read(path, CONFIG_FILE_BYTES_MAX)?;
    String::from_utf8(bytes).map_err(|_| std::io::Error::other("it is not UTF-8").into())
}

fn unreadable(path: &Path, error: &FileError, cli: &CliOptions) -> ConfigError {
    let problem = format!("cannot read the configuration {}: {error}", path.display());
    let is_usual = cli.file.is_none() && path == Path::new(DEFAULT_FILE);
    let remedy = match cli.components {
        ComponentFiles::MustExist if is_usual => {
            "name a component or a configuration: `cloakroom serve COMPONENT.wasm`, or `cloakroom serve --config FILE`"
        }
        ComponentFiles::ToBeBuilt if is_usual => {
            "call it in a project's folder, or name the file with --config; `cloakroom new NAME --lang LANGUAGE` makes a project"
        }
        _ => "name a file that exists and can be read",
    };
    ConfigError {
        faults: vec![ConfigFault::new("", problem, remedy)],
        guests: Vec::new(),
        warnings: Vec::new(),
    }
}

/// Overrides settings of the file with command-line options.
fn overlay(table: &mut Table, cli: &CliOptions) {
    let flag = |flag, text: &String| ValueNode {
        value: TomlValue::Text(text.clone()),
        origin: SettingOrigin::Flag(flag),
    };
    if let Some(listen) = &cli.listen {
        table.insert("listen".to_owned(), flag("--listen", listen));
    }
    let sections = [
        ("store", "url", "--store", &cli.store),
        ("admin", "listen", "--admin", &cli.admin),
    ];
    for (section, key, name, text) in sections {
        let Some(text) = text else { continue };
        let empty = || ValueNode {
            value: TomlValue::Table(Table::new()),
            origin: SettingOrigin::Flag(name),
        };
        let section = table.entry(section.to_owned()).or_insert_with(empty);
        if let TomlValue::Table(section) = &mut section.value {
            section.insert(key.to_owned(), flag(name, text));
        }
    }
}

/// Reads every section. A setting with a fault gets a default, because the caller never uses a configuration with faults.
fn read(reader: &ConfigReader<'_>, table: Table, cli: &CliOptions, is_whole: bool) -> Config {
    let mut root = reader.root(table);
    let listen = root.get("listen", server::listen);
    let (store, backend) = store::read(root.section("store"));
    let server = server::read(root.section("server"), backend.as_deref());
    let session = session::read(root.section("session"), backend.as_deref());
    let cookies = cookies::read(root.section("cookies"));
    let shared = guest::HostLimits {
        server: &server,
        session: &session,
    };
    let (guests, builds, routes) = read_guests(reader, &mut root, cli, is_whole, shared);
    let listen = listen.unwrap_or(DEFAULT_LISTEN);
    Config {
        listen,
        server,
        session,
        cookies,
        store,
        guests,
        builds,
        routes,
        admin: admin::read(root.section("admin"), listen),
        log: server::read_log(root.section("log")),
        warnings: Vec::new(),
    }
}

fn read_guests(
    reader: &ConfigReader<'_>,
    root: &mut Section<'_>,
    cli: &CliOptions,
    is_whole: bool,
    shared: guest::HostLimits<'_>,
) -> (
    Vec<GuestSettings>,
    BTreeMap<String, BuildSettings>,
    Vec<Route>,
) {
    let named = root.named("guest");
    let names: Vec<_> = named.iter().map(|(name, _)| name.clone()).collect();
    let (mut guests, mut builds) = (Vec::new(), BTreeMap::new());
    for (name, section) in named {
        let (guest, build) = guest::read(&name, section, shared, cli.components);
        guests.push(guest);
        builds.extend(build.map(|build| (name, build)));
    }
    let sections = root.list("route");
    let mut routes = route::read(sections, &names);
    if let Some(component) = &cli.component {
        if root.is_given("route") || root.is_given("guest") {
            let problem = "a component is given on the command line, and the file has guests or routes of its own";
            let remedy = "leave out one of the two";
            reader
                .fault(ConfigFault::new("", problem, remedy).at(SettingOrigin::Flag("COMPONENT")));
        }
        let guest = guest::of_component(component);
        routes = guest::routes_of_everything(&guest);
        if let Some((problem, remedy)) = guest::waiting_body(&guest.limits, shared.server) {
            let key = format!("guest.{}.limits.replay_body", guest.name);
            reader.fault(ConfigFault::new(key, problem, remedy));
        }
        guests = vec![guest];
        if let Err(error) = files::open(component) {
            let problem = format!("cannot read {}: {error}", component.display());
            let fault = ConfigFault::new("", problem, "name the file of a component");
            reader.fault(fault.at(SettingOrigin::Flag("COMPONENT")));
        }
        return (guests, builds, routes);
    }
    // A syntax error may hide the keys that seem to be missing.
    if is_whole && !root.is_given("guest") {
        root.fault(
            "guest",
            "missing: there is nothing to serve",
            "add [guest.NAME] with component = \"PATH.wasm\"",
        );
    }
    if is_whole && !root.is_given("route") {
        root.fault(
            "route",
            "missing: no request would reach a guest",
            "add [[route]] with path = \"/{*rest}\" and guest = \"NAME\"",
        );
    }
    let reached: BTreeSet<_> = routes
        .iter()
        .map(|route| match &route.target {
            Target::Guest(name) => name.as_str(),
        })
        .collect();
    for name in names.iter().filter(|name| !reached.contains(name.as_str())) {
        root.warn(&format!("guest.{name}"), "no route leads to it");
    }
    (guests, builds, routes)
}
