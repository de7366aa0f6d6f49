"""JSON texts of session entries and cookies, and Python values, without loss. Knows nothing of sessions.

Integers of any size stay exact. What JSON cannot hold is refused with a word about where it stood, never changed into
something else: NaN and the infinities, keys that are no texts, objects.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text} is too large for a float")
    return number


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


_LEVELS_MAX = 128
"""As many as the host takes in a session."""

_NO_BRACKETS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*\\?(?:"|\Z)|[^\[\]{}"]+', re.DOTALL)
"""What is no bracket, or stands in a text. A text without an end goes to the end, so that nothing is looked at twice."""

_encode_short = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_encode_ascii = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode
_decode = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse_constant).decode


def parse(text: str, where: str) -> Any:
    """The value of a JSON text.

    Raises ValueError, naming `where`, for a number with a fraction or an exponent that no float can hold, and for
    more than 128 levels.
    """
    try:
        refuse_depth(text)
        return _decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} holds no JSON: {error}") from None
    except ValueError as error:
        if "digits" not in str(error):
            raise ValueError(f"{where}: {error}") from None
    return _with_long_integers(lambda: _decode(text))


def parse_strange(text: str) -> Any:
    """The value of a JSON text that a visitor sent. Raises ValueError for one that is none, and for one that would cost too much:
    more than 128 levels, or an integer of more than 4,300 digits."""
    refuse_depth(text)
    return _decode(text)


def json_body(value: Any) -> bytes:
    """A value as the body of a response. Raises TypeError or ValueError for what JSON cannot hold."""
    return _encoded(value).encode()


def refuse_depth(text: str) -> None:
    """Raises ValueError for a JSON text of more levels than the parser can follow: in a component its stack would end,
    and the instance with it."""
    if text.count("[") + text.count("{") <= _LEVELS_MAX:
        return
    brackets = _NO_BRACKETS.sub("", text)
    # Each round takes the innermost level away. What has no partner stays, and is no JSON.
    for _ in range(_LEVELS_MAX):
        shorter = brackets.replace("[]", "").replace("{}", "")
        if len(shorter) == len(brackets):
            is_too_deep = len(brackets) > _LEVELS_MAX
            break
        brackets = shorter
    else:
        is_too_deep = bool(brackets)
    if is_too_deep:
        raise ValueError(f"more than {_LEVELS_MAX} levels of lists and dicts")


def write(value: Any, where: str) -> str:
    """The JSON text of a value, as short as `JSON.stringify` makes it.

    Raises TypeError or ValueError, naming `where`, for what JSON cannot hold.
    """
    try:
        text = _encoded(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise type(error)(f"{where}: {error}") from None
    _refuse_other_keys(value, where)
    return text


def _encoded(value: Any) -> str:
    try:
        text = _encode_short(value)
    except ValueError as error:
        if "digits" not in str(error):
            raise
        text = _with_long_integers(lambda: _encode_short(value))
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            # Half of a surrogate pair, which only an escape can hold.
            text = _with_long_integers(lambda: _encode_ascii(value))
    return text


def _with_long_integers(work: Callable[[], T]) -> T:
    """Python refuses integers of more than 4,300 digits, against slow conversions. A session's size is limited."""
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return work()
    finally:
        sys.set_int_max_str_digits(limit)


def _refuse_other_keys(value: Any, where: str) -> None:
    """The encoder would write the key 1 as "1", and the value that is read back would be another one."""
    pending = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            for key in part:
                if not isinstance(key, str):
                    raise TypeError(f"{where}: a key of a dict is {key!r}; JSON has only texts for keys")
            pending.extend(part.values())
        elif isinstance(part, (list, tuple)):
            pending.extend(part)
