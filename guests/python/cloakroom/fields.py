"""Names with one or several texts: header fields, query arguments, form fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from .errors import MissingField


class MultiDict(Mapping[str, str]):
    """Texts by name. `fields["a"]` is the first of several; `getlist("a")` has all, in their order.

    A name that did not come is the visitor's fault: unless it is caught, its KeyError is answered with 400.
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
        # Values belong in no log.
        return f"<{type(self).__name__} with {len(self)} names>"

    def getlist(self, name: str) -> list[str]:
        """All values of a name; none: an empty list."""
        return list(self._values.get(name, ()))


class RequestHeaders(MultiDict):
    """The header fields of a request. Their names are the same in capitals and small letters."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__((name.lower(), value) for name, value in pairs)

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def getlist(self, name: str) -> list[str]:
        """All fields of a name; none: an empty list."""
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
        """One field of this name, instead of all that were there."""
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
        """The first field of this name."""
        return next(iter(self.getlist(name)), default)

    def getlist(self, name: str) -> list[str]:
        """All fields of a name; none: an empty list."""
        return [value for other, value in self._pairs if other.lower() == name.lower()]

    def add(self, name: str, value: str) -> None:
        """One more field. Raises ValueError for a text that no header can have."""
        if not isinstance(value, str):
            raise TypeError(f"header {name!r}: a value is a text, not {type(value).__name__}")
        if any(sign in value for sign in "\r\n\0"):
            raise ValueError(f"header {name!r}: the value has a line end or a zero in it")
        try:
            value.encode("latin-1")
        except UnicodeEncodeError:
            raise ValueError(f"header {name!r}: a value is Latin-1; quote it (urllib.parse.quote)") from None
        self._pairs.append((name, value))
