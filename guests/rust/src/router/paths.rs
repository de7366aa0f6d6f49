//! The table of a router: patterns, and for each its handlers by method. Knows no requests.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::percent_decode_str;

/// Stands for every method in a route.
pub(super) const ANY: &str = "*";

/// A pattern and its handlers by method.
struct Path<H> {
    pattern: Cow<'static, str>,
    methods: Vec<(&'static str, H)>,
}

/// See the module.
pub(super) struct Paths<H>(Vec<Path<H>>);

/// What a path and a method lead to.
pub(super) enum Found<'p, H> {
    /// This handler; the parameters are percent-decoded.
    Handler {
        handler: &'p H,
        params: Vec<(String, String)>,
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

    pub(super) fn add(&mut self, method: &'static str, pattern: Cow<'static, str>, handler: H) {
        let known = self.0.iter_mut().find(|path| path.pattern == pattern);
        let Some(path) = known else {
            let methods = vec![(method, handler)];
            return self.0.push(Path { pattern, methods });
        };
        path.methods.retain(|(known, _)| *known != method);
        path.methods.push((method, handler));
    }

    pub(super) fn add_below(&mut self, prefix: &'static str, paths: Self) {
        let prefix = prefix.trim_end_matches('/');
        for Path { pattern, methods } in paths.0 {
            let pattern = match (&*pattern, prefix) {
                (_, "") => pattern,
                ("/", _) => Cow::Borrowed(prefix),
                _ => Cow::Owned(format!("{prefix}{pattern}")),
            };
            for (method, handler) in methods {
                self.add(method, pattern.clone(), handler);
            }
        }
    }

    pub(super) fn find(&self, method: &str, path: &str) -> Found<'_, H> {
        let mut tree = matchit::Router::new();
        for path in &self.0 {
            if let Err(error) = tree.insert(&*path.pattern, &path.methods) {
                panic!("the route `{}`: {error}", path.pattern);
            }
        }
        let Ok(matched) = tree.at(path) else {
            return Found::Nothing;
        };
        let methods = matched.value;
        match by_method(methods, method) {
            Some(handler) => Found::Handler {
                handler,
                params: decoded(&matched.params),
            },
            None => Found::OtherMethods(allow(methods)),
        }
    }
}

/// The handler of a method: its own, for HEAD that of GET, or that of every method.
fn by_method<'p, H>(methods: &'p [(&'static str, H)], method: &str) -> Option<&'p H> {
    let of = |wanted: &str| {
        let mut methods = methods.iter();
        methods
            .find(|(known, _)| *known == wanted)
            .map(|(_, handler)| handler)
    };
    let head = || (method == "HEAD").then(|| of("GET")).flatten();
    of(method).or_else(head).or_else(|| of(ANY))
}

fn decoded(params: &matchit::Params<'_, '_>) -> Vec<(String, String)> {
    let params = params.iter();
    params
        .map(|(name, value)| {
            let value = percent_decode_str(value).decode_utf8_lossy();
            (name.to_owned(), value.into_owned())
        })
        .collect()
}

/// The methods as `Allow` lists them.
fn allow<H>(methods: &[(&'static str, H)]) -> String {
    let mut names: Vec<_> = methods.iter().map(|(name, _)| *name).collect();
    if names.contains(&"GET") && !names.contains(&"HEAD") {
        names.push("HEAD");
    }
    names.join(", ")
}

impl<H> fmt::Debug for Paths<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.0.iter().map(|path| {
            let methods: Vec<_> = path.methods.iter().map(|(name, _)| *name).collect();
            (&path.pattern, methods)
        });
        f.debug_map().entries(lines).finish()
    }
}
