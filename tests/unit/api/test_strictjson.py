"""What counts as JSON, and that nothing else gets by."""

from __future__ import annotations

import json
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from infergate.api.steps import at_once
from infergate.api.strictjson import (
    MAX_DEPTH,
    MAX_MEMBERS,
    MAX_NUMBER,
    NotJSON,
    object_in_steps,
    read_object,
)

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text('a {["\\\n\0é\u2028\U0001f600'),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text('a {["\\\n\0é\u2028\U0001f600'), inner, max_size=4)
    ),
    max_leaves=12,
)

BROKEN = [
    b"",
    b" ",
    b"{",
    b"[1",
    b'{"a"}',
    b'{"a":}',
    b'{"a":1,}',
    b"{,}",
    b'{"a":1 "b":2}',
    b"{a:1}",
    b"{'a':1}",
    b"{1:2}",
    b'{"a":1}}',
    b'{"a":1} x',
    b'{"a":1}\x00',
    b'{"a":1}{"a":1}',
    b'{"a":NaN}',
    b'{"a":Infinity}',
    b'{"a":-Infinity}',
    b'{"a":nul}',
    b'{"a":True}',
    b'{"a":01}',
    b'{"a":+1}',
    b'{"a":.5}',
    b'{"a":1.}',
    b'{"a":1e}',
    b'{"a":0x1}',
    b'{"a":-}',
    b'{"a":[1,]}',
    b'{"a":[1 2]}',
    b'{"a":"}',
    b'{"a":"\\x"}',
    b'{"a":"\\u12"}',
    b'{"a":"\\u12g4"}',
    b'{"a":"\t"}',
    b'{"a":"\n"}',
    b'{"a":"\x00"}',
    b'{"a":1}//',
    b'/**/{"a":1}',
    b'{"a":1}\x0c',
    b"\xef\xbb\xbf{}",
    '{"a":"b"}'.encode("utf-16"),
    '{"a":"b"}'.encode("utf-16-le"),
    '{"a":"b"}'.encode("utf-32"),
    b'{"a":"\xff"}',
    b'{"a":"\xe9"}',
    b'{"a":"\xc0\xaf"}',
    b'{"a":"\xed\xa0\x80"}',
    b'{"a":"\xf4\x90\x80\x80"}',
    b'{"a":"\xe6\x97"}',
    b'{"\xff":1}',
    b'{"a":"\\ud800"}',
    b'{"a":"\\udc00\\ud800"}',
    b'{"\\ud800 ":1}',
    b"[1] x",
    b"5 5",
    b'"\xff"',
]


def nested(depth: int, opening: bytes, closing: bytes) -> bytes:
    """An object whose deepest value stands under `depth` brackets."""
    return b'{"a":' + opening * (depth - 1) + b"0" + closing * (depth - 1) + b"}"


@st.composite
def near_a_limit(draw: st.DrawFn) -> bytes:
    """JSON that is just within one of the limits, or just beyond it, with little else around."""
    more, between = draw(st.integers(-1, 1)), draw(st.sampled_from([b"", b" ", b"\n  "]))
    whole, rest = draw(st.integers(1, MAX_NUMBER)), draw(st.integers(1, MAX_NUMBER))
    digits = b"1" * whole + draw(st.sampled_from([b".", b"e", b"E-", b"e+"])) + b"2" * rest
    value = draw(
        st.sampled_from(
            [
                b"[" * (MAX_DEPTH - 1 + more) + b"]" * (MAX_DEPTH - 1 + more),
                b'{"":' * (MAX_DEPTH + more) + b"0" + b"}" * (MAX_DEPTH + more),
                b"7" * (MAX_NUMBER + more),
                digits,
                b"-1." + b"0" * (MAX_NUMBER - 1 + more) + b"e-5",
            ]
        )
    )
    members = [b'"":0'] * draw(st.sampled_from([0, 1, MAX_MEMBERS - 1 + more]))
    return b"{" + between + b",".join([*members, b'"a":' + value]) + between + b"}"


def outcome(read: Callable[[], dict[str, Raw] | None]) -> object:
    """What is read, or the words with which it is refused."""
    try:
        return read()
    except NotJSON as error:
        return str(error)


class ReadObjectTests(SynchronousTestCase):
    def refused(self, text: bytes) -> str:
        return str(self.assertRaises(NotJSON, read_object, text))

    def test_broken_json_is_refused_wherever_it_stands(self) -> None:
        """Whatever breaks RFC 8259 is refused, at the top, inside a member, and behind a value
        that is no object."""
        for text in BROKEN:
            self.refused(text)
            self.refused(b'{"b":' + text + b"}")
            self.refused(b"[0," + text + b"]")

    @given(near_a_limit())
    def test_short_text_is_judged_as_a_long_one(self, text: bytes) -> None:
        """Around each limit a text that is read at once has the verdict of one read in steps."""
        in_steps = outcome(lambda: at_once(object_in_steps(text)))
        self.assertEqual(outcome(lambda: read_object(text)), in_steps)

    def test_members_keep_their_bytes(self) -> None:
        """A member keeps its very bytes, spaces and unusual spellings included."""
        members = read_object(b' {"a" : [1.0,\n 1E5 ] , "b":"\\u0041\\/","c":{ } } \r\n')
        assert members is not None
        self.assertEqual(
            {name: bytes(raw) for name, raw in members.items()},
            {"a": b"[1.0,\n 1E5 ]", "b": b'"\\u0041\\/"', "c": b"{ }"},
        )

    def test_last_of_a_name_given_twice_is_kept(self) -> None:
        """Of a member given twice there is only the last, however its name is spelled."""
        members = read_object(b'{"a":1,"\\u0061":2}')
        assert members is not None
        self.assertEqual([(n, bytes(raw)) for n, raw in members.items()], [("a", b"2")])

    def test_json_that_is_no_object_is_told_apart(self) -> None:
        """Valid JSON that is no object is told from what is not JSON."""
        for text in (b"[]", b'"a"', b"5", b"null", b" true ", b"[[1],{}]"):
            self.assertIsNone(read_object(text))

    def test_depth_is_bounded_and_strings_have_none(self) -> None:
        """Two hundred levels are read, one more is not, and brackets in strings are no level."""
        for opening, closing in ((b"[", b"]"), (b'{"a":', b"}"), (b'[{"]":', b"}]")):
            step = 2 if opening.startswith(b"[{") else 1
            read_object(nested((MAX_DEPTH - 1) // step + 1, opening, closing))
            self.refused(nested(MAX_DEPTH // step + 1, opening, closing))
        for inside in (b"[" * 999, b"]" * 999, b'\\"[' * 99, b'\\\\","[' * 99, b"[]{}" * 99):
            text = b'"' + inside + b'"'
            read_object(b'{"a":[' + text + b"," + nested(MAX_DEPTH - 2, b"[", b"]") + b"]}")
            self.refused(b'{"a":[' + text + b"," + nested(MAX_DEPTH - 1, b"[", b"]") + b"]}")

    def test_deepest_place_counts_wherever_it_stands(self) -> None:
        """The depth is that of the deepest place, wherever it stands among flat ones."""
        flat = b",".join([b'{"a":[]},[[],""]'] * 50)
        for depth, fine in ((MAX_DEPTH - 2, True), (MAX_DEPTH - 1, False)):
            deep = nested(depth, b"[", b"]")
            for text in (flat + b"," + deep, deep + b"," + flat, flat + b"," + deep + b"," + flat):
                text = b'{"a":[' + text + b"]}"
                self.assertTrue(read_object(text)) if fine else self.refused(text)

    def test_hundred_thousand_levels_are_refused(self) -> None:
        """A hundred thousand levels are refused like 201, closed or not."""
        for text in (
            b"[" * 100_000,
            b'{"a":' * 100_000,
            nested(100_000, b"[", b"]"),
            nested(500, b'{"a":', b"}"),
            b"[" * 100_000 + b"]" * 100_000,
        ):
            self.refused(text)

    def test_number_has_up_to_400_digits(self) -> None:
        """A number has up to 400 digits, whatever else stands in it or beside it."""
        longest = b"9" * MAX_NUMBER
        for number in (longest, b"-" + longest, b"1.5E-" + b"0" * (MAX_NUMBER - 2)):
            read_object(b'{"a":[' + number + b"," + number + b'],"b":"' + number * 2 + b'"}')
            self.refused(b'{"a":' + number + b"0}")
            self.refused(b'{"a":["",' + number + b'0,"b"]}')

    def test_reason_is_one_that_a_client_can_use(self) -> None:
        """The reason is one that a client can use."""
        self.assertIn("byte 7", self.refused(b'{"a":"b\xff"}'))
        self.assertIn("trailing comma", self.refused(b'{"a":1,}'))
        self.assertIn("200", self.refused(nested(201, b"[", b"]")))
        self.assertIn("400", self.refused(b'{"a":' + b"1" * 401 + b"}"))

    @given(
        st.dictionaries(st.text('a {["\\\n\0é\u2028\U0001f600'), values, max_size=5), st.booleans()
    )
    def test_any_object_is_read(self, document: dict[str, object], escaped: bool) -> None:
        """Any object is read, and each of its members says what it said before."""
        text = json.dumps(document, ensure_ascii=escaped).encode()
        members = read_object(text)
        assert members is not None
        self.assertEqual(
            {name: bytes(raw) for name, raw in members.items()},
            {n: json.dumps(v, ensure_ascii=escaped).encode() for n, v in document.items()},
        )

    @given(st.binary(max_size=30) | st.text('{}[]",:\\u0e1-. ', max_size=30).map(str.encode))
    def test_any_bytes_are_read_or_refused(self, text: bytes) -> None:
        """Whatever comes in, there is an answer or `NotJSON`, and never more than Python's own
        parser would read."""
        try:
            read_object(text)
        except NotJSON:
            return
        json.loads(text)
