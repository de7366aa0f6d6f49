"""The counter: counts the visits of each visitor, and can start the count again."""

from cloakroom import App, Reply, Request, redirect, session

app = App()


@app.get("/session")
def count(request: Request) -> Reply:
    session["num"] = session.get("num", 0) + 1
    return f"{session['num']}번 접속"


@app.get("/session/delete")
def delete(request: Request) -> Reply:
    session.destroy()
    return redirect("/session")


@app.get("/")
def home(request: Request) -> Reply:
    return redirect("/session")
