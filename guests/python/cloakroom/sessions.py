"""The visitor's session as a mapping. The host keeps it, finds it and commits it; here is only its Python face.

What counts as a read, when changes are stored, and why a handler may run more than once: `wit/session.wit` says it.
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
    """The session of the visitor whose request is being handled. There is one for all: `cloakroom.session`.

    Values are what JSON can hold. A list or a dict may be changed in place (`session["cart"].append(3)`): the change
    is stored like any other, and one that comes too late to be stored raises an error.
    """

    def __getitem__(self, key: str) -> Any:
        """The value of an entry. Reads this entry alone, unless the handler already has it."""
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
        """Writes an entry. Raises TypeError or ValueError for what JSON cannot hold."""
        context = current()
        text = write(value, place(_checked(key)))
        context.session.set(key, text)
        context.tracker.keep(key, value, text)

    def __delitem__(self, key: str) -> None:
        """Removes an entry. Raises KeyError if there is none, so it reads it first; `discard` does not."""
        if key not in self:
            raise KeyError(key)
        self.discard(key)

    def discard(self, key: str) -> None:
        """Removes an entry if there is one, without reading it."""
        context = current()
        context.session.delete(_checked(key))
        context.tracker.forget(key)

    def __contains__(self, key: object) -> bool:
        """Whether there is such an entry. Reads this entry alone."""
        return isinstance(key, str) and current().session.get(_checked(key)) is not None

    def __iter__(self) -> Iterator[str]:
        """The keys, in the session's order. Counts as a read of every key."""
        return iter(current().session.list_keys())

    def __len__(self) -> int:
        """How many entries there are. Counts as a read of every key."""
        return len(current().session.list_keys())

    def __repr__(self) -> str:
        # Session data belongs in no log.
        return "<the visitor's session>"

    def clear(self) -> None:
        """Removes all entries, without reading them. The session itself, its id and its cookie stay."""
        context = current()
        context.session.clear()
        context.tracker.forget_all()

    def add(self, key: str, delta: int = 1) -> None:
        """Adds to an integer (64 bits; an absent entry counts as 0) without reading it.

        The best choice for a counter that is only shown elsewhere: it never causes another run.
        """
        current().session.add(_checked(key), _int64(delta))

    def increment(self, key: str, delta: int = 1) -> int:
        """Adds to an integer (64 bits; an absent entry counts as 0) and returns the sum."""
        return current().session.increment(_checked(key), _int64(delta))

    def fingerprint(self) -> str | None:
        """A stable name for this session that is worthless as a credential; None before the session has an id."""
        return current().session.fingerprint()

    def renew(self) -> None:
        """Gives the session a new id and keeps its entries. Call it when privileges change, first of all at login."""
        current().session.renew()

    def regenerate(self) -> None:
        """Gives the session a new id and drops its entries."""
        context = current()
        dropped = context.tracker.snapshot("regenerate")
        context.session.regenerate()
        context.tracker.drop(dropped)

    def destroy(self) -> None:
        """Deletes the session and has the browser drop its cookie: the logout."""
        context = current()
        dropped = context.tracker.snapshot("destroy")
        context.session.destroy()
        context.tracker.drop(dropped)

    def unset(self) -> None:
        """Does what the host's option `unset` says: deletes the session, or drops this request's changes."""
        context = current()
        dropped = context.tracker.snapshot("unset")
        context.session.unset()
        context.tracker.drop(dropped)

    def save(self) -> None:
        """Commits the changes made so far now, and waits for the store. Seldom needed: see `wit/session.wit`."""
        context = current()
        context.tell_changes()
        context.session.save()

    def reload(self) -> None:
        """Forgets the changes that are not committed and reads the session again."""
        context = current()
        dropped = context.tracker.snapshot("reload")
        context.session.reload()
        context.tracker.drop(dropped)

    def touch(self) -> None:
        """Starts the session's lifetime afresh. The host does so by itself on every visit."""
        current().session.touch()

    @property
    def cookie(self) -> CookieAttributes:
        """The attributes of the session's cookie. Its value is never shown."""
        return current().session.cookie()

    @property
    def max_age(self) -> timedelta | None:
        """The lifetime that each use of the session starts afresh; None: until the browser is closed.

        Setting it gives this session a lifetime of its own: `session.max_age = timedelta(days=30)` is "remember me".
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
            raise Invalid(f"{place(key)}: half of a surrogate pair is no text") from None
    return key


def _int64(delta: int) -> int:
    if not -(2**63) <= delta < 2**63:
        raise ValueError(f"{delta} does not fit in 64 bits")
    return delta


session = Session()
