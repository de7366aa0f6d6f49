"""Messages for the next page: kept in the session until they are shown.

They are kept as Express's connect-flash keeps them, `{"message": ["Saved."]}` under the key `flash`, so an Express app
on the same session shows them too, and the other way round.
"""

from __future__ import annotations

from .host import current
from .sessions import session

_KEY = "flash"


def flash(message: str, category: str = "message") -> None:
    """Keeps a message for the next page that asks for messages."""
    messages = session.setdefault(_KEY, {})
    messages.setdefault(category, []).append(message)


def get_flashed_messages() -> list[str]:
    """The messages that were kept, which are then gone. Asking again within one request gives them again."""
    return [message for _, message in get_flashed_messages_with_categories()]


def get_flashed_messages_with_categories() -> list[tuple[str, str]]:
    """The same as pairs of category and message, category by category."""
    context = current()
    if context.flashed is None:
        messages = session.get(_KEY, {})
        if messages:
            session.discard(_KEY)
        context.flashed = [(category, text) for category, texts in messages.items() for text in texts]
    return list(context.flashed)
