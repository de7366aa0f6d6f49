"""The interface between this package and the host, and the current request. `wasi.py` implements it for the real host, and
tests have their own implementations.

All state of a request is in its `Context`, which ends with the request, so an instance that serves further requests
(`reuse`) passes nothing on to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from .tracking import Tracker

if TYPE_CHECKING:
    from .cookies import Cookie, CookieOptions


@dataclass
class CookieAttributes:
    """The attributes of the session's cookie. Times are in milliseconds; `expires` counts from 1970."""

    original_max_age: int | None
    expires: int | None
    path: str
    domain: str | None
    http_only: bool
    secure: bool
    same_site: str | None
    partitioned: bool
    priority: str | None


class SessionHost(Protocol):
    """`cloakroom:http/session`. Every function raises a SessionError when the host refuses the call."""

    def get(self, key: str) -> str | None: ...
    def set(self, key: str, value: str) -> None: ...
    def delete(self, key: str) -> None: ...
    def list_keys(self) -> list[str]: ...
    def add(self, key: str, delta: int) -> None: ...
    def increment(self, key: str, delta: int) -> int: ...
    def clear(self) -> None: ...
    def fingerprint(self) -> str | None: ...
    def renew(self) -> None: ...
    def regenerate(self) -> None: ...
    def destroy(self) -> None: ...
    def save(self) -> None: ...
    def reload(self) -> None: ...
    def touch(self) -> None: ...
    def unset(self) -> None: ...
    def cookie(self) -> CookieAttributes: ...
    def set_max_age(self, milliseconds: int | None) -> None: ...


class CookieHost(Protocol):
    """`cloakroom:http/cookies`. `serialize` raises a CookieError when the host refuses the cookie."""

    def all(self) -> list[Cookie]: ...
    def serialize(self, cookie: Cookie, options: CookieOptions) -> str: ...


class Context:
    """The state of one request. It is the current one within a `with` block."""

    def __init__(self, session: SessionHost, cookies: CookieHost) -> None:
        self.session = session
        self.cookies = cookies
        self.tracker = Tracker()
        self.flashed: list[tuple[str, str]] | None = None

    def __enter__(self) -> Context:
        global _current
        _current = self
        return self

    def __exit__(self, *_: object) -> None:
        global _current
        _current = None

    def tell_changes(self) -> None:
        """Passes every change that was made in place in a value of the session to the host.

        Raises SessionError if such a change can no longer be stored.
        """
        self.tracker.tell(self.session.set)


_current: Context | None = None


def current() -> Context:
    """Returns the context of the current request. Raises RuntimeError if there is no request."""
    if _current is None:
        raise RuntimeError("there is no request: session, cookies and flash messages are available only while a handler runs")
    return _current
