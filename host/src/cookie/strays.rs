//! Where a browser may keep a cookie of the session's name that names no session any more: a request tells names and values, never
//! the domain and path that a cookie was set with. Knows no sessions.

use super::header::{is_valid_domain, is_valid_path, path_matches};
use crate::record::CookieAttributes;

/// Longest list of domains, and of paths, that is looked at: more than an answer has fields for.
const LIST_MAX: usize = 16;

/// The request that a cookie came with.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// Host and perhaps port, as the request names them.
    pub host: &'a str,
    /// The request's path, without the query.
    pub path: &'a str,
}

/// A domain and a path, which with the name make a browser's cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// Without a dot in front; `None` for the host alone.
    domain: Option<String>,
    path: String,
}

/// The most that the domains and paths of all places may have in bytes: proxies give an answer's head 4 KiB.
const BYTES_MAX: usize = 2_048;

/// Where the other cookies may be.
#[derive(Debug)]
pub struct Strays {
    /// The attributes under which they are to be expired.
    pub places: Vec<CookieAttributes>,
    /// Whether a client that keeps a cookie of the host and one of the domain of that name as one drops a cookie that is to be
    /// kept (RFC 6265, section 5.3, names no difference; browsers make one): it must be set again, behind the others.
    pub hits_kept: bool,
}

/// The attributes under which cookies named `name` are to be expired so that no cookie of this request is left, but those at the
/// places of `kept`: `cookie`'s own place first, then the host and its parent domains with each prefix of the path, the shortest
/// first. All other attributes are `cookie`'s. At most `places_max`, and 2 KiB of domains and paths.
///
/// With the prefixes `__Host-` and `__Http-` it is `cookie`'s own place alone: nothing is guessed there.
pub fn stray_places(
    name: &str,
    sent: Sent<'_>,
    cookie: &CookieAttributes,
    kept: &[&CookieAttributes],
    places_max: usize,
) -> Strays {
    let host = host_name(sent.host);
    let mut places = vec![Place::of(cookie)];
    if !is_bound_to_place(name) {
        places.extend(guesses(&host, sent.path));
    }
    let kept: Vec<Place> = kept.iter().map(|cookie| Place::of(cookie)).collect();
    let (mut left, mut bytes, mut hits_kept) = (Vec::<Place>::new(), 0, false);
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
    Strays {
        places: attributes.collect(),
        hits_kept,
    }
}

impl Place {
    /// Where this cookie is kept: a `Domain` that could not be sent was not sent.
    fn of(cookie: &CookieAttributes) -> Self {
        let domain = cookie.domain.as_deref().filter(|d| is_valid_domain(d));
        Self {
            domain: domain.map(|d| d.strip_prefix('.').unwrap_or(d).to_ascii_lowercase()),
            path: cookie.path.clone(),
        }
    }

    /// Whether this is where browsers keep a cookie of the other place. Where a path was not sent, or does not begin with `/`, the
    /// browser took the folder of the request that set the cookie, which nothing tells here.
    fn may_be(&self, other: &Self, host: &str) -> bool {
        match self.has_known_path() {
            true => self == other,
            false => self.domain_or(host) == other.domain_or(host),
        }
    }

    /// Whether one is the host's alone, the other the domain of that name, and nothing else differs.
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

/// Whether the name's prefix lets browsers take the cookie for one place alone, or from HTTP alone; browsers compare it without case.
fn is_bound_to_place(name: &str) -> bool {
    let prefix = name.get(..7).unwrap_or_default();
    ["__Host-", "__Http-"]
        .iter()
        .any(|bound| prefix.eq_ignore_ascii_case(bound))
}

/// Each domain with each path, the likely ones first.
fn guesses(host: &str, path: &str) -> Vec<Place> {
    let domains = domains(host);
    let mut guesses = Vec::new();
    for paths in paths(path) {
        // Diagonals: neither a long path nor a long host takes all fields.
        for sum in 0..domains.len() + paths.len() {
            for (at, domain) in domains.iter().enumerate().take(sum + 1) {
                if let Some(path) = paths.get(sum - at) {
                    guesses.push(Place {
                        domain: domain.clone(),
                        path: path.clone(),
                    });
                }
            }
        }
    }
    guesses
}

/// The host alone, the host as a domain, and its parents of two labels at least: browsers take no cookie for a top-level domain.
fn domains(host: &str) -> Vec<Option<String>> {
    let mut domains = vec![None];
    let last = host.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|b| b.is_ascii_digit()) {
        // An address, or a name with a dot at its end.
        return domains;
    }
    let mut rest = Some(host);
    while let Some(domain) = rest.filter(|domain| domain.contains('.')) {
        // A label that no `Domain` can hold (`a_b`) leaves the parents as they are.
        if is_valid_domain(domain) {
            domains.push(Some(domain.to_owned()));
        }
        rest = domain.split_once('.').map(|(_, parent)| parent);
    }
    domains.truncate(LIST_MAX);
    domains
}

/// The prefixes of a path, the shortest first; then the same with a `/` at the end, which browsers keep as other cookies.
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

/// The host's name in lower case, without a port. An address of IPv6 keeps its brackets: no domain has any.
fn host_name(host: &str) -> String {
    let name = match host.starts_with('[') {
        true => host,
        false => host.split(':').next().unwrap_or_default(),
    };
    name.to_ascii_lowercase()
}

#[cfg(test)]
mod tests;
