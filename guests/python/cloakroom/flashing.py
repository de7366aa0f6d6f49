"""Messages for the next page: kept in the session until they are shown.

They are kept as Express's connect-flash keeps them, `{"message": ["Saved."]}` under the key `flash`, so an Express app
on the same session shows them too, and the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .host import current
from .sessions import session

_KEY = "flash"


def flash(message: str, category: str = "message") -> None:
    """Keeps a message for the next page that asks for messages."""
    messages = session.get(_KEY)
    if not isinstance(messages, dict):
        messages = session[_KEY] = {}
    texts = messages.get(category)
    if not isinstance(texts, list):
        texts = messages[category] = []
    texts.append(message)


def get_flashed_messages() -> list[str]:
    """The messages that were kept, which are then gone. Asking again within one request gives them again."""
    return [message for _, message in get_flashed_messages_with_categories()]


def get_flashed_messages_with_categories() -> list[tuple[str, str]]:
    """The same as pairs of category and message, category by category."""
    context = current()
    if context.flashed is None:
        messages = session.get(_KEY)
        if messages and isinstance(messages, dict):
            session.discard(_KEY)
        context.flashed = list(_pairs(messages))
    return list(context.flashed)


def _pairs(messages: Any) -> Iterator[tuple[str, str]]:
    """The messages by category. Other programs write into the session too: what is no dict of lists counts as no messages."""
    if isinstance(messages, dict):
        for category, texts in messages.items():
            if isinstance(texts, list):
                yield from ((category, text) for text in texts)
