"""Which mutable values of the session a handler holds, so that no change to one of them is lost. Knows no host.

A handler that gets a list or a dict out of its session may change it in place, and nobody is told. So each one is kept
here with the JSON text that the session has for it, and compared before anything is sent.

Values that the session itself has dropped (`destroy`, `regenerate`, `reload`, `unset`) are compared as well: a change
to one of them would be stored nowhere, so it is an error. One that was put into the session again is alive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from .errors import Invalid, SessionError
from .values import parse, write

_UNCHANGEABLE = (str, int, float, type(None))


def place(key: str) -> str:
    """How messages call an entry."""
    return f"session[{key!r}]"


class _Held:
    """A value that a handler may hold, and the text that the session has for it."""

    __slots__ = ("text", "value")

    def __init__(self, value: Any, text: str) -> None:
        self.value = value
        self.text = text

    def new_text(self, key: str) -> str | None:
        """The value's text, if it is another value than that of the session's text."""
        now = write(self.value, place(key))
        if now == self.text:
            return None
        # Another writer's text may say the same in other words: blanks, escapes, 1e2.
        if now == write(parse(self.text, place(key)), place(key)):
            self.text = now
            return None
        return now


class Dropped(NamedTuple):
    """A value that the session has dropped, as it was then."""

    key: str
    value: Any
    text: str
    by: str


class Tracker:
    """The values of one request."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self._dropped: list[Dropped] = []

    def keep(self, key: str, value: Any, text: str) -> None:
        """Remembers what an entry holds, if it can be changed in place."""
        if isinstance(value, _UNCHANGEABLE):
            self._held.pop(key, None)
        else:
            self._held[key] = _Held(value, text)

    def find(self, key: str) -> Any | None:
        """The value that the handler already holds of an entry, if any."""
        held = self._held.get(key)
        return None if held is None else held.value

    def forget(self, key: str) -> None:
        """The handler took the entry out of the session, or wrote another value: the old one is its own."""
        self._held.pop(key, None)

    def forget_all(self) -> None:
        """The handler emptied the session."""
        self._held.clear()

    def snapshot(self, by: str) -> list[Dropped]:
        """What the session is about to drop."""
        return [Dropped(key, held.value, write(held.value, place(key)), by) for key, held in self._held.items()]

    def drop(self, dropped: list[Dropped]) -> None:
        """The session has dropped them."""
        self._held.clear()
        self._dropped += dropped

    def tell(self, tell: Callable[[str, str], None]) -> None:
        """Calls `tell` with key and text of each entry whose value was changed in place.

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
            # The texts are compared first: most values are as they were.
            if write(value, place(key)) != text and _differs(value, parse(text, place(key)), alive):
                raise Invalid(
                    f"the value of {place(key)} was changed after {by}() had dropped it, so the change would be lost: "
                    f"put the value into the session again, or change a copy (copy.deepcopy)"
                )


def _containers(value: Any) -> Iterator[Any]:
    """Each list and dict in a value, itself included."""
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
    """Whether a value was changed where no part of the living session would hold the change."""
    if id(value) in alive:
        return False
    if isinstance(value, dict) and isinstance(before, dict):
        return value.keys() != before.keys() or any(_differs(value[key], before[key], alive) for key in before)
    if isinstance(value, (list, tuple)) and isinstance(before, list):
        return len(value) != len(before) or any(map(_differs, value, before, [alive] * len(before)))
    # 1, 1.0 and True are equal, but not the same JSON.
    return type(value) is not type(before) or bool(value != before)
