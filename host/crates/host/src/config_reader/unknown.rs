//! Suggestions for an unknown key: the spelling of Express, a key of another section, or a typing error.

use std::collections::BTreeSet;

use super::environment::{VARIABLE_PREFIX, variable_name};
use super::fault::{ConfigFault, SettingOrigin};

/// A key that was never requested.
pub(crate) struct UnknownKey {
    /// The path of its section in messages. Empty for the root.
    pub(crate) section: String,
    /// The path of its section in the schema.
    pub(crate) schema: String,
    pub(crate) key: String,
    pub(crate) origin: SettingOrigin,
}

/// Names of options in other session packages and drivers, in snake case, and the advice for this host.
const OTHER_NAMES: [(&str, &str); 22] = [
    ("secret", "write `secrets = [\"env:NAME\"]` in [session]"),
    ("key", "Cloakroom calls the cookie's name `session.name`"),
    (
        "genid",
        "ids are always 192 random bits, as express-session makes them; leave it out",
    ),
    (
        "ttl",
        "write `session.cookie.max_age`, or `store.expiration` for sessions without a max age",
    ),
    ("httponly", "write `http_only` in [session.cookie]"),
    ("samesite", "write `same_site` in [session.cookie]"),
    ("ssl", "write `tls` in [store]"),
    ("username", "write `user` in [store]"),
    ("uri", "write `url` in [store]"),
    ("socket_path", "write `socket` in [store]"),
    (
        "max_connections",
        "write `connections` in [server], or `connection_limit` in [store]",
    ),
    ("pool_size", "write `connection_limit` in [store]"),
    (
        "charset",
        "express-mysql-session never used it, either; leave it out",
    ),
    (
        "end_connection_on_close",
        "connections always end with the host; leave it out",
    ),
    (
        "wait_for_connections",
        "requests always wait, for `store.acquire_timeout`; leave it out",
    ),
    (
        "queue_limit",
        "`store.acquire_timeout` bounds the wait; leave it out",
    ),
    (
        "max_idle",
        "the pool keeps `store.connection_limit` connections; leave it out",
    ),
    ("connect_timeout_ms", "write `connect_timeout` in [store]"),
    ("table", "write `schema.table_name` in [store]"),
    ("port", "write it into `listen`"),
    ("host", "write it into `listen`"),
    ("wasm", "write `component` in [guest.NAME]"),
];

/// Wrong variables that users are likely to set, and the key that they mean.
const OTHER_VARIABLES: [(&str, &str); 7] = [
    ("host", "listen"),
    ("port", "listen"),
    ("address", "listen"),
    ("store", "store.url"),
    ("log", "log.level"),
    ("secret", "session.secrets"),
    ("cookie_secret", "session.secrets"),
];

/// Returns the fault for an unknown key, with the remedy that the schema suggests. `schema` contains every key that exists.
pub(crate) fn fault(unknown: &UnknownKey, schema: &BTreeSet<String>) -> ConfigFault {
    let key = if unknown.section.is_empty() {
        unknown.key.clone()
    } else {
        format!("{}.{}", unknown.section, unknown.key)
    };
    let place = match unknown.section.as_str() {
        "" => "the top level".to_owned(),
        section => format!("[{section}]"),
    };
    let problem = format!("unknown key of {place}");
    let snake = snake_case(&unknown.key);
    // At the top level, `host` and `port` do not mean the keys of a route or of the store.
    let top_name = unknown
        .schema
        .is_empty()
        .then(|| other_name(&snake))
        .flatten();
    let remedy = same_section(unknown, &snake, schema)
        .or(top_name)
        .or_else(|| other_section(unknown, &snake, schema))
        .or_else(|| other_name(&snake))
        .or_else(|| similar(unknown, &snake, schema))
        .unwrap_or_else(|| keys_of(&unknown.schema, schema));
    ConfigFault::new(key, problem, remedy).at(unknown.origin.clone())
}

/// Returns the warning for a variable with our prefix that was never requested. `settable` contains the keys that variables can
/// set. The warning never contains `value`.
pub(crate) fn variable(
    name: &str,
    value: Option<&str>,
    settable: &BTreeSet<String>,
) -> Option<String> {
    let words = name.strip_prefix(VARIABLE_PREFIX)?.to_ascii_lowercase();
    if is_of_kubernetes(&words, value) {
        return None;
    }
    let remedy = match suggestion(&words, settable) {
        Some(path) => format!("did you mean {} ({path})?", variable_name(path)),
        None if words.starts_with("guest_") || words.starts_with("route_") => {
            "guests and routes can only be set in the file".to_owned()
        }
        None => "no key has this variable; see `cloakroom serve --help` for their names".to_owned(),
    };
    Some(format!("environment {name}: has no effect: {remedy}"))
}

/// Returns whether Kubernetes has set the variable. It sets such variables for every program in a namespace with a service
/// named `cloakroom`.
fn is_of_kubernetes(words: &str, value: Option<&str>) -> bool {
    words == "service_host"
        || words.starts_with("service_port")
        || words.starts_with("port_")
        || words == "port" && value.is_some_and(|value| value.contains("://"))
}

/// Returns the key that a variable was probably meant to set.
fn suggestion<'a>(words: &str, settable: &'a BTreeSet<String>) -> Option<&'a str> {
    let known = OTHER_VARIABLES.iter().find(|(other, _)| *other == words);
    if let Some((_, path)) = known {
        return settable.get(*path).map(String::as_str);
    }
    let spelled = |path: &str| path.replace('.', "_");
    // `session_max_age`: the beginning of the path is a section.
    let sections = settable.iter().map(|path| split(path).0);
    let section = sections
        .filter(|section| words.starts_with(&format!("{}_", spelled(section))))
        .max_by_key(|section| section.len())
        .unwrap_or("");
    let key = match section {
        "" => words,
        section => &words[section.len() + 1..],
    };
    let unknown = UnknownKey {
        section: section.to_owned(),
        schema: section.to_owned(),
        key: key.to_owned(),
        origin: SettingOrigin::Nowhere,
    };
    // `cookie_max_age`: the beginning of the path is missing.
    let ending = format!("_{words}");
    let is_ending = |path: &&String| spelled(path).ends_with(&ending);
    nearest_home(&unknown, key, settable)
        .or_else(|| settable.iter().find(is_ending).map(String::as_str))
        .or_else(|| most_similar(words, settable.iter().map(String::as_str), spelled))
}

/// Returns the keys of a section.
fn siblings<'a>(section: &'a str, schema: &'a BTreeSet<String>) -> impl Iterator<Item = &'a str> {
    schema.iter().filter_map(move |path| {
        let (parent, key) = split(path);
        (parent == section).then_some(key)
    })
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

/// Suggests a key of the same section: `save_uninitialized` for `saveUninitialized`.
fn same_section(unknown: &UnknownKey, snake: &str, schema: &BTreeSet<String>) -> Option<String> {
    siblings(&unknown.schema, schema)
        .find(|key| *key == snake)
        .map(|key| format!("write `{key}`"))
}

/// Returns the path of the key of this name in another section. Prefers a section below the current one, then a section above
/// it, then a section with the same top level, then any section. At the top level, prefers the least nested section.
fn nearest_home<'a>(
    unknown: &UnknownKey,
    snake: &str,
    schema: &'a BTreeSet<String>,
) -> Option<&'a str> {
    let homes = schema.iter().filter(|path| split(path).1 == snake);
    let nearest = homes.min_by_key(|path| {
        let home = split(path).0;
        let own = unknown.schema.as_str();
        match () {
            () if own.is_empty() => home.matches('.').count(),
            () if home.starts_with(&format!("{own}.")) => 0,
            () if own.starts_with(home) && !home.is_empty() => 1,
            () if home.split('.').next() == own.split('.').next() => 2,
            () => 3,
        }
    });
    nearest.map(String::as_str)
}

/// Suggests the section that the key belongs to, for example for `secure` in `[session]`.
fn other_section(unknown: &UnknownKey, snake: &str, schema: &BTreeSet<String>) -> Option<String> {
    let (home, key) = split(nearest_home(unknown, snake, schema)?);
    Some(match home {
        "" => {
            format!("it belongs at the top of the file, before the first [section]: `{key} = ...`")
        }
        "route" => format!("it belongs under [[route]]: `{key} = ...`"),
        _ => match home.rsplit_once('.') {
            Some((parent, name)) if parent == unknown.schema => format!(
                "it belongs under [{home}]: write `{name} = {{ {key} = ... }}` in [{parent}], or `{key} = ...` below [{home}]"
            ),
            _ => format!("it belongs under [{home}]: write `{key} = ...` there"),
        },
    })
}

fn other_name(snake: &str) -> Option<String> {
    let known = OTHER_NAMES.iter().find(|(name, _)| *name == snake)?;
    Some(known.1.to_owned())
}

fn similar(unknown: &UnknownKey, snake: &str, schema: &BTreeSet<String>) -> Option<String> {
    let best = most_similar(snake, siblings(&unknown.schema, schema), str::to_owned)?;
    Some(format!("did you mean `{best}`?"))
}

/// Returns the name most similar to `wanted`, if it is similar enough. `spell` returns the spelling of a name to compare.
fn most_similar<'a>(
    wanted: &str,
    names: impl Iterator<Item = &'a str>,
    spell: impl Fn(&str) -> String,
) -> Option<&'a str> {
    let scored = names.map(|name| (strsim::jaro_winkler(&spell(name), wanted), name));
    let (score, best) = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (score > 0.85).then_some(best)
}

fn keys_of(section: &str, schema: &BTreeSet<String>) -> String {
    let keys: Vec<_> = siblings(section, schema).collect();
    format!("its keys are {}", keys.join(", "))
}

/// Converts `checkExpirationInterval` and `check-expiration-interval` to `check_expiration_interval`.
fn snake_case(key: &str) -> String {
    let mut snake = String::with_capacity(key.len() + 4);
    for c in key.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() && !snake.ends_with('_') {
            snake.push('_');
        }
        snake.push(if c == '-' {
            '_'
        } else {
            c.to_ascii_lowercase()
        });
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remedy(schema: &[&str], section: &str, key: &str) -> String {
        let unknown = UnknownKey {
            section: section.to_owned(),
            schema: section.to_owned(),
            key: key.to_owned(),
            origin: SettingOrigin::Nowhere,
        };
        let schema = schema.iter().map(|path| (*path).to_owned()).collect();
        fault(&unknown, &schema).remedy
    }

    const SCHEMA: [&str; 6] = [
        "listen",
        "session.save_uninitialized",
        "session.cookie.secure",
        "session.cookie.path",
        "route.path",
        "store.url",
    ];

    #[test]
    fn a_camel_case_key_gets_a_snake_case_suggestion() {
        assert_eq!(
            remedy(&SCHEMA, "session", "saveUninitialized"),
            "write `save_uninitialized`"
        );
    }

    #[test]
    fn a_key_in_a_wrong_section_gets_its_right_section() {
        assert_eq!(
            remedy(&SCHEMA, "session", "secure"),
            "it belongs under [session.cookie]: write `cookie = { secure = ... }` in [session], or `secure = ...` below [session.cookie]"
        );
        assert!(
            remedy(&SCHEMA, "session", "path").starts_with("it belongs under [session.cookie]")
        );
        assert!(remedy(&SCHEMA, "store", "listen").starts_with("it belongs at the top"));
    }

    #[test]
    fn a_misspelt_key_gets_a_suggestion_and_an_unrelated_one_the_list() {
        assert_eq!(remedy(&SCHEMA, "store", "ur"), "did you mean `url`?");
        assert_eq!(remedy(&SCHEMA, "", "lissen"), "did you mean `listen`?");
        assert_eq!(
            remedy(&SCHEMA, "session.cookie", "xyzzy"),
            "its keys are path, secure"
        );
    }

    fn warning(name: &str) -> String {
        let keys = [
            "listen",
            "log.level",
            "session.secrets",
            "session.name",
            "session.cookie.max_age",
            "session.cookie.secure",
            "store.url",
            "store.port",
            "store.tls",
        ];
        let settable = keys.map(str::to_owned).into();
        variable(name, Some("hunter2"), &settable).unwrap_or_default()
    }

    #[test]
    fn an_unknown_variable_gets_the_name_of_a_similar_one() {
        for (name, suggestion) in [
            ("CLOAKROOM_LISTN", "CLOAKROOM_LISTEN (listen)"),
            ("CLOAKROOM_PORT", "CLOAKROOM_LISTEN (listen)"),
            ("CLOAKROOM_STORE", "CLOAKROOM_STORE_URL (store.url)"),
            ("CLOAKROOM_URL", "CLOAKROOM_STORE_URL (store.url)"),
            (
                "CLOAKROOM_SESSION_SECRET",
                "CLOAKROOM_SESSION_SECRETS (session.secrets)",
            ),
            (
                "CLOAKROOM_SESSION_MAX_AGE",
                "CLOAKROOM_SESSION_COOKIE_MAX_AGE (session.cookie.max_age)",
            ),
            (
                "CLOAKROOM_COOKIE_SECURE",
                "CLOAKROOM_SESSION_COOKIE_SECURE (session.cookie.secure)",
            ),
        ] {
            let expected = format!("environment {name}: has no effect: did you mean {suggestion}?");
            assert_eq!(warning(name), expected);
        }
        assert!(warning("CLOAKROOM_XYZZY").contains("no key has this variable"));
        assert!(warning("CLOAKROOM_GUEST_A_COMPONENT").contains("can only be set in the file"));
    }

    #[test]
    fn the_service_variables_of_kubernetes_cause_no_warning() {
        for name in [
            "CLOAKROOM_SERVICE_HOST",
            "CLOAKROOM_SERVICE_PORT_HTTP",
            "CLOAKROOM_PORT_3000_TCP_ADDR",
        ] {
            assert_eq!(warning(name), "", "{name}");
        }
        let port = |value| variable("CLOAKROOM_PORT", Some(value), &BTreeSet::new());
        assert_eq!(port("tcp://10.0.0.1:3000"), None);
        assert!(port("3000").is_some());
    }
}
