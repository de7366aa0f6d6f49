//! Finds the handler for a request by its path and method. Independent of sessions and of the WASI version.

mod paths;
mod pattern;

use std::fmt;
use std::pin::Pin;

use crate::{Error, IntoResponse, Request, Response};

use self::paths::{Found, Paths};
use self::pattern::Pattern;

/// A handler with its type erased.
pub type Endpoint = Box<dyn Fn(Request) -> Response>;

/// An asynchronous handler with its type erased; see [`Router::new_async`].
pub type AsyncEndpoint = Box<dyn Fn(Request) -> Pin<Box<dyn Future<Output = Response>>>>;

/// A router whose routes lead to `async` functions.
pub type AsyncRouter = Router<AsyncEndpoint>;

/// A function that a route can lead to: from [`Request`] to a type that implements [`IntoResponse`]. In a router of
/// [`AsyncEndpoint`]s the function is `async`.
pub trait IntoEndpoint<H> {
    /// Erases the function's type.
    fn into_endpoint(self) -> H;
}

impl<F, R> IntoEndpoint<Endpoint> for F
where
    F: Fn(Request) -> R + 'static,
    R: IntoResponse,
{
    fn into_endpoint(self) -> Endpoint {
        Box::new(move |request| self(request).into_response())
    }
}

impl<F, R> IntoEndpoint<AsyncEndpoint> for F
where
    F: Fn(Request) -> R + 'static,
    R: Future<Output: IntoResponse> + 'static,
{
    fn into_endpoint(self) -> AsyncEndpoint {
        Box::new(move |request| {
            let answer = self(request);
            Box::pin(async move { answer.await.into_response() })
        })
    }
}

/// Routes, matched by path and method.
///
/// Patterns have the syntax of the host's routes: `/cart/{item}` matches one segment, `/files/{*rest}` matches the rest
/// of the path. A literal segment has precedence over a parameter, in whatever order the routes were added. A path
/// without a route is answered with 404. A path that only has routes for other methods is answered with 405 and
/// `Allow`. A HEAD request uses the route for GET if there is none for HEAD.
///
/// ```
/// use cloakroom_guest::{Error, Request, Response, Router, handler, session};
///
/// handler!(routes);
///
/// fn routes() -> Router {
///     Router::new()
///         .get("/session", count)
///         .get("/session/delete", delete)
///         .post("/cart/{item}", add)
/// }
///
/// fn count(_request: Request) -> Result<String, Error> {
///     Ok(format!("{}번 접속", session::increment("num", 1)?))
/// }
///
/// fn delete(_request: Request) -> Result<Response, Error> {
///     session::destroy()?;
///     Ok(Response::redirect("/session"))
/// }
///
/// fn add(request: Request) -> Result<Response, Error> {
///     let item: String = request.param("item")?;
///     session::update("cart", |cart: &mut Vec<String>| cart.push(item))?;
///     Ok(Response::see_other("/cart"))
/// }
/// # fn main() {}
/// ```
///
/// # Panics
/// The functions that add routes panic if a pattern does not begin with `/`, has braces that are not a whole segment, has a
/// parameter without a name, or continues after its `{*rest}`.
pub struct Router<H = Endpoint> {
    paths: Paths<H>,
    fallback: Option<H>,
}

impl Router {
    /// Creates a router without routes.
    pub fn new() -> Self {
        Self::empty()
    }

    /// Returns the response of the handler that the request is routed to.
    pub fn answer(&self, request: Request) -> Response {
        match self.find(request) {
            Ok((endpoint, request)) => endpoint(request),
            Err(response) => response,
        }
    }
}

impl AsyncRouter {
    /// Creates a router without routes, for routes to `async` functions. Use it with `service!(async routes)`.
    pub fn new_async() -> Self {
        Self::empty()
    }

    /// Returns the response of the handler that the request is routed to.
    pub async fn answer(&self, request: Request) -> Response {
        match self.find(request) {
            Ok((endpoint, request)) => endpoint(request).await,
            Err(response) => response,
        }
    }
}

impl<H> Router<H> {
    /// Adds a route for GET. It also serves HEAD if the pattern has no route for HEAD.
    pub fn get(self, pattern: &'static str, to: impl IntoEndpoint<H>) -> Self {
        self.route("GET", pattern, to)
    }

    /// Adds a route for POST.
    pub fn post(self, pattern: &'static str, to: impl IntoEndpoint<H>) -> Self {
        self.route("POST", pattern, to)
    }

    /// Adds a route for PUT.
    pub fn put(self, pattern: &'static str, to: impl IntoEndpoint<H>) -> Self {
        self.route("PUT", pattern, to)
    }

    /// Adds a route for PATCH.
    pub fn patch(self, pattern: &'static str, to: impl IntoEndpoint<H>) -> Self {
        self.route("PATCH", pattern, to)
    }

    /// Adds a route for DELETE.
    pub fn delete(self, pattern: &'static str, to: impl IntoEndpoint<H>) -> Self {
        self.route("DELETE", pattern, to)
    }

    /// Adds a route for every method for which the pattern has no route of its own.
    pub fn any(self, pattern: &'static str, to: impl IntoEndpoint<H>) -> Self {
        self.route(paths::ANY, pattern, to)
    }

    /// Adds a route for a method by its name, in capitals. A later route for the same method and pattern replaces an earlier one.
    pub fn route(
        mut self,
        method: &'static str,
        pattern: &'static str,
        to: impl IntoEndpoint<H>,
    ) -> Self {
        self.paths
            .add(method, Pattern::new(pattern), to.into_endpoint());
        self
    }

    /// Adds all routes of another router below a prefix. The path `/` of that router becomes the prefix itself. Its
    /// fallback is dropped. [`Request::path`] remains the whole path.
    pub fn nest(mut self, prefix: &'static str, routes: Self) -> Self {
        self.paths.add_below(prefix, routes.paths);
        self
    }

    /// Sets the handler for requests whose path matches no route, instead of the response 404.
    pub fn fallback(mut self, to: impl IntoEndpoint<H>) -> Self {
        self.fallback = Some(to.into_endpoint());
        self
    }

    fn empty() -> Self {
        Self {
            paths: Paths::new(),
            fallback: None,
        }
    }

    /// Returns the handler for a request and the request with its parameters, or the response if there is no handler.
    fn find(&self, request: Request) -> Result<(&H, Request), Response> {
        match self.paths.find(request.method(), request.path()) {
            Found::Handler {
                handler,
                parameters,
            } => Ok((handler, request.with_params(parameters))),
            Found::OtherMethods(allow) => {
                let refusal = Error::new(405, "method not allowed").into_response();
                Err(refusal.header("allow", &allow))
            }
            Found::Nothing => match &self.fallback {
                Some(handler) => Ok((handler, request)),
                None => Err(Error::not_found().into_response()),
            },
        }
    }
}

impl Default for Router {
    fn default() -> Self {
        Self::new()
    }
}

impl<H> fmt::Debug for Router<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Router").field(&self.paths).finish()
    }
}

#[cfg(test)]
mod tests;
