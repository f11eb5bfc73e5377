"""Objects of JSON taken apart and put together again."""

from __future__ import annotations

import json

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from infergate.api import objects
from infergate.api.objects import (
    MAX_VALUES,
    array,
    event,
    fill,
    in_one_line,
    is_array,
    is_object,
    is_string,
    joined,
    read,
    read_inner,
    read_reply,
    read_reply_or_array,
    read_values,
)
from infergate.api.steps import at_once
from infergate.errors import BackendError
from tests.unit import LETTERS


class Replies(SynchronousTestCase):
    def test_objects_are_replies(self) -> None:
        """With an error that is null too."""
        self.assertEqual(at_once(read_reply(b' {"a": 1 } ')), {"a": Raw(b"1")})
        self.assertIn("a", at_once(read_reply(b'{"a":1,"error":null}')))

    def test_all_else_is_a_backend_error(self) -> None:
        """An error under a status of success too."""
        for wrong in (b"", b"no", b"[]", b"5", b"null", b'{"error":"no"}', b'{"error":{}}', b"{"):
            self.assertRaises(BackendError, at_once, read_reply(wrong))
        for wrong in (b"", b"5", b"[1", b"[1]x", b'{"error":1}'):
            self.assertRaises(BackendError, at_once, read_reply_or_array(wrong, True))
        many = b"{%b}" % b",".join(b'"%d":1' % n for n in range(1001))
        self.assertRaises(BackendError, at_once, read_inner(Raw(many)))

    def test_arrays_where_they_may_be(self) -> None:
        """None says that it is one."""
        self.assertIsNone(at_once(read_reply_or_array(b" \r\n[1]", True)))
        self.assertRaises(BackendError, at_once, read_reply_or_array(b"[1]", False))
        self.assertEqual(at_once(read_reply_or_array(b"{}", True)), {})

    def test_more_values_than_the_parser_goes_through_quickly(self) -> None:
        """Are no reply, whichever kind they are of."""
        self.patch(objects, "MAX_PARSED", 1000)
        for many in (b"1," * 1001 + b"1", b"[" * 1001, b"[[],{}],".join([b""] * 600) + b"1"):
            body = b'{"a":[%b]}' % many
            self.assertRaises(BackendError, at_once, read_reply(body))
            self.assertRaises(BackendError, at_once, read_reply_or_array(b"[%b]" % body, True))
        self.assertIn("a", at_once(read_reply(b'{"a":[%b1]}' % (b"1," * 900))))

    def test_values(self) -> None:
        """What Python cannot hold makes no stream, nor what would take it long; a comma within a
        text is no value."""
        many = MAX_VALUES + 2
        text = b'{"a":"%b"}' % (b"," * many)
        self.assertEqual(len(at_once(read_values(text))["a"]), many)
        values = b'{"a":[%b1]}' % (b"1," * many)
        self.assertRaises(BackendError, at_once, read_values(values))
        self.assertEqual(at_once(read_values(b'{"a":[1]}')), {"a": [1]})
        self.assertRaises(BackendError, at_once, read_values(b'{"a":1e999}'))


class Parts(SynchronousTestCase):
    def test_kinds(self) -> None:
        """By the first byte."""
        kinds = [(is_object(r), is_array(r), is_string(r)) for r in map(Raw, (b"{}", b"[]", b'""'))]
        self.assertEqual(kinds, [(True, False, False), (False, True, False), (False, False, True)])
        self.assertFalse(is_object(Raw(b"1")))

    def test_value_of_another_type_is_none(self) -> None:
        """So is what is no JSON."""
        decoder = msgspec.json.Decoder(int)
        texts = (b"5", b'"5"', b"", b"\xff", b"[" * 5000)
        self.assertEqual([read(decoder, text) for text in texts], [5, None, None, None, None])

    def test_fill(self) -> None:
        """Only what is absent or null."""
        members = {"a": Raw(b"null"), "b": Raw(b"0")}
        self.assertEqual([fill(members, name, 1) for name in "abc"], [True, False, True])
        self.assertEqual(joined(members), b'{"a":1,"b":0,"c":1}')
        self.assertEqual((joined({}), array([b"1", b"2"])), (b"{}", Raw(b"[1,2]")))

    @given(st.dictionaries(st.text(LETTERS), st.integers() | st.text(LETTERS)))
    def test_event_is_one_line(self, document: dict[str, object]) -> None:
        """Whatever it holds: a line end would end a field."""
        said = event("x.y", **document)
        self.assertTrue(said.startswith(b"event: x.y\ndata: "))
        self.assertEqual(said.splitlines()[2:], [b""])
        self.assertEqual(json.loads(said.split(b"data: ", 1)[1]), {"type": "x.y", **document})
        self.assertEqual(in_one_line(b'{\r\n"a":1}'), b'{  "a":1}')
