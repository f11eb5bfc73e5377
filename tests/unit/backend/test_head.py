"""Heads of responses: what they say, and that a head which comes again says the same."""

from __future__ import annotations

from itertools import cycle, product

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from infergate.backend import parser
from infergate.backend.head import MAX_REPEATED, Broken, Head, LastHead, parse_head
from tests.unit.backend.responses import (
    CONTINUE,
    bytewise,
    chunked,
    cut,
    cuts,
    only,
    read,
    response,
    sized,
)


class HeadTests(SynchronousTestCase):
    def test_status_line(self) -> None:
        """A head has the status, the reason and the version's last digit as they came."""
        for line, expected in (
            (b"HTTP/1.1 200 OK", (1, 200, b"OK")),
            (b"HTTP/1.0 404 Not Found ", (0, 404, b"Not Found ")),
            (b"HTTP/1.9 599 \xe9t\xe9\t\x00", (9, 599, b"\xe9t\xe9\t\x00")),
        ):
            head = only(response(line=line))
            self.assertEqual((head.minor, head.status, head.reason), expected)

    def test_missing_reason(self) -> None:
        """A reason may be empty, or be missing with the space before it."""
        for line in (b"HTTP/1.1 200 ", b"HTTP/1.1 200"):
            self.assertEqual(only(response(line=line)).reason, b"")

    def test_fields_are_in_order_and_stripped(self) -> None:
        """Names are in lower case; values keep their order and lose the whitespace around."""
        head = only(response(b"X-A: 1", b"x-b:\t2 \t", b"X-a:  3 4 ", b"x-c:"))
        self.assertEqual(head.fields, {b"x-a": [b"1", b"3 4"], b"x-b": [b"2"], b"x-c": [b""]})

    def test_any_bytes_in_a_value(self) -> None:
        """A value may hold any byte but the one that ends its line."""
        value = b"." + bytes(byte for byte in range(256) if byte != 10) + b"."
        self.assertEqual(only(response(b"X: " + value)).fields, {b"x": [value]})

    def test_bare_line_feeds(self) -> None:
        """A bare LF ends a line of a head, and the head, as a CRLF does."""
        raw = response(b"X: y", b"Content-Length: 2") + b"ab"
        expected = read([raw])
        self.assertEqual((expected.body, expected.fault), (b"ab", None))
        for bare in (
            raw.replace(b"\r", b""),
            raw.replace(b"\r\n\r\n", b"\r\n\n"),
            raw.replace(b"\r\n\r\n", b"\n\r\n"),
            raw.replace(b"OK\r\n", b"OK\n"),
        ):
            for pieces in ([bare], bytewise(bare)):
                self.assertEqual(read(pieces), expected, bare)

    def test_length(self) -> None:
        """The length is what was declared, None where there is no saying, 0 where none can be."""
        for raw, expected in (
            (sized(b"abc"), 3),
            (sized(b""), 0),
            (response(b"Content-Length: 007"), 7),
            (response(b"Content-Length: " + b"9" * 18), 10**18 - 1),
            (response(), None),
            (chunked(b"0\r\n\r\n"), None),
            (response(b"Content-Length: 3", line=b"HTTP/1.1 304 Not Modified"), 0),
            (response(line=b"HTTP/1.1 204 No Content"), 0),
        ):
            self.assertEqual(only(raw).length, expected, raw)

    def test_length_again(self) -> None:
        """The same length given again, in one field or several, is one."""
        for fields in (
            [b"Content-Length: 2"] * 2,
            [b"Content-Length: 2, 2"],
            [b"Content-Length: 2 ,\t2", b"content-length: 2"],
        ):
            self.assertEqual(read([response(*fields) + b"ab"]).body, b"ab")

    def test_chunked(self) -> None:
        """A body is in chunks where that is the one coding, in whatever case."""
        self.assertTrue(only(chunked(b"")).chunked)
        self.assertTrue(only(response(b"transfer-encoding:\tChunked ")).chunked)
        self.assertFalse(only(sized(b"")).chunked)

    def test_keep_alive(self) -> None:
        """HTTP/1.1 goes on unless an option of any Connection field is close, HTTP/1.0 only where
        one is keep-alive, and none is close (RFC 9112, 9.3)."""
        for fields, new, old in (
            ([], True, False),
            ([b"Connection: keep-alive"], True, True),
            ([b"Connection: x,\tKeep-Alive"], True, True),
            ([b"Connection: closed, x-close"], True, False),
            ([b"Connection: "], True, False),
            ([b"Connection: close"], False, False),
            ([b"Connection: CLOSE,x"], False, False),
            ([b"Connection: upgrade,\tClose"], False, False),
            ([b"Connection: keep-alive", b"X: y", b"Connection: x , close"], False, False),
            ([b"Keep-Alive: timeout=5"], True, False),
        ):
            self.assertEqual(only(response(*fields)).keep_alive, new, fields)
            head = only(response(*fields, line=b"HTTP/1.0 200 OK"))
            self.assertEqual(head.keep_alive, old, fields)

    def test_chunks_where_none_belong(self) -> None:
        """A response in chunks that has a length besides, or is HTTP/1.0's, is the last on its
        connection, if it is taken at all (RFC 9112, 6.1)."""
        coding, length = b"Transfer-Encoding: chunked", b"Content-Length: 1"
        for line, fields in (
            (b"HTTP/1.0 200 OK", [coding]),
            (b"HTTP/1.1 200 OK", [length, coding]),
            (b"HTTP/1.1 200 OK", [coding, length]),
        ):
            raw = response(*fields, b"Connection: keep-alive", line=line) + b"0\r\n\r\n"
            reading = read([raw])
            kept = reading.head is not None and reading.head.keep_alive
            self.assertFalse(reading.fault is None and kept, raw)

    def test_broken(self) -> None:
        """A head with a length or a coding that makes no sense is none."""
        for field in (b"Content-Length: x", b"Transfer-Encoding: x"):
            self.assertRaises(Broken, parse_head, response(field))


ALIKE = [
    response(b"Content-Type: application/json", b"Content-Length: %b", b"X: 1"),
    response(b"Content-Type: application/json", b"CONTENT-length:\t%b \t", b"X: 1"),
    response(b"Content-Length: %b", b"Content-Length: 2"),
    response(b"X: %b", b"Content-Length: 2"),
    response(b"X: %b", b"Content-Encoding: gzip"),
    response(b"Content-Length: %b").replace(b"\r", b""),
    response(b"Content-Length: %b", line=b"HTTP/1.1 204 No Content"),
    response(b"Content-Length: %b", b"Transfer-Encoding: chunked"),
    response(b"Content-Length: %b", line=b"HTTP/1.0 200 OK"),
    response(b"Transfer-Encoding: chunked", b"X: 1"),
    CONTINUE + response(b"Content-Length: %b"),
    response(b"Content-Length: %b", b"X: " + b"y" * MAX_REPEATED),
]
"""Heads with a gap, for the length in nearly all of them."""
LENGTHS = [
    b"2",
    b"1",
    b"0",
    b"02",
    b"",
    b"2 ",
    b"2\r",
    b"2, 2",
    b"x",
    b"\xb2",
    b"9" * 18,
    b"9" * 19,
]
BODIES = [b"ab", b"", b"2\r\nab\r\n0\r\n\r\n", b"abc"]


class RepeatedHeads(SynchronousTestCase):
    def judged(self, *raws: bytes) -> int:
        """How many heads are judged of these responses, which come on one connection."""
        heads: list[bytes] = []

        def count(lines: bytes) -> Head:
            heads.append(lines)
            return parse_head(lines)

        self.patch(parser, "parse_head", count)
        last = LastHead()
        for raw in raws:
            self.assertEqual(read([raw], last), read([raw]))
        return len(heads) - len(raws)

    def test_head_that_repeats_is_judged_once(self) -> None:
        """A head that is the last one again, but for the digits of its length, is not judged."""
        for raws, count in (
            ([sized(b"a"), sized(b"b"), sized(b"more than nine"), sized(b"")], 1),
            ([chunked(b"0\r\n\r\n"), chunked(b"1\r\na\r\n0\r\n\r\n")], 1),
            ([sized(b"a"), chunked(b"0\r\n\r\n"), sized(b"a")], 3),
        ):
            self.assertEqual(self.judged(*raws), count, raws)

    def test_large_head_is_not_kept(self) -> None:
        """A connection that idles holds no large head in memory."""
        raw = response(b"X: " + b"y" * MAX_REPEATED, b"Content-Length: 0")
        self.assertEqual(self.judged(raw, raw), 2)

    def test_repeated_head_may_be_cut_anywhere(self) -> None:
        """A head that repeats may come in two pieces, as any."""
        raw = sized(b"twelve bytes")
        for at in range(1, len(raw)):
            last = LastHead()
            for pieces in ([raw], [raw[:at], raw[at:]]):
                self.assertEqual(read(pieces, last), read([raw]), at)

    def test_head_with_another_length_is_judged_as_any(self) -> None:
        """After a head with any length one that differs in its length alone is what it would be on
        a connection of its own."""
        for gap in ALIKE:
            raws = [gap.replace(b"%b", length) + b"ab" for length in LENGTHS]
            alone = {raw: read([raw]) for raw in raws}
            for first, second in product(raws, raws):
                last = LastHead()
                for raw in (first, second, first):
                    self.assertEqual(read([raw], last), alone[raw], (first, second))

    @given(
        st.lists(st.sampled_from(ALIKE), min_size=1, max_size=2),
        st.lists(st.tuples(st.sampled_from(LENGTHS), st.sampled_from(BODIES), cuts())),
    )
    def test_responses_of_one_connection(
        self, gaps: list[bytes], responses: list[tuple[bytes, bytes, list[int]]]
    ) -> None:
        """Whatever responses come on one connection, and however they are cut, each is what it
        would be on a connection of its own."""
        last = LastHead()
        for gap, (length, body, places) in zip(cycle(gaps), responses):
            raw = gap.replace(b"%b", length) + body
            self.assertEqual(read(cut(raw, places), last), read([raw]))
            self.assertEqual(read([raw], last), read([raw]))
