//! Which handler a request goes to, by its path and method. Knows neither sessions nor either version of WASI.

mod paths;
mod pattern;

use std::fmt;
use std::pin::Pin;

use crate::{Error, IntoResponse, Request, Response};

use self::paths::{Found, Paths};
use self::pattern::Pattern;

/// A handler with its type forgotten.
pub type Endpoint = Box<dyn Fn(Request) -> Response>;

/// An asynchronous handler with its type forgotten; see [`Router::new_async`].
pub type AsyncEndpoint = Box<dyn Fn(Request) -> Pin<Box<dyn Future<Output = Response>>>>;

/// A router whose routes lead to `async` functions.
pub type AsyncRouter = Router<AsyncEndpoint>;

/// What a route may lead to: a function from [`Request`] to anything that is [`IntoResponse`], or, in a router of
/// [`AsyncEndpoint`]s, an `async` one.
pub trait IntoEndpoint<H> {
    /// The same without its type.
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

/// Routes, tried by path and method.
///
/// Patterns are written as those of the host's routes: `/cart/{item}` takes one segment, `/files/{*rest}` all that is left,
/// and what is literal goes before a parameter, in whatever order the routes were added. A path without a route is answered
/// with 404, one that has routes for other methods alone with 405 and `Allow`. HEAD goes to the route of GET if it has none
/// itself.
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
/// The functions that add routes do, if a pattern does not begin with `/`, has braces that are no whole segment, or goes on
/// behind its `{*rest}`.
pub struct Router<H = Endpoint> {
    paths: Paths<H>,
    fallback: Option<H>,
}

impl Router {
    /// No routes yet.
    pub fn new() -> Self {
        Self::empty()
    }

    /// The response of the handler that the request goes to.
    pub fn answer(&self, request: Request) -> Response {
        match self.find(request) {
            Ok((endpoint, request)) => endpoint(request),
            Err(response) => response,
        }
    }
}

impl AsyncRouter {
    /// No routes yet; they will lead to `async` functions. For `service!(async routes)`.
    pub fn new_async() -> Self {
        Self::empty()
    }

    /// The response of the handler that the request goes to.
    pub async fn answer(&self, request: Request) -> Response {
        match self.find(request) {
            Ok((endpoint, request)) => endpoint(request).await,
            Err(response) => response,
        }
    }
}

impl<H> Router<H> {
    /// Adds a route for GET, and for HEAD where that has none of its own.
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

    /// Adds a route for every method that the pattern has no route of its own for.
    pub fn any(self, pattern: &'static str, to: impl IntoEndpoint<H>) -> Self {
        self.route(paths::ANY, pattern, to)
    }

    /// Adds a route for a method by its name, in capitals. A later route for the same method and pattern replaces it.
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

    /// Adds all routes of another router below a prefix: its `/` becomes the prefix itself. Its fallback is left out.
    /// [`Request::path`] stays the whole path.
    pub fn nest(mut self, prefix: &'static str, routes: Self) -> Self {
        self.paths.add_below(prefix, routes.paths);
        self
    }

    /// Sends what no route's path fits to this handler instead of answering 404.
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

    /// The handler for a request, which is given its parameters; or the answer where there is none.
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
