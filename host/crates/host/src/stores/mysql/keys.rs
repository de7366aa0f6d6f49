//! The keys of `[store]` that only a MySQL server has. They are the options of express-mysql-session, and options that it drops.

use std::path::PathBuf;

use secrecy::SecretString;

use super::super::{StoreChoice, is_overruled, refuse_second_address, warn_of_idle_keys};
use super::tls;
use super::url::{self, MYSQL_PORT, MysqlUrl};
use crate::config_reader::Section;
use crate::config_reader::fault::SettingOrigin;
use crate::config_reader::kinds::{
    Field, ValueError, boolean, count_in, duration, path, secret, some_items, text,
};
use crate::config_reader::source::TomlValue;
use cloakroom_store_mysql::{Identifier, MysqlOptions, SchemaNames};

/// Keys that name a server without a URL.
pub(crate) const ADDRESS_KEYS: [&str; 6] =
    ["host", "port", "user", "database", "socket", "password"];
/// Keys that conflict with a URL.
const URL_PARTS: [&str; 5] = ["host", "port", "user", "database", "socket"];
/// Keys that only have an effect with a MySQL server, although they do not conflict with the URL of another store.
const TRUST_KEYS: [&str; 2] = ["password", "ca_file"];

/// The keys that name the server, before they are checked against each other.
struct AddressKeys {
    hosts: Option<Vec<String>>,
    port: Option<usize>,
    socket: Option<PathBuf>,
    user: Option<String>,
    password: Option<SecretString>,
    database: Option<String>,
}

/// Reads the keys. Returns the options if MySQL is chosen and its keys have no fault.
pub(crate) fn read(section: &mut Section<'_>, choice: StoreChoice<'_>) -> Option<MysqlOptions> {
    let address = AddressKeys {
        hosts: section.get("host", hosts),
        port: section.get("port", count_in(1, 65_535)),
        socket: section.get("socket", path),
        user: section.get("user", text),
        password: section.get("password", secret),
        database: section.get("database", text),
    };
    let rest = read_rest(section);
    refuse_second_address(section, &URL_PARTS);
    match choice {
        StoreChoice::Url(text) => {
            let url = url::parse(text).ok()?;
            let password = password_of(section, &url, address.password);
            Some(MysqlOptions {
                hosts: url.hosts,
                user: url.user,
                password,
                database: url.database,
                ..rest
            })
        }
        StoreChoice::Keys => explicit(section, address, rest),
        StoreChoice::Other => {
            warn_of_idle_keys(section, &TRUST_KEYS, "MySQL");
            None
        }
        StoreChoice::Unknown => None,
    }
}

/// Reads the options other than the address, which is left empty.
fn read_rest(section: &mut Section<'_>) -> MysqlOptions {
    let mut options = MysqlOptions::new(Vec::new(), String::new(), String::new());
    tls::read(section, &mut options);
    for (key, timeout) in [
        ("connect_timeout", &mut options.connect_timeout),
        ("statement_timeout", &mut options.statement_timeout),
        ("acquire_timeout", &mut options.acquire_timeout),
    ] {
        if let Some(time) = section.get(key, duration) {
            *timeout = time;
        }
    }
    if let Some(count) = section.get("connection_limit", count_in(1, 10_000)) {
        options.connection_limit = count;
    }
    for (key, switch) in [
        ("create_database_table", &mut options.create_database_table),
        ("alter_table", &mut options.alter_table),
    ] {
        if let Some(is_on) = section.get(key, boolean) {
            *switch = is_on;
        }
    }
    read_schema(section.section("schema"), &mut options.schema);
    options
}

fn read_schema(mut section: Section<'_>, names: &mut SchemaNames) {
    if let Some(table) = section.get("table_name", identifier) {
        names.table = table;
    }
    let mut columns = section.section("column_names");
    for (key, name) in [
        ("session_id", &mut names.session_id),
        ("expires", &mut names.expires),
        ("data", &mut names.data),
    ] {
        if let Some(column) = columns.get(key, identifier) {
            *name = column;
        }
    }
    check_columns(&columns, names);
}

/// Checks the names of the columns. MySQL compares them without regard to case, so two equal names would be the same column.
fn check_columns(section: &Section<'_>, names: &SchemaNames) {
    const OUR_OWN: [&str; 2] = ["cloakroom_token", "cloakroom_created"];
    let names = [
        ("session_id", names.session_id.as_str()),
        ("expires", names.expires.as_str()),
        ("data", names.data.as_str()),
    ];
    for (at, (key, name)) in names.into_iter().enumerate() {
        let is_same = |other: &str| name.eq_ignore_ascii_case(other);
        if OUR_OWN.into_iter().any(is_same) {
            let problem = format!("{name:?} is a column that this host adds");
            section.fault(key, problem, "give the column another name");
        }
        if names[..at].iter().any(|(_, other)| is_same(other)) {
            section.fault(key, "two columns have one name", "give each its own");
        }
    }
}

fn password_of(
    section: &Section<'_>,
    url: &MysqlUrl,
    password: Option<SecretString>,
) -> Option<SecretString> {
    let Some(in_url) = &url.password else {
        return password;
    };
    if matches!(section.origin_of("url"), SettingOrigin::File { .. }) {
        section.fault(
            "url",
            "contains a password in clear text",
            "take it out of the URL and write password = \"env:NAME\" or \"file:PATH\"; \
             or give the whole URL in the environment variable CLOAKROOM_STORE_URL",
        );
    } else if section.is_given("password") && !is_overruled(section, "password") {
        section.fault(
            "password",
            "the password is given twice: here and in store.url",
            "leave out one of the two",
        );
    }
    Some(SecretString::from(in_url.as_str()))
}

fn explicit(
    section: &Section<'_>,
    address: AddressKeys,
    rest: MysqlOptions,
) -> Option<MysqlOptions> {
    for key in ["user", "database"] {
        if !section.is_given(key) {
            section.fault(
                key,
                "missing: it is part of the address",
                format!("write {key} = \"...\" under [store]"),
            );
        }
    }
    if section.is_given("socket") {
        for key in ["host", "port"].iter().filter(|key| section.is_given(key)) {
            section.fault(
                key,
                "a socket has neither host nor port",
                "leave out one of the two",
            );
        }
    }
    let port = address
        .port
        .and_then(|port| u16::try_from(port).ok())
        .unwrap_or(MYSQL_PORT);
    let mut hosts = Vec::new();
    if !section.is_given("socket") {
        for host in address
            .hosts
            .unwrap_or_else(|| vec!["localhost".to_owned()])
        {
            match url::parse_host(&host, port) {
                Ok(host) => hosts.push(host),
                Err(error) => section.fault("host", error.problem, error.remedy),
            }
        }
    }
    Some(MysqlOptions {
        hosts,
        socket: address.socket,
        user: address.user?,
        password: address.password,
        database: address.database?,
        ..rest
    })
}

/// Reads one host or a list of hosts.
fn hosts(field: &Field<'_>) -> Result<Vec<String>, ValueError> {
    match field.value {
        TomlValue::Text(one) => {
            let hosts = one.split(',').map(|host| host.trim().to_owned());
            text(field).map(|_| hosts.collect())
        }
        _ => some_items(|host| Ok(host.to_owned()))(field),
    }
}

/// Reads the name of a table or column.
fn identifier(field: &Field<'_>) -> Result<Identifier, ValueError> {
    let name = text(field)?;
    Identifier::new(&name).map_err(|_| {
        ValueError::new(
            format!("{name:?} is not a valid table or column name"),
            "use at most 64 letters, digits, `_`, `-` and `$`",
        )
    })
}
