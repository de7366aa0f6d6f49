"""Tracks the mutable values of the session that a handler has, so that no change of one is lost. Independent of the host.

A handler that reads a list or a dict from its session can change it in place without a call of this package. Each such value is
therefore kept here with the JSON text that the session has for it, and the two are compared before the response is sent.

Values that the session itself has dropped (`destroy`, `regenerate`, `reload`, `unset`) are compared as well. A change of such a value
would not be stored, so it is an error. A value that was put into the session again is treated as its current value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from .errors import Invalid, SessionError
from .values import parse, write

_UNCHANGEABLE = (str, int, float, type(None))


def place(key: str) -> str:
    """Returns the name of an entry in messages."""
    return f"session[{key!r}]"


class _Held:
    """A value that a handler may have, and the text that the session has for it."""

    __slots__ = ("text", "value")

    def __init__(self, value: Any, text: str) -> None:
        self.value = value
        self.text = text

    def new_text(self, key: str) -> str | None:
        """Returns the value's text if it differs in meaning from the session's text, or else None."""
        now = write(self.value, place(key))
        if now == self.text:
            return None
        # Another program may have written the same value with another spelling: blanks, escapes, 1e2.
        if now == write(parse(self.text, place(key)), place(key)):
            self.text = now
            return None
        return now


class Dropped(NamedTuple):
    """A value that the session has dropped, as it was at that time."""

    key: str
    value: Any
    text: str
    by: str


class Tracker:
    """The tracked values of one request."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self._dropped: list[Dropped] = []

    def keep(self, key: str, value: Any, text: str) -> None:
        """Tracks the value of an entry, if it can be changed in place."""
        if isinstance(value, _UNCHANGEABLE):
            self._held.pop(key, None)
        else:
            self._held[key] = _Held(value, text)

    def find(self, key: str) -> Any | None:
        """Returns the value of an entry that the handler already has, or None."""
        held = self._held.get(key)
        return None if held is None else held.value

    def forget(self, key: str) -> None:
        """Stops tracking an entry that the handler has removed from the session or overwritten: the old value belongs to the handler."""
        self._held.pop(key, None)

    def forget_all(self) -> None:
        """Stops tracking all entries, because the handler has emptied the session."""
        self._held.clear()

    def snapshot(self, by: str) -> list[Dropped]:
        """Returns the values that the session is about to drop."""
        return [Dropped(key, held.value, write(held.value, place(key)), by) for key, held in self._held.items()]

    def drop(self, dropped: list[Dropped]) -> None:
        """Records that the session has dropped these values."""
        self._held.clear()
        self._dropped += dropped

    def tell(self, tell: Callable[[str, str], None]) -> None:
        """Calls `tell` with the key and the text of each entry whose value was changed in place.

        Raises Invalid if a dropped value was changed.
        """
        for key, held in self._held.items():
            text = held.new_text(key)
            if text is not None:
                try:
                    tell(key, text)
                except SessionError as error:
                    error.args = (f"{place(key)} was changed in place: {error}",)
                    raise
                held.text = text
        if self._dropped:
            self._refuse_lost_changes()

    def _refuse_lost_changes(self) -> None:
        alive = {id(part) for held in self._held.values() for part in _containers(held.value)}
        for key, value, text, by in self._dropped:
            # The texts are compared first, because most values are unchanged.
            if write(value, place(key)) != text and _differs(value, parse(text, place(key)), alive):
                raise Invalid(
                    f"the value of {place(key)} was changed after {by}() had dropped it, so the change would be lost: "
                    f"put the value into the session again, or change a copy (copy.deepcopy)"
                )


def _containers(value: Any) -> Iterator[Any]:
    """Yields each list and dict in a value, including the value itself."""
    pending = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            yield part
            pending.extend(part.values())
        elif isinstance(part, (list, tuple)):
            yield part
            pending.extend(part)


def _differs(value: Any, before: Any, alive: set[int]) -> bool:
    """Returns whether a value was changed in a part that does not belong to the current session."""
    if id(value) in alive:
        return False
    if isinstance(value, dict) and isinstance(before, dict):
        return value.keys() != before.keys() or any(_differs(value[key], before[key], alive) for key in before)
    if isinstance(value, (list, tuple)) and isinstance(before, list):
        return len(value) != len(before) or any(map(_differs, value, before, [alive] * len(before)))
    # 1, 1.0 and True are equal in Python, but differ in JSON.
    return type(value) is not type(before) or bool(value != before)
