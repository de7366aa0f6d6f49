"""The exceptions of this package. Independent of requests and of the host."""

from __future__ import annotations

from typing import ClassVar


class SessionError(Exception):
    """Raised when the host refuses a call on the session. A refused call has changed nothing.

    `code` is one word for each kind of refusal. The text says which part of the call was refused and why.
    """

    code: ClassVar[str] = "session"


class Denied(SessionError):
    """The guest's grant does not include this key or this operation."""

    code = "denied"


class Invalid(SessionError):
    """The call is invalid in every session, or it comes after `destroy()`."""

    code = "invalid"


class TooLarge(SessionError):
    """The change would make the session larger than its limit."""

    code = "too-large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the session would exceed its limit of {limit_bytes} bytes")
        self.limit_bytes = limit_bytes


class Committed(SessionError):
    """The response has been released, so the session is now read-only."""

    code = "committed"

    def __init__(self) -> None:
        super().__init__("the response has been released: the session is read-only now")


class Unavailable(SessionError):
    """The store did not answer in time. Only `save()` and `reload()` raise this."""

    code = "unavailable"


class CookieError(ValueError):
    """Raised when the host refuses to make a cookie. `code` is "denied" (the session's own cookie, or a text that could be
    one) or "invalid" (a name, a domain, a path or a time that a cookie cannot have)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class HTTPError(Exception):
    """Ends a handler with this status. `abort(404)` raises it. The message is shown to the visitor."""

    def __init__(self, status: int, message: str | None = None, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.headers = headers or {}


class MissingField(HTTPError, KeyError):
    """A header, query argument or form field that the handler reads is missing. It is answered with 400, unless it is caught."""

    def __init__(self, name: str) -> None:
        super().__init__(400, f"{name!r} is missing")
