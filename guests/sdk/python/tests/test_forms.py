"""Tests of forms: urlencoded and multipart, valid and broken."""

import os
import unittest

from cloakroom import HTTPError
from cloakroom.forms import parameter, parse_form, parse_pairs

_TYPE = "multipart/form-data; boundary=----a+b"


def part(head: str, data: bytes) -> bytes:
    return b"------a+b\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n"


class FormsTest(unittest.TestCase):
    def test_an_urlencoded_form(self) -> None:
        form = parse_form("application/x-www-form-urlencoded; charset=UTF-8", b"a=1&a=2&b=%EA%B0%80+%2B&c=&d")
        self.assertEqual((form.fields["a"], form.fields.getlist("a")), ("1", ["1", "2"]))
        self.assertEqual((form.fields["b"], form.fields["c"], form.fields.get("x")), ("가 +", "", None))

    def test_a_multipart_form_with_a_file(self) -> None:
        data = os.urandom(5000) + b"\r\n\r\n--\r\n\r"
        body = (
            part('Content-Disposition: form-data; name="title"', "가\r\n나".encode())
            + part('Content-Disposition: form-data; name="a%22b"; filename="가 (1).png"\r\nContent-Type: image/png', data)
            + part('Content-Disposition: form-data; name="empty"; filename=""', b"")
            + b"------a+b--\r\n"
        )
        form = parse_form(_TYPE, body)
        self.assertEqual(dict(form.fields), {"title": "가\r\n나"})
        (file,) = form.files['a"b']
        self.assertEqual((file.filename, file.content_type, file.data), ("가 (1).png", "image/png", data))
        self.assertEqual(form.files["empty"][0].data, b"")

    def test_a_broken_form_is_400(self) -> None:
        whole = part('Content-Disposition: form-data; name="a"', b"1") + b"------a+b--\r\n"
        for kind, body in [
            (_TYPE, b""),
            (_TYPE, whole[:-6]),
            (_TYPE, part("Content-Disposition: form-data", b"1") + b"------a+b--"),
            (_TYPE, part('Content-Disposition: form-data; name="a"', b"1") * 1001 + b"------a+b--"),
            ("multipart/form-data", whole),
            ("application/x-www-form-urlencoded", b"a=1&" * 1001),
        ]:
            with self.subTest(kind=kind, size=len(body)), self.assertRaises(HTTPError) as told:
                parse_form(kind, body)
            self.assertEqual(told.exception.status, 400)

    def test_another_type_is_an_empty_form(self) -> None:
        form = parse_form("application/json", b'{"a":1}')
        self.assertEqual((dict(form.fields), form.files), ({}, {}))

    def test_a_query(self) -> None:
        self.assertEqual(parse_pairs("q=a%20b&q=c").getlist("q"), ["a b", "c"])

    def test_a_parameter_of_a_header(self) -> None:
        for header, expected in [
            ("text/html; charset=utf-8", "utf-8"),
            ('text/html;x="; charset=no";Charset="a b"', "a b"),
            ("text/html", None),
        ]:
            self.assertEqual(parameter(header, "charset"), expected)
