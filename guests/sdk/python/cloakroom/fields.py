"""Names with one or more texts: header fields, query arguments, form fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from .errors import MissingField


class MultiDict(Mapping[str, str]):
    """Texts by name. `fields["a"]` is the first value of a name; `getlist("a")` returns all values, in their order.

    A missing name is the visitor's fault: its KeyError is answered with 400, unless it is caught.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> str:
        values = self._values.get(name)
        if values is None:
            raise MissingField(name)
        return values[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        # Values must not be logged.
        return f"<{type(self).__name__} with {len(self)} names>"

    def getlist(self, name: str) -> list[str]:
        """Returns all values of a name, or an empty list."""
        return list(self._values.get(name, ()))


class RequestHeaders(MultiDict):
    """The header fields of a request. Upper and lower case in their names are equal."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__((name.lower(), value) for name, value in pairs)

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def getlist(self, name: str) -> list[str]:
        """Returns all values of a field, or an empty list."""
        return super().getlist(name.lower())


class ResponseHeaders:
    """The header fields of a response, in the order they are sent."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs: list[tuple[str, str]] = []
        for name, value in pairs:
            self.add(name, value)

    def __getitem__(self, name: str) -> str:
        values = self.getlist(name)
        if not values:
            raise KeyError(name)
        return values[0]

    def __setitem__(self, name: str, value: str) -> None:
        """Replaces all fields of this name by one field."""
        del self[name]
        self.add(name, value)

    def __delitem__(self, name: str) -> None:
        """Removes all fields of this name, if there are any."""
        self._pairs = [pair for pair in self._pairs if pair[0].lower() != name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.getlist(name))

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._pairs)

    def get(self, name: str, default: str | None = None) -> str | None:
        """Returns the value of the first field of this name, or `default`."""
        return next(iter(self.getlist(name)), default)

    def getlist(self, name: str) -> list[str]:
        """Returns all values of a field, or an empty list."""
        return [value for other, value in self._pairs if other.lower() == name.lower()]

    def add(self, name: str, value: str) -> None:
        """Adds a field. Raises ValueError for a text that a header cannot contain."""
        if not isinstance(value, str):
            raise TypeError(f"header {name!r}: a value is a text, not {type(value).__name__}")
        if any(sign in value for sign in "\r\n\0"):
            raise ValueError(f"header {name!r}: the value contains a line end or a zero")
        try:
            value.encode("latin-1")
        except UnicodeEncodeError:
            raise ValueError(f"header {name!r}: a value must be Latin-1; quote it (urllib.parse.quote)") from None
        self._pairs.append((name, value))
