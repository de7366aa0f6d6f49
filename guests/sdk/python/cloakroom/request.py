"""The request that handlers receive. Parts that cost a call to the host are read on first use."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import unquote

from .cookies import by_name
from .errors import HTTPError
from .fields import MultiDict, RequestHeaders
from .forms import Form, UploadedFile, parse_form, parse_pairs, parameter
from .host import current
from .values import parse_strange


# A codec is a module that is imported on first use. A running component cannot import modules.
for _charset in ("iso-8859-1", "windows-1252", "utf-16", "utf-8-sig", "euc-kr", "cp949", "shift_jis", "gb18030", "big5"):
    codecs.lookup(_charset)


class Source(Protocol):
    """The source of the headers and the body of a request."""

    def headers(self) -> list[tuple[str, bytes]]: ...
    def body(self) -> bytes: ...


class Request:
    """A request. Its parts are read-only."""

    def __init__(self, method: str, target: str, source: Source) -> None:
        self.method: str = method
        self._source = source
        self.raw_path, _, self.query_string = target.partition("?")

    def __repr__(self) -> str:
        # A path can contain private data, which must not be logged.
        return f"<Request {self.method}>"

    @cached_property
    def path(self) -> str:
        """The path, percent-decoded: `/사용자`."""
        return unquote(self.raw_path)

    @cached_property
    def args(self) -> MultiDict:
        """The arguments of the query, decoded."""
        return parse_pairs(self.query_string)

    @cached_property
    def headers(self) -> RequestHeaders:
        """The header fields, without the session's cookie."""
        return RequestHeaders((name, value.decode("latin-1")) for name, value in self._source.headers())

    @cached_property
    def cookies(self) -> Mapping[str, Any]:
        """The cookies that are not signed, without the session's cookie: texts, or values if a cookie was sent as JSON."""
        return by_name(current().cookies.all(), signed=False)

    @cached_property
    def signed_cookies(self) -> Mapping[str, Any]:
        """The cookies that this host has signed. Forged cookies are not included."""
        return by_name(current().cookies.all(), signed=True)

    @cached_property
    def body(self) -> bytes:
        """The whole body."""
        return self._source.body()

    @cached_property
    def text(self) -> str:
        """The body as text, in the charset that `content-type` names (of a few), or else in UTF-8. Raises HTTPError 400 if
        it is not a text in this charset."""
        charset = parameter(self.content_type, "charset") or "utf-8"
        try:
            return self.body.decode(charset)
        except (LookupError, ValueError):
            raise HTTPError(400, f"the body is not a {charset} text") from None

    @property
    def content_type(self) -> str:
        """The header `content-type`, or an empty text."""
        return self.headers.get("content-type", "")

    def json(self) -> Any:
        """Parses the body as JSON, whatever its `content-type` is. Raises HTTPError 400 if it is not JSON."""
        try:
            return parse_strange(self.body.decode().removeprefix("\ufeff"))
        except ValueError as error:
            raise HTTPError(400, f"the body is not JSON: {error}") from None

    @cached_property
    def _form(self) -> Form:
        return parse_form(self.content_type, self.body)

    @property
    def form(self) -> MultiDict:
        """The fields of a form, urlencoded or multipart. Raises HTTPError 400 for a broken form."""
        return self._form.fields

    @property
    def files(self) -> Mapping[str, UploadedFile]:
        """The files of a multipart form, the first one of each name."""
        return {name: files[0] for name, files in self._form.files.items()}

    def getfiles(self, name: str) -> list[UploadedFile]:
        """Returns all files of this name, in their order."""
        return list(self._form.files.get(name, ()))
