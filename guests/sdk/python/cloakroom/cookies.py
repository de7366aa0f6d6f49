"""The application's own cookies: those that were sent with a request, and those that a response sets. The host signs and
verifies them, and no guest ever receives the secret. The session's cookie is not accessible here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

from .values import parse_strange, write

SameSite = Literal["Strict", "Lax", "None"]
Priority = Literal["Low", "Medium", "High"]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Cookie:
    """A cookie as the host reads and writes it."""

    name: str
    text: str | None
    """The value: a text, or a JSON text if `is_json`. None if the cookie claims to be signed and the host has not signed it."""
    is_json: bool = False
    signed: bool = False


@dataclass(frozen=True)
class CookieOptions:
    """The attributes of a cookie to send. Times are in milliseconds; `expires` counts from 1970."""

    max_age: int | None = None
    expires: int | None = None
    domain: str | None = None
    path: str | None = "/"
    secure: bool = False
    httponly: bool = False
    samesite: SameSite | None = None
    partitioned: bool = False
    priority: Priority | None = None


def by_name(cookies: list[Cookie], *, signed: bool) -> dict[str, Any]:
    """Returns the values of the signed cookies, or of the others. Forged cookies are in neither mapping."""
    return {cookie.name: _value(cookie) for cookie in cookies if cookie.signed == signed and cookie.text is not None}


def _value(cookie: Cookie) -> Any:
    if not cookie.is_json:
        return cookie.text
    try:
        return parse_strange(cookie.text or "")
    except ValueError:
        # Every visitor can send such a cookie. Its value stays the text that was sent, so that the other cookies can be read.
        return f"j:{cookie.text}"


def to_send(name: str, value: Any, *, signed: bool) -> Cookie:
    """Returns the cookie to send: a text unchanged, any other value as JSON. Raises TypeError or ValueError for a value
    that JSON cannot hold."""
    if isinstance(value, str):
        return Cookie(name, value, signed=signed)
    return Cookie(name, write(value, f"cookie {name!r}"), is_json=True, signed=signed)


def milliseconds(lifetime: timedelta | int | None) -> int | None:
    """Converts a lifetime, in seconds or as a timedelta, to milliseconds."""
    if lifetime is None:
        return None
    return lifetime // _MILLISECOND if isinstance(lifetime, timedelta) else int(lifetime) * 1000


def since_1970(moment: datetime | None) -> int | None:
    """Converts a time to milliseconds since 1970. A time without a time zone counts as UTC, because a guest has no time zone."""
    if moment is None:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return (moment - _EPOCH) // _MILLISECOND
