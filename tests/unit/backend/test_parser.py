"""Responses: where each ends, what is none, and that the cuts in a stream do not matter."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from infergate.backend.parser import (
    MAX_HEAD,
    MAX_SIZE_LINE,
    MAX_TRAILERS,
    Reader,
)
from tests.unit.backend.responses import (
    CONTINUE,
    Reading,
    bytewise,
    chunked,
    cut,
    cuts,
    halves,
    only,
    read,
    response,
    sized,
)

TRAILERS = "its trailers are too large"
EARLY = b"HTTP/1.1 103 Early Hints"
HINTS = response(b"Link: </a>", line=EARLY)


class BodyTests(SynchronousTestCase):
    def test_sized(self) -> None:
        """A declared body comes in the pieces in which it arrives, and is over with its last."""
        reader = Reader()
        self.assertEqual(reader.feed(response(b"Content-Length: 5")), b"")
        self.assertFalse(reader.over)
        self.assertEqual(reader.feed(b"he"), b"he")
        self.assertFalse(reader.over)
        self.assertEqual(reader.feed(b"llo"), b"llo")
        self.assertEqual((reader.over, reader.fault, reader.excess), (True, None, False))

    def test_sized_in_one_piece(self) -> None:
        """A body that comes with its head is given out with it."""
        reader = Reader()
        self.assertEqual(reader.feed(sized(b"hello")), b"hello")
        self.assertEqual((reader.over, reader.fault), (True, None))

    def test_pieces_are_not_copied(self) -> None:
        """A piece that holds nothing but body is given out as the object that came in."""
        piece = b"x" * 500
        for fields in ([b"Content-Length: 1000"], []):
            reader = Reader()
            reader.feed(response(*fields))
            self.assertIs(reader.feed(piece), piece)

    def test_chunks(self) -> None:
        """The body is the data of the chunks; extensions and trailers are dropped."""
        raw = chunked(
            b'3;a=b\r\nabc\r\n0002 \t;c="\\""\r\n\r\n\r\nA\r\n0123456789\r\n'
            b"00;x\r\nX-A: 1\r\nY:\r\n\r\n"
        )
        for pieces in ([raw], halves(raw), bytewise(raw)):
            reading = read(pieces)
            self.assertEqual(reading.body, b"abc\r\n0123456789")
            self.assertEqual((reading.over, reading.fault, reading.excess), (True, None, False))
            self.assertEqual(list(only(raw).fields), [b"transfer-encoding"])

    def test_pieces_of_a_chunk(self) -> None:
        """What has come of a chunk is given out before the rest is there."""
        reader = Reader()
        self.assertEqual(reader.feed(chunked(b"5\r\nhe")), b"he")
        self.assertEqual(reader.feed(b"l"), b"l")
        self.assertEqual(reader.feed(b"lo\r"), b"lo")
        self.assertEqual(reader.feed(b"\n1"), b"")
        self.assertEqual(reader.feed(b"\r\n!\r\n0\r\n\r"), b"!")
        self.assertFalse(reader.over)
        self.assertEqual((reader.feed(b"\n"), reader.over, reader.fault), (b"", True, None))

    def test_to_the_end_of_the_connection(self) -> None:
        """A body of no declared length is all that comes, and is over with the connection."""
        reader = Reader()
        self.assertEqual(reader.feed(response() + b"ab"), b"ab")
        self.assertEqual(reader.feed(b"\r\n\r\n"), b"\r\n\r\n")
        self.assertFalse(reader.over)
        self.assertTrue(reader.close())
        self.assertEqual((reader.over, reader.fault, reader.excess), (True, None, False))

    def test_bodiless(self) -> None:
        """A 204 and a 304 have no body, whatever length they declare (RFC 9112, 6.3)."""
        for line in (b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 Not Modified"):
            for fields in ([], [b"Content-Length: 5"]):
                raw = response(*fields, line=line)
                for pieces in ([raw], bytewise(raw)):
                    reading = read(pieces)
                    self.assertEqual(
                        (reading.over, reading.fault, reading.excess), (True, None, False)
                    )

    def test_bodiless_in_chunks(self) -> None:
        """Nor have they one where they name a transfer coding, as a 304 may (RFC 9112, 6.1)."""
        for line in (b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 Not Modified"):
            reading = read([response(b"Transfer-Encoding: chunked", line=line)])
            self.assertEqual((reading.over, reading.fault), (True, None), line)

    def test_interim(self) -> None:
        """Interim responses are passed over, with all their fields."""
        raw = CONTINUE + HINTS + response(b"X: y", b"Content-Length: 2") + b"ab"
        for pieces in ([raw], halves(raw), bytewise(raw)):
            reading = read(pieces)
            assert reading.head is not None
            self.assertEqual((reading.head.status, next(iter(reading.head.fields))), (200, b"x"))
            self.assertEqual((reading.body, reading.over, reading.fault), (b"ab", True, None))

    def test_interim_is_no_head(self) -> None:
        """After an interim response the head is still to come."""
        reader = Reader()
        reader.feed(CONTINUE)
        self.assertEqual((reader.head, reader.over, reader.started), (None, False, True))


class FaultTests(SynchronousTestCase):
    def assert_broken(self, raw: bytes, fault: str, body: bytes = b"") -> Reading:
        """`raw` is broken in this way in one piece, in halves, and byte by byte."""
        for pieces in ([raw], halves(raw), bytewise(raw)):
            reading = read(pieces)
            self.assertTrue(reading.over, raw[:99])
            self.assertIn(fault, reading.fault or "", raw[:99])
            self.assertEqual(reading.body, body, raw[:99])
        return reading

    def assert_broken_head(self, raw: bytes, fault: str) -> None:
        self.assertIsNone(self.assert_broken(raw, fault).head, raw)

    def test_status_line(self) -> None:
        """What does not begin with the status line of an HTTP/1 response is none."""
        for line in (
            b"",
            b"\r\nHTTP/1.1 200 OK",
            b"nonsense",
            b"GET / HTTP/1.1",
            b"HTTP/2 200 OK",
            b"HTTP/2.0 200 OK",
            b"HTTP/1.10 200 OK",
            b"http/1.1 200 OK",
            b" HTTP/1.1 200 OK",
            b"HTTP/1.1  200 OK",
            b"HTTP/1.1\t200 OK",
            b"HTTP/1.1 two OK",
            b"HTTP/1.1 20 OK",
            b"HTTP/1.1 2000 OK",
            b"HTTP/1.1 \xb2\xb2\xb2 OK",
            b"HTTP/1.1 200OK",
            b"HTTP/1.1 200 O\rK",
            b"HTTP/1.1",
        ):
            self.assert_broken_head(response(b"X: y", line=line), "status line")

    def test_head_is_judged_when_it_is_whole(self) -> None:
        """A head is judged at its end, however it is cut; what is no HTTP at all may never come
        to one, and is found out by its first bytes."""
        raw = b"HTTP/1.1 nonsense\r\nX: y\r\n"
        for pieces in ([raw], bytewise(raw)):
            self.assertFalse(read(pieces).over)
            self.assertEqual(read(pieces).fault, "it was cut short")
        self.assert_broken_head(raw + b"\r\n", "status line")
        for start in (b"", CONTINUE):
            for alien in (b"S", b"\x15\x03\x03", b"HTTP/2", b"\r\n"):
                self.assert_broken_head(start + alien, "status line")

    def test_field(self) -> None:
        """A line of a head that is no field is a fault: one without a colon, one that is folded,
        and one whose name is no token."""
        for line in (
            b"nonsense",
            b" folded: x",
            b"\tfolded",
            b": x",
            b"X : y",
            b"X\t: y",
            b"X Y: z",
            b"X\x00: y",
            b"X\xe9: y",
            b"X(: y",
            b"\r",
            b"\rX: y",
        ):
            for fields in ([line], [b"A: b", line, b"C: d"]):
                self.assert_broken_head(response(*fields), "field")

    def test_field_of_an_interim_response(self) -> None:
        """An interim response is held to the same grammar."""
        raw = response(b"nonsense", line=b"HTTP/1.1 103 Early Hints") + sized(b"")
        self.assert_broken_head(raw, "field")

    def test_lengths_in_conflict(self) -> None:
        """Two lengths are one too many, in one field or two."""
        for fields in (
            [b"Content-Length: 1", b"Content-Length: 2"],
            [b"Content-Length: 1, 2"],
            [b"Content-Length: 1", b"Content-Length: 01"],
            [b"Content-Length: 1", b"Content-Length: "],
        ):
            self.assert_broken_head(response(*fields) + b"ab", "length")

    def test_length(self) -> None:
        """A length that is not all digits is a fault, and so is one that no body has."""
        for value in (
            *(b"", b",", b"1,", b"x", b"-1", b"+1", b"1.0", b"1e3", b"0x1", b"1_0", b"1 1", b"1;"),
            *(b"\xb2", b"\xd9\xa3", b"9" * 19, b"9" * 5001),
        ):
            self.assert_broken_head(response(b"Content-Length: " + value) + b"ab", "length")

    def test_whitespace_in_a_length(self) -> None:
        """Of whitespace only a space and a tab may stand around a length (RFC 9110, 5.6.3)."""
        for value in (b"\x0b1", b"1\x0c", b"1\x0b,1"):
            reading = read([response(b"Content-Length: " + value) + b"a"])
            self.assertIn("length", reading.fault or "", value)

    def test_transfer_coding(self) -> None:
        """Any transfer coding but chunked alone is refused: nobody asked for it."""
        for fields in (
            [b"Transfer-Encoding: gzip"],
            [b"Transfer-Encoding: gzip, chunked"],
            [b"Transfer-Encoding: chunked, chunked"],
            [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
            [b"Transfer-Encoding: identity"],
            [b"Transfer-Encoding: "],
            [b"Transfer-Encoding: chunked;q=1"],
            [b"Transfer-Encoding: xchunked", b"Content-Length: 1"],
        ):
            self.assert_broken_head(response(*fields) + b"0\r\n\r\n", "transfer coding")

    def test_switching_protocols(self) -> None:
        """A 101 is refused: no upgrade was asked for, and what follows would be no HTTP."""
        raw = response(b"Upgrade: h2c", line=b"HTTP/1.1 101 Switching Protocols")
        self.assert_broken_head(raw + sized(b"a"), "protocol")
        self.assert_broken_head(CONTINUE + raw, "protocol")

    def test_chunk_size(self) -> None:
        """A chunk whose size is no number, or not on a line as it should be, is a fault; the
        chunks before it are given out, also where all came in one piece."""
        for line in (
            *(b"", b"zz", b"-1", b"+1", b"0x1", b" 1", b"1 ", b"1 1", b"1,", b";a", b"1\t\t"),
            *(b"g", b"\xb2", b"1\r", b"1;a\rb", b"1" * 16, b"f" * 5001),
        ):
            raw = chunked(b"2\r\nab\r\n1\r\nc\r\n" + line + b"\r\nx\r\n0\r\n\r\n")
            self.assert_broken(raw, "malformed", b"abc")
        self.assert_broken(chunked(b"1\nx\r\n0\r\n\r\n"), "malformed")
        self.assert_broken(chunked(b"1\r\nx\r\n0\n\n"), "malformed", b"x")

    def test_chunk_longer_than_its_size(self) -> None:
        """A chunk that does not end where it says is a fault; so much of it is given out."""
        for end in (b"x", b"xy", b"\n", b"\rx", b"\n\r", b"\r\r\n"):
            raw = chunked(b"3\r\nabc" + end)
            self.assert_broken(raw, "not as long", b"abc")

    def test_large_head(self) -> None:
        """A head may have so many bytes, its line and its end with it, and no more, whether its
        end has come or not; the body is none of it."""
        bare = len(response(b"X: ", b"Content-Length: 9"))
        for size, good in ((MAX_HEAD, True), (MAX_HEAD + 1, False)):
            raw = response(b"X: " + b"y" * (size - bare), b"Content-Length: 9") + b"body body"
            for pieces in ([raw], halves(raw), [raw[: MAX_HEAD - 2], raw[MAX_HEAD - 2 :]]):
                reading = read(pieces)
                self.assertEqual(reading.body, b"body body" if good else b"")
                self.assertEqual(reading.fault, None if good else "its head is too large")
        endless = b"HTTP/1.1 200 OK\r\nX: " + b"y" * MAX_HEAD
        for pieces in ([endless], halves(endless)):
            self.assertEqual(read(pieces).fault, "its head is too large")

    def test_many_interim_responses(self) -> None:
        """Interim responses share the bytes of the head, so that they come to an end."""
        hints = response(b"Link: </%b>" % (b"a" * 200), line=EARLY)
        count = MAX_HEAD // len(hints)
        for pieces in ([hints * count], [hints] * count):
            self.assertFalse(read(pieces).over)
        for pieces in ([hints * (count + 1)], [hints] * (count + 1)):
            self.assertEqual(read(pieces).fault, "its head is too large")

    def test_long_size_line(self) -> None:
        """A chunk's extensions may be so long, and a line that goes on is a fault before its
        end."""
        good = b"1;" + b"a" * (MAX_SIZE_LINE - 4) + b"\r\nx\r\n0\r\n\r\n"
        for pieces in ([chunked(good)], bytewise(chunked(good))):
            self.assertEqual((read(pieces).body, read(pieces).fault), (b"x", None))
        self.assert_broken(chunked(b"1\r\nx\r\n1;" + b"a" * MAX_SIZE_LINE), "malformed", b"x")

    def test_long_size_line_with_its_end(self) -> None:
        """That bound is the same where the whole line comes in one piece."""
        raw = chunked(b"1;" + b"a" * 2 * MAX_SIZE_LINE + b"\r\nx\r\n0\r\n\r\n")
        self.assert_broken(raw, "malformed")

    def test_large_trailers(self) -> None:
        """Trailers may have so many bytes, and are a fault when they go on."""
        good = b"1\r\nx\r\n0\r\nX: " + b"y" * (MAX_TRAILERS - 10) + b"\r\n\r\n"
        for pieces in ([chunked(good)], halves(chunked(good))):
            self.assertEqual((read(pieces).body, read(pieces).fault), (b"x", None))
        endless = chunked(b"1\r\nx\r\n0\r\nX: " + b"y" * MAX_TRAILERS)
        for pieces in ([endless], halves(endless)):
            self.assertEqual((read(pieces).body, read(pieces).fault), (b"x", TRAILERS))

    def test_large_trailers_with_their_end(self) -> None:
        """That bound is the same where all of them come in one piece."""
        raw = chunked(b"0\r\nX: " + b"y" * 2 * MAX_TRAILERS + b"\r\n\r\n")
        for pieces in (halves(raw), [raw]):
            self.assertEqual(read(pieces).fault, TRAILERS)


class ReaderTests(SynchronousTestCase):
    def test_started(self) -> None:
        """A response has started with its first byte."""
        reader = Reader()
        self.assertEqual((reader.started, reader.over), (False, False))
        self.assertEqual(reader.feed(b"H"), b"")
        self.assertTrue(reader.started)

    def test_head_when_it_is_whole(self) -> None:
        """`head` is None until the head's last byte, and stays when the body breaks."""
        reader = Reader()
        reader.feed(chunked(b"")[:-1])
        self.assertIsNone(reader.head)
        reader.feed(b"\n")
        assert reader.head is not None
        self.assertEqual(reader.head.status, 200)
        reader.feed(b"zz\r\n")
        self.assertEqual((reader.over, reader.head.status), (True, 200))

    def test_excess(self) -> None:
        """What comes along with the end of a response is none of it, and is known."""
        for raw in (
            sized(b"ab"),
            sized(b""),
            response(line=b"HTTP/1.1 204 No Content"),
            chunked(b"1\r\na\r\n0\r\n\r\n"),
            chunked(b"0\r\nX: y\r\n\r\n"),
        ):
            whole = read([raw])
            self.assertFalse(whole.excess, raw)
            for rest in (b"\n", b"x", sized(b"x")):
                reader = Reader()
                self.assertEqual(reader.feed(raw + rest), whole.body)
                self.assertEqual((reader.over, reader.fault, reader.excess), (True, None, True))

    def test_cut_short(self) -> None:
        """A connection that ends sooner than the response is a fault."""
        for raw in (
            b"",
            b"HTTP/1.1 200 OK\r\n",
            CONTINUE,
            response(b"Content-Length: 3") + b"ab",
            chunked(b""),
            chunked(b"3\r\nab"),
            chunked(b"3\r\nabc\r\n"),
            chunked(b"0\r\n"),
            chunked(b"0\r\nX: y\r\n"),
        ):
            for pieces in ([raw], bytewise(raw)):
                reading = read(pieces)
                self.assertEqual(
                    (reading.over, reading.to_end, reading.fault),
                    (False, False, "it was cut short"),
                    raw,
                )

    def test_closed(self) -> None:
        """Nothing comes after closing; a fault that was there before stays the one there is."""
        reader = Reader()
        reader.close()
        self.assertTrue(reader.over)
        reader = Reader()
        reader.feed(b"nonsense\r\n\r\n")
        self.assertFalse(reader.close())
        self.assertIn("status line", reader.fault or "")


WHOLE = [
    sized(b"hello"),
    sized(b""),
    sized(b"ab").replace(b"\r", b""),
    response(b"X: \xff\r\x00", b"Connection: close", line=b"HTTP/1.0 200") + b"to the\r\n\r\nend",
    response(b"Content-Length: 5", line=b"HTTP/1.1 304 Not Modified"),
    chunked(b'3;a="b"\r\nabc\r\nC \t;x\r\n\r\n0123456789\r\n0\r\nX: y\r\n\r\n'),
    chunked(b"1\r\n\r\r\n1\r\n\n\r\n000;x\r\n\r\n"),
    CONTINUE + HINTS + chunked(b"2\r\nab\r\n0\r\n\r\n"),
]
BROKEN = [
    b"nonsense\r\n",
    response(b"no field") + b"x",
    response(b"Content-Length: 1, 2") + b"x",
    response(b"Transfer-Encoding: gzip") + b"x",
    response(line=b"HTTP/1.1 101 Switching Protocols"),
    CONTINUE + b"HTTP/1.1\r\n",
    chunked(b"2\r\nab\r\nzz\r\n"),
    chunked(b"2\r\nabc\r\n0\r\n\r\n"),
    chunked(b"2\r\nab\r\n1\n"),
]
SHARDS = [
    *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100\r\n\r\n", b"HTTP/1.0 204 \n", b"HTTP/1.1 101"),
    *(b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"X: y\n", b"X", b":", b" "),
    *(b"\r\n", b"\r\n\r\n", b"\n\n", b"\r", b"\n", b"1\r\nx\r\n", b"0\r\n", b"5;a=b", b"abc"),
]
HEADS = [b"", response(), response(b"Content-Length: 3"), chunked(b"")]


class PropertyTests(SynchronousTestCase):
    def test_cut_in_two(self) -> None:
        """Cut in two at any byte, or byte by byte, a response ends as it does in one piece."""
        for raw in (*WHOLE, *BROKEN):
            expected = read([raw])
            self.assertEqual(expected.fault is None, raw in WHOLE, raw)
            self.assertEqual(read(bytewise(raw)), expected)
            for at in range(1, len(raw)):
                self.assertEqual(read([raw[:at], raw[at:]]), expected, (raw, at))

    @given(st.sampled_from(WHOLE + BROKEN), st.sampled_from([b"", b"x", WHOLE[0]]), cuts())
    def test_cuts_do_not_matter(self, raw: bytes, rest: bytes, places: list[int]) -> None:
        """However a response is cut into pieces, with what comes after it, the same head, body,
        end and fault come of them."""
        self.assertEqual(read(cut(raw + rest, places)), read([raw + rest]))

    @given(st.sampled_from(HEADS), st.lists(st.binary(max_size=40), max_size=6))
    def test_any_bytes(self, head: bytes, pieces: list[bytes]) -> None:
        """Whatever bytes come, nothing is raised, and the same comes of them in one piece."""
        self.assertEqual(read([head, *pieces]), read([head + b"".join(pieces)]))

    @given(st.integers(1, 1100), st.binary(max_size=3), st.booleans())
    def test_one_whole_chunk_in_a_read(self, size: int, rest: bytes, upper: bool) -> None:
        """The same comes of it as of its bytes one by one, and of one that is not as long as it
        says."""
        line = b"%X\r\n" % size if upper else b"%x\r\n" % size
        head = chunked(b"")
        for data in (b"a" * size, b"a" * (size - 1), b"a" * (size + 1), b"\r\n" * (size // 2)):
            raw = line + data + b"\r\n" + rest
            self.assertEqual(read([head, raw]), read([head, *bytewise(raw)]))

    def test_many_chunks_in_a_read(self) -> None:
        """The same comes of them as of their bytes one by one, whichever of these is another,
        missing or one too many, and wherever the read ends."""
        good = b"3\r\nabc\r\n2\r\nde\r\n1\r\nf\r\n0\r\n\r\n"
        head = chunked(b"")
        self.assertEqual(read([head, good]).body, b"abcdef")
        for at in range(len(good)):
            for byte in (b"", *(b"%c" % byte for byte in b"\r\n012x")):
                for rest in (good[at:], good[at + 1 :]):
                    raw = good[:at] + byte + rest
                    expected = read([head, *bytewise(raw)])
                    self.assertEqual(read([head, raw]), expected, raw)
                    self.assertEqual(read([head, raw[:at], raw[at:]]), expected, raw)

    @given(st.lists(st.sampled_from(SHARDS) | st.binary(max_size=3), max_size=20))
    def test_shards_of_responses(self, pieces: list[bytes]) -> None:
        """The same holds for what looks almost like responses."""
        raw = b"".join(pieces)
        self.assertEqual(read(pieces), read([raw]))
        self.assertEqual(read(bytewise(raw)), read([raw]))

    @given(st.lists(st.sampled_from(SHARDS) | st.binary(max_size=3), max_size=20))
    def test_fed_after_the_end(self, pieces: list[bytes]) -> None:
        """Nothing is raised either by a reader that is over, and over it stays."""
        reader, over = Reader(), False
        for piece in pieces:
            reader.feed(piece)
            self.assertTrue(reader.over or not over)
            over = reader.over
        self.assertFalse(reader.over and reader.head is None and reader.fault is None)

    @given(st.lists(st.binary(max_size=20), max_size=8), st.booleans(), cuts())
    def test_bodies(self, chunks: list[bytes], in_chunks: bool, places: list[int]) -> None:
        """A body comes out as the bytes that went in, whatever they are, and is over with the
        last of them."""
        body = b"".join(chunks)
        if in_chunks:
            lines = [b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks if chunk]
            raw = chunked(b"".join(lines) + b"0\r\n\r\n")
        else:
            raw = sized(body)
        reading = read(cut(raw, places))
        self.assertEqual((reading.body, reading.over), (body, True))
        self.assertEqual((reading.fault, reading.excess), (None, False))
        self.assertFalse(read(cut(raw[:-1], places)).over)
