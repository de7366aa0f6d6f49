"""Parses the bodies of HTML forms: `application/x-www-form-urlencoded` and `multipart/form-data`.

Multipart is parsed as browsers write it (the HTML standard, section 4.10.21.8). The mail parser of the standard library is
not suitable: it expects names quoted with backslashes, and reads large files line by line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

from .errors import HTTPError
from .fields import MultiDict

_PARTS_MAX = 1000
"""Maximum number of fields of one form, as in Werkzeug: a body with many tiny parts costs more than its bytes."""

_PARAMETER = re.compile(r';\s*([\w!#$%&\'*+.^`|~-]+)\s*=\s*(?:"([^"]*)"|([^\s";]*))')


@dataclass(frozen=True)
class UploadedFile:
    """An uploaded file of a form."""

    filename: str
    content_type: str
    data: bytes

    def __repr__(self) -> str:
        return f"<UploadedFile of {len(self.data)} bytes>"


@dataclass(frozen=True)
class Form:
    """The fields and files of a form."""

    fields: MultiDict
    files: dict[str, list[UploadedFile]]


def parameter(header: str, name: str) -> str | None:
    """Returns a parameter of a header field: `charset` in `text/html; charset=utf-8`."""
    for found, quoted, plain in _PARAMETER.findall(header):
        if found.lower() == name:
            return str(quoted or plain)
    return None


def parse_form(content_type: str, body: bytes) -> Form:
    """Parses a form. Returns an empty form if the type is not a form's. Raises HTTPError 400 for a body that does not match its type."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "application/x-www-form-urlencoded":
        return Form(parse_pairs(body.decode("utf-8", "replace")), {})
    if media_type == "multipart/form-data":
        boundary = parameter(content_type, "boundary")
        if not boundary:
            raise HTTPError(400, "the form has no boundary")
        return _multipart(boundary.encode(), body)
    return Form(MultiDict(), {})


def parse_pairs(text: str) -> MultiDict:
    """Parses a query or a form such as `a=1&b=2`. Raises HTTPError 400 for too many fields."""
    try:
        return MultiDict(parse_qsl(text, keep_blank_values=True, max_num_fields=_PARTS_MAX))
    except ValueError:
        raise HTTPError(400, f"more than {_PARTS_MAX} fields") from None


def _multipart(boundary: bytes, body: bytes) -> Form:
    # The delimiter in the first line has no line end before it.
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary, _PARTS_MAX + 1)
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise HTTPError(400, f"the form does not end with its boundary, or has more than {_PARTS_MAX} fields")
    fields: list[tuple[str, str]] = []
    files: dict[str, list[UploadedFile]] = {}
    for piece in pieces[1:-1]:
        head, separator, data = piece.partition(b"\r\n\r\n")
        headers = _part_headers(head)
        disposition = headers.get("content-disposition", "")
        name = parameter(disposition, "name")
        if not separator or name is None:
            raise HTTPError(400, "a part of the form has no name")
        filename = parameter(disposition, "filename")
        if filename is None:
            fields.append((_unescaped(name), data.decode("utf-8", "replace")))
        else:
            kind = headers.get("content-type", "application/octet-stream")
            files.setdefault(_unescaped(name), []).append(UploadedFile(_unescaped(filename), kind, data))
    return Form(MultiDict(fields), files)


def _part_headers(head: bytes) -> dict[str, str]:
    lines = head.decode("utf-8", "replace").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _unescaped(text: str) -> str:
    """Reverts the only three escapes that browsers write in names."""
    return text.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")
