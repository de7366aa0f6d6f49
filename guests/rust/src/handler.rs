//! What a component may be made of: one function, or a router.

use crate::{AsyncRouter, IntoResponse, Request, Response, Router};

/// What [`handler!`](crate::handler) and [`service!`](crate::service) take: a function from [`Request`] to anything
/// that is [`IntoResponse`], or one without parameters that returns a [`Router`].
///
/// `Kind` tells the two apart and is found by the compiler.
pub trait Handler<Kind> {
    /// Answers a request.
    fn answer(&self, request: Request) -> Response;
}

/// As [`Handler`], for `service!(async ...)`: an `async` function, or one that returns a router of such.
pub trait AsyncHandler<Kind> {
    /// Answers a request.
    fn answer(&self, request: Request) -> impl Future<Output = Response>;
}

/// A handler that is one function.
#[derive(Debug)]
pub enum OfRequest {}

/// A handler that is a router.
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
