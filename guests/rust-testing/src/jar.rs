//! The cookies that one browser holds for one host. Knows the host's clock as a number, and no requests.

use cookie::{Cookie, Expiration};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Jar(Vec<Kept>);

struct Kept {
    name: String,
    value: String,
    path: String,
    expires_ms: Option<i64>,
}

/// Without the value: a cookie's value is for no log, not even a test's.
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
    /// Takes a `set-cookie` header of an answer to a request for `path`.
    ///
    /// # Panics
    /// If it is none.
    pub(crate) fn set(&mut self, header: &str, path: &str, now_ms: i64) {
        let cookie = Cookie::parse(header.to_owned())
            .unwrap_or_else(|error| panic!("a set-cookie header is none: {error}"));
        let expires_ms = match (cookie.max_age(), cookie.expires()) {
            (Some(age), _) => Some(now_ms.saturating_add(clamped(age.whole_milliseconds()))),
            (None, Some(Expiration::DateTime(time))) => {
                Some(clamped(time.unix_timestamp_nanos() / 1_000_000))
            }
            (None, Some(Expiration::Session) | None) => None,
        };
        let path = match cookie.path() {
            Some(path) if path.starts_with('/') => path.to_owned(),
            Some(_) | None => default_path(path).to_owned(),
        };
        self.0
            .retain(|kept| kept.name != cookie.name() || kept.path != path);
        self.0.push(Kept {
            name: cookie.name().to_owned(),
            value: cookie.value().to_owned(),
            path,
            expires_ms,
        });
    }

    /// Takes `name=value` as a cookie for every path, until it is replaced.
    pub(crate) fn take(&mut self, pair: &str) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        self.0.push(Kept {
            name: name.to_owned(),
            value: value.to_owned(),
            path: "/".to_owned(),
            expires_ms: None,
        });
    }

    /// Whether time can end one of the cookies.
    pub(crate) fn can_expire(&self) -> bool {
        self.0.iter().any(|kept| kept.expires_ms.is_some())
    }

    /// Drops what has expired.
    pub(crate) fn expire(&mut self, now_ms: i64) {
        self.0
            .retain(|kept| kept.expires_ms.is_none_or(|expires_ms| expires_ms > now_ms));
    }

    /// The `cookie` header for a path; the closer path goes first.
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

    /// The value of a cookie.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let kept = self.0.iter().find(|kept| kept.name == name)?;
        Some(&kept.value)
    }
}

fn clamped(milliseconds: i128) -> i64 {
    i64::try_from(milliseconds).unwrap_or(if milliseconds < 0 { i64::MIN } else { i64::MAX })
}

/// RFC 6265, section 5.1.4: a path is below itself and below every prefix that ends at a slash.
fn is_below(path: &str, prefix: &str) -> bool {
    match path.strip_prefix(prefix) {
        Some(rest) => rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'),
        None => false,
    }
}

/// RFC 6265, section 5.1.4: a request's path up to its last slash.
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
    fn a_cookie_of_the_past_ends_the_one_that_is_kept() {
        let mut jar = jar(&[
            "a=1; Path=/",
            "a=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        ]);
        jar.expire(NOW_MS);
        assert_eq!(jar.header("/"), None);
    }
}
