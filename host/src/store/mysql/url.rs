//! Reads `mysql://` URLs with several hosts, which the driver's own parser does not. Knows no defaults but the port.
//!
//! No error quotes the URL: where it is malformed, any piece of it may be a piece of the password.

use std::fmt;

use percent_encoding::percent_decode_str;
use secrecy::SecretString;

use super::options::{Host, PORT};

/// The pieces of a `mysql://` URL, decoded.
#[derive(Clone)]
pub struct MysqlUrl {
    /// The hosts in the order given; may be empty.
    pub hosts: Vec<Host>,
    /// The account.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<SecretString>,
    /// The database.
    pub database: Option<String>,
    /// What stands behind the question mark, in order.
    pub parameters: Vec<(String, String)>,
}

/// Why a URL cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Another scheme.
    #[error("the URL does not begin with mysql://")]
    Scheme,
    /// A percent sign without two hexadecimal digits, or bytes that are no UTF-8.
    #[error("the URL's {0} is not well percent-encoded UTF-8")]
    Encoding(&'static str),
    /// No name before a colon or comma, or an odd character in it.
    #[error("host {0} of the URL has no valid name")]
    HostName(usize),
    /// A port that is none. A special character of the password that is not percent-encoded is the usual reason.
    #[error(
        "the port of host {0} of the URL is not a number from 1 to 65535 (are all special characters of the password percent-encoded?)"
    )]
    Port(usize),
    /// A parameter without a value.
    #[error("a parameter of the URL has no '='")]
    Parameter,
}

impl MysqlUrl {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let rest = url
            .get(..8)
            .filter(|scheme| scheme.eq_ignore_ascii_case("mysql://"))
            .map(|_| &url[8..])
            .ok_or(UrlError::Scheme)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        // The last one: an '@' in the password needs no encoding then.
        let (account, hosts) = match authority.rsplit_once('@') {
            Some((account, hosts)) => (account, hosts),
            None => ("", authority),
        };
        let (user, password) = match account.split_once(':') {
            Some((user, password)) => (user, Some(decode(password, "password")?)),
            None => (account, None),
        };
        Ok(Self {
            hosts: parse_hosts(hosts)?,
            user: non_empty(decode(user, "user")?),
            password: password.map(SecretString::from),
            database: non_empty(decode(database, "database")?),
            parameters: parse_parameters(query)?,
        })
    }
}

impl fmt::Debug for MysqlUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MysqlUrl")
            .field("hosts", &self.hosts)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

fn parse_hosts(hosts: &str) -> Result<Vec<Host>, UrlError> {
    if hosts.is_empty() {
        return Ok(Vec::new());
    }
    let numbered = hosts.split(',').zip(1..);
    numbered.map(|(host, n)| parse_host(host, n)).collect()
}

fn parse_host(host: &str, number: usize) -> Result<Host, UrlError> {
    let (name, port) = match host.strip_prefix('[') {
        Some(bracketed) => {
            let (address, rest) = bracketed
                .split_once(']')
                .ok_or(UrlError::HostName(number))?;
            let port = match rest {
                "" => None,
                rest => Some(rest.strip_prefix(':').ok_or(UrlError::Port(number))?),
            };
            (address, port)
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    let is_allowed = |c: u8| c.is_ascii_alphanumeric() || b"-._:%".contains(&c);
    if name.is_empty() || !name.bytes().all(is_allowed) {
        return Err(UrlError::HostName(number));
    }
    let port = match port {
        None => PORT,
        Some(port) => (port.parse().ok())
            .filter(|port| *port != 0)
            .ok_or(UrlError::Port(number))?,
    };
    Ok(Host {
        name: name.to_owned(),
        port,
    })
}

fn parse_parameters(query: &str) -> Result<Vec<(String, String)>, UrlError> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').ok_or(UrlError::Parameter)?;
            Ok((decode(name, "query")?, decode(value, "query")?))
        })
        .collect()
}

/// Decodes percent-encoding strictly: a lone percent sign in a password would else become another password.
fn decode(text: &str, part: &'static str) -> Result<String, UrlError> {
    let is_well_formed = text.split('%').skip(1).all(|after| {
        after
            .as_bytes()
            .first_chunk::<2>()
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    if !is_well_formed {
        return Err(UrlError::Encoding(part));
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => Err(UrlError::Encoding(part)),
    }
}

fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn parse(url: &str) -> MysqlUrl {
        MysqlUrl::parse(url).unwrap()
    }

    #[test]
    fn every_part_is_taken_apart_and_decoded() {
        let url = parse(
            "MySQL://us%40er:p%3A%2F%40%25s@db-1.example.com:3307,[::1]:3308,[fe80::1],db2/my%20db?a=b%26c&d=",
        );
        let hosts: Vec<_> = url.hosts.iter().map(Host::to_string).collect();
        assert_eq!(
            hosts,
            [
                "db-1.example.com:3307",
                "[::1]:3308",
                "[fe80::1]:3306",
                "db2:3306"
            ]
        );
        assert_eq!(url.user.as_deref(), Some("us@er"));
        assert_eq!(url.password.unwrap().expose_secret(), "p:/@%s");
        assert_eq!(url.database.as_deref(), Some("my db"));
        let pairs = [("a", "b&c"), ("d", "")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(url.parameters, pairs);
    }

    #[test]
    fn an_at_sign_in_the_password_needs_no_encoding() {
        let url = parse("mysql://app:p@ss:w@rd@db/shop");
        assert_eq!(url.password.unwrap().expose_secret(), "p@ss:w@rd");
        assert_eq!(url.hosts[0].name, "db");
    }

    #[test]
    fn parts_may_be_absent() {
        let url = parse("mysql://db");
        assert!(url.user.is_none() && url.password.is_none() && url.database.is_none());
        assert!(parse("mysql:///shop").hosts.is_empty());
        assert_eq!(
            parse("mysql://app:@db").password.unwrap().expose_secret(),
            ""
        );
    }

    #[test]
    fn what_is_wrong_is_said_without_quoting_the_url() {
        let error = |url| MysqlUrl::parse(url).unwrap_err();
        assert_eq!(error("postgres://db/shop"), UrlError::Scheme);
        assert_eq!(error("mysql:/"), UrlError::Scheme);
        assert_eq!(error("mysql://a:50%@db"), UrlError::Encoding("password"));
        assert_eq!(error("mysql://a:%ff@db"), UrlError::Encoding("password"));
        assert_eq!(error("mysql://a@db,,db3/x"), UrlError::HostName(2));
        assert_eq!(error("mysql://a@d b/x"), UrlError::HostName(1));
        assert_eq!(error("mysql://a@[::1/x"), UrlError::HostName(1));
        assert_eq!(error("mysql://a@db:0/x"), UrlError::Port(1));
        assert_eq!(error("mysql://a@db:65536/x"), UrlError::Port(1));
        assert_eq!(error("mysql://a@db/x?tls"), UrlError::Parameter);
        // A slash in the password that was not encoded.
        let told = error("mysql://app:s3cr3t/w0rd@db/shop").to_string();
        assert!(!told.contains("s3cr3t") && told.contains("percent-encoded"));
    }

    #[test]
    fn debug_shows_no_password() {
        let url = parse("mysql://app:s3cr3t-w0rd@db/shop");
        assert!(!format!("{url:?} {url:#?}").contains("s3cr3t"));
    }
}
