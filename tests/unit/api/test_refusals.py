"""What a backend says when it refuses, and what a client sees of it."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from infergate.api.refusals import (
    MAX_DETAIL,
    MAX_MESSAGE,
    NOT_BEGUN,
    PASSED_ON,
    Said,
    first_event_refusal,
    read_refusal,
    refusal,
)
from infergate.errors import BackendError, BackendRejected
from tests.unit import LETTERS


class ReadRefusalTests(SynchronousTestCase):
    def test_message_is_found_in_every_form(self) -> None:
        """The message is found in the forms of OpenAI, llama.cpp, vLLM, FastAPI and others."""
        old = b'{"object":"error","message":"a","type":"t","code":400}'
        flat = b'{"type":"error","code":400,"message":"a"}'
        for body, message, detail in (
            (b'{"error":{"message":"a","code":400}}', "a", b'{"message":"a","code":400}'),
            (b'{"error":{"code":400}}', None, b'{"code":400}'),
            (b'{"error":{"message":5}}', None, b'{"message":5}'),
            (b'{"error":"a"}', "a", None),
            (b'{"error":"invalid","message":"a"}', "a", None),
            (b'{"error":null,"message":"a"}', "a", None),
            (b'{"message":"a"}', "a", None),
            (old, "a", old),
            (flat, "a", flat),
            (b'{"detail":"a"}', "a", None),
            (b'{"detail":[{"msg":"a"}]}', "a", None),
            (b'{"detail":[{"loc":["body","b",0],"msg":"a"},{"msg":"c"}]}', "body.b.0: a", None),
            (b'{"error":{"error":{"message":"a"}}}', "a", b'{"message":"a"}'),
            (b'{"error":{"message":"a","error":{"x":1}}}', "a", b'{"message":"a","error":{"x":1}}'),
            (b'{"detail":{"error":{"message":"a"}}}', "a", b'{"message":"a"}'),
            (b"no slot is free\n", "no slot is free", None),
            (
                b'{"type":"response.failed","response":{"id":"r","error":{"message":"a"}}}',
                "a",
                b'{"message":"a"}',
            ),
            (b'{"type":"response.failed","response":{"id":"r","error":null}}', None, None),
            (b"{}", None, None),
        ):
            said = read_refusal(body)
            passed = None if said.detail is None else bytes(said.detail)
            self.assertEqual((said.message, passed), (message, detail), body)

    def test_page_traceback_or_broken_json_never_passes(self) -> None:
        """No page, no traceback and no broken JSON ever passes."""
        traceback = "Traceback (most recent call last):\n  File"
        for body in (
            b"",
            b"<html>no</html>",
            b"two\nlines",
            b"\x1b[31mred",
            b"<svg>",
            b"[]",
            b'"a"',
            b'{"error":{"message":"a"}',
            b'{"error":{"message":"\xff"}}',
            b"[" * 100_000,
            b'{"error":{"message":"<html>no</html>"}}',
            b'{"detail":"\\n<!DOCTYPE html>"}',
            json.dumps({"error": {"message": traceback}}).encode(),
            json.dumps({"error": {"message": "a", "trace": traceback}}).encode(),
            json.dumps({"detail": traceback}).encode(),
            b'{"error":{"message":"Trac\\u0065back (most recent call last)"}}',
            b'{"error":{"message":"a","x":{"y":["Trac\\u0065back (most recent call last)"]}}}',
            json.dumps({"error": json.dumps({"x": traceback})}).encode(),
            b'{"error":{"message":"\\u003chtml\\u003e"}}',
            json.dumps({"error": "x\n    at a.b(C.java:5)"}).encode(),
        ):
            self.assertEqual(read_refusal(body), Said(), body)

    def test_long_message_is_cut_and_large_object_left_out(self) -> None:
        """A long message is cut, and a large object left out."""
        said = read_refusal(b'{"error":{"message":"%b"}}' % (b"a" * MAX_DETAIL))
        self.assertEqual((said.message, said.detail), ("a" * MAX_MESSAGE, None))

    def test_error_object_passes_byte_for_byte(self) -> None:
        """The object passes byte for byte, numbers that Python could not hold included."""
        detail = read_refusal(b'{"error":{"a":1e999, "b":%b}}' % (b"9" * 400)).detail
        self.assertEqual(detail, Raw(b'{"a":1e999, "b":%b}' % (b"9" * 400)))

    @given(
        st.recursive(
            st.none() | st.integers() | st.text(LETTERS),
            lambda x: (
                st.lists(x)
                | st.dictionaries(
                    st.sampled_from(["error", "detail", "message", "msg", "loc", "x"]), x
                )
            ),
        )
    )
    def test_any_refusal_is_read(self, document: object) -> None:
        """Whatever a backend says, there is a refusal, or there is nothing to show."""
        said = read_refusal(json.dumps(document).encode())
        self.assertTrue(said.message is None or 0 < len(said.message) <= MAX_MESSAGE)


class RefusalTests(SynchronousTestCase):
    BODY = b'{"error":{"message":"No.","code":7}}'

    def test_refusal_of_the_clients_is_passed_on(self) -> None:
        """A status that is about the client's request stays, with the backend's words."""
        for status in PASSED_ON:
            error = refusal(status, self.BODY)
            self.assertIsInstance(error, BackendRejected)
            self.assertEqual((error.status, error.message), (status, "No."))
            self.assertEqual(error.detail, Raw(b'{"message":"No.","code":7}'))

    def test_failure_is_passed_on_as_502_with_its_words(self) -> None:
        """Any other status is a 502, with the backend's words; one that says that nothing was
        begun may be asked again."""
        for status in (302, 402, 405, 500, 502, 503, 529):
            error = refusal(status, self.BODY)
            assert isinstance(error, BackendError)
            self.assertEqual((error.status, error.message), (502, "No."))
            self.assertIsNotNone(error.detail)
            self.assertIs(error.prompt_sent, status not in NOT_BEGUN)

    def test_words_about_the_gateways_key_are_not_shown(self) -> None:
        """What a backend says with 401 or 403 stays here, as a status and as a code."""
        for status in (401, 403):
            body = b'{"error":{"message":"canary","code":%d}}' % status
            for error in (refusal(status, body), first_event_refusal(body)):
                self.assertEqual(error.status, 502)
                self.assertNotIn(b"canary", error.body("r", "openai") + error.body("r", "code"))

    def test_first_event_has_the_status_of_its_code(self) -> None:
        """An error object that comes as a stream's first event is answered with its numeric code
        where that is passed on, else with 502."""
        for code, status, may_retry in (
            (b"400", 400, None),
            (b"429", 429, None),
            (b"501", 501, None),
            (b"500", 502, False),
            (b"503", 502, True),
            (b"529", 502, True),
            (b'"400"', 502, False),
            (b"200", 502, False),
            (b"null", 502, False),
        ):
            error = first_event_refusal(b'{"error":{"message":"No.","code":%b}}' % code)
            self.assertEqual((error.status, error.message), (status, "No."), code)
            if isinstance(error, BackendError):
                self.assertIs(not error.prompt_sent, may_retry, code)
