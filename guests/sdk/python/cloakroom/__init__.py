"""Route handlers for the Cloakroom host in Python, with access to the visitor's session.

    from cloakroom import App, session

    app = App()

    @app.get("/session")
    def count(request):
        session["num"] = session.get("num", 0) + 1
        return f"{session['num']}번 접속"

`python -m cloakroom.build app.py -o build/app.wasm` makes the component. The manual is README.md next to this folder.
"""

from .app import App
from .cookies import Priority, SameSite
from .errors import Committed, CookieError, Denied, HTTPError, Invalid, SessionError, TooLarge, Unavailable
from .fields import MultiDict, RequestHeaders, ResponseHeaders
from .flashing import flash, get_flashed_messages, get_flashed_messages_with_categories
from .forms import UploadedFile
from .host import CookieAttributes
from .request import Request
from .response import Reply, Response, abort, redirect
from .sessions import Session, session

__all__ = [
    "App",
    "Committed",
    "CookieAttributes",
    "CookieError",
    "Denied",
    "HTTPError",
    "Invalid",
    "MultiDict",
    "Priority",
    "Reply",
    "Request",
    "RequestHeaders",
    "Response",
    "ResponseHeaders",
    "SameSite",
    "Session",
    "SessionError",
    "TooLarge",
    "Unavailable",
    "UploadedFile",
    "abort",
    "flash",
    "get_flashed_messages",
    "get_flashed_messages_with_categories",
    "redirect",
    "session",
]
