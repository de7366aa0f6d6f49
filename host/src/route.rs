//! Which guest answers which request: a table over hosts, paths and methods, built once and checked when it is built.
//!
//! Knows names of guests, not guests. Paths and patterns are compared in the normal form of [`path`].

pub mod path;

use std::collections::{BTreeMap, HashMap};

use http::{HeaderValue, Method};

/// One route, as the operator wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// matchit's syntax: `/user/{id}` takes one segment, `/files/{*rest}` takes all below and `/files` itself.
    pub path: String,
    /// Methods it answers; none means all. `GET` answers `HEAD` as well.
    pub methods: Vec<Method>,
    /// The host it is for, without a port; none means every host.
    pub host: Option<String>,
    /// The name of the guest.
    pub guest: String,
}

/// Why two routes, or one, make no table. `route` and `other` count from 0 in the order given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The path is not in the syntax.
    #[error("route {route}: path `{path}`: {reason}")]
    BadPath {
        /// Which route.
        route: usize,
        /// Its path.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Some request would match both, and nothing says which wins.
    #[error("route {route} (`{path}`) and route {other} (`{other_path}`) answer the same requests")]
    Conflict {
        /// Which route.
        route: usize,
        /// Its path.
        path: String,
        /// The earlier route.
        other: usize,
        /// Its path.
        other_path: String,
    },
}

/// What the table says to a request.
#[derive(Debug)]
pub enum Found<'t, 'p> {
    /// This route answers.
    Route {
        /// The route.
        route: &'t Route,
        /// Path parameters, in the path's order, in the spelling of the normalised path.
        parameters: Vec<(&'t str, &'p str)>,
    },
    /// No route has such a path.
    NotFound,
    /// Routes have such a path, but not for this method.
    MethodNotAllowed {
        /// The value of the answer's `Allow` header.
        allow: HeaderValue,
    },
}

/// The routes, ready to be asked. A route with the request's host is preferred to one for every host; of the paths the most specific
/// wins, as matchit documents; methods are looked at last.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Route>,
    by_host: HashMap<String, PathTable>,
    any_host: PathTable,
}

/// Indices of routes: those that name the path first, then catch-alls whose bare prefix it is.
type PathTable = matchit::Router<Vec<usize>>;

impl RouteTable {
    /// Builds the table.
    ///
    /// # Errors
    /// Every fault of every route, not only the first.
    pub fn new(routes: Vec<Route>) -> Result<Self, Vec<RouteError>> {
        let mut errors = Vec::new();
        let mut hosts: BTreeMap<Option<String>, HostBuilder> = BTreeMap::new();
        for (index, route) in routes.iter().enumerate() {
            let host = route
                .host
                .as_deref()
                .map(without_port)
                .map(str::to_lowercase);
            let builder = hosts.entry(host).or_default();
            if let Err(error) = builder.add(&routes, index) {
                errors.push(error);
            }
        }
        let mut table = Self::default();
        for (host, builder) in hosts {
            let paths = builder.finish(&routes, &mut errors);
            match host {
                Some(host) => drop(table.by_host.insert(host, paths)),
                None => table.any_host = paths,
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        table.routes = routes;
        Ok(table)
    }

    /// Looks a request up: `host` with or without a port, `path` in normal form.
    pub fn find<'t, 'p>(&'t self, host: &str, method: &Method, path: &'p str) -> Found<'t, 'p> {
        let own = self.by_host.get(&without_port(host).to_lowercase());
        let mut allowed = Vec::new();
        for paths in own.into_iter().chain([&self.any_host]) {
            let Ok(matched) = paths.at(path) else {
                continue;
            };
            let routes = matched.value.iter().map(|&index| &self.routes[index]);
            match routes.clone().find(|route| route.answers(method)) {
                Some(route) => {
                    let parameters = matched.params.iter().collect();
                    return Found::Route { route, parameters };
                }
                None => allowed.extend(routes.flat_map(|route| &route.methods)),
            }
        }
        if allowed.is_empty() {
            Found::NotFound
        } else {
            Found::MethodNotAllowed {
                allow: allow_header(&allowed),
            }
        }
    }

    /// The routes in the operator's order.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }
}

impl Route {
    fn answers(&self, method: &Method) -> bool {
        let has = |wanted: &Method| self.methods.contains(wanted);
        self.methods.is_empty() || has(method) || (*method == Method::HEAD && has(&Method::GET))
    }

    fn shares_a_method_with(&self, other: &Self) -> bool {
        self.methods.is_empty()
            || other.methods.is_empty()
            || self
                .methods
                .iter()
                .any(|method| other.methods.contains(method))
    }
}

/// The paths of one host while the table is built.
#[derive(Default)]
struct HostBuilder {
    explicit: BTreeMap<String, Vec<usize>>,
    bare_prefixes: BTreeMap<String, Vec<usize>>,
}

impl HostBuilder {
    fn add(&mut self, routes: &[Route], index: usize) -> Result<(), RouteError> {
        let route = &routes[index];
        let pattern = path::normalise(&route.path).map_err(|bad| RouteError::BadPath {
            route: index,
            path: route.path.clone(),
            reason: bad.to_string(),
        })?;
        let same_path = self.explicit.entry(pattern.to_string()).or_default();
        let rival = same_path
            .iter()
            .find(|&&other| route.shares_a_method_with(&routes[other]));
        if let Some(&other) = rival {
            return Err(conflict(routes, index, other));
        }
        same_path.push(index);
        for bare in bare_prefixes(&pattern) {
            self.bare_prefixes.entry(bare).or_default().push(index);
        }
        Ok(())
    }

    fn finish(mut self, routes: &[Route], errors: &mut Vec<RouteError>) -> PathTable {
        let mut paths = PathTable::new();
        let mut inserted: Vec<(String, usize)> = Vec::new();
        for (pattern, mut indices) in self.explicit {
            let first = indices[0];
            indices.extend(self.bare_prefixes.remove(&pattern).unwrap_or_default());
            match paths.insert(pattern.clone(), indices) {
                Ok(()) => inserted.push((pattern, first)),
                Err(error) => errors.push(insert_error(routes, first, &inserted, &error)),
            }
        }
        for (bare, indices) in self.bare_prefixes {
            // Where a pattern such as `/{name}` already takes the bare prefix, in whatever way, that route keeps it.
            let _ = paths.insert(bare, indices);
        }
        paths
    }
}

fn insert_error(
    routes: &[Route],
    index: usize,
    inserted: &[(String, usize)],
    error: &matchit::InsertError,
) -> RouteError {
    if let matchit::InsertError::Conflict { with } = error {
        let other = inserted.iter().find(|(pattern, _)| pattern == with);
        if let Some(&(_, other)) = other {
            // Paths are inserted in their own order: name the later route first, as everywhere.
            return conflict(routes, index.max(other), index.min(other));
        }
    }
    RouteError::BadPath {
        route: index,
        path: routes[index].path.clone(),
        reason: error.to_string(),
    }
}

fn conflict(routes: &[Route], route: usize, other: usize) -> RouteError {
    RouteError::Conflict {
        route,
        path: routes[route].path.clone(),
        other,
        other_path: routes[other].path.clone(),
    }
}

/// `/files/{*rest}` is also `/files` and `/files/`: matchit's catch-all never takes nothing.
fn bare_prefixes(pattern: &str) -> Vec<String> {
    let Some(catch_all) = pattern.rfind("/{*") else {
        return Vec::new();
    };
    match &pattern[..catch_all] {
        "" => vec!["/".to_owned()],
        prefix => vec![prefix.to_owned(), format!("{prefix}/")],
    }
}

/// The host without its port; an IPv6 literal keeps its brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn allow_header(methods: &[&Method]) -> HeaderValue {
    let mut names: Vec<&str> = methods.iter().map(|method| method.as_str()).collect();
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    names.sort_unstable();
    names.dedup();
    HeaderValue::from_str(&names.join(", ")).expect("methods are tokens")
}

#[cfg(test)]
mod tests;
