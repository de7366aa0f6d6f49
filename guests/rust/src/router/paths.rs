//! The table of a router: for each route its method, its pattern and its handler. Knows no requests.

use std::cmp::Ordering;
use std::fmt;

use super::pattern::Pattern;

/// Stands for every method in a route.
pub(super) const ANY: &str = "*";

/// Room for the routes of most guests: growing costs more than memory that is not used.
const ROUTES_EXPECTED: usize = 16;

/// See the module. A list and no tree: it is made and searched once in the life of an instance.
pub(super) struct Paths<H>(Vec<Route<H>>);

struct Route<H> {
    method: &'static str,
    pattern: Pattern,
    handler: H,
}

/// What a path and a method lead to.
pub(super) enum Found<'p, H> {
    /// This handler; the parameters are percent-decoded.
    Handler {
        handler: &'p H,
        parameters: Vec<(String, String)>,
    },
    /// The path has routes for these methods, as `Allow` lists them.
    OtherMethods(String),
    /// No pattern fits.
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

    /// The methods of the routes that fit a path as closely as this one does, as `Allow` lists them.
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

/// Which of two routes is the better one for a method: the later one of its own, then GET's for HEAD, then any.
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
