"""Tests of routes: paths, parameters and methods."""

import unittest
from typing import Any

from cloakroom import HTTPError
from cloakroom.routing import Router


def router(*routes: tuple[str, str]) -> Router:
    """Returns a router whose handlers are the paths of their routes."""
    made = Router()
    for method, path in routes:
        made.add(path, [method], lambda path=path: path)
    return made


class RoutingTest(unittest.TestCase):
    def check(self, made: Router, method: str, path: str, expected: str, **parameters: Any) -> None:
        handler, found = made.find(method, path)
        self.assertEqual((handler(), found), (expected, parameters))

    def test_parameters_are_decoded(self) -> None:
        made = router(("GET", "/user/<name>"), ("GET", "/page/<int:n>"), ("GET", "/files/<path:rest>/raw"), ("GET", "/가/<x>"))
        self.check(made, "GET", "/user/%EC%95%84%EB%8B%A4", "/user/<name>", name="아다")
        self.check(made, "GET", "/user/a%2Fb", "/user/<name>", name="a/b")
        self.check(made, "GET", "/page/0042", "/page/<int:n>", n=42)
        self.check(made, "GET", "/files/a/b.txt/raw", "/files/<path:rest>/raw", rest="a/b.txt")
        self.check(made, "GET", "/%EA%B0%80/1", "/가/<x>", x="1")

    def test_a_path_without_parameters_outranks_those_with_some(self) -> None:
        made = router(("GET", "/user/<name>"), ("GET", "/user/me"), ("GET", "/사용자"))
        self.check(made, "GET", "/user/me", "/user/me")
        self.check(made, "GET", "/%EC%82%AC%EC%9A%A9%EC%9E%90", "/사용자")

    def test_get_serves_head_unless_head_has_a_handler(self) -> None:
        self.check(router(("GET", "/a")), "HEAD", "/a", "/a")
        self.check(router(("HEAD", "/<x>"), ("GET", "/<x>")), "HEAD", "/a", "/<x>", x="a")

    def test_an_unknown_path_is_404(self) -> None:
        for path in ("/b", "/a/", "/user/", "/user/a/b", "/page/x"):
            with self.subTest(path=path), self.assertRaises(HTTPError) as told:
                router(("GET", "/a"), ("GET", "/user/<name>"), ("GET", "/page/<int:n>")).find("GET", path)
            self.assertEqual(told.exception.status, 404)

    def test_another_method_is_405_and_says_which_are_there(self) -> None:
        made = router(("GET", "/a"), ("PUT", "/<x>"), ("DELETE", "/<x>"))
        with self.assertRaises(HTTPError) as told:
            made.find("POST", "/a")
        self.assertEqual((told.exception.status, told.exception.headers), (405, {"allow": "DELETE, GET, HEAD, PUT"}))
        self.check(made, "PUT", "/a", "/<x>", x="a")

    def test_a_route_that_cannot_be_one_is_refused_when_it_is_added(self) -> None:
        for path, why in [
            ("a", "begins with /"),
            ("/{name}", "<name>"),
            ("/<9>", "not a parameter name"),
            ("/<a>/<a>", "twice"),
            ("/<float:x>", "none of the known kinds"),
            ("/known", "already has a handler"),
        ]:
            with self.subTest(path=path), self.assertRaisesRegex(ValueError, why):
                router(("GET", "/known"), ("GET", path))
