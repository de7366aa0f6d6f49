"""A cart as JSON: nested values, parameters in paths, counters."""

from typing import Any

from cloakroom import App, Reply, Request, abort, session

app = App()


@app.get("/cart")
def show(request: Request) -> Reply:
    cart: dict[str, Any] = session.get("cart", {"items": []})
    return cart


@app.post("/cart/<item>")
def add(request: Request, item: str) -> Reply:
    cart: dict[str, Any] = session.setdefault("cart", {"items": []})
    # Changed in place, and stored like any other change.
    cart["items"].append({"item": item, "price": request.json()["price"]})
    # The counter is not read here, so parallel requests do not conflict over it.
    session.add("items_added")
    return cart, 201


@app.delete("/cart/<int:index>")
def remove(request: Request, index: int) -> Reply:
    items: list[Any] = session.get("cart", {}).get("items", [])
    if index >= len(items):
        abort(404, "there is no such item")
    del items[index]
    return {"items": items}
