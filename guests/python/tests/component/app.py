"""The guest of the end-to-end tests (tests/e2e/python.rs): the examples, and routes that no example should show."""

import json
import random
import secrets
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import cart
import guarded
import login
import preferences
import stream
import upload

from cloakroom import App, Reply, Request, Response, SessionError, get_flashed_messages, session
from cloakroom.values import parse, write

app = App()
for part in (cart, guarded, login, preferences, stream, upload):
    app.include(part.app)

kept: list[Any] = []


@app.get("/seen")
def seen(request: Request) -> Reply:
    """Returns the whole session."""
    return dict(session)


@app.put("/seen/<key>")
def put(request: Request, key: str) -> Reply:
    """Stores the body, a JSON text, with integers longer than those that `request.json()` accepts from visitors."""
    text = request.text
    if not text.isdecimal():
        request.json()
    session[key] = parse(text, key)
    return "stored"


@app.post("/big/<key>")
def grow(request: Request, key: str) -> Reply:
    """Reads an integer, adds one in Python and stores it."""
    session[key] += 1
    return str(len(write(session[key], key)))


@app.post("/late")
def late(request: Request) -> Reply:
    """Changes a list in place after the response has been released."""
    items: list[int] = session.setdefault("items", [])

    def pieces() -> Iterator[str]:
        yield "x" * 100_000
        items.append(1)
        yield "the change was taken"

    return pieces()


@app.post("/early")
def early(request: Request) -> Reply:
    """Changes a list in place between the pieces of a response that is held back until its end."""
    items: list[int] = session.setdefault("items", [])

    def pieces() -> Iterator[str]:
        yield "a"
        items.append(1)
        yield "b"
        items.append(2)

    return pieces()


@app.post("/dropped/<how>")
def dropped(request: Request, how: str) -> Reply:
    """Changes a value that the session has dropped."""
    value = session.setdefault("value", {"list": []})
    getattr(session, how)()
    value["list"].append(1)
    return "the change was taken"


@app.post("/lives/<how>")
def lives(request: Request, how: str) -> Reply:
    """Returns the entries before and after, and the name of the session."""
    before, name = sorted(session), session.fingerprint()
    session["more"] = {"n": 1}
    session["more"]["n"] += 1
    getattr(session, how)()
    return {"before": before, "after": dict(session), "same": session.fingerprint() == name}


@app.get("/attributes")
def attributes(request: Request) -> Reply:
    """The attributes of the session's cookie."""
    return vars(session.cookie)


@app.post("/fail")
def fail(request: Request) -> Reply:
    """Changes the session, then fails."""
    session["failed"] = True
    raise LookupError("a reason for the log alone")


@app.post("/refused")
def refused(request: Request) -> Reply:
    """Returns the codes of the host's refusals."""
    codes = []
    attempts: list[Callable[[], None]] = [
        lambda: session.__setitem__("cookie", 1),
        lambda: session.__setitem__("big", "x" * 70_000),
        lambda: session.add("text"),
        lambda: session.__setitem__("k" * 300, 1),
    ]
    for attempt in attempts:
        session["text"] = "no number"
        try:
            attempt()
        except SessionError as error:
            codes.append(f"{type(error).__name__} {error.code}")
    session.destroy()
    try:
        session["x"] = 1
    except SessionError as error:
        codes.append(error.code)
    return codes


@app.get("/globals")
def module_state(request: Request) -> Reply:
    """Returns the number of requests that this instance has served, and the state that the package has for them."""
    kept.append(len(kept))
    session.setdefault("mine", []).append(request.args["who"])
    return {"requests": len(kept), "mine": session["mine"], "flashed": get_flashed_messages()}


@app.post("/echo")
def echo(request: Request) -> Reply:
    """Returns the received request as JSON."""
    if request.args.get("when"):
        return str(datetime.strptime(request.args["when"], "%Y-%m-%d").date()) + request.text
    return {"method": request.method, "args": request.args.getlist("a"), "form": request.form.getlist("f"), "length": len(request.body)}


@app.get("/slow")
def slow(request: Request) -> Reply:
    """Reads and writes with a pause in between, so that parallel requests conflict."""
    count = session.get("num", 0)
    time.sleep(0.05)
    session["num"] = count + 1
    return str(count + 1)


@app.get("/bad-header")
def bad_header(request: Request) -> Reply:
    """Sets a header that the host accepts from no guest."""
    return Response("x", headers={"transfer-encoding": "chunked"})


@app.get("/random")
def chance(request: Request) -> Reply:
    """Returns values that must differ between instances."""
    return [random.random(), secrets.token_hex(16), str(uuid.uuid4())]


@app.get("/prints")
def prints(request: Request) -> Reply:
    """Writes lines to the log."""
    print("printed by python")
    print("warned by python", file=sys.stderr)
    return json.dumps(sys.version_info[:2])
