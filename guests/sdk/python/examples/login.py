"""A login: a form, a new session id when privileges change, "remember me", messages for the next page, and the logout."""

import hmac
from datetime import timedelta
from html import escape

from cloakroom import App, Reply, Request, flash, get_flashed_messages, redirect, session

app = App()

PASSWORDS = {"ada": "lovelace"}


@app.get("/login")
def form(request: Request) -> Reply:
    messages = "".join(f"<p>{escape(message)}</p>" for message in get_flashed_messages())
    return messages + (
        '<form method="post"><input name="user"><input name="password" type="password">'
        '<label><input name="remember" type="checkbox">remember me</label><button>log in</button></form>'
    )


@app.post("/login")
def login(request: Request) -> Reply:
    user, password = request.form.get("user", ""), request.form.get("password", "")
    if not hmac.compare_digest(PASSWORDS.get(user, "").encode(), password.encode()) or user not in PASSWORDS:
        flash("That is not right.")
        return redirect("/login", 303)
    # An id that an attacker planted before the login is worthless after it.
    session.renew()
    session["user"] = user
    if "remember" in request.form:
        session.max_age = timedelta(days=30)
    return redirect("/account", 303)


@app.get("/account")
def account(request: Request) -> Reply:
    if "user" not in session:
        flash("Log in first.")
        return redirect("/login", 303)
    return f"<h1>{escape(session['user'])}</h1>"


@app.post("/logout")
def logout(request: Request) -> Reply:
    session.destroy()
    return redirect("/login", 303)
