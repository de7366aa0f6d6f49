//! The routing table: the method, the pattern and the handler of each route. Independent of requests.

use std::cmp::Ordering;
use std::fmt;

use super::pattern::Pattern;

/// Matches every method in a route.
pub(super) const ANY: &str = "*";

/// Initial capacity, enough for the routes of most guests: growing the list costs more than unused memory.
const ROUTES_EXPECTED: usize = 16;

/// The routes, in a list and not in a tree, because the table is built and searched once for each request.
pub(super) struct Paths<H>(Vec<Route<H>>);

struct Route<H> {
    method: &'static str,
    pattern: Pattern,
    handler: H,
}

/// The result of looking up a path and a method.
pub(super) enum Found<'p, H> {
    /// The handler, and the path's parameters, percent-decoded.
    Handler {
        handler: &'p H,
        parameters: Vec<(String, String)>,
    },
    /// The path only has routes for these methods, listed as in `Allow`.
    OtherMethods(String),
    /// No pattern matches.
    Nothing,
}

impl<H> Paths<H> {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn add(&mut self, method: &'static str, pattern: Pattern, handler: H) {
        if self.0.is_empty() {
            self.0.reserve(ROUTES_EXPECTED);
        }
        self.0.push(Route {
            method,
            pattern,
            handler,
        });
    }

    pub(super) fn add_below(&mut self, prefix: &'static str, paths: Self) {
        for route in paths.0 {
            self.add(route.method, route.pattern.below(prefix), route.handler);
        }
    }

    pub(super) fn find(&self, method: &str, path: &str) -> Found<'_, H> {
        let mut closest: Option<(&Pattern, Option<&Route<H>>)> = None;
        for route in self.0.iter().filter(|route| route.pattern.fits(path)) {
            let order = match closest {
                Some((pattern, _)) => route.pattern.closeness(pattern),
                None => Ordering::Less,
            };
            let best = match (order, closest) {
                (Ordering::Greater, _) => continue,
                (Ordering::Equal, Some((_, best))) => best,
                (Ordering::Equal | Ordering::Less, _) => None,
            };
            closest = Some((&route.pattern, better(method, route, best)));
        }
        match closest {
            Some((_, Some(route))) => Found::Handler {
                handler: &route.handler,
                parameters: route.pattern.parameters(path),
            },
            Some((pattern, None)) => Found::OtherMethods(self.allow(path, pattern)),
            None => Found::Nothing,
        }
    }

    /// Returns the methods of the routes that match the path as closely as `closest` does, listed as in `Allow`.
    fn allow(&self, path: &str, closest: &Pattern) -> String {
        let mut names = Vec::new();
        for Route {
            method, pattern, ..
        } in &self.0
        {
            let is_closest = pattern.fits(path) && pattern.closeness(closest).is_eq();
            if is_closest && !names.contains(method) {
                names.push(*method);
            }
        }
        if names.contains(&"GET") && !names.contains(&"HEAD") {
            names.push("HEAD");
        }
        names.join(", ")
    }
}

/// Returns the better one of two routes for a method: a route for the method itself, then GET for HEAD, then `ANY`.
/// Among equals the later route wins.
fn better<'p, H>(
    method: &str,
    route: &'p Route<H>,
    best: Option<&'p Route<H>>,
) -> Option<&'p Route<H>> {
    let rank = |route: &Route<H>| match route.method {
        own if own == method => 3,
        "GET" if method == "HEAD" => 2,
        ANY => 1,
        _ => 0,
    };
    let is_better = rank(route) > 0 && rank(route) >= best.map_or(0, rank);
    if is_better { Some(route) } else { best }
}

impl<H> fmt::Debug for Paths<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let routes = self
            .0
            .iter()
            .map(|route| (route.method, route.pattern.text()));
        f.debug_list().entries(routes).finish()
    }
}
