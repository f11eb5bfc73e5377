"""What a head may say, and what is made of it. What may not be said is in `parser_vectors`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from infergate.server.head import Head
from infergate.server.parser import Limits
from tests.unit.server.parser_vectors import chunked, get, line, old, post, read, sized


def only(raw: bytes) -> Head:
    """The head of the one request that `raw` is."""
    reading = read([raw], Limits())
    assert reading.status is None, reading.status
    [(request, _)] = reading.requests
    return request


class GrammarTests(SynchronousTestCase):
    def test_head_has_method_target_and_version(self) -> None:
        """A head has the method, the target and the version as they came."""
        request = only(line(b"PUT /a/b?c=%20 HTTP/1.1"))
        self.assertEqual(
            (request.method, request.target, request.version), (b"PUT", b"/a/b?c=%20", b"HTTP/1.1")
        )

    def test_fields_are_in_order_and_stripped(self) -> None:
        """Names are in lower case; values keep their order and lose the whitespace around."""
        request = only(get(b"X-A: 1", b"x-b:\t2 \t", b"X-a:  3 4 "))
        self.assertEqual(request.fields, {b"host": [b"a"], b"x-a": [b"1", b"3 4"], b"x-b": [b"2"]})

    def test_length_is_what_was_declared(self) -> None:
        """The length is what was declared, 0 where there is no body, None where it is chunked."""
        self.assertEqual(only(get()).length, 0)
        self.assertEqual(only(sized(b"3") + b"abc").length, 3)
        self.assertIsNone(only(chunked(b"0\r\n\r\n")).length)

    def test_connection_goes_on_unless_told_to_close(self) -> None:
        """HTTP/1.1 goes on unless an option of any Connection field is close; HTTP/1.0 never."""
        for fields, expected in (
            ([], True),
            ([b"Connection: keep-alive"], True),
            ([b"Connection: closed, x-close"], True),
            ([b"Connection: close"], False),
            ([b"Connection: CLOSE,x"], False),
            ([b"Connection: upgrade,\tClose"], False),
            ([b"Connection: keep-alive", b"X: y", b"Connection: x , close"], False),
        ):
            self.assertEqual(only(get(*fields)).keep_alive, expected, fields)
        self.assertFalse(only(old(b"Connection: keep-alive")).keep_alive)

    def test_continue_is_expected_where_a_body_is_to_come(self) -> None:
        """100-continue counts in HTTP/1.1 where a body is to come."""
        expect = b"Expect: 100-Continue"
        self.assertTrue(only(post(expect, b"Content-Length: 1") + b"x").expects_continue)
        chunks = post(expect, b"Transfer-Encoding: chunked") + b"0\r\n\r\n"
        self.assertTrue(only(chunks).expects_continue)
        self.assertFalse(only(post(expect)).expects_continue)
        self.assertFalse(only(old(expect, b"Content-Length: 1") + b"x").expects_continue)

    def test_absolute_form_becomes_origin_form(self) -> None:
        """A target that names the host again is given as the path and query alone."""
        for target, expected in (
            (b"http://a/b?c", b"/b?c"),
            (b"HTTPS://A", b"/"),
            (b"http://a?b/c", b"/?b/c"),
        ):
            self.assertEqual(only(line(b"GET %b HTTP/1.1" % target)).target, expected)
