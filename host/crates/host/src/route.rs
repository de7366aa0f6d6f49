//! The route table: maps hosts, paths and methods to targets. It is built once, and conflicts are detected when it is built.
//!
//! This module knows the names of guests, not the guests. Paths and patterns are compared in the normal form of [`path`].

pub mod path;

use std::collections::{BTreeMap, HashMap};

use http::{HeaderValue, Method};

/// A route as the operator configured it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The path in matchit's syntax. `/user/{id}` matches one segment. `/files/{*rest}` matches everything below `/files`, and
    /// `/files` itself.
    pub path: String,
    /// The methods that the route answers. An empty list means all methods. `GET` includes `HEAD`.
    pub methods: Vec<Method>,
    /// The host that the route is for, without a port. `None` means every host.
    pub host: Option<String>,
    /// The part of the host that answers the requests of this route.
    pub target: Target,
}

/// The part of the host that answers the requests of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The guest with this name.
    Guest(String),
}

/// The reason why routes cannot be part of a table. `route` and `other` are indices into the given routes, starting at 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The path does not have matchit's syntax.
    #[error("route {route}: path `{path}`: {reason}")]
    BadPath {
        /// The index of the route.
        route: usize,
        /// The route's path.
        path: String,
        /// A description of the syntax error.
        reason: String,
    },
    /// Some requests would match both routes, and no rule says which one takes precedence.
    #[error("route {route} (`{path}`) and route {other} (`{other_path}`) answer the same requests")]
    Conflict {
        /// The index of the route.
        route: usize,
        /// The route's path.
        path: String,
        /// The index of the earlier route.
        other: usize,
        /// The earlier route's path.
        other_path: String,
    },
}

/// The result of a route lookup.
#[derive(Debug)]
pub enum RouteMatch<'t, 'p> {
    /// A route matches.
    Route {
        /// The matching route.
        route: &'t Route,
        /// The path parameters, in the order of the path and in the spelling of the normalized path.
        parameters: Vec<(&'t str, &'p str)>,
    },
    /// No route matches the path.
    NotFound,
    /// Routes match the path, but none of them answers the method.
    MethodNotAllowed {
        /// The value of the response's `Allow` header.
        allow: HeaderValue,
    },
}

/// A lookup table of routes. A route for the request's host takes precedence over a route for every host. Among paths, the most
/// specific one takes precedence, as matchit documents. The method is compared last.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Route>,
    by_host: HashMap<String, PathTable>,
    any_host: PathTable,
}

/// Indices of routes: first the routes that name the path, then the catch-all routes that match the path as their bare prefix.
type PathTable = matchit::Router<Vec<usize>>;

impl RouteTable {
    /// Builds the table.
    ///
    /// # Errors
    /// Returns the errors of all routes, not only the first one.
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

    /// Finds the route of a request. `host` may contain a port, and `path` must be in normal form.
    pub fn find<'t, 'p>(
        &'t self,
        host: &str,
        method: &Method,
        path: &'p str,
    ) -> RouteMatch<'t, 'p> {
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
                    return RouteMatch::Route { route, parameters };
                }
                None => allowed.extend(routes.flat_map(|route| &route.methods)),
            }
        }
        if allowed.is_empty() {
            RouteMatch::NotFound
        } else {
            RouteMatch::MethodNotAllowed {
                allow: allow_header(&allowed),
            }
        }
    }

    /// Returns the routes in the operator's order.
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

/// The paths of one host during the construction of the table.
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
            // If another pattern such as `/{name}` already matches the bare prefix, that route keeps it.
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
            // Paths are inserted in sorted order, so put the later route first, as in all conflicts.
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

/// Returns the paths that a catch-all must also match: `/files` and `/files/` for `/files/{*rest}`. matchit's catch-all never
/// matches an empty rest.
fn bare_prefixes(pattern: &str) -> Vec<String> {
    let Some(catch_all) = pattern.rfind("/{*") else {
        return Vec::new();
    };
    match &pattern[..catch_all] {
        "" => vec!["/".to_owned()],
        prefix => vec![prefix.to_owned(), format!("{prefix}/")],
    }
}

/// Returns the host without its port. An IPv6 literal keeps its brackets.
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
