"""Cookies of the application: plain cookies, signed cookies that cannot be forged, and JSON values."""

from datetime import timedelta

from cloakroom import App, Reply, Request, Response

app = App()


@app.get("/preferences")
def show(request: Request) -> Reply:
    return {
        "theme": request.cookies.get("theme", "light"),
        # A forged cookie is not included.
        "plan": request.signed_cookies.get("plan", "free"),
        "columns": request.cookies.get("columns", []),
    }


@app.post("/preferences/<theme>")
def choose(request: Request, theme: str) -> Reply:
    response = Response("chosen")
    response.set_cookie("theme", theme, max_age=timedelta(days=365), samesite="Lax")
    response.set_cookie("plan", "gold", signed=True, httponly=True)
    response.set_cookie("columns", ["name", "price"])
    return response


@app.delete("/preferences")
def forget(request: Request) -> Reply:
    response = Response(status=204)
    for name in ("theme", "plan", "columns"):
        response.delete_cookie(name)
    return response
