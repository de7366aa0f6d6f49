"""The visitor's session as a mapping. The host stores, finds and commits it. This module only gives it a Python interface.

`wit/session.wit` defines which calls count as reads, when changes are stored, and why a handler may run more than once.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from datetime import timedelta
from typing import Any

from .errors import Invalid
from .host import CookieAttributes, current
from .tracking import place
from .values import parse, write


class Session(MutableMapping[str, Any]):
    """The session of the visitor whose request is being handled. All requests use the same object, `cloakroom.session`.

    Values can be everything that JSON can hold. A list or a dict may be changed in place (`session["cart"].append(3)`).
    Such a change is stored like any other, and a change that is too late to be stored raises an error.
    """

    def __getitem__(self, key: str) -> Any:
        """Returns the value of an entry. Reads only this entry, unless the handler already has its value."""
        context = current()
        held = context.tracker.find(_checked(key))
        if held is not None:
            return held
        text = context.session.get(key)
        if text is None:
            raise KeyError(key)
        value = parse(text, place(key))
        context.tracker.keep(key, value, text)
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        """Writes an entry. Raises TypeError or ValueError for a value that JSON cannot hold."""
        context = current()
        text = write(value, place(_checked(key)))
        context.session.set(key, text)
        context.tracker.keep(key, value, text)

    def __delitem__(self, key: str) -> None:
        """Removes an entry. Raises KeyError if there is none, so it reads the entry first; `discard` does not."""
        if key not in self:
            raise KeyError(key)
        self.discard(key)

    def discard(self, key: str) -> None:
        """Removes an entry if it exists, without reading it."""
        context = current()
        context.session.delete(_checked(key))
        context.tracker.forget(key)

    def __contains__(self, key: object) -> bool:
        """Returns whether an entry exists. Reads only this entry."""
        return isinstance(key, str) and current().session.get(_checked(key)) is not None

    def __iter__(self) -> Iterator[str]:
        """Returns the keys, in the session's order. Counts as a read of every key."""
        return iter(current().session.list_keys())

    def __len__(self) -> int:
        """Returns the number of entries. Counts as a read of every key."""
        return len(current().session.list_keys())

    def __repr__(self) -> str:
        # Session data must not be logged.
        return "<the visitor's session>"

    def clear(self) -> None:
        """Removes all entries, without reading them. The session itself, its id and its cookie remain."""
        context = current()
        context.session.clear()
        context.tracker.forget_all()

    def add(self, key: str, delta: int = 1) -> None:
        """Adds to an integer (64 bits; a missing entry counts as 0) without reading it.

        It never causes another run, so it is the best choice for a counter that is only shown elsewhere.
        """
        current().session.add(_checked(key), _int64(delta))

    def increment(self, key: str, delta: int = 1) -> int:
        """Adds to an integer (64 bits; a missing entry counts as 0) and returns the sum."""
        return current().session.increment(_checked(key), _int64(delta))

    def fingerprint(self) -> str | None:
        """Returns a stable name for this session that is worthless as a credential; None before the session has an id."""
        return current().session.fingerprint()

    def renew(self) -> None:
        """Gives the session a new id and keeps its entries. Call it when privileges change, above all at login."""
        current().session.renew()

    def regenerate(self) -> None:
        """Gives the session a new id and drops its entries."""
        context = current()
        dropped = context.tracker.snapshot("regenerate")
        context.session.regenerate()
        context.tracker.drop(dropped)

    def destroy(self) -> None:
        """Deletes the session and makes the browser delete its cookie. Call it at logout."""
        context = current()
        dropped = context.tracker.snapshot("destroy")
        context.session.destroy()
        context.tracker.drop(dropped)

    def unset(self) -> None:
        """Does what the host's option `unset` defines: deletes the session, or drops this request's changes."""
        context = current()
        dropped = context.tracker.snapshot("unset")
        context.session.unset()
        context.tracker.drop(dropped)

    def save(self) -> None:
        """Commits the changes made so far now, and waits for the store. It is seldom needed: see `wit/session.wit`."""
        context = current()
        context.tell_changes()
        context.session.save()

    def reload(self) -> None:
        """Drops the changes that are not committed and reads the session again."""
        context = current()
        dropped = context.tracker.snapshot("reload")
        context.session.reload()
        context.tracker.drop(dropped)

    def touch(self) -> None:
        """Starts the session's lifetime again. The host does this on every request that uses the session."""
        current().session.touch()

    @property
    def cookie(self) -> CookieAttributes:
        """The attributes of the session's cookie. They do not include its value."""
        return current().session.cookie()

    @property
    def max_age(self) -> timedelta | None:
        """The lifetime that each use of the session starts again; None means until the browser is closed.

        Setting it changes the lifetime of this session only: `session.max_age = timedelta(days=30)` is "remember me".
        """
        milliseconds = self.cookie.original_max_age
        return None if milliseconds is None else timedelta(milliseconds=milliseconds)

    @max_age.setter
    def max_age(self, lifetime: timedelta | None) -> None:
        if lifetime is not None and not isinstance(lifetime, timedelta):
            raise TypeError(f"session.max_age is a timedelta or None, not {lifetime!r}: say timedelta(days=30)")
        current().session.set_max_age(None if lifetime is None else lifetime // timedelta(milliseconds=1))


def _checked(key: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a key of the session is a text, not {key!r}")
    if not key.isascii():
        try:
            key.encode()
        except UnicodeEncodeError:
            raise Invalid(f"{place(key)}: half of a surrogate pair is not a text") from None
    return key


def _int64(delta: int) -> int:
    if not -(2**63) <= delta < 2**63:
        raise ValueError(f"{delta} does not fit in 64 bits")
    return delta


session = Session()
