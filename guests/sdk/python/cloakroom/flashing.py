"""Messages for the next page, stored in the session until a page shows them.

They have the format of Express's connect-flash, `{"message": ["Saved."]}` under the key `flash`. An Express app on the same
session shows the messages of this package, and this package shows those of Express.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .host import current
from .sessions import session

_KEY = "flash"


def flash(message: str, category: str = "message") -> None:
    """Stores a message for the next page that shows messages."""
    messages = session.get(_KEY)
    if not isinstance(messages, dict):
        messages = session[_KEY] = {}
    texts = messages.get(category)
    if not isinstance(texts, list):
        texts = messages[category] = []
    texts.append(message)


def get_flashed_messages() -> list[str]:
    """Removes the stored messages from the session and returns them. A second call in the same request returns them again."""
    return [message for _, message in get_flashed_messages_with_categories()]


def get_flashed_messages_with_categories() -> list[tuple[str, str]]:
    """Does the same, but returns pairs of category and message, category by category."""
    context = current()
    if context.flashed is None:
        messages = session.get(_KEY)
        if messages and isinstance(messages, dict):
            session.discard(_KEY)
        context.flashed = list(_pairs(messages))
    return list(context.flashed)


def _pairs(messages: Any) -> Iterator[tuple[str, str]]:
    """Yields the messages by category. Other programs write into the session too, so a value that is not a dict of lists
    counts as no messages."""
    if isinstance(messages, dict):
        for category, texts in messages.items():
            if isinstance(texts, list):
                yield from ((category, text) for text in texts)
