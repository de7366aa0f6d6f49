"""What can go wrong, as exceptions. Knows neither requests nor the host."""

from __future__ import annotations

from typing import ClassVar


class SessionError(Exception):
    """The host refused a call on the session. A refused call has changed nothing.

    `code` is one word for each kind; the text says what was refused and why.
    """

    code: ClassVar[str] = "session"


class Denied(SessionError):
    """The guest's grant does not cover this key or this operation."""

    code = "denied"


class Invalid(SessionError):
    """The call cannot be right in any session, or it comes after `destroy()`."""

    code = "invalid"


class TooLarge(SessionError):
    """The session would pass its limit."""

    code = "too-large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the session would pass its limit of {limit_bytes} bytes")
        self.limit_bytes = limit_bytes


class Committed(SessionError):
    """The response has been released: the session is read-only now."""

    code = "committed"

    def __init__(self) -> None:
        super().__init__("the response has been released: the session is read-only now")


class Unavailable(SessionError):
    """The store did not answer in time. Only `save()` and `reload()` raise this."""

    code = "unavailable"


class CookieError(ValueError):
    """The host refused to make a cookie. `code` is "denied" (the session's own cookie, or a text that could be one) or
    "invalid" (a name, a domain, a path or a time that no cookie can have)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class HTTPError(Exception):
    """Ends a handler with this status. `abort(404)` raises it; the message is shown to the visitor."""

    def __init__(self, status: int, message: str | None = None, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.headers = headers or {}


class MissingField(HTTPError, KeyError):
    """A header, an argument or a field of a form that the handler asked for did not come: 400, unless it is caught."""

    def __init__(self, name: str) -> None:
        super().__init__(400, f"{name!r} is missing")
