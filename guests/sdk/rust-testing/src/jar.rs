//! The cookies of one browser for one host. The host's clock is only a number here, and this module does not know requests.

use std::time::SystemTime;

/// A cookie jar.
#[derive(Debug, Default)]
pub(crate) struct Jar(Vec<Kept>);

struct Kept {
    name: String,
    value: String,
    path: String,
    expires_ms: Option<i64>,
}

/// Leaves out the value: cookie values must not be logged, not even by a test.
impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept")
            .field("name", &self.name)
            .field("path", &self.path)
            .field("expires_ms", &self.expires_ms)
            .finish_non_exhaustive()
    }
}

impl Jar {
    /// Stores the cookie of a `set-cookie` header in an answer to a request for `path`, by the rules of RFC 6265, section 5.2.
    ///
    /// # Panics
    /// If the header is not a cookie, or its time is not a time.
    pub(crate) fn set(&mut self, header: &str, path: &str, now_ms: i64) {
        let mut parts = header.split(';').map(str::trim);
        let pair = parts.next().and_then(|pair| pair.split_once('='));
        let (name, value) = pair.expect("a set-cookie header begins with a name and a value");
        let mut kept = Kept {
            name: name.to_owned(),
            value: value.to_owned(),
            path: default_path(path).to_owned(),
            expires_ms: None,
        };
        let mut max_age = None;
        for part in parts {
            let (attribute, value) = part.split_once('=').unwrap_or((part, ""));
            match attribute.to_ascii_lowercase().as_str() {
                "path" if value.starts_with('/') => kept.path = value.to_owned(),
                "expires" => kept.expires_ms = Some(time_ms(value)),
                "max-age" => max_age = Some(value.parse::<i64>().expect("a number of seconds")),
                _ => {}
            }
        }
        if let Some(seconds) = max_age {
            let milliseconds = seconds.saturating_mul(1000);
            kept.expires_ms = Some(now_ms.saturating_add(milliseconds));
        }
        self.0
            .retain(|known| known.name != kept.name || known.path != kept.path);
        self.0.push(kept);
    }

    /// Stores `name=value` as a cookie for every path. The cookie stays until it is replaced.
    pub(crate) fn take(&mut self, pair: &str) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        self.0.push(Kept {
            name: name.to_owned(),
            value: value.to_owned(),
            path: "/".to_owned(),
            expires_ms: None,
        });
    }

    /// Returns whether any cookie has an expiry time.
    pub(crate) fn can_expire(&self) -> bool {
        self.0.iter().any(|kept| kept.expires_ms.is_some())
    }

    /// Drops expired cookies.
    pub(crate) fn expire(&mut self, now_ms: i64) {
        self.0
            .retain(|kept| kept.expires_ms.is_none_or(|expires_ms| expires_ms > now_ms));
    }

    /// Returns the `cookie` header for a path. Cookies with a longer path come first.
    pub(crate) fn header(&self, path: &str) -> Option<String> {
        let mut kept: Vec<_> = self
            .0
            .iter()
            .filter(|kept| is_below(path, &kept.path))
            .collect();
        kept.sort_by_key(|kept| std::cmp::Reverse(kept.path.len()));
        let pairs: Vec<_> = kept
            .iter()
            .map(|kept| format!("{}={}", kept.name, kept.value))
            .collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    /// Returns the value of a cookie.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let kept = self.0.iter().find(|kept| kept.name == name)?;
        Some(&kept.value)
    }
}

/// Parses the time in an HTTP header to milliseconds since 1970.
fn time_ms(text: &str) -> i64 {
    let time = httpdate::parse_http_date(text).expect("a time as HTTP writes it");
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    // A time before 1970 has also expired.
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

/// Returns whether a path is the prefix or below it. RFC 6265, section 5.1.4: the prefix must end at a slash.
fn is_below(path: &str, prefix: &str) -> bool {
    match path.strip_prefix(prefix) {
        Some(rest) => rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'),
        None => false,
    }
}

/// Returns a request's path up to its last slash. RFC 6265, section 5.1.4.
fn default_path(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(at) => &path[..at],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;

    fn jar(headers: &[&str]) -> Jar {
        let mut jar = Jar::default();
        for header in headers {
            jar.set(header, "/shop/cart", NOW_MS);
        }
        jar
    }

    #[test]
    fn a_cookie_is_sent_back_as_it_came_and_replaced_by_its_successor() {
        let jar = jar(&["a=s%3Ax.y; Path=/; HttpOnly", "b=1; Path=/", "a=2; Path=/"]);
        assert_eq!(jar.header("/").as_deref(), Some("b=1; a=2"));
        assert_eq!(jar.get("a"), Some("2"));
        assert!(!jar.can_expire());
    }

    #[test]
    fn a_cookie_belongs_to_its_path() {
        let jar = jar(&["a=1; Path=/", "b=2; Path=/shop", "c=3"]);
        assert_eq!(jar.header("/").as_deref(), Some("a=1"));
        assert_eq!(jar.header("/shopping").as_deref(), Some("a=1"));
        assert_eq!(jar.header("/shop/x").as_deref(), Some("b=2; c=3; a=1"));
    }

    #[test]
    fn a_cookie_ends_by_the_hosts_clock() {
        let mut jar = jar(&[
            "a=1; Max-Age=60",
            "b=2; Expires=Fri, 15 Jan 2027 08:02:00 GMT",
            "c=3",
            "d=4; Max-Age=0",
        ]);
        assert!(jar.can_expire());
        let mut after = |milliseconds| {
            jar.expire(NOW_MS + milliseconds);
            jar.header("/shop/cart")
        };
        assert_eq!(after(0).as_deref(), Some("a=1; b=2; c=3"));
        assert_eq!(after(60_000).as_deref(), Some("b=2; c=3"));
        assert_eq!(after(120_000).as_deref(), Some("c=3"));
    }

    #[test]
    fn an_expired_set_cookie_deletes_the_stored_cookie() {
        let mut jar = jar(&[
            "a=1; Path=/",
            "a=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        ]);
        jar.expire(NOW_MS);
        assert_eq!(jar.header("/"), None);
    }
}
