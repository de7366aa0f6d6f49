//! The two kinds of handlers that a component can have: a function, or a function that returns a router.

use crate::{AsyncRouter, IntoResponse, Request, Response, Router};

/// A handler that [`handler!`](crate::handler) and [`service!`](crate::service) accept: a function from [`Request`] to
/// a type that implements [`IntoResponse`], or a function without parameters that returns a [`Router`].
///
/// `Kind` distinguishes the two kinds of functions. The compiler infers it.
pub trait Handler<Kind> {
    /// Returns the response to a request.
    fn answer(&self, request: Request) -> Response;
}

/// The counterpart of [`Handler`] for `service!(async ...)`: an `async` function, or a function that returns a router
/// of `async` functions.
pub trait AsyncHandler<Kind> {
    /// Returns the response to a request.
    fn answer(&self, request: Request) -> impl Future<Output = Response>;
}

/// Marks a handler that is a function of the request.
#[derive(Debug)]
pub enum OfRequest {}

/// Marks a handler that is a function which returns a router.
#[derive(Debug)]
pub enum OfRoutes {}

impl<F, R> Handler<OfRequest> for F
where
    F: Fn(Request) -> R,
    R: IntoResponse,
{
    fn answer(&self, request: Request) -> Response {
        self(request).into_response()
    }
}

impl<F: Fn() -> Router> Handler<OfRoutes> for F {
    fn answer(&self, request: Request) -> Response {
        self().answer(request)
    }
}

impl<F, R> AsyncHandler<OfRequest> for F
where
    F: Fn(Request) -> R,
    R: Future<Output: IntoResponse>,
{
    async fn answer(&self, request: Request) -> Response {
        self(request).await.into_response()
    }
}

impl<F: Fn() -> AsyncRouter> AsyncHandler<OfRoutes> for F {
    async fn answer(&self, request: Request) -> Response {
        self().answer(request).await
    }
}
