"""Converts between JSON texts of session entries and cookies, and Python values, without loss. Independent of sessions.

Integers of any size stay exact. Values that JSON cannot hold are never changed into other values: NaN, the infinities, keys
that are not texts, and objects are refused with an error that names their place.
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
    raise ValueError(f"{word} is not JSON")


_LEVELS_MAX = 128
"""The maximum depth that the host accepts in a session."""

_NO_BRACKETS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*\\?(?:"|\Z)|[^\[\]{}"]+', re.DOTALL)
"""Matches texts and everything else that is not a bracket. An unterminated text extends to the end, so no part is scanned twice."""

_encode_short = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_encode_ascii = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode
_decode = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse_constant).decode


def parse(text: str, where: str) -> Any:
    """Parses a JSON text.

    Raises ValueError, naming `where`, for a number with a fraction or an exponent that no float can hold, and for more than
    128 levels.
    """
    try:
        refuse_depth(text)
        return _decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not JSON: {error}") from None
    except ValueError as error:
        if "digits" not in str(error):
            raise ValueError(f"{where}: {error}") from None
    return _with_long_integers(lambda: _decode(text))


def parse_strange(text: str) -> Any:
    """Parses a JSON text that a visitor has sent. Raises ValueError if it is not JSON, and if it would cost too much: more
    than 128 levels, or an integer of more than 4,300 digits."""
    refuse_depth(text)
    return _decode(text)


def json_body(value: Any) -> bytes:
    """Returns a value as the body of a response. Raises TypeError or ValueError for a value that JSON cannot hold."""
    return _encoded(value).encode()


def refuse_depth(text: str) -> None:
    """Raises ValueError for a JSON text with more levels than the parser can follow. Parsing it would overflow the stack of
    a component and terminate the instance."""
    if text.count("[") + text.count("{") <= _LEVELS_MAX:
        return
    brackets = _NO_BRACKETS.sub("", text)
    # Each round removes the innermost level. Brackets without a partner remain: the text is then not JSON.
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
    """Returns the JSON text of a value, as short as the text of `JSON.stringify`.

    Raises TypeError or ValueError, naming `where`, for a value that JSON cannot hold.
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
            # The value contains half of a surrogate pair, which only an escape can express.
            text = _with_long_integers(lambda: _encode_ascii(value))
    return text


def _with_long_integers(work: Callable[[], T]) -> T:
    """Allows integers of more than 4,300 digits, which Python refuses because their conversion is slow. The session's size
    limits the cost."""
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return work()
    finally:
        sys.set_int_max_str_digits(limit)


def _refuse_other_keys(value: Any, where: str) -> None:
    """Refuses keys that are not texts. The encoder would write the key 1 as "1", so the value that is read back would differ."""
    pending = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            for key in part:
                if not isinstance(key, str):
                    raise TypeError(f"{where}: a key of a dict is {key!r}; in JSON, all keys are texts")
            pending.extend(part.values())
        elif isinstance(part, (list, tuple)):
            pending.extend(part)
