//! Writing of an application's cookie like `res.cookie` of Express 4. Where Express throws, this returns an error. It also
//! returns an error for a cookie that a browser would silently drop, because a name, a domain or a path is too long.

use super::super::header::{LAST_DATE_S, is_valid_domain, is_valid_path, text};
use super::super::name::is_valid_name;
use super::super::value::encode;
use super::{CookieJar, CookieValue, JSON};
use crate::record::{CookieAttributes, check_value};
use cloakroom_base::limits::COOKIE_BYTES_MAX;

/// Error returned when a cookie was not written. It quotes nothing of the cookie.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CookieWriteError {
    /// It has the name of the session's cookie.
    #[error(
        "only the host writes the session's cookie; use the session interface to change the session"
    )]
    SessionCookie,
    /// If it were signed, it could be used as a session's cookie.
    #[error(
        "a text with the shape of a session's id (32 characters of A-Z a-z 0-9 - _, with or without trailing spaces) is \
         not signed with the session's secrets: give these cookies secrets of their own, `[cookies] secrets` in the host's configuration"
    )]
    LikeASession,
    /// If it were signed, a database that compares IDs by a collation could find it as a session ID.
    #[error(
        "the session table of this host compares ids without regard to accents, so a text signed with the session's secrets may \
         hold printable ASCII characters only: encode it, give these cookies secrets of their own, `[cookies] secrets` in the \
         host's configuration, or give the id's column a binary collation"
    )]
    MightEqualAnId,
    /// The name is not valid for a cookie.
    #[error("the name is not valid for a cookie: 1 to 256 letters, digits and !#$%&'*+-.^_`|~")]
    Name,
    /// Browsers would drop the cookie.
    #[error(
        "name and value have {bytes} bytes as they are sent, and browsers keep {COOKIE_BYTES_MAX}: keep the value in the session"
    )]
    TooLong {
        /// The combined length of name and value.
        bytes: usize,
    },
    /// The value is not a JSON text. Contains the problem and its position.
    #[error("the value: {0}")]
    Json(String),
    /// The domain is not valid for a cookie.
    #[error(
        "the domain is not valid for a cookie: labels of letters, digits and inner hyphens, at most 63 each"
    )]
    Domain,
    /// The path is not valid for a cookie.
    #[error(
        "the path is not valid for a cookie: at most 1,024 printable ASCII characters without ; and <"
    )]
    Path,
    /// The cookie would expire at a time that an HTTP date cannot represent.
    #[error("the cookie would expire before 1970 or after 9999")]
    Time,
}

impl CookieJar {
    /// Returns the value of a `Set-Cookie` header. As in Express, an empty path or domain is not sent.
    ///
    /// `original_max_age_ms` of `attributes` is the `maxAge` of Express: it counts from now and overrides `expires_at_ms`.
    ///
    /// # Errors
    /// [`CookieWriteError`].
    pub fn write(
        &self,
        name: &str,
        value: &CookieValue,
        is_signed: bool,
        attributes: &CookieAttributes,
    ) -> Result<String, CookieWriteError> {
        if !is_valid_name(name) {
            return Err(CookieWriteError::Name);
        }
        if name == self.session_cookie {
            return Err(CookieWriteError::SessionCookie);
        }
        check_place(attributes)?;
        let (max_age_s, expires_at_ms) = self.lifetime(attributes)?;
        let plain = value.to_text(name)?;
        let value = if is_signed {
            let keys = self.keys.load();
            if keys.is_like_a_session(&plain) {
                return Err(CookieWriteError::LikeASession);
            }
            // JSON follows a prefix with a colon, which no ID contains.
            if matches!(value, CookieValue::Text(_)) && keys.might_equal_an_id(&plain) {
                return Err(CookieWriteError::MightEqualAnId);
            }
            keys.ring.sign_text(&plain)
        } else {
            plain
        };
        let value = encode(&value);
        check_size(name, &value)?;
        Ok(text(name, &value, max_age_s, expires_at_ms, attributes))
    }

    /// Returns `Max-Age` in seconds, and the end of the cookie in milliseconds since the epoch.
    fn lifetime(
        &self,
        attributes: &CookieAttributes,
    ) -> Result<(Option<i64>, Option<i64>), CookieWriteError> {
        let max_age_ms = attributes.original_max_age_ms;
        let expires_at_ms = match max_age_ms {
            Some(ms) => Some(
                self.clock
                    .now_ms()
                    .checked_add(ms)
                    .ok_or(CookieWriteError::Time)?,
            ),
            None => attributes.expires_at_ms,
        };
        let is_writable = |ms: i64| u64::try_from(ms).is_ok_and(|ms| ms / 1000 <= LAST_DATE_S);
        if expires_at_ms.is_some_and(|ms| !is_writable(ms)) {
            return Err(CookieWriteError::Time);
        }
        Ok((max_age_ms.map(|ms| ms.div_euclid(1000)), expires_at_ms))
    }
}

impl CookieValue {
    /// Returns the text that cookie-parser reads back as this value.
    fn to_text(&self, name: &str) -> Result<String, CookieWriteError> {
        let (Self::Text(given) | Self::Json(given)) = self;
        // Encoding never shortens a text, so a text that is too long already need not be parsed and signed.
        check_size(name, given)?;
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::Json(json) => {
                let json = check_value(json).map_err(CookieWriteError::Json)?;
                Ok(format!("{JSON}{json}"))
            }
        }
    }
}

fn check_size(name: &str, value: &str) -> Result<(), CookieWriteError> {
    let bytes = name.len() + value.len();
    if bytes > COOKIE_BYTES_MAX {
        return Err(CookieWriteError::TooLong { bytes });
    }
    Ok(())
}

fn check_place(attributes: &CookieAttributes) -> Result<(), CookieWriteError> {
    let domain = attributes.domain.as_deref().unwrap_or_default();
    if !domain.is_empty() && !is_valid_domain(domain) {
        return Err(CookieWriteError::Domain);
    }
    if !attributes.path.is_empty() && !is_valid_path(&attributes.path) {
        return Err(CookieWriteError::Path);
    }
    Ok(())
}
