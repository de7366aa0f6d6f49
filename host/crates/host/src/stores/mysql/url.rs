//! The URL of a MySQL server: `mysql://USER[:PASSWORD]@HOST[:PORT][,HOST[:PORT]...]/DATABASE`. Errors name the part that is wrong
//! and never quote the URL, which may contain a password.

use percent_encoding::percent_decode_str;

use super::super::url_remedy;
use crate::config_reader::kinds::ValueError;
use cloakroom_store_mysql::ServerAddress;

/// The default port of MySQL.
pub(crate) const MYSQL_PORT: u16 = 3306;

/// The parts of a MySQL URL. Has no `Debug`, because it may contain a password.
pub(crate) struct MysqlUrl {
    pub(crate) hosts: Vec<ServerAddress>,
    pub(crate) user: String,
    pub(crate) password: Option<String>,
    pub(crate) database: String,
}

/// Parses the text after the scheme and the colon.
pub(crate) fn parse(rest: &str) -> Result<MysqlUrl, ValueError> {
    let Some(rest) = rest.strip_prefix("//") else {
        return Err(ValueError::new(
            "two slashes are missing after the scheme",
            url_remedy(),
        ));
    };
    if rest.contains(['?', '#']) {
        return Err(ValueError::new(
            "has parameters after `?` or `#`",
            "write them as keys of [store]: tls, ca_file, connection_limit, connect_timeout...; a `?` or `#` in a password is %3F or %23",
        ));
    }
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (account, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = match account.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (account, None),
    };
    let user = decode(user, "user")?;
    let database = decode(database, "database")?;
    if user.is_empty() {
        return Err(ValueError::new("names no user", url_remedy()));
    }
    if database.is_empty() || database.contains('/') {
        return Err(ValueError::new("names no database", url_remedy()));
    }
    Ok(MysqlUrl {
        hosts: parse_hosts(hosts)?,
        user,
        password: password
            .filter(|password| !password.is_empty())
            .map(|password| decode(password, "password"))
            .transpose()?,
        database,
    })
}

fn decode(part: &str, what: &str) -> Result<String, ValueError> {
    let decoded = percent_decode_str(part).decode_utf8();
    decoded.map(Into::into).map_err(|_| {
        let remedy = "write it as percent-encoded UTF-8";
        ValueError::new(format!("its {what} is not UTF-8"), remedy)
    })
}

/// Parses `HOST[:PORT]`. Several hosts are separated by commas. IPv6 addresses are in brackets.
fn parse_hosts(hosts: &str) -> Result<Vec<ServerAddress>, ValueError> {
    hosts
        .split(',')
        .map(|host| parse_host(host.trim(), MYSQL_PORT))
        .collect()
}

/// Parses `HOST[:PORT]`.
pub(crate) fn parse_host(text: &str, default_port: u16) -> Result<ServerAddress, ValueError> {
    let error = |problem: &str| {
        let remedy =
            "write hosts as \"db1\", \"db1:3306\" or \"[::1]:3306\", several separated by commas";
        ValueError::new(problem, remedy)
    };
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest
                .split_once(']')
                .ok_or_else(|| error("an IPv6 address lacks its `]`"))?;
            let port = match port.strip_prefix(':') {
                Some(port) => Some(port),
                None if port.is_empty() => None,
                None => return Err(error("there is text between `]` and the port")),
            };
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(error("the text in brackets is not an IPv6 address"));
            }
            (host, port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() {
        return Err(error("names no host"));
    }
    if host.contains(['/', '@', ' ', '\\']) {
        return Err(error("a host has invalid characters"));
    }
    let port = match port {
        None => default_port,
        Some(port) => port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| error("a port is not a number from 1 to 65535"))?,
    };
    Ok(ServerAddress {
        name: host.to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mysql_url_names_several_hosts() {
        let url = parse("//app:p%40ss@db1:3307,db2,[fd00::1]:3308/my%20app");
        let url = url.unwrap_or_else(|error| panic!("{}", error.problem));
        let hosts: Vec<_> = url
            .hosts
            .iter()
            .map(|host| (host.name.as_str(), host.port))
            .collect();
        assert_eq!(hosts, [("db1", 3307), ("db2", 3306), ("fd00::1", 3308)]);
        assert_eq!(url.user, "app");
        assert_eq!(url.password.as_deref(), Some("p@ss"));
        assert_eq!(url.database, "my app");
    }

    #[test]
    fn an_invalid_mysql_url_is_reported_without_its_password() {
        let cases = [
            ("app@db/app", "two slashes"),
            ("//:hunter2@db/app", "names no user"),
            ("//db/app", "names no user"),
            ("//app:hunter2@db", "names no database"),
            ("//app:hunter2@/app", "names no host"),
            ("//app:hunter2@db:x/app", "a port is not a number"),
            ("//app:hunter2@db:0/app", "a port is not a number"),
            ("//app:hunter2@[::1/app", "lacks its `]`"),
            ("//app:hunter2@db1,,db2/app", "names no host"),
            ("//app:%ff@db/app", "its password is not UTF-8"),
            ("//app:hunter2@db/app?ssl=true", "has parameters"),
        ];
        for (url, expected) in cases {
            let Err(error) = parse(url) else {
                panic!("{url} was accepted")
            };
            assert!(error.problem.contains(expected), "{url}: {}", error.problem);
            assert!(!format!("{error:?}").contains("hunter2"), "{url}");
        }
    }
}
