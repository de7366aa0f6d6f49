//! Duplicate cookies: the domains and paths under which a browser may still keep an outdated cookie with the session's name. A
//! request contains names and values, but not the domain and path that a cookie was set with. This module does not depend on
//! sessions.

use super::header::{is_valid_domain, is_valid_path, path_matches};
use crate::record::CookieAttributes;

/// Most domains, and most paths, that are considered. That is more than a response has header fields for.
const LIST_MAX: usize = 16;

/// The request that sent a cookie.
#[derive(Clone, Copy, Debug)]
pub struct RequestTarget<'a> {
    /// The host, optionally with a port, as the request names it.
    pub host: &'a str,
    /// The request's path, without the query.
    pub path: &'a str,
}

/// A domain and a path, which together with the name identify a cookie in a browser.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CookieScope {
    /// Without a leading dot. `None` for a host-only cookie.
    domain: Option<String>,
    path: String,
}

/// Most bytes of the domains and paths of all scopes. Proxies accept 4 KiB for the head of a response.
const BYTES_MAX: usize = 2_048;

/// The possible duplicates of a session's cookie.
#[derive(Debug)]
pub struct DuplicateCookies {
    /// The attributes with which the duplicates must be expired.
    pub places: Vec<CookieAttributes>,
    /// Whether expiring them may delete a kept cookie in a client that does not distinguish a host-only cookie from a cookie of
    /// the domain with the same name. RFC 6265, section 5.3, does not distinguish them, but browsers do. The kept cookie must
    /// then be set again after the others.
    pub hits_kept: bool,
}

/// Returns the attributes with which cookies named `name` must be expired so that none of this request's cookies remain, except
/// those with the scopes of `kept`. The scope of `cookie` comes first, then the host and its parent domains with each prefix of
/// the path, the shortest first. All other attributes are those of `cookie`. There are at most `places_max`, with at most 2 KiB
/// of domains and paths.
///
/// For names with the prefixes `__Host-` and `__Http-`, only the scope of `cookie` is returned, and nothing is guessed.
pub fn duplicate_places(
    name: &str,
    sent: RequestTarget<'_>,
    cookie: &CookieAttributes,
    kept: &[&CookieAttributes],
    places_max: usize,
) -> DuplicateCookies {
    let host = host_name(sent.host);
    let mut places = vec![CookieScope::of(cookie)];
    if !is_bound_to_place(name) {
        places.extend(guesses(&host, sent.path));
    }
    let kept: Vec<CookieScope> = kept.iter().map(|cookie| CookieScope::of(cookie)).collect();
    let (mut left, mut bytes, mut hits_kept) = (Vec::<CookieScope>::new(), 0, false);
    for place in places {
        let is_kept = kept.iter().any(|kept| kept.may_be(&place, &host));
        let can_be_sent = is_valid_path(&place.path) && path_matches(&place.path, sent.path);
        let fits = left.len() < places_max && bytes + place.bytes() <= BYTES_MAX;
        if can_be_sent && !is_kept && !left.contains(&place) && fits {
            hits_kept |= kept.iter().any(|kept| kept.is_twin_of(&place, &host));
            bytes += place.bytes();
            left.push(place);
        }
    }
    let attributes = left.into_iter().map(|place| CookieAttributes {
        domain: place.domain,
        path: place.path,
        ..cookie.clone()
    });
    DuplicateCookies {
        places: attributes.collect(),
        hits_kept,
    }
}

impl CookieScope {
    /// Returns the scope under which browsers keep this cookie. A `Domain` that is not valid was not sent.
    fn of(cookie: &CookieAttributes) -> Self {
        let domain = cookie.domain.as_deref().filter(|d| is_valid_domain(d));
        Self {
            domain: domain.map(|d| d.strip_prefix('.').unwrap_or(d).to_ascii_lowercase()),
            path: cookie.path.clone(),
        }
    }

    /// Returns whether browsers may keep this cookie under the other scope. If a path was not sent or does not begin with `/`,
    /// the browser used the folder of the request that set the cookie, which is not known here.
    fn may_be(&self, other: &Self, host: &str) -> bool {
        match self.has_known_path() {
            true => self == other,
            false => self.domain_or(host) == other.domain_or(host),
        }
    }

    /// Returns whether one scope is the host alone, the other the domain of that name, and the paths are equal.
    fn is_twin_of(&self, other: &Self, host: &str) -> bool {
        self.domain != other.domain
            && self.domain_or(host) == other.domain_or(host)
            && self.path == other.path
    }

    fn has_known_path(&self) -> bool {
        self.path.starts_with('/') && is_valid_path(&self.path)
    }

    fn domain_or<'a>(&'a self, host: &'a str) -> &'a str {
        self.domain.as_deref().unwrap_or(host)
    }

    fn bytes(&self) -> usize {
        self.domain.as_ref().map_or(0, String::len) + self.path.len()
    }
}

/// Returns whether browsers accept a cookie of this name only for one scope, or only from HTTP. They compare the prefix without
/// case.
fn is_bound_to_place(name: &str) -> bool {
    let prefix = name.get(..7).unwrap_or_default();
    ["__Host-", "__Http-"]
        .iter()
        .any(|bound| prefix.eq_ignore_ascii_case(bound))
}

/// Returns each domain with each path, the likely ones first.
fn guesses(host: &str, path: &str) -> Vec<CookieScope> {
    let domains = domains(host);
    let mut guesses = Vec::new();
    for paths in paths(path) {
        // Going along diagonals, neither a long path nor a long host uses all header fields.
        for sum in 0..domains.len() + paths.len() {
            for (at, domain) in domains.iter().enumerate().take(sum + 1) {
                if let Some(path) = paths.get(sum - at) {
                    guesses.push(CookieScope {
                        domain: domain.clone(),
                        path: path.clone(),
                    });
                }
            }
        }
    }
    guesses
}

/// Returns the host alone, the host as a domain, and its parents with at least two labels. Browsers accept no cookie for a
/// top-level domain.
fn domains(host: &str) -> Vec<Option<String>> {
    let mut domains = vec![None];
    let last = host.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|b| b.is_ascii_digit()) {
        // An address, or a name with a trailing dot.
        return domains;
    }
    let mut rest = Some(host);
    while let Some(domain) = rest.filter(|domain| domain.contains('.')) {
        // A label that no `Domain` can contain (`a_b`) does not exclude the parents.
        if is_valid_domain(domain) {
            domains.push(Some(domain.to_owned()));
        }
        rest = domain.split_once('.').map(|(_, parent)| parent);
    }
    domains.truncate(LIST_MAX);
    domains
}

/// Returns the prefixes of a path, the shortest first, and then the same with a trailing `/`, which browsers keep as different
/// cookies.
fn paths(path: &str) -> [Vec<String>; 2] {
    let mut bare = vec!["/".to_owned()];
    let mut folders = Vec::new();
    let ends = path.match_indices('/').map(|(at, _)| at).skip(1);
    let ends = ends.chain([path.len()]).take_while(|end| *end < BYTES_MAX);
    for end in ends.take(LIST_MAX) {
        let prefix = &path[..end];
        if prefix.len() > 1 && !prefix.ends_with('/') {
            bare.push(prefix.to_owned());
            folders.push(format!("{prefix}/"));
        }
    }
    [bare, folders]
}

/// Returns the host's name in lower case, without a port. An IPv6 address keeps its brackets, so it matches no domain.
fn host_name(host: &str) -> String {
    let name = match host.starts_with('[') {
        true => host,
        false => host.split(':').next().unwrap_or_default(),
    };
    name.to_ascii_lowercase()
}

#[cfg(test)]
mod tests;
