"""Cookies of the application's own: what came with a request, and what a response sets. The host signs and verifies;
no guest ever holds the secret. The session's cookie is out of reach here.
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
    """What it holds: a text, or a JSON text if `is_json`. None: it claims to be signed, and the host has not signed it."""
    is_json: bool = False
    signed: bool = False


@dataclass(frozen=True)
class CookieOptions:
    """What a cookie is sent with. Times are in milliseconds, `expires` since 1970."""

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
    """The values of the cookies that are signed, or of those that are not. Forged ones are in neither."""
    return {cookie.name: _value(cookie) for cookie in cookies if cookie.signed == signed and cookie.text is not None}


def _value(cookie: Cookie) -> Any:
    if not cookie.is_json:
        return cookie.text
    try:
        return parse_strange(cookie.text or "")
    except ValueError:
        # Anybody can send such a cookie. It stays the text that came, and the other cookies can be read.
        return f"j:{cookie.text}"


def to_send(name: str, value: Any, *, signed: bool) -> Cookie:
    """A text is sent as it is, anything else as JSON. Raises TypeError or ValueError for what JSON cannot hold."""
    if isinstance(value, str):
        return Cookie(name, value, signed=signed)
    return Cookie(name, write(value, f"cookie {name!r}"), is_json=True, signed=signed)


def milliseconds(lifetime: timedelta | int | None) -> int | None:
    """A lifetime, given in seconds or as a timedelta, in milliseconds."""
    if lifetime is None:
        return None
    return lifetime // _MILLISECOND if isinstance(lifetime, timedelta) else int(lifetime) * 1000


def since_1970(moment: datetime | None) -> int | None:
    """A moment in milliseconds since 1970. One without a time zone counts as UTC, as the machine of a guest has none."""
    if moment is None:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return (moment - _EPOCH) // _MILLISECOND
