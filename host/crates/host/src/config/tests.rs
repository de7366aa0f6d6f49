//! Tests of the whole configuration: precedence, defaults, profiles and redaction. Faults and the example file are tested in
//! separate files.

mod admin;
mod build;
mod changes;
mod cookies;
mod example;
mod faults;
mod limits;
mod mistypes;
mod rollout;
mod test_mode;

use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::*;
use crate::stores::StoreLocation;
use crate::stores::mysql::ConfiguredMysql;
use cloakroom_runtime::StreamPolicy;
use cloakroom_session::record::Priority;
use cloakroom_session::{
    SameSitePolicy, SecurePolicy, SessionAccessLevel, UnsetPolicy, VisitStart,
};
use cloakroom_store_mysql::MysqlOptions;

/// A guest and a route, which every complete configuration needs.
const GUEST: &str =
    "[guest.a]\ncomponent = \"a.wasm\"\n[[route]]\npath = \"/{*rest}\"\nguest = \"a\"\n";
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const VARIABLES: [(&str, &str); 2] = [("SECRET", SECRET), ("DB_PASSWORD", "hunter2")];

/// A directory with `cloakroom.toml` and `a.wasm`, and the result of reading the configuration.
struct Read {
    folder: tempfile::TempDir,
    result: Result<Config, ConfigError>,
}

impl Read {
    fn with(text: &str, cli: CliOptions, environment: &dyn Environment) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.wasm"), "").unwrap();
        let file = folder.path().join("cloakroom.toml");
        std::fs::write(&file, text).unwrap();
        let cli = CliOptions {
            file: Some(file),
            ..cli
        };
        let result = Config::load(&cli, environment);
        Self { folder, result }
    }

    fn of(text: &str) -> Self {
        Self::with(text, CliOptions::default(), &VARIABLES)
    }

    fn config(self) -> Config {
        self.result
            .unwrap_or_else(|refused| panic!("{}", shown(&refused.faults)))
    }

    /// Returns the faults in order, without the directory.
    fn faults(self) -> Vec<String> {
        let folder = format!("{}/", self.folder.path().display());
        let refused = self.result.expect_err("the configuration has faults");
        let shown = refused.faults.iter().map(ToString::to_string);
        shown.map(|fault| fault.replace(&folder, "")).collect()
    }
}

fn shown(faults: &[ConfigFault]) -> String {
    let shown: Vec<_> = faults.iter().map(ToString::to_string).collect();
    shown.join("\n")
}

/// Returns a complete configuration with `keys` before the guest.
fn with_guest(keys: &str) -> String {
    format!("{keys}\n{GUEST}")
}

fn mysql(config: &Config) -> &ConfiguredMysql {
    let store = config.store.backend.downcast_ref();
    store.expect("the store is MySQL")
}

fn hosts(mysql: &MysqlOptions) -> Vec<String> {
    mysql.hosts.iter().map(ToString::to_string).collect()
}

#[test]
fn a_configuration_needs_only_a_guest_and_a_route() {
    let read = Read::of(GUEST);
    let component = read.folder.path().join("a.wasm");
    let config = read.config();
    assert_eq!(config.listen, DEFAULT_LISTEN);
    assert_eq!(config.guests[0].component, component);
    assert_eq!(
        config.guests[0].grants.session.access,
        SessionAccessLevel::None
    );
    assert_eq!(config.guests[0].reuse, 1, "isolation is the default");
    let file = StoreLocation::File(Path::new(".cloakroom/sessions.sqlite"));
    assert_eq!(config.store.backend.location(), file);
    assert_eq!(
        config.session.secrets,
        SecretSource::GeneratedFile(".cloakroom/sessions.sqlite.secret".into())
    );
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn a_component_alone_is_served_on_every_path_with_its_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let component = folder.path().join("my counter.wasm");
    std::fs::write(&component, "").unwrap();
    let cli = CliOptions {
        component: Some(component.clone()),
        ..CliOptions::default()
    };
    let config = Config::load(&cli, &[]).unwrap();
    assert_eq!(config.guests[0].name, "my-counter");
    assert_eq!(config.guests[0].component, component);
    assert_eq!(
        config.guests[0].grants.session.access,
        SessionAccessLevel::Write
    );
    assert_eq!(config.routes[0].path, "/{*rest}");
    let target = Target::Guest("my-counter".to_owned());
    assert_eq!(config.routes[0].target, target);
}

#[test]
fn flags_override_the_environment_and_the_environment_the_file() {
    let text = with_guest(
        "listen = \"127.0.0.1:1\"\n[store]\nurl = \"sqlite:file.db\"\n[log]\nlevel = \"warn\"",
    );
    let from_file = Read::of(&text).config();
    assert_eq!(from_file.listen.port(), 1);
    assert_eq!(from_file.log.filter, "warn");

    let variables = [
        ("CLOAKROOM_LISTEN", "127.0.0.1:2"),
        ("CLOAKROOM_STORE_URL", "memory:"),
        ("CLOAKROOM_LOG_LEVEL", ""),
    ];
    let from_environment = Read::with(&text, CliOptions::default(), &variables).config();
    assert_eq!(from_environment.listen.port(), 2);
    let place = from_environment.store.backend.location();
    assert_eq!(place, StoreLocation::Memory);
    assert_eq!(
        from_environment.log.filter, "warn",
        "an empty variable is none"
    );

    let cli = CliOptions {
        listen: Some("localhost:3".to_owned()),
        store: Some("sqlite:flag.db".to_owned()),
        ..CliOptions::default()
    };
    let from_flags = Read::with(&text, cli, &variables).config();
    assert_eq!(from_flags.listen.to_string(), "127.0.0.1:3");
    let file = StoreLocation::File(Path::new("flag.db"));
    assert_eq!(from_flags.store.backend.location(), file);
}

#[test]
fn variables_set_keys_of_every_kind() {
    let variables = [
        ("CLOAKROOM_SESSION_ROLLING", "true"),
        ("CLOAKROOM_SESSION_COOKIE_MAX_AGE", "60000"),
        ("CLOAKROOM_SESSION_COOKIE_SECURE", "false"),
        ("CLOAKROOM_SESSION_TRUSTED_PROXIES", "10.0.0.0/8, ::1"),
        ("CLOAKROOM_SESSION_SECRETS", SECRET),
        ("CLOAKROOM_SERVER_CONNECTIONS", "7"),
        ("CLOAKROOM_SERVER_REQUEST_HEAD", "16KiB"),
    ];
    let config = Read::with(GUEST, CliOptions::default(), &variables).config();
    assert!(config.session.options.rolling);
    assert_eq!(
        config.session.options.cookie.max_age,
        Some(Duration::from_secs(60))
    );
    assert_eq!(config.session.trusted_proxies.len(), 2);
    assert_eq!(
        config.session.secrets.obtain().unwrap(),
        [SECRET.as_bytes()]
    );
    assert_eq!(config.server.totals.connections, 7);
    assert_eq!(config.server.listener.head_bytes_max, 16 << 10);

    let wrong = Read::with(
        GUEST,
        CliOptions::default(),
        &[("CLOAKROOM_SESSION_ROLLING", "yes")],
    );
    assert_eq!(
        wrong.faults(),
        [
            "environment CLOAKROOM_SESSION_ROLLING: session.rolling: \"yes\" is neither true nor false\n    write true or false"
        ]
    );
}

#[test]
fn secrets_come_from_variables_and_files_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("old");
    std::fs::write(&file, format!("{}\n", SECRET.to_uppercase())).unwrap();
    let text = with_guest(&format!(
        "[session]\nsecrets = [\"env:SECRET\", \"file:{}\"]",
        file.display()
    ));
    let config = Read::of(&text).config();
    assert_eq!(
        config.session.secrets.obtain().unwrap(),
        [SECRET.as_bytes(), SECRET.to_uppercase().as_bytes()]
    );
}

#[test]
fn a_mysql_url_takes_its_password_from_its_own_key() {
    let text = with_guest(
        "[session]\nsecrets = [\"env:SECRET\"]\n[store]\nurl = \"mysql://app@db1,db2:3307/app\"\npassword = \"env:DB_PASSWORD\"",
    );
    let config = Read::of(&text).config();
    assert!(!format!("{config:?}").contains("hunter2"));
    let ConfiguredMysql(mysql) = mysql(&config);
    assert_eq!(hosts(mysql), ["db1:3306", "db2:3307"]);
    let password = mysql.password.as_ref().unwrap();
    assert_eq!(password.expose_secret(), "hunter2");
}

#[test]
fn a_mysql_server_is_named_in_parts_as_express_does() {
    let parts =
        "host = \"db1\"\nport = 3307\nuser = \"app\"\ndatabase = \"shop\"\nconnection_limit = 3";
    let text = with_guest(&format!(
        "[session]\nsecrets = [\"env:SECRET\"]\n[store]\n{parts}"
    ));
    let config = Read::of(&text).config();
    let ConfiguredMysql(mysql) = mysql(&config);
    assert_eq!(hosts(mysql), ["db1:3307"]);
    assert_eq!(
        (mysql.user.as_str(), mysql.database.as_str()),
        ("app", "shop")
    );
    assert_eq!(mysql.connection_limit, 3);
}

#[test]
fn a_store_of_the_command_line_overrules_an_address_in_parts() {
    let text = with_guest("[store]\nhost = \"db1\"\nuser = \"app\"\ndatabase = \"shop\"");
    let cli = CliOptions {
        store: Some("memory:".to_owned()),
        ..CliOptions::default()
    };
    let config = Read::with(&text, cli, &VARIABLES).config();
    assert_eq!(config.store.backend.location(), StoreLocation::Memory);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn the_code_cache_is_beside_the_embedded_store_unless_it_is_configured() {
    let code_cache = |keys: &str| {
        let read = Read::of(&with_guest(keys));
        let folder = read.folder.path().to_owned();
        let place = read.config().server.runtime.code_cache;
        place.map(|place| place.strip_prefix(folder).map(Into::into).unwrap_or(place))
    };
    let in_working_directory = Some(std::path::PathBuf::from(".cloakroom/code"));
    assert_eq!(code_cache(""), in_working_directory);
    assert_eq!(
        code_cache("[store]\nurl = \"memory:\""),
        in_working_directory
    );
    assert_eq!(
        code_cache("[store]\nurl = \"sqlite:/var/lib/it/sessions.sqlite\""),
        Some("/var/lib/it/code".into())
    );
    assert_eq!(code_cache("[server]\ncode_cache = \"c\""), Some("c".into()));
    assert_eq!(code_cache("[server]\ncode_cache = \"off\""), None);
}

#[test]
fn express_1_fills_in_the_defaults_of_1_19() {
    let config = Read::of(&with_guest(
        "[session]\ncompat = \"express-1\"\nproxy = true",
    ))
    .config();
    let options = &config.session.options;
    assert!(options.resave && options.save_uninitialized && !options.rolling);
    assert_eq!(options.unset, UnsetPolicy::Keep);
    assert_eq!(options.cookie.secure, SecurePolicy::Never);
    assert_eq!(options.cookie.same_site, None);
    assert_eq!(config.session.proxy, Some(true));
    assert!(
        config.warnings[0].starts_with("session.proxy: "),
        "{:?}",
        config.warnings
    );
    let own = Read::of(&with_guest(
        "[session]\ncompat = \"express-1\"\nresave = false",
    ))
    .config();
    assert!(
        !own.session.options.resave,
        "what is written outranks the profile"
    );
}

#[test]
fn cookies_take_express_values() {
    let text = with_guest(
        "[session.cookie]\nmax_age = 86400000\nsame_site = true\npriority = \"High\"\ndomain = \".example.com\"\nsecure = true",
    );
    let cookie = Read::of(&text).config().session.options.cookie;
    assert_eq!(cookie.max_age, Some(Duration::from_secs(86_400)));
    assert_eq!(cookie.same_site, Some(SameSitePolicy::Strict));
    assert_eq!(cookie.priority, Some(Priority::High));
    let fixed =
        with_guest("[session]\ncookie = { expires = 2030-01-31T00:00:00Z, same_site = false }");
    let cookie = Read::of(&fixed).config().session.options.cookie;
    assert_eq!(cookie.expires_at_ms, Some(1_896_048_000_000));
    assert_eq!(cookie.same_site, None);
}

#[test]
fn all_grants_and_limits_of_a_guest_are_read() {
    let text = "[guest.a]\ncomponent = \"a.wasm\"\nsession = \"write\"\nwrite_keys = [\"cart.*\"]\n\
                outbound_hosts = [\"API.example.com.\", { host = \"*.internal:81\", private = true }]\n\
                environment = { PLAIN = \"x\", TOKEN = \"env:SECRET\" }\nexclusive = true\nreuse = 20\n\
                limits = { deadline = \"2s\", memory = \"16MiB\", response_body = \"1MiB\" }\n\
                [[route]]\npath = \"/a\"\nguest = \"a\"\nmethods = [\"GET\"]\nhost = \"shop.example\"";
    let config = Read::of(text).config();
    assert!(!format!("{config:?}").contains(SECRET));
    let guest = &config.guests[0];
    let grant = &guest.grants.session;
    assert_eq!(grant.access, SessionAccessLevel::Write);
    assert_eq!(grant.write_keys.texts().collect::<Vec<_>>(), ["cart.*"]);
    let variables = [("PLAIN", "x"), ("TOKEN", SECRET)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(guest.environment, variables);
    let hosts: Vec<_> = guest
        .grants
        .outbound_hosts
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(hosts, ["api.example.com", "*.internal:81 (private)"]);
    assert_eq!(guest.start, VisitStart::Exclusive);
    assert_eq!(guest.stream, StreamPolicy::Buffered);
    assert_eq!(guest.reuse, 20);
    assert_eq!(guest.limits.deadline, Duration::from_secs(2));
    assert_eq!(guest.limits.response_body_bytes_max, Some(1 << 20));
    assert_eq!(config.routes[0].methods, ["GET"]);
}

#[test]
fn questionable_settings_are_accepted_with_a_warning() {
    let cases = [
        (
            "[session.cookie]\nsecure = true",
            "session.cookie.secure: no connection is known to be secure",
        ),
        (
            "[session.cookie]\nmax_age = \"9601h\"",
            "session.cookie.max_age: browsers keep a cookie for 400 days",
        ),
        (
            "[store]\nurl = \"memory:\"\npassword = \"env:SHORT\"",
            "store.password: has no effect",
        ),
        (
            "[session]\nsecrets = [\"env:SHORT\"]\nallow_short_secrets = true",
            "session.secrets[0]: is a known default",
        ),
        (
            "[guest.idle]\ncomponent = \"a.wasm\"",
            "guest.idle: no route leads to it",
        ),
    ];
    for (keys, expected) in cases {
        let config = Read::with(
            &with_guest(keys),
            CliOptions::default(),
            &[("SHORT", "keyboard cat")],
        )
        .config();
        assert!(
            config.warnings[0].starts_with(expected),
            "{:?}",
            config.warnings
        );
        assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
        assert!(!config.warnings.concat().contains("keyboard cat"));
    }
}

#[test]
fn an_unknown_cloakroom_variable_is_reported_with_a_warning() {
    let text = with_guest("[session]\nsecrets = [\"env:CLOAKROOM_COOKIE_KEY\"]");
    let cli = CliOptions {
        listen: Some("127.0.0.1:1".to_owned()),
        ..CliOptions::default()
    };
    let variables = [
        ("CLOAKROOM_COOKIE_KEY", SECRET),
        ("CLOAKROOM_CONFIG", "elsewhere.toml"),
        ("CLOAKROOM_LISTEN", "127.0.0.1:2"),
        ("CLOAKROOM_STORE_HOST", ""),
        ("CLOAKROOM_LISTN", "hunter2"),
        ("LISTEN", "127.0.0.1:3"),
    ];
    let expected =
        "environment CLOAKROOM_LISTN: has no effect: did you mean CLOAKROOM_LISTEN (listen)?";
    let config = Read::with(&text, cli.clone(), &variables).config();
    assert_eq!(config.warnings, [expected]);

    let refused = Read::with(
        &format!("listen = 1\n{text}"),
        CliOptions::default(),
        &[variables[4]],
    );
    let refused = refused.result.unwrap_err();
    assert_eq!(refused.warnings, [expected]);
}
