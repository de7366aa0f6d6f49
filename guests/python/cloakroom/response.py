"""A response, and what handlers may return instead of one. Knows neither routes nor WASI."""

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
"""What a handler may return: a text (sent as HTML), bytes, a dict or a list (sent as JSON), a generator of pieces, a
Response; or one of these with a status, or with a status and headers."""

HTML = "text/html; charset=utf-8"


class Response:
    """A response: status, headers, body. A body that is neither text nor bytes is sent piece by piece."""

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
        """Bytes, or pieces. A text that is set becomes bytes of UTF-8."""
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
        """Sets a cookie of the application's own. `max_age` is a timedelta or seconds, and outranks `expires`.

        A text is sent as it is, anything else as JSON. Raises CookieError if the host refuses the cookie.
        """
        options = CookieOptions(
            milliseconds(max_age), since_1970(expires), domain, path, secure, httponly, samesite, partitioned, priority
        )
        self.headers.add("set-cookie", current().cookies.serialize(to_send(name, value, signed=signed), options))

    def delete_cookie(self, name: str, *, domain: str | None = None, path: str | None = "/") -> None:
        """Has the browser drop a cookie. Domain and path must be those it was set with."""
        cookie = to_send(name, "", signed=False)
        self.headers.add("set-cookie", current().cookies.serialize(cookie, CookieOptions(None, 1, domain, path)))


def utf8(text: str) -> bytes:
    """A text to send. Half of a surrogate pair, which may come in a visitor's JSON, becomes a question mark."""
    return text.encode("utf-8", "replace")


def redirect(location: str, status: int = 302) -> Response:
    """Sends the browser to another place."""
    # What a URL may hold stays, its escapes as well; the rest is escaped.
    return Response(status=status, headers={"location": quote(utf8(location), safe="!#$%&'()*+,/:;=?@[]~")})


def abort(status: int, message: str | None = None) -> NoReturn:
    """Ends the handler with this status. The message is shown to the visitor."""
    raise HTTPError(status, message)


def to_response(reply: Any) -> Response:
    """The response that a handler's reply stands for. Raises TypeError for what is none."""
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
    """Headers of a tuple take the place of those of the same name; cookies join those that are there."""
    pairs = list(pairs.items() if isinstance(pairs, Mapping) else pairs)
    for name in {name.lower() for name, _ in pairs} - {"set-cookie"}:
        del headers[name]
    for name, value in pairs:
        headers.add(name, value)
