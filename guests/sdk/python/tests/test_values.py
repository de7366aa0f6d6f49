"""Tests of JSON texts and values: nothing is lost, and values that JSON cannot hold are refused with their names."""

import unittest
from datetime import date
from typing import Any

from cloakroom.values import parse, write


class ValuesTest(unittest.TestCase):
    def test_integers_of_any_size_are_exact(self) -> None:
        for digits in ("9007199254740993", "18446744073709551616", "9" * 5000, "-" + "7" * 20000):
            self.assertEqual(write(parse(digits, "x"), "x"), digits)

    def test_the_limit_for_other_integers_stays(self) -> None:
        parse("9" * 5000, "x")
        with self.assertRaises(ValueError):
            int("9" * 5000)

    def test_texts_are_written_as_they_are(self) -> None:
        self.assertEqual(write({"이름": ["a", 1.5, None, True]}, "x"), '{"이름":["a",1.5,null,true]}')

    def test_half_of_a_surrogate_pair_survives(self) -> None:
        self.assertEqual(write("한\ud83d", "x"), '"\\ud55c\\ud83d"')
        self.assertEqual(parse(write("한\ud83d", "x"), "x"), "한\ud83d")

    def test_what_json_cannot_hold_is_refused_by_name(self) -> None:
        circle: list[Any] = []
        circle.append(circle)
        refused: list[tuple[Any, type[Exception]]] = [
            (float("nan"), ValueError),
            ([float("inf")], ValueError),
            (date(2026, 1, 1), TypeError),
            ({"a": {1, 2}}, TypeError),
            ({1: "a"}, TypeError),
            ([{None: "a"}], TypeError),
            (circle, ValueError),
        ]
        for value, kind in refused:
            with self.subTest(kind=kind), self.assertRaisesRegex(kind, r"^session\['cart'\]: "):
                write(value, "session['cart']")

    def test_a_number_that_no_float_can_hold_is_refused(self) -> None:
        with self.assertRaisesRegex(ValueError, r"^session\['n'\]: the number 1e400 is too large for a float"):
            parse("[1e400]", "session['n']")

    def test_levels_that_the_parser_cannot_follow_are_refused(self) -> None:
        for text in ("[" * 129 + "]" * 129, '{"a":' * 129 + "1" + "}" * 129, "[" * 5000, '["]",' * 129 + "1" + "]" * 129):
            with self.subTest(text=text[:10]), self.assertRaisesRegex(ValueError, "^x: more than 128 levels"):
                parse(text, "x")
        for text in ("[" * 128 + "]" * 128, "[" + "[[],{}]," * 5000 + "1]", '"' + "[" * 5000 + '\\\\"', '["\\"' + "[" * 500 + '"]'):
            with self.subTest(text=text[:10]):
                self.assertEqual(write(parse(text, "x"), "x"), text)
