//! Properties of every configuration: the host accepts it and its settings agree, or refuses it with errors that show no
//! secret.
//!
//! An input is the text of the file. Lines such as `#env NAME=VALUE` and `#listen ADDRESS` (`#store`, `#admin`) are comments in
//! the file. Here they set variables and command-line options. `hunter2` marks a secret. It may be printed if it also occurs
//! outside of a secret.

use std::fmt::Write as _;
use std::path::Path;

use super::{
    CliOptions, Compat, Config, ConfigError, ConfigMode, Environment, SecretSource,
    SessionSettings, SettingOrigin,
};
use crate::config_reader::source::{self, Table, TomlValue};
use crate::route::{RouteTable, Target};
use crate::stores::StoreLocation;
use cloakroom_session::cookie::{KeyRing, Secret, is_valid_domain, is_valid_name, is_valid_path};
use cloakroom_session::{SameSitePolicy, SecurePolicy, SessionAccessLevel};

/// The path of the configuration file. Relative paths are resolved against its directory, which contains a component,
/// certificate authorities and a secret.
const FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../fuzz/base/cloakroom.toml"
);
/// The text that marks a secret.
const MARK: &str = "hunter2";
/// The variables that are set for every input.
const VARIABLES: [(&str, &str); 3] = [
    ("SECRET", "hunter2-0123456789abcdef0123456789abcdef"),
    ("WEAK", "hunter2"),
    ("EMPTY", ""),
];

/// The entry point of the fuzz target `config`.
pub fn text(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let mut variables = Variables::of(text);
    let mut cli = CliOptions::default();
    for line in text.lines() {
        for (flag, word) in [
            ("#listen ", &mut cli.listen),
            ("#store ", &mut cli.store),
            ("#admin ", &mut cli.admin),
        ] {
            if let Some(given) = line.strip_prefix(flag) {
                *word = Some(given.to_owned());
            }
        }
    }
    let (table, _) = source::parse(Path::new(FILE), text);
    for mode in [ConfigMode::Serve, ConfigMode::Test] {
        cli.mode = mode;
        let read = || Config::of_text(Path::new(FILE), text, &cli, &variables);
        match read() {
            Ok(config) => {
                assert!(read().is_ok_and(|again| again.routes == config.routes));
                check_accepted(&config);
                let mut output = format!("{config:?}");
                output.extend(config.warnings.iter().map(String::as_str));
                check_secrets(&output, &marked(text, &table, &variables, false));
            }
            Err(refused) => {
                check_refused(&refused, text);
                let secrets = marked(text, &table, &variables, true);
                check_secrets(&output_of(&refused), &secrets);
            }
        }
    }
    // Reads the configuration again without its variables. It may be refused, but reading it must not panic.
    variables.0.clear();
    let _ = Config::of_text(Path::new(FILE), text, &cli, &variables);
}

struct Variables(Vec<(String, String)>);

impl Variables {
    fn of(text: &str) -> Self {
        let given = text
            .lines()
            .filter_map(|line| line.strip_prefix("#env ")?.split_once('='));
        let all = given.chain(VARIABLES);
        Self(all.map(|(n, v)| (n.to_owned(), v.to_owned())).collect())
    }

    /// Counts the marks in one part of each variable.
    fn marks_in<'a>(&'a self, part: impl Fn(&'a (String, String)) -> Option<&'a String>) -> usize {
        let parts = self.0.iter().filter_map(part);
        parts.map(|text| text.matches(MARK).count()).sum()
    }
}

impl Environment for Variables {
    fn get(&self, name: &str) -> Option<String> {
        let entry = self.0.iter().find(|(own, _)| own == name)?;
        Some(entry.1.clone())
    }

    fn names(&self, prefix: &str) -> Vec<String> {
        let names = self.0.iter().map(|(name, _)| name.clone());
        names.filter(|name| name.starts_with(prefix)).collect()
    }
}

/// Returns whether every mark is part of a secret. In that case no mark may be printed.
fn marked(text: &str, table: &Table, variables: &Variables, is_refused: bool) -> bool {
    let flags = text.lines().filter(|line| line.starts_with('#'));
    let in_flags: usize = flags.map(|line| line.matches(MARK).count()).sum();
    let in_names: usize = variables.marks_in(|(name, _)| Some(name));
    let in_values: usize = variables.marks_in(|(_, value)| Some(value));
    let others = variables.marks_in(|(name, value)| match name.starts_with("CLOAKROOM_") {
        true if !is_secret(name) => Some(value),
        _ => None,
    });
    // The name of a variable without effect is always printed.
    let told_names = variables.marks_in(|(name, _)| name.starts_with("CLOAKROOM_").then_some(name));
    let (others, given) = (others + told_names, in_names + in_values - 2);
    let secrets = secrets_in(table, is_refused);
    // Lines within a multi-line string look like command-line options. If the string is not a secret, they are not either.
    text.matches(MARK).count() == secrets + in_flags
        && in_table(table) == secrets
        && others == 0
        && given == in_flags
}

/// Returns whether the name of a key or variable is that of a secret.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["secret", "password", "token", "environment"]
        .iter()
        .any(|part| name.contains(part))
}

/// Counts the marks in the values of secret keys. A URL that was refused may contain a password anywhere.
fn secrets_in(table: &Table, is_refused: bool) -> usize {
    let count = |(key, node): (&String, &source::ValueNode)| {
        if let ("guest", TomlValue::Table(guests)) = (key.as_str(), &node.value) {
            // The keys of this table are names chosen by the operator.
            let tables = guests.values().map(|guest| match &guest.value {
                TomlValue::Table(table) => secrets_in(table, is_refused),
                _ => 0,
            });
            tables.sum()
        } else if is_secret(key) || (is_refused && key == "url") {
            marks(&node.value)
        } else if let TomlValue::Table(table) = &node.value {
            secrets_in(table, is_refused)
        } else if let TomlValue::List(items) = &node.value {
            let tables = items.iter().filter_map(|item| match &item.value {
                TomlValue::Table(table) => Some(secrets_in(table, is_refused)),
                _ => None,
            });
            tables.sum()
        } else {
            0
        }
    };
    table.iter().map(count).sum()
}

/// Counts the marks in all keys and values.
fn in_table(table: &Table) -> usize {
    let entries = table.iter();
    entries
        .map(|(key, node)| key.matches(MARK).count() + in_value(&node.value))
        .sum()
}

fn in_value(value: &TomlValue) -> usize {
    match value {
        TomlValue::Text(text) => text.matches(MARK).count(),
        TomlValue::List(items) => items.iter().map(|item| in_value(&item.value)).sum(),
        TomlValue::Table(table) => in_table(table),
        _ => 0,
    }
}

fn marks(value: &TomlValue) -> usize {
    match value {
        // `env:NAME` and `file:PATH` refer to a secret and contain none.
        TomlValue::Text(text) if text.starts_with("env:") || text.starts_with("file:") => 0,
        TomlValue::Text(text) => text.matches(MARK).count(),
        TomlValue::List(items) => items.iter().map(|item| marks(&item.value)).sum(),
        TomlValue::Table(table) => table.values().map(|node| marks(&node.value)).sum(),
        _ => 0,
    }
}

fn check_secrets(output: &str, are_all_secret: &bool) {
    if *are_all_secret {
        assert!(!output.contains(MARK), "a secret is said: {output}");
    }
}

fn output_of(refused: &ConfigError) -> String {
    let mut output = format!("{:?}", refused.guests);
    for fault in &refused.faults {
        write!(output, "{fault} {fault:?}").expect("a String takes all");
    }
    output.extend(refused.warnings.iter().map(String::as_str));
    output
}

fn check_refused(refused: &ConfigError, text: &str) {
    assert!(!refused.faults.is_empty(), "refused without a reason");
    for fault in &refused.faults {
        assert!(!fault.problem.is_empty());
        if let SettingOrigin::File {
            line: Some(line), ..
        } = fault.origin
        {
            let lines = text.matches('\n').count() + 1;
            assert!((1..=lines).contains(&line), "no such line");
        }
    }
}

/// Checks that the settings of an accepted configuration do not contradict each other, and that the parts built from them
/// accept them.
fn check_accepted(config: &Config) {
    assert!(!config.guests.is_empty() && !config.routes.is_empty());
    for (at, guest) in config.guests.iter().enumerate() {
        let others = &config.guests[..at];
        assert!(others.iter().all(|other| other.name != guest.name));
        let grant = &guest.grants.session;
        let may_read = grant.access != SessionAccessLevel::None;
        assert!(grant.read_keys.texts().next().is_none() || may_read);
        let may_write = grant.access == SessionAccessLevel::Write;
        assert!(grant.write_keys.texts().next().is_none() || may_write);
        assert!(guest.reuse >= 1);
    }
    for route in &config.routes {
        match &route.target {
            Target::Guest(name) => assert!(config.guests.iter().any(|guest| guest.name == *name)),
        }
    }
    assert!(RouteTable::new(config.routes.clone()).is_ok());
    check_session(&config.session);
    config.store.backend.assert_sound();
    if config.store.backend.location() == StoreLocation::Server {
        assert!(matches!(config.session.secrets, SecretSource::Given(_)));
    }
    for secrets in [
        Some(&config.session.secrets),
        config.cookies.secrets.as_ref(),
    ] {
        if let Some(SecretSource::Given(secrets)) = secrets {
            let secrets = secrets.iter().map(|secret| Secret::new(secret.clone()));
            assert!(KeyRing::new(secrets.collect()).is_ok(), "no usable secret");
        }
    }
    if let Some(admin) = &config.admin {
        let is_local = admin.listen.ip().to_canonical().is_loopback();
        assert!(admin.token.is_some() || is_local, "open to the network");
        let is_same = admin.listen == config.listen && config.listen.port() != 0;
        assert!(!is_same, "two listeners at one address");
    }
}

fn check_session(session: &SessionSettings) {
    let is_express_1 = session.compat == Compat::Express1;
    let trusts_all = session.proxy == Some(true) && session.trusted_proxies.is_empty();
    assert!(!trusts_all || is_express_1, "anybody is a proxy");
    assert!(session.proxy != Some(false) || session.trusted_proxies.is_empty());
    let cookie = &session.options.cookie;
    assert!(is_valid_name(&cookie.name));
    assert!(is_valid_path(&cookie.path) && cookie.path.starts_with('/'));
    assert!(cookie.domain.as_deref().is_none_or(is_valid_domain));
    assert!(cookie.max_age.is_none() || cookie.expires_at_ms.is_none());
    let is_secure = cookie.secure == SecurePolicy::Always;
    let may_be_secure = is_secure || cookie.secure == SecurePolicy::Auto;
    let same_site = cookie.same_site;
    let is_foreign = matches!(same_site, Some(SameSitePolicy::None | SameSitePolicy::Auto));
    assert!(is_express_1 || !cookie.partitioned || is_secure);
    assert!(is_express_1 || !is_foreign || may_be_secure);
    let name = cookie.name.to_ascii_lowercase();
    let is_host = name.starts_with("__host-");
    let is_prefixed = is_host || name.starts_with("__secure-") || name.starts_with("__http-");
    assert!(!is_prefixed || is_secure, "browsers drop the cookie");
    assert!(!is_host || (cookie.path == "/" && cookie.domain.is_none()));
}
