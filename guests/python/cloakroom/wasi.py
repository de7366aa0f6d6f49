"""The package on its host: WASI 0.2 and the interfaces of `cloakroom:http`. Only this module imports `wit_world`, which exists
only inside a component.

`cloakroom.build` creates the module that a component starts from. Written by hand, it is:

    from cloakroom.wasi import handler
    from app import app
    IncomingHandler = handler(app)
"""

from __future__ import annotations

import gc
import importlib
import io
import linecache
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

from componentize_py_types import Err, Ok
from wit_world.imports import cloakroom_http_types as types
from wit_world.imports import cookies, session, streams
from wit_world.imports.wasi_http_types import (
    Fields,
    IncomingBody,
    IncomingRequest,
    Method_Other,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)

from . import errors
from .app import App
from .cookies import Cookie, CookieOptions
from .host import Context, CookieAttributes
from .rehearsal import rehearse
from .request import Request
from .response import Response, utf8

# `datetime.strptime` imports this module on first use. A running component cannot import modules.
importlib.import_module("_strptime")

P = ParamSpec("P")
R = TypeVar("R")

_READ_BYTES_MAX = 64 * 1024
_WRITE_AT_ONCE_BYTES_MAX = 4096
"""Maximum number of bytes in one `blocking-write-and-flush`."""

_OWN_FOLDER = os.path.dirname(__file__)

_WITHOUT_BODY = (204, 304)


def handler(app: App) -> type:
    """Returns the class that componentize-py exports as the component's `wasi:http/incoming-handler`."""

    class IncomingHandler:
        def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
            try:
                _serve(app, request, response_out)
            except BaseException as error:
                _fail(error)

    _keep_sources()
    # Output of a handler is logged at once, even if its instance ends.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
    rehearse()
    # The objects made so far are permanent: no collection needs to scan them, which would write to their memory again.
    gc.freeze()
    return IncomingHandler


def _keep_sources() -> None:
    """Keeps the source lines of the application's modules for tracebacks, because a running component has no files."""
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None) or ""
        # The build puts the application's own folder first.
        if file.startswith("/0/"):
            lines = linecache.getlines(file)
            linecache.cache[file] = (sum(map(len, lines)), None, lines, file)


def _fail(error: BaseException) -> None:
    """Ends the instance. The host responds with a bare 500 and stores nothing. A response that is being sent is cut off."""
    trace = error.__traceback__
    # Frames of this package before the handler's own frames are not useful.
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OWN_FOLDER):
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace, file=sys.stderr)
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(1)


def _serve(app: App, incoming: IncomingRequest, out: ResponseOutparam) -> None:
    with Context(_SessionHost(), _CookieHost()) as context:
        request = Request(_method(incoming), incoming.path_with_query() or "/", _Source(incoming))
        _send(app.respond(request), out, context)


def _send(response: Response, out: ResponseOutparam, context: Context) -> None:
    outgoing = OutgoingResponse(_fields(response))
    try:
        outgoing.set_status_code(response.status)
    except Err:
        raise ValueError(f"{response.status} is not a status") from None
    body = outgoing.body()
    ResponseOutparam.set(out, Ok(outgoing))
    with body.write() as stream:
        if isinstance(response.body, bytes):
            _write(stream, response.body)
        else:
            _write_pieces(stream, response.body, context)
    OutgoingBody.finish(body, None)


def _write_pieces(stream: streams.OutputStream, pieces: Iterable[str | bytes], context: Context) -> None:
    for piece in pieces:
        # Before the piece is sent, because it may commit the session.
        context.tell_changes()
        if not _write(stream, utf8(piece) if isinstance(piece, str) else piece):
            close = getattr(pieces, "close", None)
            if close is not None:
                close()
            break
    context.tell_changes()


def _write(stream: streams.OutputStream, data: bytes) -> bool:
    """Writes all data. Returns False if the client has disconnected."""
    try:
        if len(data) <= _WRITE_AT_ONCE_BYTES_MAX:
            stream.blocking_write_and_flush(data)
            return True
        rest = memoryview(data)
        while rest:
            ready = stream.check_write()
            if ready == 0:
                with stream.subscribe() as writable:
                    writable.block()
                continue
            stream.write(bytes(rest[:ready]))
            rest = rest[ready:]
        stream.blocking_flush()
    except Err:
        return False
    return True


def _fields(response: Response) -> Fields:
    pairs = [(name, value.encode("latin-1")) for name, value in response.headers]
    body = response.body
    if isinstance(body, bytes) and response.status not in _WITHOUT_BODY and "content-length" not in response.headers:
        pairs.append(("content-length", str(len(body)).encode()))
    try:
        return Fields.from_list(pairs)
    except Err as refused:
        names = ", ".join(dict.fromkeys(name for name, _ in pairs))
        raise ValueError(f"the host refused a header of the response ({_kind(refused.value)}): {names}") from None


def _method(incoming: IncomingRequest) -> str:
    method = incoming.method()
    return method.value if isinstance(method, Method_Other) else _kind(method).upper()


def _kind(case: object) -> str:
    """Returns the name of a variant's case: `get` for `Method_Get`."""
    return type(case).__name__.rpartition("_")[2].lower()


class _Source:
    """The parts of a request that are read on first use."""

    def __init__(self, incoming: IncomingRequest) -> None:
        self._incoming = incoming

    def headers(self) -> list[tuple[str, bytes]]:
        with self._incoming.headers() as fields:
            return fields.entries()

    def body(self) -> bytes:
        pieces = []
        body = self._incoming.consume()
        with body.stream() as stream:
            try:
                while True:
                    pieces.append(stream.blocking_read(_READ_BYTES_MAX))
            except Err as end:
                if not isinstance(end.value, streams.StreamError_Closed):
                    raise OSError("the body of the request ended early, or is larger than allowed") from None
        IncomingBody.finish(body)
        return b"".join(pieces)


def _told(function: Callable[P, R]) -> Callable[P, R]:
    """Wraps a function of the host so that it raises this package's exceptions."""

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Err as refused:
            raise _error(refused.value) from None

    return call


def _error(error: object) -> errors.SessionError:
    match error:
        case session.Error_Denied(what):
            return errors.Denied(what)
        case session.Error_Invalid(what):
            return errors.Invalid(what)
        case session.Error_TooLarge(limit):
            return errors.TooLarge(limit)
        case session.Error_Committed():
            return errors.Committed()
        case session.Error_Unavailable(what):
            return errors.Unavailable(what)
    raise TypeError(f"the host refused for an unknown reason: {type(error).__name__}")


def _word(case: types.SameSite | types.Priority | None) -> str | None:
    return None if case is None else case.name.lower()


class _SessionHost:
    get = staticmethod(_told(session.get))
    set = staticmethod(_told(session.set))
    delete = staticmethod(_told(session.delete))
    list_keys = staticmethod(_told(session.list_keys))
    add = staticmethod(_told(session.add))
    increment = staticmethod(_told(session.increment))
    clear = staticmethod(_told(session.clear))
    fingerprint = staticmethod(_told(session.fingerprint))
    renew = staticmethod(_told(session.renew))
    regenerate = staticmethod(_told(session.regenerate))
    destroy = staticmethod(_told(session.destroy))
    save = staticmethod(_told(session.save))
    reload = staticmethod(_told(session.reload))
    touch = staticmethod(_told(session.touch))
    unset = staticmethod(_told(session.unset))
    set_max_age = staticmethod(_told(session.set_max_age))

    @staticmethod
    def cookie() -> CookieAttributes:
        told = _told(session.cookie)()
        return CookieAttributes(**{**vars(told), "same_site": _word(told.same_site), "priority": _word(told.priority)})


class _CookieHost:
    @staticmethod
    def all() -> list[Cookie]:
        return [
            Cookie(
                cookie.name,
                None if cookie.value is None else cookie.value.value,
                isinstance(cookie.value, cookies.Value_Json),
                cookie.signed,
            )
            for cookie in cookies.all()
        ]

    @staticmethod
    def serialize(cookie: Cookie, options: CookieOptions) -> str:
        value = cookies.Value_Json if cookie.is_json else cookies.Value_Text
        attributes = cookies.Attributes(
            max_age=options.max_age,
            expires=options.expires,
            domain=options.domain,
            path=options.path,
            http_only=options.httponly,
            secure=options.secure,
            partitioned=options.partitioned,
            priority=None if options.priority is None else types.Priority[options.priority.upper()],
            same_site=None if options.samesite is None else types.SameSite[options.samesite.upper()],
        )
        try:
            return cookies.serialize(cookie.name, value(cookie.text or ""), cookie.signed, attributes)
        except Err as refused:
            raise errors.CookieError(_kind(refused.value), refused.value.value) from None
