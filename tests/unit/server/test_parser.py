"""Framing: what is a request, what is none, and that the cuts in a stream do not matter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import TypeAlias

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from infergate.errors import (
    BadRequest,
    BodyTooLarge,
    HeadersTooLarge,
    NotImplementedMethod,
    URITooLong,
)
from infergate.server.head import Head
from infergate.server.parser import END, MAX_CHUNK_EXTENSIONS, Limits, Parser
from tests.fuzz_framing import run
from tests.unit import SEARCH
from tests.unit.server.parser_vectors import (
    VECTORS,
    Forgetful,
    Vector,
    chunked,
    get,
    head,
    line,
    post,
    read,
    sized,
)


def three(raw: bytes) -> list[bytes]:
    third = len(raw) // 3
    return [raw[:third], raw[third : 2 * third], raw[2 * third :]]


def bytewise(raw: bytes) -> list[bytes]:
    return [raw[at : at + 1] for at in range(len(raw))]


def cut_in_two() -> Iterator[tuple[Vector, bytes, bytes]]:
    """All vectors, each cut in two at any byte. What several begin with is cut off once, as it
    leaves the parser in one state; in a search it is cut off each of them."""
    begun: set[bytes] = set()
    for vector in VECTORS:
        for at in range(1, len(vector.raw)):
            first, second = vector.raw[:at], vector.raw[at:]
            if SEARCH or first not in begun:
                begun.add(first)
                yield vector, first, second


def fed(raw: bytes, limits: Limits | None = None) -> Parser:
    parser = Parser(limits or Limits())
    parser.receive(raw)
    return parser


class BodyTests(SynchronousTestCase):
    def test_a_declared_length_over_the_limit_is_left_to_the_caller(self) -> None:
        """Who asks is checked before how much: a large declared length is given, not refused."""
        request = fed(sized(b"1000"), Limits(body=10)).next()
        assert isinstance(request, Head)
        self.assertEqual(request.length, 1000)

    def test_declared_body_comes_as_it_arrives(self) -> None:
        """A declared body comes in the pieces in which it arrives, and END after it."""
        parser = fed(sized(b"5"))
        parser.next()
        self.assertIsNone(parser.next())
        parser.receive(b"he")
        self.assertEqual([parser.next(), parser.next()], [b"he", None])
        parser.receive(b"llo")
        self.assertEqual([parser.next(), parser.next()], [b"llo", END])

    def test_chunk_of_nothing_but_body_is_not_copied(self) -> None:
        """A piece that holds nothing but body is given out as the object that came in."""
        parser = fed(sized(b"1000"))
        parser.next()
        piece = b"x" * 500
        parser.receive(piece)
        self.assertIs(parser.next(), piece)

    def test_chunked_body_is_the_data_of_its_chunks(self) -> None:
        """The body is the data of the chunks; extensions and trailers are dropped."""
        raw = chunked(b'3;a=b\r\nabc\r\n2 ;c="\\""\r\nde\r\n0\r\nX-A: 1\r\n\r\n')
        for pieces in ([raw], bytewise(raw)):
            [(request, body)] = read(pieces).requests
            self.assertEqual(body, b"abcde")
            self.assertNotIn(b"x-a", request.fields)

    def test_chunk_over_the_limit_is_refused_by_its_size(self) -> None:
        """The head is given first; the chunk that exceeds the limit is refused by its size."""
        parser = fed(chunked(b"3\r\nabc\r\n8\r\n"), Limits(body=10))
        self.assertIsInstance(parser.next(), Head)
        self.assertEqual(parser.next(), b"abc")
        self.assertRaises(BodyTooLarge, parser.next)

    def test_small_chunks_come_as_one(self) -> None:
        """The chunks that have arrived are given out together, however small they are."""
        parser = fed(chunked(b"1\r\nx\r\n" * 5000 + b"3\r\nab"))
        self.assertIsInstance(parser.next(), Head)
        self.assertEqual([parser.next(), parser.next()], [b"x" * 5000 + b"ab", None])
        parser.receive(b"c\r\n0\r\n\r\n")
        self.assertEqual([parser.next(), parser.next()], [b"c", END])

    def test_good_chunks_before_a_bad_one_are_given_out(self) -> None:
        """What is at fault comes after what was good, cut or not."""
        parser = fed(chunked(b"1\r\nx\r\n1\r\ny\r\nzz\r\n"))
        self.assertIsInstance(parser.next(), Head)
        self.assertEqual(parser.next(), b"xy")
        self.assertRaises(BadRequest, parser.next)

    def test_chunk_extensions_are_bounded(self) -> None:
        """Extensions may have so many bytes in one body, all its chunks together."""
        half = b";" + b"a" * (MAX_CHUNK_EXTENSIONS // 2 - 1)
        good = b"1%b\r\nx\r\n1%b\r\ny\r\n" % (half, half)
        self.assertEqual(read([chunked(good + b"0\r\n\r\n")]).requests[0][1], b"xy")
        self.assertEqual(read([chunked(good + b"1" + b";a" * 10 + b"\r\n")]).status, 400)
        for pieces in ([chunked(b"1;" + b"a" * 5000)], bytewise(chunked(b"1;" + b"a" * 5000))):
            self.assertEqual(read(pieces).status, 400)


class ParserTests(SynchronousTestCase):
    def test_nothing_follows_the_end_until_restart(self) -> None:
        """END comes once; what was pipelined waits, whole, for `restart`."""
        parser = fed(get() + get(b"X: y"))
        self.assertIsInstance(parser.next(), Head)
        self.assertEqual([parser.next(), parser.next(), parser.next()], [END, None, None])
        self.assertEqual(parser.buffered, len(get(b"X: y")))
        parser.restart()
        second = parser.next()
        assert isinstance(second, Head)
        self.assertEqual(second.fields[b"x"], [b"y"])
        self.assertEqual((parser.next(), parser.buffered), (END, 0))

    def test_request_starts_with_its_first_byte(self) -> None:
        """A request has started with its first byte, and until the restart after it; the empty
        line that may come before it is none of it."""
        parser = Parser(Limits())
        for piece in (b"", b"\r", b"\n"):
            parser.receive(piece)
            self.assertFalse(parser.started)
            self.assertIsNone(parser.next())
            self.assertFalse(parser.started)
        parser.receive(b"G")
        self.assertTrue(parser.started)
        parser.receive(get()[1:] + b"P")
        self.assertEqual([type(parser.next()), parser.next()], [Head, END])
        self.assertTrue(parser.started)
        parser.restart()
        self.assertTrue(parser.started)
        parser.receive(post()[1:])
        self.assertEqual([type(parser.next()), parser.next()], [Head, END])
        parser.restart()
        self.assertFalse(parser.started)

    def test_head_is_known_from_its_end_to_the_restart(self) -> None:
        """`head` is None until the head is whole, and again after the restart."""
        parser = fed(get()[:-1])
        self.assertIsNone(parser.next())
        self.assertIsNone(parser.head)
        parser.receive(b"\n")
        self.assertIs(parser.next(), parser.head)
        self.assertIs(parser.next(), END)
        self.assertIsNotNone(parser.head)
        parser.restart()
        self.assertIsNone(parser.head)

    def test_refused_request_tells_what_was_understood(self) -> None:
        """Of a refused request, `head` tells what was understood: nothing, the request line, or
        the fields too, so that the refusal can carry the request's own id."""
        parser = fed(b"GET  \r\n\r\n")
        self.assertRaises(BadRequest, parser.next)
        self.assertIsNone(parser.head)
        parser = fed(b"GET /a HTTP/1.1\r\nX : y\r\n\r\n")
        self.assertRaises(BadRequest, parser.next)
        assert parser.head is not None
        self.assertEqual((parser.head.method, parser.head.target), (b"GET", b"/a"))
        for raw, error in (
            (head(b"BREW /a HTTP/1.1", b"X-Request-ID: x"), NotImplementedMethod),
            (head(b"GET /a HTTP/1.1", b"X-Request-ID: x"), BadRequest),
        ):
            parser = fed(raw)
            self.assertRaises(error, parser.next)
            assert parser.head is not None
            self.assertEqual(parser.head.fields[b"x-request-id"], [b"x"])

    def test_head_is_judged_when_it_is_whole(self) -> None:
        """What is wrong with a head is said when it is whole, or has no room left, and not
        before; nothing behind it is waited for."""
        wrong = b"GET /\0 HTTP/1.1\r\nHost : a\r\n"
        parser = Parser(Limits(head=100))
        for byte in bytewise(wrong):
            parser.receive(byte)
            self.assertIsNone(parser.next())
        parser.receive(b"\r\n")
        self.assertRaises(BadRequest, parser.next)
        parser = fed(b"GET / HTTP/1.1\r\nX: " + b"y" * 80, Limits(head=100))
        self.assertIsNone(parser.next())
        parser.receive(b"y")
        self.assertRaises(HeadersTooLarge, parser.next)
        for end in (b"\n", b"\r\n"):
            self.assertRaises(BadRequest, fed(b"GET / HTTP/1.1\nHost: a\n" + end).next)

    def test_first_byte_tells_tls_on_a_plain_port(self) -> None:
        """A byte with which no request begins is refused on sight: a TLS client would wait for an
        answer, and send no more."""
        for first in (b"\x16", b"\x80", b" ", b"\n", b'"'):
            self.assertRaises(BadRequest, fed(first).next)

    def test_refusal_is_final(self) -> None:
        """After a refusal the parser refuses for ever, for the same reason, and keeps nothing."""
        parser = fed(line(b"GET /%b HTTP/1.1" % (b"a" * 9)), Limits(target=9))
        self.assertRaises(URITooLong, parser.next)
        parser.receive(get())
        self.assertEqual(parser.buffered, 0)
        self.assertRaises(URITooLong, parser.next)

    def test_limits_are_settings(self) -> None:
        """The same request passes or not by the limits that the parser is given."""
        raw = get(*[b"X: y"] * 20)
        self.assertIsNone(read([raw], Limits()).status)
        for limits in (Limits(head=len(raw) - 1), Limits(head=10), Limits(fields=20)):
            self.assertEqual(read([raw], limits).status, 431)
        self.assertIsNone(read([raw], Limits(target=1, head=len(raw), fields=21)).status)


class VectorTests(SynchronousTestCase):
    def judge(self, vector: Vector, pieces: Iterable[bytes]) -> None:
        reading = read(pieces)
        self.assertEqual(
            (len(reading.requests), reading.status), (vector.requests, vector.status), vector
        )

    def test_there_are_enough_vectors_of_different_names(self) -> None:
        """There are over 150 vectors, no two of one name, each with its section."""
        self.assertGreater(len({vector.name for vector in VECTORS}), 150)
        self.assertEqual(len({vector.name for vector in VECTORS}), len(VECTORS))
        for vector in VECTORS:
            self.assertRegex(vector.section, r"^RFC \d{4} \d+(\.\d+)*$")

    def test_vectors_end_as_they_should_whole_and_in_three(self) -> None:
        """Each vector ends as it should, sent whole and in three parts."""
        for vector in VECTORS:
            self.judge(vector, [vector.raw])
            self.judge(vector, three(vector.raw))

    def test_vectors_end_as_they_should_cut_anywhere(self) -> None:
        """Each vector ends as it should, cut in two at any byte."""
        for vector, *pieces in cut_in_two():
            self.judge(vector, pieces)

    def test_vectors_end_as_they_should_byte_by_byte(self) -> None:
        """Each vector ends as it should when every byte comes alone."""
        for vector in VECTORS:
            self.judge(vector, bytewise(vector.raw))


GOOD = [vector.raw for vector in VECTORS if vector.status is None and vector.requests == 1]
SHARDS = [
    *(b"GET / HTTP/1.1\r\n", b"Host: a\r\n", b"Content-Length: 2\r\n", b"\r\n", b"\r", b"\n"),
    *(
        b"Transfer-Encoding: chunked\r\n",
        b"1\r\nx\r\n",
        b"0\r\n",
        b"5;a=b",
        b"X: y\r\n",
        b" ",
        b":",
    ),
]


CUTS = st.lists(st.integers(0, 400), max_size=8)

Alteration: TypeAlias = tuple[bytes | None, int, bytes]
"""The value of ``Content-Length``, or None for the one that is there; an offset, and what to put
over the bytes from there on."""

ALTERED: st.SearchStrategy[Alteration] = st.tuples(
    st.none()
    | st.from_regex(rb"[0-9]{0,20}", fullmatch=True)
    | st.integers(0, 9).map(b"%d".__mod__),
    st.integers(0, 400),
    st.sampled_from((b"", b"", b"\r", b"\n", b"9", b"_", b"\0")) | st.binary(max_size=2),
)


def altered(raw: bytes, length: bytes | None, at: int, put: bytes) -> bytes:
    if length is not None:
        raw = re.sub(rb"(?i)(?<=content-length: )[0-9]+", length, raw, count=1)
    return raw[:at] + put + raw[at + len(put) :]


PLACES = (
    (b"POST / HTTP/1.1", b"POST / HTTP/1.1", b"POST /a:b HTTP/1.1", b"POST /a:c HTTP/1.1"),
    (b"Host: a", b"Host: a", b"Host: b", b"Host: a,b", b"Host: [", b"Host"),
    (b"Content-Length: 1", b"Content-Length: 1", b"Content-Length: 2 ", b"Content-Length: x"),
    (b"X-Id: 1", b"X-Id: 2", b"X-Id:3", b"x-id: 4", b"X-Id:", b"X-Id", b"X-Id : 5", b"X_Id: 6"),
    (b"Y: a", b"Y: b\xff", b"Y: c\0", b"Y: d\n", b"Y: e\r", b"Y: f\n\n", b" Y: g", b"Y: h:i"),
    (b"Z: a", b"X-Id: b", b"Connection: close", b"Connection: keep-alive", b"Content-Length: 1"),
    (b"Z: a", b"Z: b", b"Expect: 100-continue", b"Expect: x", b"Transfer-Encoding: chunked"),
)
"""Of each line of a head what may stand there, good values first."""

NEARLY: st.SearchStrategy[list[bytes]] = st.tuples(
    *(st.sampled_from((*place[:2] * 6, *place)) for place in PLACES)
).map(list)
"""The lines of heads that are nearly the same."""

WIDE = Limits(target=60, head=4096, fields=20, body=64)


def joined(lines: list[bytes]) -> bytes:
    """A head of these lines, with a body of as many bytes as a good length says."""
    bodies = {b"Content-Length: 1": b"x", b"Content-Length: 2 ": b"xy"}
    return b"\r\n".join(lines) + b"\r\n\r\n" + bodies.get(lines[2], b"")


def pieces_of(raw: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(min(place, len(raw)) for place in cuts), len(raw)]
    return [raw[start:end] for start, end in pairwise(places)]


class PropertyTests(SynchronousTestCase):
    @given(st.lists(st.sampled_from(GOOD), max_size=4), CUTS)
    def test_cuts_do_not_matter(self, requests: list[bytes], cuts: list[int]) -> None:
        """However valid requests are cut into pieces, the same events come of them."""
        raw = b"".join(requests)
        self.assertEqual(read(pieces_of(raw, cuts)), read([raw]))

    @given(st.sampled_from(GOOD), st.lists(ALTERED, min_size=1, max_size=4), CUTS)
    def test_kept_head_changes_no_outcome(
        self, base: bytes, alterations: list[Alteration], cuts: list[int]
    ) -> None:
        """What a client sends after a request is read as on a connection of its own, however much
        it looks like that request: with another length, or another byte anywhere."""
        raw = base + b"".join(altered(base, *one) for one in alterations)
        pieces = pieces_of(raw, cuts)
        self.assertEqual(read(pieces), read(pieces, kind=Forgetful))

    @given(st.lists(NEARLY, min_size=3, max_size=6), CUTS)
    def test_heads_that_differ_in_some_lines_are_read_as_alone(
        self, heads: list[list[bytes]], cuts: list[int]
    ) -> None:
        """Each head is judged as on a connection of its own, whichever of its lines are those of
        the head before it, and whatever stands in the others."""
        pieces = pieces_of(b"".join(map(joined, heads)), cuts)
        self.assertEqual(read(pieces, WIDE), read(pieces, WIDE, kind=Forgetful))

    @given(st.lists(st.binary(max_size=40), max_size=6))
    def test_any_bytes_are_requests_or_refused_or_neither_yet(self, pieces: list[bytes]) -> None:
        """Whatever bytes come, they are requests, or refused, or not yet either."""
        self.assertEqual(read(pieces), read([b"".join(pieces)]))

    @given(st.lists(st.sampled_from(SHARDS) | st.binary(max_size=3), max_size=20))
    def test_cuts_do_not_matter_for_almost_requests(self, pieces: list[bytes]) -> None:
        """The same holds for what looks almost like requests."""
        self.assertEqual(read(pieces), read([b"".join(pieces)]))

    def test_altered_vectors_break_nothing(self) -> None:
        """Vectors altered at random break nothing (a short run of `tests.fuzz_framing`)."""
        self.assertEqual(run(seed=1, rounds=200).total(), 200)
