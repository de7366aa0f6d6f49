"""Tests of the counter as its visitors see it. Run them with `cloakroom test`."""

import unittest

from cloakroom.testing import Host


class SessionTest(unittest.TestCase):
    def setUp(self) -> None:
        self.host = Host()
        self.addCleanup(self.host.close)

    def test_each_visitor_counts_apart(self) -> None:
        anna, bela = self.host.visitor(), self.host.visitor()
        self.assertEqual(anna.get("/session").text, "1번 접속")
        self.assertEqual(anna.get("/session").text, "2번 접속")
        self.assertEqual(bela.get("/session").text, "1번 접속")

    def test_deleting_the_session_starts_afresh(self) -> None:
        anna = self.host.visitor({"num": 41})
        self.assertEqual(anna.get("/session").text, "42번 접속")
        self.assertEqual(anna.get("/session/delete", follow=True).text, "1번 접속")

    def test_a_parallel_visit_is_not_lost(self) -> None:
        anna = self.host.visitor({"num": 1})
        self.host.rival(set={"num": 9})
        self.assertEqual(anna.get("/session").text, "10번 접속")


if __name__ == "__main__":
    unittest.main()
