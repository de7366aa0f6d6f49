//! A store named by the command-line options of a command: a URL, a password by reference, and a configuration whose `[store]`
//! has the other settings (TLS, names, timeouts). `CLOAKROOM_` variables have no effect, because a command may name two stores.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::read_file;
use super::store;
use crate::config_reader::environment::{EnvReference, Environment};
use crate::config_reader::fault::{ConfigFault, SettingOrigin};
use crate::config_reader::source::{self, Table, TomlValue, ValueNode};
use crate::config_reader::{ConfigMode, ConfigReader};
use crate::stores::{ConfiguredStore, StoreUrl};

/// The command-line options that name one store. Has no `Debug`, because a URL may contain a password, although that is
/// refused.
pub struct StoreOptions {
    /// The option of the URL for messages, such as `--from`.
    pub flag: &'static str,
    /// The option of the password, such as `--from-password`.
    pub password_flag: &'static str,
    /// `sqlite:PATH` or `mysql://USER@HOST/DATABASE`.
    pub url: String,
    /// `env:NAME` or `file:PATH`.
    pub password: Option<String>,
    /// A configuration whose `[store]` has the other settings.
    pub config: Option<PathBuf>,
}

/// A store that was named without faults.
#[derive(Debug)]
pub struct NamedStore {
    /// The kind and the address of the store. Never the store in memory.
    pub(crate) backend: Arc<dyn ConfiguredStore>,
    /// Warnings about settings that are allowed and probably not intended.
    pub warnings: Vec<String>,
}

impl StoreOptions {
    /// Reads the options, the referenced password and the `[store]` of the configuration.
    ///
    /// # Errors
    /// Returns every fault. None of them quotes the URL.
    pub fn read(&self, environment: &dyn Environment) -> Result<NamedStore, Vec<ConfigFault>> {
        let faults = self.faults();
        if !faults.is_empty() {
            return Err(faults);
        }
        let (mut keys, folder) = self.keys_of_file().map_err(|fault| vec![fault])?;
        keys.insert("url".to_owned(), given(self.flag, &self.url));
        if let Some(password) = &self.password {
            let password = given(self.password_flag, &from_here(password));
            keys.insert("password".to_owned(), password);
        }
        let environment = EnvReferences(environment);
        let reader = ConfigReader::new(&environment, &folder, ConfigMode::Serve);
        let backend = read_keys(&reader, keys);
        let findings = reader.finish();
        match backend {
            Some(backend) if findings.faults.is_empty() => Ok(NamedStore {
                backend,
                warnings: findings.warnings,
            }),
            _ => Err(findings.faults.into_iter().map(without_key).collect()),
        }
    }

    /// Returns the faults of the options themselves.
    fn faults(&self) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        let at_url = SettingOrigin::Flag(self.flag);
        if let Err(error) = StoreUrl::check_argument(&self.url, self.password_flag) {
            faults.push(ConfigFault::new("", error.problem, error.remedy).at(at_url));
        }
        if let Some(password) = &self.password
            && EnvReference::parse(password).is_none()
        {
            let problem = "the password is in clear text, and every user of this machine can read command lines";
            let remedy = "write env:NAME or file:PATH";
            let at = SettingOrigin::Flag(self.password_flag);
            faults.push(ConfigFault::new("", problem, remedy).at(at));
        }
        faults
    }

    /// Returns the keys of the configuration's `[store]`, and the directory that its relative paths are resolved against.
    fn keys_of_file(&self) -> Result<(Table, PathBuf), ConfigFault> {
        let Some(path) = &self.config else {
            return Ok((Table::new(), PathBuf::new()));
        };
        let text = read_file(path).map_err(|error| {
            let problem = format!("cannot read the configuration {}: {error}", path.display());
            ConfigFault::new("", problem, "name a file that exists and can be read")
        })?;
        let (mut table, faults) = source::parse(path, &text);
        if let Some(fault) = faults.into_iter().next() {
            return Err(fault);
        }
        let keys = match table.remove("store").map(|node| node.value) {
            Some(TomlValue::Table(keys)) => keys,
            _ => Table::new(),
        };
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok((keys, folder))
    }
}

/// Reads the keys as those of a table that no variable overrides.
fn read_keys(reader: &ConfigReader<'_>, keys: Table) -> Option<Arc<dyn ConfiguredStore>> {
    let node = |value| ValueNode {
        value,
        origin: SettingOrigin::Nowhere,
    };
    // The table is nested in a named one with an empty name, so that messages name the keys as those of `[store]`.
    let named = Table::from([(String::new(), node(TomlValue::Table(keys)))]);
    let mut root = reader.root(Table::from([(
        "store".to_owned(),
        node(TomlValue::Table(named)),
    )]));
    let (_, section) = root.named("store").pop()?;
    store::read(section).1
}

fn given(flag: &'static str, text: &str) -> ValueNode {
    ValueNode {
        value: TomlValue::Text(text.to_owned()),
        origin: SettingOrigin::Flag(flag),
    }
}

/// Makes the path of a reference absolute. A path on the command line is relative to the working directory, but the reader
/// resolves paths against the directory of the configuration.
fn from_here(reference: &str) -> String {
    let absolute = match EnvReference::parse(reference) {
        Some(EnvReference::File(path)) => std::path::absolute(path).ok(),
        _ => None,
    };
    match absolute.as_deref().and_then(Path::to_str) {
        Some(path) => format!("file:{path}"),
        None => reference.to_owned(),
    }
}

/// Removes the key of a fault of a command-line option, because the name of the option is clearer.
fn without_key(fault: ConfigFault) -> ConfigFault {
    match fault.origin {
        SettingOrigin::Flag(_) => ConfigFault {
            key: String::new(),
            ..fault
        },
        _ => fault,
    }
}

/// An environment that resolves references, but lists no variables.
struct EnvReferences<'a>(&'a dyn Environment);

impl Environment for EnvReferences<'_> {
    fn get(&self, name: &str) -> Option<String> {
        self.0.get(name)
    }

    fn names(&self, _prefix: &str) -> Vec<String> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::stores::StoreLocation;
    use crate::stores::mysql::ConfiguredMysql;

    fn options(url: &str, password: Option<&str>) -> StoreOptions {
        StoreOptions {
            flag: "--from",
            password_flag: "--from-password",
            url: url.to_owned(),
            password: password.map(str::to_owned),
            config: None,
        }
    }

    fn mysql(named: &NamedStore) -> &ConfiguredMysql {
        named.backend.downcast_ref().expect("it is MySQL")
    }

    fn error_text(options: &StoreOptions) -> String {
        match options.read(&[("PW", "hunter2"), ("CLOAKROOM_STORE_PASSWORD", "other")]) {
            Ok(_) => panic!("the words are taken"),
            Err(faults) => faults.iter().map(|it| format!("{it}\n")).collect(),
        }
    }

    #[test]
    fn a_url_and_a_password_by_reference_name_a_store() {
        let environment = [("PW", "hunter2"), ("CLOAKROOM_STORE_PASSWORD", "other")];
        let named = options("mysql://app@db1,db2:3307/shop", Some("env:PW")).read(&environment);
        let named = named.ok().unwrap();
        let ConfiguredMysql(settings) = mysql(&named);
        assert_eq!(settings.hosts.len(), 2);
        assert_eq!(
            settings.password.as_ref().unwrap().expose_secret(),
            "hunter2"
        );
        assert_eq!(named.warnings, [""; 0]);

        let named = options("mysql://app@db1/shop", None).read(&environment);
        let named = named.ok().unwrap();
        let ConfiguredMysql(settings) = mysql(&named);
        assert!(settings.password.is_none(), "no variable has a say");
        let named = options("sqlite:a.db", None)
            .read(&environment)
            .ok()
            .unwrap();
        let file = StoreLocation::File(Path::new("a.db"));
        assert_eq!(named.backend.location(), file);
    }

    #[test]
    fn an_invalid_store_option_names_its_flag_but_no_password() {
        let cases = [
            (
                "memory:",
                None,
                "--from: a store in memory ends with its host",
            ),
            (
                "redis://hunter2@h",
                None,
                "--from: its scheme is not memory",
            ),
            (
                "mysql://app:hunter2@db/shop",
                None,
                "--from-password env:NAME",
            ),
            ("mysql://db/shop", None, "--from: names no user"),
            (
                "mysql://app@db/shop",
                Some("hunter2"),
                "--from-password: the password is in clear",
            ),
            (
                "mysql://app@db/shop",
                Some("env:NONE"),
                "--from-password: the environment variable NONE is not set",
            ),
        ];
        for (url, password, expected) in cases {
            let error_text = error_text(&options(url, password));
            assert!(error_text.contains(expected), "{url}: {error_text}");
            assert!(!error_text.contains("hunter2"), "{error_text}");
        }
    }

    #[test]
    fn a_flag_names_a_file_from_the_working_directory() {
        let here = std::env::current_dir().unwrap();
        let expected = format!("file:{}", here.join("a/b").display());
        assert_eq!(from_here("file:a/b"), expected);
        assert_eq!(from_here("file:/a/b"), "file:/a/b");
        assert_eq!(from_here("env:NAME"), "env:NAME");
    }

    #[test]
    fn the_configuration_supplies_settings_that_the_store_url_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.toml");
        std::fs::write(
            &file,
            "[store]\nurl = \"mysql://old@old/old\"\npassword = \"env:PW\"\nschema = { table_name = \"visits\" }\n",
        )
        .unwrap();
        let options = StoreOptions {
            config: Some(file),
            ..options("mysql://app@db/shop", None)
        };
        let named = options.read(&[("PW", "hunter2")]).ok().unwrap();
        let ConfiguredMysql(settings) = mysql(&named);
        assert_eq!(settings.schema.table.as_str(), "visits");
        assert_eq!(settings.hosts.len(), 1);
        assert_eq!(settings.hosts[0].to_string(), "db:3306");
        assert_eq!(
            settings.password.as_ref().unwrap().expose_secret(),
            "hunter2"
        );
    }
}
