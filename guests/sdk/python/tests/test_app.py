"""Tests of an application from the request to the response, without a host."""

import contextlib
import io
import json
import unittest
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

from cloakroom import App, HTTPError, Request, Response, TooLarge, Unavailable, abort, redirect, session
from cloakroom.cookies import Cookie
from cloakroom.host import Context
from cloakroom.rehearsal import MemoryCookies, MemorySession, MemorySource


def ask(app: App, target: str, method: str = "GET", body: bytes = b"", came: tuple[Cookie, ...] = (), **headers: str) -> Response:
    with Context(MemorySession(), MemoryCookies(*came)):
        return app.respond(Request(method, target, MemorySource(body, **headers)))


def replies(reply: Any) -> Response:
    app = App()
    app.get("/")(lambda request: reply)
    return ask(app, "/")


class Replies(unittest.TestCase):
    def test_each_kind_has_its_type(self) -> None:
        kinds: list[tuple[Any, Any, str]] = [
            ("가", "가".encode(), "text/html; charset=utf-8"),
            (b"\0", b"\0", "application/octet-stream"),
            ({"a": "가"}, '{"a":"가"}'.encode(), "application/json"),
            ({"a": "\ud83d"}, b'{"a":"\\ud83d"}', "application/json"),
            ("\ud83d", b"?", "text/html; charset=utf-8"),
            ([1], b"[1]", "application/json"),
            (Response("x", content_type="text/css"), b"x", "text/css"),
            ("", b"", "text/html; charset=utf-8"),
        ]
        for reply, body, kind in kinds:
            response = replies(reply)
            self.assertEqual((response.status, response.body, response.headers["content-type"]), (200, body, kind))

    def test_status_and_headers_may_follow(self) -> None:
        response = replies(({"id": 1}, 201, {"Location": "/1", "Content-Type": "application/vnd.api+json"}))
        self.assertEqual((response.status, response.headers["location"]), (201, "/1"))
        self.assertEqual(response.headers.getlist("content-type"), ["application/vnd.api+json"])
        self.assertEqual(replies(("gone", 410)).status, 410)

    def test_headers_that_follow_replace_others_and_cookies_are_added(self) -> None:
        first = Response("x", headers=[("Set-Cookie", "a=1"), ("Link", "</0>"), ("X-Kept", "yes")])
        headers = replies((first, 200, [("set-cookie", "b=2"), ("Set-Cookie", "c=3"), ("link", "</1>"), ("Link", "</2>")])).headers
        self.assertEqual(headers.getlist("set-cookie"), ["a=1", "b=2", "c=3"])
        self.assertEqual((headers.getlist("link"), headers["x-kept"]), (["</1>", "</2>"], "yes"))

    def test_a_generator_is_sent_piece_by_piece(self) -> None:
        def pieces() -> Iterator[str]:
            yield "a"
            yield "b"

        body = replies(pieces()).body
        self.assertEqual(list(body), ["a", "b"])

    def test_anything_else_is_a_type_error(self) -> None:
        strange: list[Any] = [None, 7, ("a", "b"), ("a", 200, {}, 1), {1, 2}]
        for reply in strange:
            with self.subTest(reply=reply), self.assertRaisesRegex(TypeError, "a handler returned"):
                replies(reply)

    def test_a_redirect_escapes_what_a_url_cannot_hold(self) -> None:
        response = redirect("/가?a=1&b=%20#x")
        self.assertEqual((response.status, response.headers["location"]), (302, "/%EA%B0%80?a=1&b=%20#x"))
        self.assertNotIn("\n", redirect("/a\r\nset-cookie: x=1").headers["location"])

    def test_a_header_that_would_begin_another_is_refused(self) -> None:
        for value in ("a\r\nset-cookie: x", "a\0", "가"):
            with self.assertRaisesRegex(ValueError, "x-name"):
                Response().headers["x-name"] = value


class Requests(unittest.TestCase):
    def test_its_parts(self) -> None:
        request = Request("POST", "/%EA%B0%80?q=1&q=2", MemorySource('{"a":"가"}'.encode(), X_A="b", x_a="c"))
        self.assertEqual((request.path, request.args.getlist("q"), request.json()), ("/가", ["1", "2"], {"a": "가"}))
        self.assertEqual((request.headers["X-A"], request.headers.getlist("x-a"), "X-a" in request.headers), ("b", ["b", "c"], True))

    def test_a_broken_body_is_400(self) -> None:
        for body in (b"\xff", b"{", b"[NaN]", b"1e400", b"9" * 5000, b"[" * 30_000):
            with self.subTest(body=body[:5]), self.assertRaises(HTTPError) as told:
                Request("POST", "/", MemorySource(body)).json()
            self.assertEqual(told.exception.status, 400)
        for charset in ("utf-8", "none-there-is"):
            with self.subTest(charset=charset), self.assertRaises(HTTPError) as told:
                Request("POST", "/", MemorySource(b"\xff", content_type=f"text/plain; charset={charset}")).text
            self.assertEqual(told.exception.status, 400)

    def test_a_field_that_did_not_come_is_400_unless_it_is_caught(self) -> None:
        app = App()
        app.get("/")(lambda request: request.args["q"])
        self.assertEqual((ask(app, "/").status, ask(app, "/").body), (400, b"400 'q' is missing\n"))
        request = Request("GET", "/?a=1", MemorySource())
        self.assertEqual((request.args.get("b", "none"), "b" in request.args, "a" in request.args), ("none", False, True))
        with self.assertRaises(KeyError):
            request.headers["x-none"]

    def test_cookies_come_apart_by_signature(self) -> None:
        plain = (Cookie("a", "1"), Cookie("b", '{"n":1}', is_json=True))
        signed = (Cookie("c", "x", signed=True), Cookie("d", None, signed=True))
        app, came = App(), plain + signed
        app.get("/")(lambda request: [request.cookies, request.signed_cookies])
        body = ask(app, "/", came=came).body
        assert isinstance(body, bytes)
        self.assertEqual(json.loads(body), [{"a": "1", "b": {"n": 1}}, {"c": "x"}])

    def test_json_of_a_cookie_that_python_cannot_hold_stays_a_text(self) -> None:
        for odd in ("1e999", "[" * 200 + "]" * 200, "9" * 5000, "{"):
            app, came = App(), (Cookie("a", "1"), Cookie("odd", odd, is_json=True), Cookie("s", odd, is_json=True, signed=True))
            app.get("/")(lambda request: [request.cookies, request.signed_cookies])
            body = ask(app, "/", came=came).body
            assert isinstance(body, bytes)
            with self.subTest(odd=odd[:5]):
                self.assertEqual(json.loads(body), [{"a": "1", "odd": f"j:{odd}"}, {"s": f"j:{odd}"}])

    def test_a_cookie_is_set_with_its_options(self) -> None:
        app = App()

        @app.get("/")
        def handler(request: Request) -> Response:
            response = Response()
            response.set_cookie("a", {"n": 1}, signed=True, max_age=timedelta(minutes=1), expires=datetime(2030, 1, 1, tzinfo=timezone.utc))
            response.set_cookie("b", "x", max_age=60, samesite="Lax")
            response.delete_cookie("c")
            return response

        first, second, third = ask(app, "/").headers.getlist("set-cookie")
        self.assertIn('a={"n":1}; CookieOptions(max_age=60000, expires=1893456000000,', first)
        self.assertIn("max_age=60000", second)
        self.assertIn("c=; CookieOptions(max_age=None, expires=1,", third)


class Errors(unittest.TestCase):
    def setUp(self) -> None:
        self.app = App()

        @self.app.get("/abort")
        def aborts(request: Request) -> str:
            abort(403, "members only")

        @self.app.get("/raise")
        def raises(request: Request) -> str:
            raise LookupError("the secret reason")

    def test_without_error_handlers_an_abort_says_what_it_says_and_the_rest_is_raised(self) -> None:
        response = ask(self.app, "/abort")
        self.assertEqual((response.status, response.body), (403, b"403 members only\n"))
        self.assertEqual(ask(self.app, "/none").body, b"404 Not Found\n")
        with self.assertRaises(LookupError):
            ask(self.app, "/raise")

    def test_an_error_handler_answers_for_a_status(self) -> None:
        self.app.errorhandler(405)(lambda error: {"error": error.status})
        response = ask(self.app, "/abort", method="POST")
        self.assertEqual((response.status, response.body, response.headers["allow"]), (405, b'{"error":405}', "GET, HEAD"))

    def test_an_error_handler_answers_for_a_kind_of_exception(self) -> None:
        self.app.errorhandler(LookupError)(lambda error: ("gone", 410))
        self.app.errorhandler(HTTPError)(lambda error: f"sorry: {error.status}")
        self.assertEqual(ask(self.app, "/raise").status, 410)
        self.assertEqual((ask(self.app, "/none").status, ask(self.app, "/none").body), (404, b"sorry: 404"))

    def test_an_error_handler_for_500_answers_for_the_rest_which_is_logged(self) -> None:
        self.app.errorhandler(500)(lambda error: "we are sorry")
        with contextlib.redirect_stderr(io.StringIO()) as log:
            response = ask(self.app, "/raise")
        self.assertEqual((response.status, response.body), (500, b"we are sorry"))
        self.assertIn("LookupError: the secret reason", log.getvalue())


class FullSession(MemorySession):
    """A session that accepts texts of up to 10 characters and has no store."""

    def set(self, key: str, value: str) -> None:
        if len(value) > 10:
            raise TooLarge(10)
        super().set(key, value)

    def save(self) -> None:
        raise Unavailable("the store did not answer")


class RefusedChanges(unittest.TestCase):
    def setUp(self) -> None:
        self.app = App()

        @self.app.get("/set")
        def sets(request: Request) -> str:
            session["small"] = 1
            session["big"] = "x" * 20
            return "stored"

        @self.app.get("/in-place")
        def changes_in_place(request: Request) -> str:
            session["small"] = 1
            session.setdefault("big", []).append("x" * 20)
            return "stored"

        @self.app.get("/save")
        def saves(request: Request) -> str:
            session.save()
            return "stored"

    def ask(self, target: str) -> tuple[int, Any, list[str]]:
        """Returns the status, the body and the entries to store."""
        memory = FullSession()
        with Context(memory, MemoryCookies()) as context, contextlib.redirect_stderr(io.StringIO()) as self.log:
            response = self.app.respond(Request("GET", target, MemorySource()))
            context.tell_changes()
        return response.status, response.body, list(memory.entries)

    def test_a_full_session_is_413_and_nothing_of_the_request_is_stored(self) -> None:
        for target in ("/set", "/in-place"):
            with self.subTest(target=target):
                self.assertEqual(self.ask(target), (413, b"413 the session is full\n", []))
                self.assertIn("would exceed its limit of 10 bytes", self.log.getvalue())

    def test_a_store_out_of_reach_is_503(self) -> None:
        self.assertEqual(self.ask("/save")[:2], (503, b"503 Service Unavailable\n"))
        self.assertIn("the store did not answer", self.log.getvalue())

    def test_error_handlers_go_before(self) -> None:
        self.app.errorhandler(413)(lambda error: "too much")
        self.assertEqual(self.ask("/set"), (413, b"too much", ["small"]))
        self.app.errorhandler(500)(lambda error: "we are sorry")
        self.assertEqual(self.ask("/save")[:2], (500, b"we are sorry"))
        self.app.errorhandler(TooLarge)(lambda error: ("no room", 507))
        self.assertEqual(self.ask("/set")[:2], (507, b"no room"))


class Hooks(unittest.TestCase):
    def test_they_surround_the_handler(self) -> None:
        app = App()
        app.get("/<x>")(lambda request, x: x)
        app.before_request(lambda request: ("no", 401) if request.path == "/secret" else None)

        @app.after_request
        def after(request: Request, response: Response) -> None:
            response.headers["x-seen"] = request.path

        for path, status in (("/a", 200), ("/secret", 401), ("/a/b", 404)):
            response = ask(app, path)
            self.assertEqual((response.status, response.headers["x-seen"]), (status, path))

    def test_an_included_application_keeps_its_hooks_and_error_handlers(self) -> None:
        app, part = App(), App()
        app.get("/own")(lambda request: abort(404))
        part.get("/part/<x>")(lambda request, x: x if x != "none" else abort(404))
        part.post("/part/<x>")(lambda request, x: abort(418))
        part.errorhandler(404)(lambda error: "no such part")
        part.after_request(lambda request, response: response.headers.add("x-part", "yes"))
        app.after_request(lambda request, response: response.headers.add("x-app", "yes"))
        app.include(part)
        for method, target, body, of_part in [
            ("GET", "/part/1", b"1", True),
            ("GET", "/part/none", b"no such part", True),
            ("POST", "/part/1", b"418 I'm a Teapot\n", False),
            ("GET", "/own", b"404 Not Found\n", False),
        ]:
            response = ask(app, target, method)
            self.assertEqual((response.body, "x-part" in response.headers, "x-app" in response.headers), (body, of_part, True))

    def test_async_handlers_are_refused_when_they_are_added(self) -> None:
        async def handler(request: Request) -> str:
            return ""

        with self.assertRaisesRegex(TypeError, "'handler' is async"):
            App().get("/")(handler)
