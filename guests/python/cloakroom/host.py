"""What the package needs of the host, and the request at hand. `wasi.py` has the real host, tests have their own.

Everything that belongs to one request is in its `Context`, which ends with it: an instance that serves further
requests (`reuse`) carries nothing over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from .tracking import Tracker

if TYPE_CHECKING:
    from .cookies import Cookie, CookieOptions


@dataclass
class CookieAttributes:
    """The attributes of the session's cookie. Times are in milliseconds, `expires` since 1970."""

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
    """`cloakroom:http/session`. Every function raises a SessionError when the host refuses."""

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
    """`cloakroom:http/cookies`. `serialize` raises CookieError when the host refuses."""

    def all(self) -> list[Cookie]: ...
    def serialize(self, cookie: Cookie, options: CookieOptions) -> str: ...


class Context:
    """One request's. It is the one at hand within a `with` block."""

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
        """Tells the host of every change that was made in place in a value of the session.

        Raises SessionError where such a change cannot be stored any more.
        """
        self.tracker.tell(self.session.set)


_current: Context | None = None


def current() -> Context:
    """The request at hand. Raises RuntimeError outside of one."""
    if _current is None:
        raise RuntimeError("there is no request: session, cookies and flash messages are there only while a handler runs")
    return _current
