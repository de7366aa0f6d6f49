"""Finds the handler for a request by its method and path, with parameters as in Flask (`/user/<name>`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote, unquote

from .errors import HTTPError

Handler = Callable[..., Any]

_PARAMETER = re.compile(r"<(?:(\w+):)?([^<>]*)>")
_CONVERTERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "string": ("[^/]+", unquote),
    "int": ("[0-9]{1,4000}", int),
    "path": (".+", unquote),
}


class Router:
    """Routes in the order they were added. A path without parameters has precedence over paths with parameters."""

    def __init__(self) -> None:
        self.routes: list[tuple[str, list[str], Handler]] = []
        self._plain: dict[str, dict[str, Handler]] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, Callable[[str], Any]], dict[str, Handler]]] = []

    def add(self, path: str, methods: Iterable[str], handler: Handler) -> None:
        """Adds a route. Raises ValueError for an invalid path, and for a route that exists already."""
        if not path.startswith("/"):
            raise ValueError(f"route {path!r}: a path begins with /")
        if "{" in path or "}" in path:
            raise ValueError(f"route {path!r}: a parameter is written <name>, not {{name}}")
        methods = [method.upper() for method in methods]
        table = self._plain.setdefault(path, {}) if "<" not in path else self._pattern(path)
        for method in methods:
            if method in table:
                raise ValueError(f"route {path!r}: {method} already has a handler")
            table[method] = handler
        self.routes.append((path, methods, handler))

    def _pattern(self, path: str) -> dict[str, Handler]:
        converters: dict[str, Callable[[str], Any]] = {}
        source, end = "", 0
        for match in _PARAMETER.finditer(path):
            kind, name = match.group(1) or "string", match.group(2)
            if not name.isidentifier() or name in converters:
                raise ValueError(f"route {path!r}: {name!r} is not a parameter name, or occurs twice")
            if kind not in _CONVERTERS:
                raise ValueError(f"route {path!r}: <{kind}:{name}> is none of the known kinds: {', '.join(_CONVERTERS)}")
            pattern, converters[name] = _CONVERTERS[kind]
            source += f"{_literal(path[end : match.start()])}(?P<{name}>{pattern})"
            end = match.end()
        compiled = re.compile(source + _literal(path[end:]))
        for known, _, table in self._patterns:
            if known.pattern == compiled.pattern:
                return table
        self._patterns.append((compiled, converters, {}))
        return self._patterns[-1][2]

    def find(self, method: str, path: str) -> tuple[Handler, dict[str, Any]]:
        """Returns the handler for a path that is not decoded, and its decoded parameters. Handlers for GET also serve HEAD.

        Raises HTTPError 404, or 405 with the header `allow`.
        """
        allowed: set[str] = set()
        table = self._plain.get(path) or self._plain.get(unquote(path))
        if table is not None:
            handler = _of(table, method)
            if handler is not None:
                return handler, {}
            allowed.update(table)
        for pattern, converters, table in self._patterns:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            handler = _of(table, method)
            if handler is not None:
                return handler, {name: converters[name](text) for name, text in match.groupdict().items()}
            allowed.update(table)
        if not allowed:
            raise HTTPError(404)
        if "GET" in allowed:
            allowed.add("HEAD")
        raise HTTPError(405, headers={"allow": ", ".join(sorted(allowed))})


def _literal(text: str) -> str:
    """Returns a pattern for a literal text. Paths are matched as they were sent, with their escapes."""
    return re.escape(quote(text, safe="/!$&'()*+,:;=@~"))


def _of(table: dict[str, Handler], method: str) -> Handler | None:
    handler = table.get(method)
    return table.get("GET") if handler is None and method == "HEAD" else handler
