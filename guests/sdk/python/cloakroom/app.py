"""An application: its routes, its hooks and its error handlers. Takes a request and returns a response, without I/O of its own."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar

from .errors import HTTPError, SessionError, TooLarge, Unavailable
from .host import current
from .request import Request
from .response import Response, to_response
from .routing import Handler, Router
from .sessions import session

H = TypeVar("H", bound=Callable[..., Any])
ErrorAnswer = Callable[[Exception], "Response | None"]


class App:
    """The routes of one guest. A handler receives the request, and the path's parameters by name, and returns a `Reply`."""

    def __init__(self) -> None:
        self._router = Router()
        self._before: list[Callable[[Request], Any]] = []
        self._after: list[Callable[[Request, Response], Any]] = []
        self._error_handlers: dict[int | type[Exception], Callable[[Any], Any]] = {}

    def route(self, path: str, *, methods: Iterable[str] = ("GET",)) -> Callable[[H], H]:
        """Makes a function the handler for these methods at this path: `/user/<name>`, `/page/<int:n>`, `/<path:rest>`."""

        def add(handler: H) -> H:
            self._router.add(path, methods, _plain(handler))
            return handler

        return add

    def get(self, path: str) -> Callable[[H], H]:
        """Makes a function the handler for GET at this path. It also serves HEAD."""
        return self.route(path)

    def post(self, path: str) -> Callable[[H], H]:
        """Makes a function the handler for POST at this path."""
        return self.route(path, methods=("POST",))

    def put(self, path: str) -> Callable[[H], H]:
        """Makes a function the handler for PUT at this path."""
        return self.route(path, methods=("PUT",))

    def delete(self, path: str) -> Callable[[H], H]:
        """Makes a function the handler for DELETE at this path."""
        return self.route(path, methods=("DELETE",))

    def patch(self, path: str) -> Callable[[H], H]:
        """Makes a function the handler for PATCH at this path."""
        return self.route(path, methods=("PATCH",))

    def before_request(self, hook: H) -> H:
        """Calls `hook(request)` before each handler. If the hook returns a reply, it is sent and the handler is not called."""
        self._before.append(_plain(hook))
        return hook

    def after_request(self, hook: H) -> H:
        """Calls `hook(request, response)` with each response. The hook can change the response or return another one."""
        self._after.append(_plain(hook))
        return hook

    def errorhandler(self, error: int | type[Exception]) -> Callable[[H], H]:
        """Makes a function the handler for a status (`404`) or for a class of exceptions. It receives the exception.

        Changes of the session that were made before the error are stored with the response, as with every response.
        """

        def add(handler: H) -> H:
            self._error_handlers[error] = _plain(handler)
            return handler

        return add

    def include(self, other: App) -> None:
        """Adds the routes that another application has at this time, so that an application can be split into several files. The
        hooks and error handlers of that application apply to its own routes only, and run inside the hooks of this one."""
        for path, methods, handler in other._router.routes:
            self._router.add(path, methods, partial(other._run, handler, _no_answer))

    def respond(self, request: Request) -> Response:
        """Returns the response to a request, and passes the changes made in place to the host. Raises the handler's
        exception if neither an error handler nor a default response exists for it."""
        response = self._run(self._dispatch, _plain_answer, request)
        try:
            current().tell_changes()
        except SessionError as error:
            refused = _plain_answer(error)
            if refused is None:
                raise
            return refused
        return response

    def _dispatch(self, request: Request) -> Any:
        handler, parameters = self._router.find(request.method, request.raw_path)
        return handler(request, **parameters)

    def _run(self, handler: Handler, last_answer: ErrorAnswer, request: Request, **parameters: Any) -> Response:
        """Runs the hooks before the handler, the handler, the error handlers and the hooks after the handler."""
        try:
            response = self._handle(handler, request, parameters)
        except Exception as error:
            answer = self._answer_to(error) or last_answer(error)
            if answer is None:
                raise
            response = answer
        for hook in self._after:
            changed = hook(request, response)
            if changed is not None:
                response = to_response(changed)
        return response

    def _handle(self, handler: Handler, request: Request, parameters: dict[str, Any]) -> Response:
        for hook in self._before:
            reply = hook(request)
            if reply is not None:
                return to_response(reply)
        return to_response(handler(request, **parameters))

    def _answer_to(self, error: Exception) -> Response | None:
        """Returns the response of the error handler for this error, or None if there is no error handler."""
        if isinstance(error, HTTPError):
            handler = self._error_handlers.get(error.status) or self._handler_of(type(error))
            if handler is None:
                return None
            response = _with_status(to_response(handler(error)), error.status)
            for name, value in error.headers.items():
                if name not in response.headers:
                    response.headers[name] = value
            return response
        handler = self._handler_of(type(error))
        if handler is not None:
            return to_response(handler(error))
        for status in (_status(error), 500):
            handler = self._error_handlers.get(status)
            if handler is not None:
                traceback.print_exception(error, file=sys.stderr)
                return _with_status(to_response(handler(error)), status)
        return None

    def _handler_of(self, kind: type[BaseException]) -> Handler | None:
        for base in kind.__mro__:
            handler = self._error_handlers.get(base) if issubclass(base, Exception) else None
            if handler is not None:
                return handler
        return None


def _plain_answer(error: Exception) -> Response | None:
    """Returns the default response to an HTTPError, a full session or an unavailable store; otherwise None."""
    if isinstance(error, (TooLarge, Unavailable)):
        traceback.print_exception(error, file=sys.stderr)
        if isinstance(error, TooLarge):
            # Half of a change must not be stored. (If the store is unavailable, a reload is not possible; the host tries the
            # store again with the response.)
            session.reload()
        error = HTTPError(_status(error), "the session is full" if isinstance(error, TooLarge) else None)
    if not isinstance(error, HTTPError):
        return None
    text = f"{error.status} {error.message or _phrase(error.status)}\n"
    return Response(text, error.status, error.headers, content_type="text/plain; charset=utf-8")


def _status(error: Exception) -> int:
    """Returns the status for an exception that does not contain one."""
    if isinstance(error, TooLarge):
        return 413
    return 503 if isinstance(error, Unavailable) else 500


def _no_answer(_: Exception) -> Response | None:
    """Leaves the error to the application that includes this one."""
    return None


def _with_status(response: Response, status: int) -> Response:
    """Replaces the default status 200 of an error handler's response by the status of the error."""
    if response.status == 200:
        response.status = status
    return response


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _plain(function: H) -> H:
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{getattr(function, '__name__', function)!r} is async: handlers are plain functions (def)")
    return function
