//! `[session.cookie]`: the cookie attributes of new sessions. Also finds combinations that browsers or express-session would
//! reject only later.

use std::time::UNIX_EPOCH;

use crate::config_reader::kinds::{Field, ValueError, boolean, duration, text, word};
use crate::config_reader::source::TomlValue;
use crate::config_reader::{ConfigMode, Section};
use cloakroom_base::limits::COOKIE_AGE_MAX;
use cloakroom_session::cookie::{is_valid_domain, is_valid_path};
use cloakroom_session::record::Priority;
use cloakroom_session::{CookieOptions, SameSitePolicy, SecurePolicy};

/// Selects the defaults, and the behaviour where express-session 1.19 and the upcoming version 2 differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compat {
    /// The defaults and the behaviour of this host, which follow version 2 where that is safer.
    Cloakroom,
    /// The defaults and the behaviour of express-session 1.19.
    Express1,
}

/// Reads `[session.cookie]` for a cookie with the given name and defaults.
pub(crate) fn read(mut section: Section<'_>, compat: Compat, cookie: &mut CookieOptions) {
    section.set("path", &mut cookie.path, path);
    cookie.domain = section.get("domain", domain);
    cookie.max_age = section.get("max_age", duration);
    cookie.expires_at_ms = section.get("expires", moment);
    section.set("http_only", &mut cookie.http_only, boolean);
    section.set("secure", &mut cookie.secure, secure);
    section.set("same_site", &mut cookie.same_site, same_site);
    section.set("partitioned", &mut cookie.partitioned, boolean);
    cookie.priority = section.get("priority", priority);
    if section.is_given("max_age") && section.is_given("expires") {
        section.fault(
            "expires",
            "max_age and expires are both given",
            "leave out one of the two",
        );
    }
    check_attributes(&section, compat, cookie);
    check_prefix(&section, cookie);
}

/// Warns about a cookie that is never sent, because no connection to this host is known to be secure.
pub(crate) fn warn_of_never_secure(
    session: &Section<'_>,
    cookie: &CookieOptions,
    is_secure_possible: bool,
) {
    let is_served = session.reader.mode() == ConfigMode::Serve;
    if is_served && cookie.secure == SecurePolicy::Always && !is_secure_possible {
        session.warn(
            "cookie.secure",
            "no connection is known to be secure, so no session will ever be stored: \
             name the proxy that ends TLS in trusted_proxies, or set secure = \"auto\"",
        );
    }
}

/// Reads a path that can be sent in a cookie. It must start with a slash, because browsers ignore it otherwise.
fn path(field: &Field<'_>) -> Result<String, ValueError> {
    let path = text(field)?;
    if path.starts_with('/') && is_valid_path(&path) {
        return Ok(path);
    }
    Err(ValueError::new(
        format!("{path:?} is not a valid cookie path"),
        "write \"/\", or a path of at most 1,024 bytes that starts with a slash and has neither `;` nor `<`",
    ))
}

fn domain(field: &Field<'_>) -> Result<String, ValueError> {
    let domain = text(field)?;
    if is_valid_domain(&domain) {
        return Ok(domain);
    }
    Err(ValueError::new(
        format!("{domain:?} is not a valid cookie domain"),
        "write a host name such as \"example.com\", without scheme, port or path",
    ))
}

/// Reads a date: a TOML date or the same text in quotes.
fn moment(field: &Field<'_>) -> Result<i64, ValueError> {
    const REMEDY: &str = "write a date with its offset: 2027-01-31T00:00:00Z";
    let (TomlValue::Moment(written) | TomlValue::Text(written)) = field.value else {
        return Err(ValueError::new(
            format!("expected a date, found {}", field.value.kind()),
            REMEDY,
        ));
    };
    let moment = humantime::parse_rfc3339_weak(written)
        .ok()
        .filter(|_| written.ends_with(['Z', 'z']));
    let since_epoch = moment.and_then(|moment| moment.duration_since(UNIX_EPOCH).ok());
    since_epoch
        .and_then(|since_epoch| i64::try_from(since_epoch.as_millis()).ok())
        .ok_or_else(|| ValueError::new(format!("{written} is not a date and time in UTC"), REMEDY))
}

fn secure(field: &Field<'_>) -> Result<SecurePolicy, ValueError> {
    let flag = match field.value {
        TomlValue::Text(text) if text == "auto" => return Ok(SecurePolicy::Auto),
        TomlValue::Text(text) if text != "true" && text != "false" => Err(ValueError::new(
            format!("{text:?} is not one of its values"),
            "write true, false or \"auto\"",
        )),
        _ => boolean(field),
    };
    Ok(if flag? {
        SecurePolicy::Always
    } else {
        SecurePolicy::Never
    })
}

/// Express uses `true` for strict and `false` for no attribute, and accepts the words in any case.
fn same_site(field: &Field<'_>) -> Result<Option<SameSitePolicy>, ValueError> {
    const REMEDY: &str =
        "write \"lax\", \"strict\", \"none\" or \"auto\", or false for no attribute";
    match field.value {
        TomlValue::Boolean(true) => Ok(Some(SameSitePolicy::Strict)),
        TomlValue::Boolean(false) => Ok(None),
        TomlValue::Text(text) => match text.to_ascii_lowercase().as_str() {
            "strict" | "true" => Ok(Some(SameSitePolicy::Strict)),
            "lax" => Ok(Some(SameSitePolicy::Lax)),
            "none" => Ok(Some(SameSitePolicy::None)),
            "auto" => Ok(Some(SameSitePolicy::Auto)),
            "false" => Ok(None),
            _ => Err(ValueError::new(
                format!("{text:?} is not one of its values"),
                REMEDY,
            )),
        },
        other => Err(ValueError::new(
            format!("expected a string, found {}", other.kind()),
            REMEDY,
        )),
    }
}

/// Express accepts the words in any case.
fn priority(field: &Field<'_>) -> Result<Priority, ValueError> {
    let lower = TomlValue::Text(text(field)?.to_ascii_lowercase());
    let words = word(&[
        ("low", Priority::Low),
        ("medium", Priority::Medium),
        ("high", Priority::High),
    ]);
    words(&Field {
        value: &lower,
        ..*field
    })
}

/// Finds attributes with which browsers silently drop the cookie. They are faults, or warnings under `express-1`, because an
/// existing app may depend on them.
fn check_attributes(section: &Section<'_>, compat: Compat, cookie: &CookieOptions) {
    let report = |key: &str, problem: &str, remedy: &str| match compat {
        Compat::Cloakroom => section.fault(key, problem, remedy),
        Compat::Express1 => section.warn(key, &format!("{problem}: {remedy}")),
    };
    let is_never_secure = cookie.secure == SecurePolicy::Never;
    if cookie.partitioned && cookie.secure != SecurePolicy::Always {
        report(
            "partitioned",
            "browsers drop a partitioned cookie that is not secure",
            "set secure = true",
        );
    }
    if cookie.same_site == Some(SameSitePolicy::None) && is_never_secure {
        report(
            "same_site",
            "browsers drop a cookie with SameSite=None that is not secure",
            "set secure = true or \"auto\"",
        );
    }
    if cookie.same_site == Some(SameSitePolicy::Auto) && is_never_secure {
        report(
            "same_site",
            "\"auto\" is SameSite=None on a secure link, and browsers drop that from a cookie that is not secure",
            "set secure = \"auto\"",
        );
    }
    if cookie.max_age.is_some_and(|age| age > COOKIE_AGE_MAX) {
        section.warn(
            "max_age",
            "browsers keep a cookie for 400 days at most: the session's row outlives it",
        );
    }
}

/// Checks the requirements of a cookie name prefix (RFC 6265bis, section 4.1.3). Browsers compare prefixes without regard to
/// case.
fn check_prefix(section: &Section<'_>, cookie: &CookieOptions) {
    let name = cookie.name.to_ascii_lowercase();
    let is_host = name.starts_with("__host-");
    let is_http = name.starts_with("__http-") || name.starts_with("__host-http-");
    if !is_host && !is_http && !name.starts_with("__secure-") {
        return;
    }
    let demand = |key: &str, remedy: &str| {
        let problem = "browsers drop the cookie: the prefix of its name requires otherwise";
        section.fault(key, problem, remedy);
    };
    if cookie.secure != SecurePolicy::Always {
        demand(
            "secure",
            "set secure = true, or take the prefix off session.name",
        );
    }
    if is_http && !cookie.http_only {
        demand(
            "http_only",
            "leave http_only out, or take the prefix off session.name",
        );
    }
    if is_host && cookie.path != "/" {
        demand(
            "path",
            "set path = \"/\", or take the prefix off session.name",
        );
    }
    if is_host && cookie.domain.is_some() {
        demand(
            "domain",
            "leave domain out, or take the prefix off session.name",
        );
    }
}
