"""Responses that are sent piece by piece: a long text, and events for an `EventSource`."""

import time
from collections.abc import Iterator

from cloakroom import App, Reply, Request, Response, session

app = App()


@app.get("/numbers/<int:count>")
def numbers(request: Request, count: int) -> Reply:
    # Only one piece is in memory at a time.
    return (f"{number}\n" for number in range(count))


@app.get("/ticks")
def ticks(request: Request) -> Reply:
    # Before the stream, because its first event commits the session.
    session["streams"] = session.get("streams", 0) + 1

    def events() -> Iterator[str]:
        for tick in range(3):
            yield f"data: {tick}\n\n"
            time.sleep(0.01)

    return Response(events(), content_type="text/event-stream")
