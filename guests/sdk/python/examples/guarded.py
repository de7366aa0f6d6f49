"""Error handlers for failures, and hooks that run around every handler."""

from cloakroom import App, HTTPError, Reply, Request, Response, SessionError, session

app = App()


class NoMoney(Exception):
    """A visitor spends more than the purse contains."""


@app.before_request
def guard(request: Request) -> Reply | None:
    return ("not yours", 403) if request.headers.get("x-team") == "red" else None


@app.after_request
def mark(request: Request, response: Response) -> None:
    response.headers["x-content-type-options"] = "nosniff"


@app.post("/guarded/spend/<int:amount>")
def spend(request: Request, amount: int) -> Reply:
    purse = session.get("purse", 10)
    if amount > purse:
        raise NoMoney(f"{purse} left")
    session["purse"] = purse - amount
    return {"left": purse - amount}


@app.post("/guarded/big")
def big(request: Request) -> Reply:
    session["big"] = "x" * 100_000
    return "stored"


@app.errorhandler(NoMoney)
def no_money(error: NoMoney) -> Reply:
    return {"error": str(error)}, 402


@app.errorhandler(SessionError)
def refused(error: SessionError) -> Reply:
    return {"error": error.code, "message": str(error)}, 507


@app.errorhandler(404)
def missing(error: HTTPError) -> Reply:
    return "<h1>Not here</h1>"
