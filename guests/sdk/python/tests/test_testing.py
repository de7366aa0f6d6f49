"""Tests of the client for `cloakroom test` with a fake control interface and a fake host."""

import json
import os
import threading
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest import mock

from cloakroom.testing import ControlError, Host

NOW_MS = 1_700_000_000_000


class StandIn(BaseHTTPRequestHandler):
    """Records its requests. Answers the control calls, and, below /a, the requests of visitors."""

    protocol_version = "HTTP/1.1"
    asked: list[tuple[str, str, Any]] = []
    now_ms = NOW_MS

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        if self.path.startswith("/hosts"):
            body = json.loads(content or "null")
            StandIn.asked.append((self.command, self.path, body))
            self.control(body)
        else:
            self.visit(content)

    do_GET = do_PUT = do_DELETE = do_POST

    def control(self, body: Any) -> None:
        if self.path == "/hosts":
            self.answer(201, {"host": 1, "url": f"http://{self.headers['host']}"})
        elif self.path == "/hosts/1/clock":
            StandIn.now_ms += (body or {}).get("advance_ms", 0)
            self.answer(200, {"now_ms": StandIn.now_ms})
        elif self.path == "/hosts/1/sessions":
            self.answer(201, {"cookie": "connect.sid=s%3Aabc.def"} if body else [{"data": {"n": 1}, "expires_ms": 2}])
        elif self.path == "/hosts/1/swap":
            self.answer(422, {"error": "v2.wasm is no component"})
        elif self.path == "/hosts/1/counts":
            self.answer(200, {"runs": 3})
        else:
            self.answer(204, None)

    def visit(self, content: str) -> None:
        headers = {
            "/a/keep": [("set-cookie", "a=1; Path=/; HttpOnly"), ("set-cookie", "b=2; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT")],
            "/a/drop": [("set-cookie", "a=; Expires=Thu, 01 Jan 1970 00:00:00 GMT")],
            "/a/move": [("location", "/a/show?moved")],
        }.get(self.path, [])
        shown = [self.command, self.path, self.headers.get("cookie"), self.headers.get("content-type"), content]
        self.answer(302 if self.path == "/a/move" else 200, shown, headers)

    def answer(self, status: int, body: Any, headers: list[tuple[str, str]] | None = None) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in [*(headers or []), ("content-length", str(len(content)))]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing."""


class ClientTest(unittest.TestCase):
    def setUp(self) -> None:
        StandIn.asked, StandIn.now_ms = [], NOW_MS
        server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        environment = mock.patch.dict(os.environ, CLOAKROOM_TEST_URL=f"http://127.0.0.1:{server.server_port}")
        environment.start()
        self.addCleanup(environment.stop)

    def test_without_cloakroom_test_it_says_how_to_run(self) -> None:
        with mock.patch.dict(os.environ):
            del os.environ["CLOAKROOM_TEST_URL"]
            with self.assertRaisesRegex(RuntimeError, "^run these tests with `cloakroom test`$"):
                Host()

    def test_a_host_ends_with_its_block(self) -> None:
        with Host():
            self.assertEqual(StandIn.asked, [("POST", "/hosts", None)])
        self.assertEqual(StandIn.asked[1:], [("DELETE", "/hosts/1", None)])

    def test_each_call_has_its_body(self) -> None:
        with Host() as host:
            host.rival(set={"num": 41}, delete=["x"])
            host.rival_logout()
            host.store_down()
            host.store_up()
            host.clock.advance(hours=1, seconds=0.5)
            with self.assertRaisesRegex(ControlError, "v2.wasm is no component"):
                host.swap("build/v2.wasm")
            self.assertEqual((host.sessions(), host.counts()), ([{"data": {"n": 1}, "expires_ms": 2}], {"runs": 3}))
        self.assertEqual(
            StandIn.asked[1:-3],
            [
                ("POST", "/hosts/1/rivals", {"set": {"num": 41}, "delete": ["x"]}),
                ("POST", "/hosts/1/rivals", {"destroy": True}),
                ("PUT", "/hosts/1/store", {"up": False}),
                ("PUT", "/hosts/1/store", {"up": True}),
                ("POST", "/hosts/1/clock", {"advance_ms": 3_600_500}),
                ("POST", "/hosts/1/swap", {"component": "build/v2.wasm"}),
            ],
        )

    def test_a_visitor_keeps_cookies_and_drops_expired_ones(self) -> None:
        with Host() as host:
            anna = host.visitor()
            self.assertIsNone(anna.get("/a/keep").json()[2])
            self.assertEqual(anna.get("/a/show").json()[2], "a=1; b=2")
            self.assertIsNone(host.visitor().get("/a/show").json()[2])
            host.clock.advance(minutes=1)
            self.assertEqual(anna.get("/a/show").json()[2], "a=1")
            anna.get("/a/drop")
            self.assertEqual(anna.cookies, {})

    def test_a_visitor_may_have_a_session_already(self) -> None:
        with Host() as host:
            anna = host.visitor({"user": "ada"})
            self.assertEqual(anna.get("/a/show").json()[2], "connect.sid=s%3Aabc.def")
        self.assertIn(("POST", "/hosts/1/sessions", {"data": {"user": "ada"}}), StandIn.asked)

    def test_bodies_and_redirects(self) -> None:
        with Host() as host:
            anna = host.visitor()
            form, value = anna.post("/a/x", form={"q": "가 b"}).json(), anna.put("/a/x", json={"n": 1}).json()
            self.assertEqual(form[3:], ["application/x-www-form-urlencoded", "q=%EA%B0%80+b"])
            self.assertEqual((value[0], value[3:]), ("PUT", ["application/json", '{"n": 1}']))
            self.assertEqual(anna.post("/a/move", body="x").status, 302)
            self.assertEqual(anna.post("/a/move", body="x", follow=True).json()[:2], ["GET", "/a/show?moved"])
