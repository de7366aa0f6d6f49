"""A host in memory, without WASI, for the unit tests and for running the package's code before a component is made.

The interpreter adapts code to the values it processes, which writes to memory. After such a run, an instance begins with
adapted code: a fresh instance touches a sixth fewer pages of its memory for a request.
"""

from __future__ import annotations

import json

from .app import App
from .cookies import Cookie, CookieOptions
from .errors import Committed, Invalid
from .host import Context, CookieAttributes
from .request import Request
from .response import Response
from .sessions import session

_ROUNDS = 50


class MemorySession:
    """A session in memory, as the host has it. `calls` lists every call that changes the session, as one word and a key."""

    def __init__(self, entries: dict[str, str] | None = None) -> None:
        self.entries = dict(entries or {})
        self.stored = dict(self.entries)
        self.calls: list[str] = []
        self.reads: list[str] = []
        self.is_destroyed = False
        self.is_released = False
        self.max_age: int | None = None

    def _change(self, call: str) -> None:
        if self.is_released:
            raise Committed
        if self.is_destroyed and call not in ("destroy", "regenerate", "unset"):
            raise Invalid("the session is destroyed")
        self.calls.append(call)

    def get(self, key: str) -> str | None:
        self.reads.append(key)
        return self.entries.get(key)

    def set(self, key: str, value: str) -> None:
        self._change(f"set {key}")
        self.entries[key] = value

    def delete(self, key: str) -> None:
        self._change(f"delete {key}")
        self.entries.pop(key, None)

    def list_keys(self) -> list[str]:
        self.reads.append("*")
        return list(self.entries)

    def add(self, key: str, delta: int) -> None:
        self._change(f"add {key}")
        number = json.loads(self.entries.get(key, "0"))
        if not isinstance(number, int):
            raise Invalid(f"{key} is not an integer")
        self.entries[key] = str(number + delta)

    def increment(self, key: str, delta: int) -> int:
        self.add(key, delta)
        return int(self.entries[key])

    def clear(self) -> None:
        self._change("clear")
        self.entries.clear()

    def fingerprint(self) -> str | None:
        return None if self.is_destroyed else "fingerprint"

    def renew(self) -> None:
        self._change("renew")

    def regenerate(self) -> None:
        self._change("regenerate")
        self.entries.clear()
        self.is_destroyed = False

    def destroy(self) -> None:
        self._change("destroy")
        self.entries.clear()
        self.is_destroyed = True

    def save(self) -> None:
        self._change("save")
        self.stored = dict(self.entries)

    def reload(self) -> None:
        self._change("reload")
        self.entries = dict(self.stored)

    def touch(self) -> None:
        self._change("touch")

    def unset(self) -> None:
        self.destroy()

    def cookie(self) -> CookieAttributes:
        return CookieAttributes(self.max_age, None, "/", None, True, False, "lax", False, None)

    def set_max_age(self, milliseconds: int | None) -> None:
        self._change("set-max-age")
        self.max_age = milliseconds


class MemoryCookies:
    """Received cookies, and `set-cookie` texts that show the arguments of `serialize`."""

    def __init__(self, *came: Cookie) -> None:
        self.came = came

    def all(self) -> list[Cookie]:
        return list(self.came)

    def serialize(self, cookie: Cookie, options: CookieOptions) -> str:
        return f"{cookie.name}={cookie.text}; {options}"


class MemorySource:
    """The headers and the body of a request."""

    def __init__(self, body: bytes = b"", **headers: str) -> None:
        self._body = body
        self._headers = [(name.replace("_", "-"), value.encode("latin-1")) for name, value in headers.items()]

    def headers(self) -> list[tuple[str, bytes]]:
        return self._headers

    def body(self) -> bytes:
        return self._body


def rehearse() -> None:
    """Answers some requests with an application of its own."""
    app = App()

    @app.get("/count")
    def count(request: Request) -> str:
        session["num"] = session.get("num", 0) + 1
        return f"{session['num']}번"

    @app.post("/cart/<item>")
    def buy(request: Request, item: str) -> tuple[dict[str, object], int]:
        session.setdefault("cart", []).append(item)
        return {"cart": session["cart"], "agent": request.headers.get("user-agent")}, 201

    memory = MemorySession()
    for _ in range(_ROUNDS):
        _answer(app, memory, "GET", "/count")
        _answer(app, memory, "POST", "/cart/pear?from=tree")
        memory.entries.pop("cart")


def _answer(app: App, memory: MemorySession, method: str, target: str) -> Response:
    with Context(memory, MemoryCookies()) as context:
        response = app.respond(Request(method, target, MemorySource(user_agent="rehearsal")))
        context.tell_changes()
    return response
