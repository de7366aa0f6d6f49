"""Tests of a guest in the host that will serve it. Write them with unittest or pytest, and run them with `cloakroom test`.

    from cloakroom.testing import Host

    with Host() as host:
        anna = host.visitor()
        assert anna.get("/session").text == "1번 접속"

Each `Host` is a new host with a store in memory and a clock that only the test advances. This module needs only the standard
library.
"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from .fields import RequestHeaders

_REDIRECTS_MAX = 20


class Answer:
    """A response that a visitor has received."""

    def __init__(self, status: int, headers: RequestHeaders, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def text(self) -> str:
        """The body as a text in UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """Parses the body as JSON."""
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"<Answer {self.status}>"


class Host:
    """A new host with the project's guests and routes. It ends with its `with` block, or with `close()`."""

    def __init__(self) -> None:
        control = os.environ.get("CLOAKROOM_TEST_URL")
        if not control:
            raise RuntimeError("run these tests with `cloakroom test`")
        self._control = control
        started = self._call("POST", "/hosts", None)
        self._path = f"/hosts/{started['host']}"
        self.url: str = started["url"]
        self.clock = Clock(self)

    def __enter__(self) -> Host:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the host."""
        self.call("DELETE", "")

    def visitor(self, session: Mapping[str, Any] | None = None) -> Visitor:
        """Returns a new browser: without a session, or with a session that is already stored."""
        visitor = Visitor(self)
        if session is not None:
            name, _, value = self.call("POST", "/sessions", {"data": session})["cookie"].partition("=")
            visitor.cookies[name] = value
        return visitor

    def rival(self, *, set: Mapping[str, Any] | None = None, delete: list[str] | None = None) -> None:
        """Makes another request of the same session commit these changes right before the next commit of a stored session.

        If it is called several times, the first call applies to the first commit.
        """
        self.call("POST", "/rivals", {"set": dict(set or {}), "delete": delete or []})

    def rival_logout(self) -> None:
        """Makes another request of the same session destroy it right before the next commit of a stored session."""
        self.call("POST", "/rivals", {"destroy": True})

    def store_down(self) -> None:
        """Makes the store unreachable until `store_up()`."""
        self.call("PUT", "/store", {"up": False})

    def store_up(self) -> None:
        """Makes the store reachable again."""
        self.call("PUT", "/store", {"up": True})

    def swap(self, component: str | None = None, guest: str | None = None) -> int:
        """Swaps in a component, by default the guest's configured file, and returns the number of the new version.

        Raises ControlError if the host refuses the component.
        """
        words = {"component": component, "guest": guest}
        version: int = self.call("POST", "/swap", {key: word for key, word in words.items() if word})["version"]
        return version

    def sessions(self) -> list[dict[str, Any]]:
        """Returns the stored sessions: `[{"data": {...}, "expires_ms": ...}]`."""
        stored: list[dict[str, Any]] = self.call("GET", "/sessions")
        return stored

    def counts(self) -> dict[str, int]:
        """Returns the host's counts so far: requests, runs, commits, conflicts, reapplies, reruns."""
        counts: dict[str, int] = self.call("GET", "/counts")
        return counts

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Makes a call of the control interface that the other methods do not support."""
        return self._call(method, self._path + path, body)

    def _call(self, method: str, path: str, body: Any) -> Any:
        headers = {"content-type": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        answer = _send(self._control, method, path, headers, content)
        told = json.loads(answer.body) if answer.body else {}
        if answer.status >= 400:
            raise ControlError(f"{method} {path}: {told.get('error', answer.status)}")
        return told


class ControlError(Exception):
    """Raised when the control interface refuses a call. Contains the call and the reason."""


class Clock:
    """The clock of the host."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def advance(self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """Advances the clock. Sessions and cookies expire by it."""
        total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
        self._host.call("POST", "/clock", {"advance_ms": round(total * 1000)})

    @property
    def now_ms(self) -> int:
        """The time in milliseconds since 1970."""
        now: int = self._host.call("GET", "/clock")["now_ms"]
        return now


class Visitor:
    """A browser with its own cookie jar, which sends its cookies to every path. It follows redirects only if `follow` is set."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.cookies: dict[str, str] = {}
        """The cookies' values as they were received, by name."""
        self._expires_ms: dict[str, float] = {}

    def get(self, path: str, **options: Any) -> Answer:
        """Sends a GET request; see `request`."""
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> Answer:
        """Sends a POST request; see `request`."""
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Any) -> Answer:
        """Sends a PUT request; see `request`."""
        return self.request("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> Answer:
        """Sends a PATCH request; see `request`."""
        return self.request("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> Answer:
        """Sends a DELETE request; see `request`."""
        return self.request("DELETE", path, **options)

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | str | None = None,
        form: Mapping[str, str] | None = None,
        json: Any = None,
        follow: bool = False,
    ) -> Answer:
        """Sends a request. The body is given as bytes or text, as the fields of a form, or as a value to send as JSON."""
        fields, content = _content(dict(headers or {}), body, form, json)
        for _ in range(_REDIRECTS_MAX):
            answer = self._once(method, path, fields, content)
            location = answer.headers.get("location")
            if not follow or location is None or not 300 <= answer.status < 400:
                return answer
            if answer.status not in (307, 308):
                method, content = "GET", None
            to = urlsplit(urljoin(self._host.url + path, location))
            if to.netloc != urlsplit(self._host.url).netloc:
                return answer
            path = to.path + (f"?{to.query}" if to.query else "")
        raise RuntimeError(f"more than {_REDIRECTS_MAX} redirects, the last one to {path}")

    def _once(self, method: str, path: str, headers: Mapping[str, str], content: bytes | None) -> Answer:
        self._drop_expired()
        sent = dict(headers)
        if self.cookies:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = _send(self._host.url, method, path, sent, content)
        for cookie in answer.headers.getlist("set-cookie"):
            self._keep(cookie)
        return answer

    def _drop_expired(self) -> None:
        if self._expires_ms:
            now = self._host.clock.now_ms
            for name in [name for name, end in self._expires_ms.items() if end <= now]:
                self._forget(name)

    def _keep(self, cookie: str) -> None:
        pair, *attributes = cookie.split(";")
        name, _, value = pair.strip().partition("=")
        self._forget(name)
        self.cookies[name] = value
        for attribute in attributes:
            key, _, word = attribute.strip().partition("=")
            if key.lower() == "expires" and name not in self._expires_ms:
                self._expires_ms[name] = parsedate_to_datetime(word).timestamp() * 1000
            elif key.lower() == "max-age":
                self._expires_ms[name] = self._host.clock.now_ms + int(word) * 1000
        self._drop_expired()

    def _forget(self, name: str) -> None:
        self.cookies.pop(name, None)
        self._expires_ms.pop(name, None)


def _content(
    headers: dict[str, str], body: bytes | str | None, form: Mapping[str, str] | None, value: Any
) -> tuple[dict[str, str], bytes | None]:
    if form is not None:
        headers.setdefault("content-type", "application/x-www-form-urlencoded")
        return headers, urlencode(form).encode()
    if value is not None:
        headers.setdefault("content-type", "application/json")
        return headers, json.dumps(value).encode()
    return headers, body.encode() if isinstance(body, str) else body


def _send(url: str, method: str, path: str, headers: Mapping[str, str], content: bytes | None) -> Answer:
    to = urlsplit(url)
    connection = http.client.HTTPConnection(to.hostname or "", to.port, timeout=60)
    try:
        connection.request(method, path, body=content, headers=dict(headers))
        response = connection.getresponse()
        return Answer(response.status, RequestHeaders(response.getheaders()), response.read())
    finally:
        connection.close()
