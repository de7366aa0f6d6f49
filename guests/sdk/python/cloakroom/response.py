"""A response, and the other types that handlers can return. Independent of routes and of WASI."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NoReturn, Union
from urllib.parse import quote

from .cookies import CookieOptions, Priority, SameSite, milliseconds, since_1970, to_send
from .errors import HTTPError
from .fields import ResponseHeaders
from .host import current
from .values import json_body

Piece = Union[str, bytes]
Body = Union[str, bytes, Iterable[Piece]]
HeaderPairs = Union[Mapping[str, str], Iterable[tuple[str, str]]]
Content = Union["Response", str, bytes, dict[str, Any], list[Any], Iterator[Piece]]
Reply = Union[Content, tuple[Content, int], tuple[Content, int, HeaderPairs]]
"""The types that a handler can return: a text (sent as HTML), bytes, a dict or a list (sent as JSON), a generator of
pieces, a Response; or one of these with a status, or with a status and headers."""

HTML = "text/html; charset=utf-8"


class Response:
    """A response: status, headers and body. A body that is neither a text nor bytes is sent piece by piece."""

    def __init__(
        self, body: Body = b"", status: int = 200, headers: HeaderPairs = (), *, content_type: str | None = None
    ) -> None:
        self.status = status
        self.body = body
        self.headers = ResponseHeaders(headers.items() if isinstance(headers, Mapping) else headers)
        if content_type is not None:
            self.headers["content-type"] = content_type
        elif "content-type" not in self.headers and body != b"":
            self.headers.add("content-type", "application/octet-stream" if isinstance(body, bytes) else HTML)

    def __repr__(self) -> str:
        return f"<Response {self.status}>"

    @property
    def body(self) -> bytes | Iterable[Piece]:
        """Bytes, or pieces. Setting a text stores its bytes in UTF-8."""
        return self._body

    @body.setter
    def body(self, body: Body) -> None:
        self._body: bytes | Iterable[Piece] = utf8(body) if isinstance(body, str) else body

    def set_cookie(
        self,
        name: str,
        value: Any,
        *,
        signed: bool = False,
        max_age: timedelta | int | None = None,
        expires: datetime | None = None,
        domain: str | None = None,
        path: str | None = "/",
        secure: bool = False,
        httponly: bool = False,
        samesite: SameSite | None = None,
        partitioned: bool = False,
        priority: Priority | None = None,
    ) -> None:
        """Sets a cookie of the application. `max_age` is a timedelta or seconds, and has precedence over `expires`.

        A text is sent unchanged, any other value as JSON. Raises CookieError if the host refuses the cookie.
        """
        options = CookieOptions(
            milliseconds(max_age), since_1970(expires), domain, path, secure, httponly, samesite, partitioned, priority
        )
        self.headers.add("set-cookie", current().cookies.serialize(to_send(name, value, signed=signed), options))

    def delete_cookie(self, name: str, *, domain: str | None = None, path: str | None = "/") -> None:
        """Makes the browser delete a cookie. Domain and path must be those that the cookie was set with."""
        cookie = to_send(name, "", signed=False)
        self.headers.add("set-cookie", current().cookies.serialize(cookie, CookieOptions(None, 1, domain, path)))


def utf8(text: str) -> bytes:
    """Encodes a text for sending. Half of a surrogate pair, which a visitor's JSON can contain, becomes a question mark."""
    return text.encode("utf-8", "replace")


def redirect(location: str, status: int = 302) -> Response:
    """Returns a response that redirects the browser to another location."""
    # Characters that a URL can contain, including its escapes, stay unchanged. All others are escaped.
    return Response(status=status, headers={"location": quote(utf8(location), safe="!#$%&'()*+,/:;=?@[]~")})


def abort(status: int, message: str | None = None) -> NoReturn:
    """Ends the handler with this status. The message is shown to the visitor."""
    raise HTTPError(status, message)


def to_response(reply: Any) -> Response:
    """Converts a handler's reply to a response. Raises TypeError for a value that is not a reply."""
    if isinstance(reply, tuple):
        if not 2 <= len(reply) <= 3 or not isinstance(reply[1], int):
            raise TypeError("a handler returned a tuple that is neither (body, status) nor (body, status, headers)")
        response = to_response(reply[0])
        response.status = reply[1]
        if len(reply) == 3:
            _put_headers(response.headers, reply[2])
        return response
    if isinstance(reply, Response):
        return reply
    if isinstance(reply, (dict, list)):
        return Response(json_body(reply), content_type="application/json")
    if isinstance(reply, (str, bytes)):
        return Response(reply, content_type=HTML if isinstance(reply, str) else None)
    if isinstance(reply, Iterator):
        return Response(reply)
    raise TypeError(f"a handler returned {type(reply).__name__}: return a text, bytes, a dict, a list or a Response")


def _put_headers(headers: ResponseHeaders, pairs: HeaderPairs) -> None:
    """Replaces headers of the same name by those of a tuple. Cookies are added instead."""
    pairs = list(pairs.items() if isinstance(pairs, Mapping) else pairs)
    for name in {name.lower() for name, _ in pairs} - {"set-cookie"}:
        del headers[name]
    for name, value in pairs:
        headers.add(name, value)
